"""What emulated servos move: the PyBullet world, or first-order lags for tests. Both implement `servo_bus.Plant`."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Protocol, TextIO

import numpy as np
from numpy.typing import NDArray

from drivers.arm import Array
from sim.servo_bus import CENTRE, COUNTS_PER_TURN, Plant, Sensed

COUNTS_PER_RADIAN = COUNTS_PER_TURN / (2 * math.pi)


class Joints(Protocol):
    """The part of `sim.world.World` that servos need; arrays of shape (6,), rad, rad/s, share of stall torque."""

    def set_targets(self, positions: Array) -> None: ...
    def set_torque(self, enabled: NDArray[np.bool_]) -> None: ...
    def step(self, substeps: int = 1) -> None: ...
    def joint_positions(self) -> Array: ...
    def joint_states(self) -> tuple[Array, Array, Array]: ...


class WorldPlant:
    """The world's joints as servos: joint i is servo i, zero at the centre count, same direction.

    Goals reach the world, and measurements come from it, once a physics batch however often the bus asks. Where the
    world has placed the arm it stands as on a rest, without torque, until a servo first gets torque; from then on
    joints without torque are limp.
    """

    def __init__(self, world: Joints) -> None:
        self._world = world
        self._torque = np.zeros(world.joint_positions().size, dtype=bool)
        self.placed()

    def placed(self) -> None:
        """The world has placed the arm: it stands there, or is held there by the servos that have torque."""
        self._targets = np.array(self._world.joint_positions())
        self._resting = not self._torque.any()
        self.disturbed()

    def disturbed(self) -> None:
        """The world has changed things: measure anew, and hand over goals and torque again."""
        self._changed = True
        self._sensed: list[Sensed] | None = None

    def drive(self, servo: int, goal: int, torque: bool) -> None:
        self._torque[servo] = torque
        self._resting = self._resting and not torque
        if not self._resting:
            self._targets[servo] = (goal - CENTRE) / COUNTS_PER_RADIAN
        self._changed = True

    def sense(self, servo: int) -> Sensed:
        if self._sensed is None:
            angles, speeds, loads = self._world.joint_states()
            positions = np.rint(angles * COUNTS_PER_RADIAN).astype(int) + CENTRE
            velocities = np.rint(speeds * COUNTS_PER_RADIAN).astype(int)
            self._sensed = [
                Sensed(int(p), int(v), float(load)) for p, v, load in zip(positions, velocities, loads, strict=True)
            ]
        return self._sensed[servo]

    def step(self, substeps: int) -> None:
        """Hand over the goals and advance physics."""
        if self._changed:
            self._world.set_torque(self._torque | self._resting)
            self._world.set_targets(self._targets)
            self._changed = False
        self._world.step(substeps)
        self._sensed = None


class FirstOrderPlant:
    """Servos that close a fixed share of the distance to their goal at every `step`; no physics."""

    def __init__(self, servos: int, share: float = 0.5) -> None:
        self.positions = [float(CENTRE)] * servos  # counts
        self.goals = [CENTRE] * servos
        self.torque = [False] * servos
        self._velocities = [0.0] * servos
        self._share = share

    def drive(self, servo: int, goal: int, torque: bool) -> None:
        self.goals[servo], self.torque[servo] = goal, torque

    def sense(self, servo: int) -> Sensed:
        return Sensed(round(self.positions[servo]), round(self._velocities[servo]))

    def step(self, seconds: float = 0.01) -> None:
        """Advance every servo that has torque."""
        for servo, (goal, torque) in enumerate(zip(self.goals, self.torque, strict=True)):
            change = self._share * (goal - self.positions[servo]) if torque else 0.0
            self.positions[servo] += change
            self._velocities[servo] = change / seconds


class TracedPlant:
    """Passes everything on to `plant` and writes every goal down.

    CSV with the columns monotonic_ns, id, goal, torque, present; positions in counts. Lines are kept in memory until
    `flush`, so that a bus transaction never waits for a disk.
    """

    def __init__(self, plant: Plant, ids: tuple[int, ...], file: TextIO, clock: Callable[[], int]) -> None:
        self._plant, self._ids, self._file, self._clock = plant, ids, file, clock
        self._lines = ["monotonic_ns,id,goal,torque,present\n"]

    def drive(self, servo: int, goal: int, torque: bool) -> None:
        present = self._plant.sense(servo).position
        self._lines.append(f"{self._clock()},{self._ids[servo]},{goal},{int(torque)},{present}\n")
        self._plant.drive(servo, goal, torque)

    def sense(self, servo: int) -> Sensed:
        return self._plant.sense(servo)

    def flush(self) -> None:
        """Write down what is in memory."""
        lines, self._lines = self._lines, []
        if lines:
            self._file.write("".join(lines))
            self._file.flush()
