"""The safety filter: what a command must satisfy before it may reach a servo. Pure functions of state and target.

Knows no bus, no clock and no policy. Arrays have shape (n,), one entry for each joint in `ArmSpec.joint_names` order,
in rad, rad/s, rad/s^2. Everything is counted from the previous *command*, never from the measurement, so noise and a
sagging joint cannot feed back into the motion.
"""

from __future__ import annotations

from dataclasses import dataclass

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


def approach_velocity(distance: Array, acceleration: Array, dt: float) -> Array:
    """The highest speed at which a joint may start a tick and still stop within `distance` (>= 0).

    The discrete-time form of sqrt(2 a d). At n full steps of a*dt the stopping distance is a dt^2 n (n + 1) / 2, linear
    in between; this is its exact inverse, so a joint lands on its target instead of stepping over it.
    """
    step = acceleration * dt
    scaled = distance / (step * dt)
    full = np.floor((np.sqrt(8.0 * scaled + 1.0) - 1.0) * 0.5)
    approach: Array = (scaled / (full + 1.0) + full * 0.5) * step
    return approach


def filter_command(state: FilterState, target: Array, target_age_s: float, dt: float, limits: Limits) -> Command:
    """The next command on the way to `target`, one servo period of `dt` seconds after `state`.

    A target that is not finite, or older than `limits.age_max_s` (NaN counts as older), is not followed at all: the
    joints decelerate to rest along their motion. Otherwise the target is brought inside the joint limits and approached
    with bounded velocity and acceleration, braking in time.

    For a `state` that came from `FilterState.at_rest` or from this function with the same `dt`, every command stays
    within position, velocity and acceleration limits, whatever the targets. For any other state position comes first.
    """
    change_max = limits.acceleration_max * dt
    reasons: tuple[str, ...] = ()
    if not np.isfinite(target).all():
        wanted = np.zeros_like(state.velocities)
        reasons = (NOT_FINITE,)
    elif not target_age_s <= limits.age_max_s:
        wanted = np.zeros_like(state.velocities)
        reasons = (STALE,)
    else:
        goal = np.minimum(np.maximum(target, limits.position_min), limits.position_max)
        if (goal != target).any():
            reasons = (POSITION,)
        error = goal - state.positions
        speed = approach_velocity(np.abs(error), limits.acceleration_max, dt)
        if (speed > limits.velocity_max).any():
            reasons += (VELOCITY,)
            speed = np.minimum(speed, limits.velocity_max)
        wanted = np.copysign(speed, error)
    change = wanted - state.velocities
    if (np.abs(change) > change_max).any():
        reasons += (ACCELERATION,)
        wanted = state.velocities + np.minimum(np.maximum(change, -change_max), change_max)
    # Braking keeps the joint inside by itself; the clip takes what rounding adds.
    positions = np.minimum(np.maximum(state.positions + wanted * dt, limits.position_min), limits.position_max)
    return Command(positions, (positions - state.positions) / dt, reasons)
