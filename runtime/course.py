"""Where the command should go next: after a policy's targets, down to the rest pose, or back to a blocked joint.

Knows no bus, no filter and no supervisor: stamps and poses are passed in, goals come out. Poses are in rad, shape (n,).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Self

import numpy as np

from drivers.arm import Array
from runtime.clock import SECOND
from runtime.motion import Motion

LOWERING_SPEED = 0.3  # rad/s on average, of the joint with the longest way: slow enough to step back from
LOWERINGS = 3  # at most: a bus that fails on the way down ends one, and may be back a moment later
LOWERING_PATIENCE_S = 2.0  # beyond the time that the way takes, for an arm that lags
STILL = 1e-6  # rad/s, rad/s^2: what rounding leaves of a motion that has arrived
BEFORE_LOWERING_S = 1.0  # held before it: for whoever stands near to see what is coming
SETTLING_S = 0.5  # at most, from the command's rest to that of the joints
JOINT_STILL = 0.05  # rad/s, of a joint that counts as at rest: two steps of an XL330's own resolution
GIVING_WAY_AFTER_S = 0.15  # from a blocked joint's fault: command and joints are at rest by then, also those that lag
GIVING_WAY_LEAD = 0.02  # rad that a blocked joint's goal stays ahead: a quarter of its torque where 5 degrees are all
REST_TOLERANCE = 0.1  # rad: so near to the rest pose torque may go off; a loaded joint sags a little


@dataclass(frozen=True, slots=True)
class Target:
    """Where the joints should be one policy period after `stamp`."""

    stamp: int  # monotonic ns, when it was decided
    positions: Array  # rad, shape (n,)


@dataclass(frozen=True, slots=True)
class Following:
    """A target, and what was asked for when it came, or where the command was."""

    target: Target
    origin: Array

    def age(self, now: int) -> float:
        """Seconds since the target was decided."""
        return (now - self.target.stamp) / SECOND

    def due(self, now: int, policy_period: int) -> bool:
        """Whether the next target should be here; periods in ns."""
        return now - self.target.stamp >= policy_period

    def goal(self, now: int, period: int, policy_period: int) -> Array:
        """Where the command should be at the end of a tick of `period` ns that began at `now`.

        On the straight line from the origin, so that the target is reached as the next one is due.
        """
        share = min(1.0, (now - self.target.stamp + period) / policy_period)
        return self.origin + share * (self.target.positions - self.origin)


@dataclass(frozen=True, slots=True)
class Glide:
    """From `start` to `end` along a straight line of joint space in `seconds`, at rest at both ends."""

    start: Array
    end: Array
    seconds: float

    @classmethod
    def between(cls, start: Array, end: Array, speed: float) -> Self:
        """The way on which the joint with the longest part moves at `speed` rad/s on average."""
        return cls(start, end, float(np.abs(end - start).max()) / speed)

    def at(self, elapsed: float) -> Array:
        """The pose `elapsed` s after the start; `end` once the time is over."""
        if elapsed >= self.seconds:
            return self.end
        share = 0.5 - 0.5 * math.cos(math.pi * elapsed / self.seconds)
        return self.start + share * (self.end - self.start)


@dataclass(frozen=True, slots=True)
class Lowering:
    """A glide to the rest pose that began at `began` ns."""

    began: int
    glide: Glide

    @classmethod
    def of(cls, start: Array, rest: Array, now: int) -> Self:
        return cls(now, Glide.between(start, rest, LOWERING_SPEED))

    def goal(self, now: int) -> Array:
        return self.glide.at((now - self.began) / SECOND)

    def arrived(self, now: int, measured: Array) -> bool:
        """The way is over and the arm lies where it may be let go."""
        return self._left(now) <= 0 and self.distance(measured) <= REST_TOLERANCE

    def stuck(self, now: int) -> bool:
        """The arm should have been there for a while."""
        return self._left(now) <= -LOWERING_PATIENCE_S

    def distance(self, measured: Array) -> float:
        """Of the joint that is furthest from the rest pose, rad."""
        return float(np.abs(measured - self.glide.end).max())

    def _left(self, now: int) -> float:
        return self.glide.seconds - (now - self.began) / SECOND


@dataclass(frozen=True, slots=True)
class GivingWay:
    """After a joint was found blocked, at `since` ns: an end to its pushing, and to the leap that it would make."""

    since: int
    goal: Array | None = None  # once the arm is at rest

    def due(self, now: int) -> bool:
        return now - self.since >= GIVING_WAY_AFTER_S * SECOND

    def to(self, command: Array, measured: Array) -> Self:
        """With the goal, unless it is there: each joint's command, brought back to `GIVING_WAY_LEAD` from the joint."""
        if self.goal is not None:
            return self
        return replace(self, goal=np.clip(command, measured - GIVING_WAY_LEAD, measured + GIVING_WAY_LEAD))


def seen_still(velocities: Array) -> bool:
    """Is every joint at rest by its measured `velocities`, rad/s?"""
    return bool((np.abs(velocities) < JOINT_STILL).all())


def moves(motion: Motion) -> bool:
    """Whether any joint has not come to rest."""
    return bool((np.abs(motion.velocities) > STILL).any() or (np.abs(motion.accelerations) > STILL).any())


def stopping_time(motion: Motion, acceleration_max: Array, jerk_max: Array) -> float:
    """Seconds, at most, until every joint can be at rest: an acceleration runs out, then the joint brakes.

    Limits of shape (n,), in rad/s^2 and rad/s^3.
    """
    accelerations = np.abs(motion.accelerations)
    ramp = accelerations / jerk_max
    speed = np.abs(motion.velocities) + accelerations * ramp / 2
    return float((ramp + speed / acceleration_max + acceleration_max / jerk_max).max())
