"""A servo's body, whatever protocol it speaks: motor, gears, profile, heat and strain.

Knows no memory table, no bus and no clock: time passes when the owner calls `advance` and `work`. Positions are counts
on the encoder's own scale, before any offset; loads and strengths are shares of the stall torque.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

COUNTS_PER_TURN = 4096
CENTRE = 2048  # counts, the middle of the encoder's turn
AMBIENT_C = 30.0
# Chosen, not measured: a stalled servo passes 70 degrees after half a minute, one at half load never does.
HEATING_C = 100.0  # degrees above ambient that lasting stall ends at; heat goes with the square of the load
THERMAL_TIME = 60.0  # s, time constant of the case
STALL_ERROR = 57.0  # counts (5 degrees): a blocked motor pushes with all it has from this error on
HOT_C = 85.0  # what an overheated servo reports: above every model's limit
BOOT_TIME = 0.2  # s from power-up to the first answer


@dataclass(frozen=True, slots=True)
class Sensed:
    """What one joint measures."""

    position: int  # counts
    velocity: int = 0  # counts/s
    load: float = 0.0  # share of stall torque in [-1, 1]


class Plant(Protocol):
    """What the servos move. Servos are numbered from 0 in the order of the bus, whatever their id becomes."""

    def drive(self, servo: int, goal: float, strength: float) -> None:
        """Move `servo` towards `goal` (counts) with at most `strength` of its stall torque; 0 lets it go."""

    def sense(self, servo: int) -> Sensed:
        """What `servo` measures now."""

    def jam(self, servo: int, jammed: bool) -> None:
        """Let what `servo` moves be stuck where it is, whatever drives it; or free again."""


class Watcher(Protocol):
    """Is told of every goal and every switch of the torque, by whomever it came: `present` is in counts."""

    def __call__(self, servo: int, goal: int, torque: bool, present: int) -> None: ...


class Profile:
    """A set point that moves to a goal with bounded speed and acceleration: a trapezoid in speed.

    A bound of 0 means none. Braking is that of a sampled set point: it passes the goal by no more than an eighth of
    acceleration * step^2, far less than a count.
    """

    __slots__ = ("acceleration", "position", "speed", "velocity")

    def __init__(self, position: float = 0.0) -> None:
        self.position, self.speed = position, 0.0
        self.velocity = self.acceleration = 0.0  # counts/s, counts/s^2

    @property
    def bounded(self) -> bool:
        return self.velocity > 0 or self.acceleration > 0

    def jump(self, position: float) -> None:
        """Stand at `position`."""
        self.position, self.speed = position, 0.0

    def advance(self, goal: float, seconds: float) -> None:
        """Move towards `goal` for `seconds`."""
        distance = goal - self.position
        speed = abs(distance) / seconds
        if self.velocity > 0:
            speed = min(speed, self.velocity)
        change = self.acceleration * seconds
        if change > 0:
            braking = math.sqrt(2 * self.acceleration * abs(distance) + change * change / 4) - change / 2
            speed = min(speed, braking)
        wanted = math.copysign(speed, distance)
        if change > 0:
            wanted = min(max(wanted, self.speed - change), self.speed + change)
        self.speed = wanted
        self.position += wanted * seconds
        if abs(goal - self.position) < 1e-6:
            self.jump(goal)


class Body:
    """Servo `index` of `plant`, fed with `supply` V.

    `limit` is the torque limit, `strain_load` the load from which `strained` counts seconds. `stuck`, `sag` (V) and
    `overheated` are imposed by faults; None or False where nothing is.
    """

    def __init__(self, index: int, plant: Plant, supply: float) -> None:
        self.index, self._plant, self._supply = index, plant, supply
        self.goal = plant.sense(index).position
        self.torque = False
        self.limit = 1.0
        self.profile = Profile(self.goal)
        self.strain_load = 1.0
        self.strained = 0.0  # s in a row above strain_load
        self.watcher: Watcher | None = None
        self.sag: float | None = None
        self.overheated = False
        self._temperature_c = AMBIENT_C
        self._stuck = False

    @property
    def temperature_c(self) -> float:
        return HOT_C if self.overheated else self._temperature_c

    @property
    def voltage(self) -> float:
        return self._supply if self.sag is None else min(self.sag, self._supply)

    @property
    def travelling(self) -> bool:
        """True while the set point is on its way: `advance` has something to do."""
        profile = self.profile
        return self.torque and (profile.position != self.goal or profile.speed != 0.0)

    @property
    def stuck(self) -> bool:
        return self._stuck

    @stuck.setter
    def stuck(self, stuck: bool) -> None:
        self._stuck = stuck
        self._plant.jam(self.index, stuck)

    def command(self, goal: int, torque: bool) -> None:
        """A new goal, or torque switched: the set point starts at the present position when torque comes on."""
        if self.watcher is not None:
            self.watcher(self.index, goal, torque, self._plant.sense(self.index).position)
        if not self.profile.bounded or not torque:
            self.profile.jump(goal)
        elif not self.torque:
            self.profile.jump(self.sense().position)
        self.goal, self.torque = goal, torque
        self._drive()

    def place(self) -> None:
        """The plant was moved by hand: the goal is where it stands."""
        self.profile.jump(self._plant.sense(self.index).position)
        self.command(int(self.profile.position), self.torque)

    def limit_torque(self, share: float) -> None:
        """Push with at most this share of the stall torque from now on."""
        if share != self.limit:
            self.limit = share
            self._drive()

    def advance(self, seconds: float) -> None:
        """Move the set point; needed only while `travelling`."""
        self.profile.advance(self.goal, seconds)
        self._drive()

    def work(self, seconds: float) -> None:
        """Warm up or cool down, and count strain, for `seconds` at the present load."""
        load = abs(self.sense().load)
        balance = AMBIENT_C + HEATING_C * load * load
        self._temperature_c += (balance - self._temperature_c) * -math.expm1(-seconds / THERMAL_TIME)
        self.strained = self.strained + seconds if load > self.strain_load else 0.0

    def sense(self) -> Sensed:
        """What the servo measures; a stuck joint's motor pushes against what holds it."""
        sensed = self._plant.sense(self.index)
        if not self._stuck:
            return sensed
        push = (self.profile.position - sensed.position) / STALL_ERROR if self.torque else 0.0
        return Sensed(sensed.position, 0, min(max(push, -self.limit), self.limit))

    def _drive(self) -> None:
        self._plant.drive(self.index, self.profile.position, self.limit if self.torque else 0.0)
