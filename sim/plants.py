"""What emulated servos move: a world's joints, or first-order lags for tests. Both implement `servo_body.Plant`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from drivers.arm import Array
from sim.servo_body import CENTRE, COUNTS_PER_TURN, Sensed

COUNTS_PER_RADIAN = COUNTS_PER_TURN / (2 * math.pi)


class Joints(Protocol):
    """The part of `sim.world.World` that servos need; arrays of shape (n,), rad, rad/s, share of stall torque."""

    def set_targets(self, positions: Array) -> None: ...
    def set_torque(self, shares: NDArray[np.bool_] | Array) -> None: ...
    def step(self, substeps: int = 1) -> None: ...
    def joint_positions(self) -> Array: ...
    def joint_states(self) -> tuple[Array, Array, Array]: ...


@dataclass(frozen=True, slots=True)
class Mount:
    """How a servo sits on a joint: the joint's number, the encoder's count at angle 0, and which way it counts."""

    joint: int
    zero: int = CENTRE
    direction: int = 1


class WorldPlant:
    """The world's joints as servos, one for each of `mounts`; without them joint i is servo i, zero at the centre.

    Of two servos on one joint the stronger leads. Goals reach the world, and measurements come from it, once a physics
    batch however often the bus asks. Where the world has placed the arm it stands as on a rest, without torque, until
    a servo first gets torque; from then on joints without torque are limp.
    """

    def __init__(self, world: Joints, mounts: Sequence[Mount] | None = None) -> None:
        self._world = world
        joints = world.joint_positions().size
        mounts = [Mount(joint) for joint in range(joints)] if mounts is None else mounts
        self._joints = np.array([mount.joint for mount in mounts])
        self._zeros = np.array([mount.zero for mount in mounts])
        self._directions = np.array([mount.direction for mount in mounts])
        self._mounted = [[s for s, mount in enumerate(mounts) if mount.joint == joint] for joint in range(joints)]
        self._strengths = [0.0] * len(mounts)
        self._jammed: dict[int, float] = {}  # joint -> angle
        self._held: Array | None = None
        self._led: dict[int, float] = {}  # joint -> angle, of those that a hand moves
        self._changed = True
        self.placed()

    def placed(self) -> None:
        """The world has placed the arm: it stands there, or is held there by the servos that have torque."""
        angles = self._world.joint_positions()
        self._placed = np.array(angles)
        self._goals: list[float] = self._counts(angles).tolist()
        self._jammed = {joint: float(angles[joint]) for joint in self._jammed}
        self._resting = not any(self._strengths)
        self.disturbed()

    def disturbed(self) -> None:
        """The world has changed things: measure anew, and hand over goals and torque again."""
        self._changed = True
        self._sensed: list[Sensed] | None = None

    def drive(self, servo: int, goal: float, strength: float) -> None:
        self._strengths[servo] = strength
        if strength:
            self._resting = False
            self._led.pop(int(self._joints[servo]), None)  # a hand lets go of what begins to move
        self._goals[servo] = goal
        self._changed = True

    def sense(self, servo: int) -> Sensed:
        sensed = self._sensed
        if sensed is None:
            angles, speeds, loads = self._world.joint_states()
            positions = np.rint(self._counts(angles)).astype(int).tolist()
            velocities = np.rint(self._directions * speeds[self._joints] * COUNTS_PER_RADIAN).astype(int).tolist()
            shares = (self._directions * loads[self._joints]).tolist()
            sensed = self._sensed = [Sensed(p, v, s) for p, v, s in zip(positions, velocities, shares, strict=True)]
        return sensed[servo]

    def jam(self, servo: int, jammed: bool) -> None:
        joint = int(self._joints[servo])
        if jammed:
            self._jammed[joint] = float(self._world.joint_positions()[joint])
        else:
            self._jammed.pop(joint, None)
        self._changed = True

    def hold(self, pose: Array | None) -> None:
        """A person's hand holds the arm at `pose` (rad), whatever its servos want; None lets it go."""
        if self._held is not None and pose is None:
            self._resting = False
        self._held = pose
        self._changed = True

    def lead(self, servo: int, angle: float | None) -> None:
        """A hand moves the joint of `servo` to `angle` (rad) and keeps it there; None: it lets go."""
        joint = int(self._joints[servo])
        if angle is None:
            self._led.pop(joint, None)
        else:
            self._led[joint] = angle
        self._changed = True

    def step(self, substeps: int) -> None:
        """Hand over the goals and advance physics."""
        if self._changed:
            self._hand_over()
            self._changed = False
        self._world.step(substeps)
        self._sensed = None

    def _counts(self, angles: Array) -> Array:
        """What each servo's encoder shows at these joint angles."""
        counts: Array = self._directions * angles[self._joints] * COUNTS_PER_RADIAN + self._zeros
        return counts

    def _hand_over(self) -> None:
        targets, strengths = self._placed.copy(), np.ones(self._placed.size)
        if not self._resting:
            angles = self._directions * (np.array(self._goals) - self._zeros) / COUNTS_PER_RADIAN
            for joint, servos in enumerate(self._mounted):
                if servos:
                    leader = max(servos, key=lambda servo: self._strengths[servo])
                    targets[joint], strengths[joint] = angles[leader], self._strengths[leader]
        if self._held is not None:
            targets, strengths = self._held.copy(), np.ones(self._placed.size)
        for joint, angle in (self._led | self._jammed).items():
            targets[joint], strengths[joint] = angle, 1.0
        self._world.set_torque(strengths)
        self._world.set_targets(targets)


class FirstOrderPlant:
    """Servos that close a fixed share of the distance to their goal at every `step`; no physics."""

    def __init__(self, servos: int, share: float = 0.5) -> None:
        self.positions = [float(CENTRE)] * servos  # counts
        self.goals: list[float] = [CENTRE] * servos
        self.strengths = [0.0] * servos
        self.loads = [0.0] * servos
        self._velocities = [0.0] * servos
        self._jammed: set[int] = set()
        self._share = share

    @property
    def torque(self) -> list[bool]:
        """Which servos have torque."""
        return [strength > 0 for strength in self.strengths]

    def drive(self, servo: int, goal: float, strength: float) -> None:
        self.goals[servo], self.strengths[servo] = goal, strength

    def sense(self, servo: int) -> Sensed:
        return Sensed(round(self.positions[servo]), round(self._velocities[servo]), self.loads[servo])

    def jam(self, servo: int, jammed: bool) -> None:
        (self._jammed.add if jammed else self._jammed.discard)(servo)

    def step(self, seconds: float = 0.01) -> None:
        """Advance every servo that has torque and is not jammed."""
        for servo, (goal, torque) in enumerate(zip(self.goals, self.torque, strict=True)):
            change = self._share * (goal - self.positions[servo]) if torque and servo not in self._jammed else 0.0
            self.positions[servo] += change
            self._velocities[servo] = change / seconds
