"""The safety filter: what a command must satisfy before it may reach a servo. Pure functions of state and target.

Knows no bus, no clock and no policy. Arrays have shape (n,), one entry for each joint in `ArmSpec.joint_names` order,
in rad, rad/s, rad/s^2, rad/s^3. Motion is counted from the previous *command*, never from the measurement, so noise and
a sagging joint cannot feed back into it.

One invariant carries every rule: from each command that is sent the arm can come to rest, within velocity, acceleration
and jerk limits, without leaving its joint limits or meeting what the guard watches for. A step towards the target keeps
it for the joint limits (see `runtime/motion.py`). For the guard the whole way to rest is looked at before the step is
taken; where something is in it the arm takes the way to rest that was looked at the tick before.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from drivers.arm import ArmSpec, Array, frozen
from drivers.config import SafetyConfig
from runtime.motion import Motion, step, way_to_rest

NOT_FINITE = "target not finite"
STALE = "target stale"
POSITION = "position limit"
MARGIN = "soft margin"
START = "slow start"
VELOCITY = "velocity limit"
ACCELERATION = "acceleration limit"
JERK = "jerk limit"
WORKSPACE = "workspace"
COLLISION = "self-collision"
TABLE = "table"
TRACKING = "tracking error"
REASONS = (
    NOT_FINITE,
    STALE,
    POSITION,
    MARGIN,
    START,
    VELOCITY,
    ACCELERATION,
    JERK,
    WORKSPACE,
    COLLISION,
    TABLE,
    TRACKING,
)

START_TOLERANCE = 0.05  # rad, how far beyond a limit an arm may rest and still be taken over (backlash, calibration)
START_TIME = 0.3  # s after rest, over which the velocity limit grows from nothing to its full value
MARGIN_SHARE = 0.2  # of the soft margin: as far ahead a joint in it may aim; 40 rad/s^2 stop 0.9 rad/s within 0.01 rad
AT_GOAL = 1e-7  # rad, below any servo's resolution by far
AT_LIMIT = 1 - 1e-6  # share of a limit from which on it counts as reached


class Obstacles(Protocol):
    """What the filter asks about the arm's surroundings; `runtime/guard.py` answers it."""

    def obstructs(self, positions: Array, path: Sequence[Array]) -> str | None:
        """Why an arm at `positions` may not go along `path`: `WORKSPACE`, `COLLISION` or `TABLE`; None: it may."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What every command stays within. Build it with `Limits.of(spec, safety)`."""

    position_min: Array
    position_max: Array
    velocity_max: Array
    acceleration_max: Array
    jerk_max: Array
    soft_margin: float  # rad before a position limit, within which motion towards it is slow
    age_max_s: float  # older targets are not followed
    tracking_error_max: float  # rad between command and measurement, beyond which nothing is followed

    @classmethod
    def of(cls, spec: ArmSpec, safety: SafetyConfig | None = None) -> Limits:
        """The limits of an arm; `safety` None: its defaults."""
        safety = safety or SafetyConfig()
        return cls(
            spec.position_min,
            spec.position_max,
            spec.velocity_max,
            spec.acceleration_max,
            spec.jerk_max,
            safety.soft_margin,
            safety.target_age_max_s,
            safety.tracking_error_max,
        )


@dataclass(frozen=True, slots=True)
class FilterState:
    """The previous command: where it was, how it moved, and for how long (s, up to `START_TIME`) it has followed."""

    motion: Motion
    followed: float

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
        still = frozen(np.zeros_like(inside))
        return cls(Motion(frozen(inside), still, still), 0.0)

    @property
    def positions(self) -> Array:
        return self.motion.positions

    @property
    def velocities(self) -> Array:
        return self.motion.velocities


@dataclass(frozen=True, slots=True)
class Command:
    """What may be written, and `state`, from which the next command is counted.

    `reasons` names every rule that changed the motion, in `REASONS` order; without one the command is the target.
    """

    state: FilterState
    reasons: tuple[str, ...]

    @property
    def positions(self) -> Array:
        return self.state.motion.positions

    @property
    def velocities(self) -> Array:
        return self.state.motion.velocities


def filter_command(
    state: FilterState,
    target: Array,
    target_age_s: float,
    dt: float,
    limits: Limits,
    *,
    measured: Array | None = None,
    guard: Obstacles | None = None,
) -> Command:
    """The next command on the way to `target`, one servo period of `dt` seconds after `state`.

    Nothing is followed, and every joint comes to rest along its motion, while the target is not finite or older than
    `limits.age_max_s` (NaN counts as older), and while a joint's `measured` position is further from the previous
    command than `limits.tracking_error_max` (NaN counts as further). Otherwise the target is brought inside the joint
    limits, and in their soft margins close to the joint, and approached as fast as velocity, acceleration and jerk
    limits allow, without overshoot. Where `guard` sees something in the way every joint comes to rest before it.

    For a `state` that came from `FilterState.at_rest` or from this function, every command stays within all limits,
    measured by the finite differences of successive commands, whatever targets, ages and measurements were.
    """
    refused = {
        NOT_FINITE: not np.isfinite(target).all(),
        STALE: not target_age_s <= limits.age_max_s,
        TRACKING: measured is not None and not (np.abs(state.positions - measured) <= limits.tracking_error_max).all(),
    }
    if any(refused.values()):
        return Command(_rest(state, dt, limits), _named(refused))

    inside = _clip(target, limits.position_min, limits.position_max)
    goals = _clip(inside, *_soft_limits(state.positions, limits))
    followed = min(state.followed + dt, START_TIME)
    velocity_max = limits.velocity_max * (followed / START_TIME)
    motion = _within(step(state.motion, goals, velocity_max, limits.acceleration_max, limits.jerk_max, dt), limits)
    changed = {POSITION: (inside != target).any(), MARGIN: (goals != inside).any()}
    if guard is not None:
        path = [motion, *way_to_rest(motion, limits.acceleration_max, limits.jerk_max, dt)]
        obstacle = guard.obstructs(state.positions, [ahead.positions for ahead in path])
        if obstacle is not None:
            return Command(_rest(state, dt, limits), _named(changed | {obstacle: True}))

    short = np.abs(goals - motion.positions) > AT_GOAL
    fast = short & (np.abs(motion.velocities) >= velocity_max * AT_LIMIT)
    hard = short & (np.abs(motion.accelerations) >= limits.acceleration_max * AT_LIMIT)
    changed |= {
        START: followed < START_TIME and short.any(),
        VELOCITY: fast.any(),
        ACCELERATION: hard.any(),
        JERK: (short & ~fast & ~hard).any(),
    }
    return Command(FilterState(motion, followed), _named(changed))


def _soft_limits(positions: Array, limits: Limits) -> tuple[Array, Array]:
    """How far each joint may aim: to its limit, or where that is in the soft margin no further than a share of the
    margin ahead of the joint, or of the margin's edge. A joint is nowhere faster than it can stop before its goal."""
    margin, ahead = limits.soft_margin, limits.soft_margin * MARGIN_SHARE
    return (
        np.maximum(limits.position_min, np.minimum(limits.position_min + margin, positions) - ahead),
        np.minimum(limits.position_max, np.maximum(limits.position_max - margin, positions) + ahead),
    )


def _rest(state: FilterState, dt: float, limits: Limits) -> FilterState:
    """The state after the next tick on the way to rest."""
    motion = way_to_rest(state.motion, limits.acceleration_max, limits.jerk_max, dt)[0]
    return FilterState(_within(motion, limits), state.followed)


def _within(motion: Motion, limits: Limits) -> Motion:
    """`motion` with what rounding put beyond the position limits taken off."""
    return motion._replace(positions=_clip(motion.positions, limits.position_min, limits.position_max))


def _clip(values: Array, low: Array, high: Array) -> Array:
    # A third of the time of np.clip for a handful of joints.
    return np.minimum(np.maximum(values, low), high)


def _named(changed: dict[str, bool]) -> tuple[str, ...]:
    return tuple(reason for reason in REASONS if changed.get(reason))
