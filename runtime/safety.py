"""The safety filter: what a command must satisfy before it may reach a servo. Pure functions of state and target.

Knows no bus, no clock and no policy. Arrays have shape (n,), one entry for each joint in `ArmSpec.joint_names` order,
in rad, rad/s, rad/s^2. Everything is counted from the previous *command*, never from the measurement, so noise and a
sagging joint cannot feed back into the motion.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import compress

import numpy as np

from drivers.arm import ArmSpec, Array, frozen

NOT_FINITE = "target not finite"
STALE = "target stale"
POSITION = "position limit"
VELOCITY = "velocity limit"
ACCELERATION = "acceleration limit"
REASONS = (NOT_FINITE, STALE, POSITION, VELOCITY, ACCELERATION)

START_TOLERANCE = 0.05  # rad, how far beyond a limit an arm may rest and still be taken over (backlash, calibration)


@dataclass(frozen=True, slots=True)
class Limits:
    """What every command stays within. Build it with `Limits.of(spec)`."""

    position_min: Array
    position_max: Array
    velocity_max: Array
    acceleration_max: Array
    age_max_s: float = 0.12  # older targets are not followed: at 20 Hz, two lost targets and some jitter

    @classmethod
    def of(cls, spec: ArmSpec, *, age_max_s: float = 0.12) -> Limits:
        """The limits of an arm, and how old a target may be."""
        return cls(spec.position_min, spec.position_max, spec.velocity_max, spec.acceleration_max, age_max_s)


@dataclass(frozen=True, slots=True)
class FilterState:
    """The previous command: where it was and how fast it moved."""

    positions: Array
    velocities: Array

    @classmethod
    def at_rest(cls, positions: Array, limits: Limits) -> FilterState:
        """The state of an arm that is held at `positions`.

        A joint that rests beyond a limit by no more than `START_TOLERANCE` is taken to be at the limit. Raises
        `ValueError`, naming the first such joint by its index, for one that is further out.
        """
        inside = np.clip(positions, limits.position_min, limits.position_max)
        out = np.flatnonzero(~(np.abs(positions - inside) <= START_TOLERANCE))
        if out.size:
            joint = int(out[0])
            raise ValueError(
                f"joint {joint} rests at {positions[joint]:.3f} rad, outside "
                f"[{limits.position_min[joint]:.3f}, {limits.position_max[joint]:.3f}]"
            )
        return cls(frozen(inside), frozen(np.zeros_like(inside)))


@dataclass(frozen=True, slots=True)
class Command:
    """What may be written: `positions` after this tick, reached at `velocities`; `reasons` names every rule that
    changed the motion, in `REASONS` order."""

    positions: Array
    velocities: Array
    reasons: tuple[str, ...]

    @property
    def state(self) -> FilterState:
        """The state that the next command is counted from."""
        return FilterState(self.positions, self.velocities)


def approach_velocity(distance: float, acceleration: float, dt: float) -> float:
    """The highest speed (rad/s) at which a joint may start a tick and still stop within `distance` (rad, >= 0).

    The discrete-time form of sqrt(2 a d). At n full steps of a*dt the stopping distance is a dt^2 n (n + 1) / 2, linear
    in between; this is its exact inverse, so a joint lands on its target instead of stepping over it.
    """
    step = acceleration * dt
    scaled = distance / (step * dt)
    full = math.floor((math.sqrt(8.0 * scaled + 1.0) - 1.0) * 0.5)
    return (scaled / (full + 1.0) + full * 0.5) * step


def filter_command(state: FilterState, target: Array, target_age_s: float, dt: float, limits: Limits) -> Command:
    """The next command on the way to `target`, one servo period of `dt` seconds after `state`.

    A target that is not finite, or older than `limits.age_max_s` (NaN counts as older), is not followed at all: the
    joints decelerate to rest along their motion. Otherwise the target is brought inside the joint limits and approached
    with bounded velocity and acceleration, braking in time.

    For a `state` that came from `FilterState.at_rest` or from this function with the same `dt`, every command stays
    within position, velocity and acceleration limits, whatever the targets. For any other state position comes first.
    """
    goals = target.tolist()
    finite = all(map(math.isfinite, goals))
    fresh = target_age_s <= limits.age_max_s
    beyond_position = beyond_velocity = beyond_acceleration = False
    positions, velocities = [], []
    # Joint by joint: for a handful of joints, floats are three times as fast as arrays.
    for position, velocity, goal, low, high, velocity_max, acceleration_max in zip(
        state.positions.tolist(),
        state.velocities.tolist(),
        goals,
        limits.position_min.tolist(),
        limits.position_max.tolist(),
        limits.velocity_max.tolist(),
        limits.acceleration_max.tolist(),
        strict=True,
    ):
        wanted = 0.0
        if finite and fresh:
            inside = min(max(goal, low), high)
            beyond_position |= inside != goal
            speed = approach_velocity(abs(inside - position), acceleration_max, dt)
            if speed > velocity_max:
                beyond_velocity, speed = True, velocity_max
            wanted = math.copysign(speed, inside - position)
        change, change_max = wanted - velocity, acceleration_max * dt
        if abs(change) > change_max:
            beyond_acceleration, wanted = True, velocity + math.copysign(change_max, change)
        # Braking keeps the joint inside by itself; the clip takes what rounding adds.
        reached = min(max(position + wanted * dt, low), high)
        positions.append(reached)
        velocities.append((reached - position) / dt)
    bound = (not finite, finite and not fresh, beyond_position, beyond_velocity, beyond_acceleration)
    reasons = tuple(compress(REASONS, bound)) if any(bound) else ()
    return Command(np.array(positions), np.array(velocities), reasons)
