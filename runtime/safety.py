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

from dataclasses import dataclass
from math import isfinite
from typing import Protocol

import numpy as np

from drivers.arm import ArmSpec, Array, frozen
from drivers.config import SafetyConfig
from runtime.motion import Motion, reach_to_rest, rest_step, step, way_to_rest

NOT_FINITE = "target not finite"
STALE = "target stale"
POSITION = "position limit"
LEAD = "lead"
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
    LEAD,
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


class OutsideError(ValueError):
    """An arm rests where it must not be taken over: `joint` (its index) is outside of its limits, by the message."""

    def __init__(self, joint: int, text: str) -> None:
        super().__init__(text)
        self.joint = joint


class Obstacles(Protocol):
    """What the filter asks about the arm's surroundings; `runtime/guard.py` answers it."""

    def far(self, positions: Array, reach: Array) -> bool:
        """Whether nothing is in the way of an arm whose joints are anywhere within `reach` (rad, (n,)) of `positions`.
        It may say no where yes would be right, and not the other way round."""

    def obstructs(self, positions: Array, path: Array) -> str | None:
        """Why an arm at `positions` may not go through the poses of `path`, shape (m, n): `WORKSPACE`, `COLLISION` or
        `TABLE`; None: it may."""


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
    tracking_error_max: Array  # rad between command and measurement, beyond which nothing is followed; inf: it grips
    lead_max: Array  # rad ahead of where it is that a joint is sent: so far it leaps once freed

    @classmethod
    def of(cls, spec: ArmSpec, safety: SafetyConfig | None = None) -> Limits:
        """The limits of an arm; `safety` None: its defaults."""
        safety = safety or SafetyConfig()
        grips = [name in safety.grippers for name in spec.joint_names]
        return cls(
            spec.position_min,
            spec.position_max,
            spec.velocity_max,
            spec.acceleration_max,
            spec.jerk_max,
            safety.soft_margin,
            safety.target_age_max_s,
            frozen([np.inf if grip else safety.tracking_error_max for grip in grips]),
            frozen([safety.grip_lead_max if grip else safety.lead_max for grip in grips]),
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
        `OutsideError`, naming the first such joint, for one that is further out.
        """
        inside = np.clip(positions, limits.position_min, limits.position_max)
        out = np.flatnonzero(~(np.abs(positions - inside) <= START_TOLERANCE))
        if out.size:
            joint = int(out[0])
            low, high = limits.position_min[joint], limits.position_max[joint]
            raise OutsideError(joint, f"rests at {positions[joint]:.3f} rad, outside [{low:.3f}, {high:.3f}]")
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
    limits, near what is measured, and in soft margins close to the joint; it is approached as fast as velocity,
    acceleration and jerk limits allow, without overshoot. Where `guard` sees something in the way every joint comes to
    rest before it.

    For a `state` that came from `FilterState.at_rest` or from this function, every command stays within all limits,
    measured by the finite differences of successive commands, whatever targets, ages and measurements were.
    """
    refused = _refusals(state, target, target_age_s, measured, limits)
    if refused:
        return Command(_rest(state, dt, limits), refused)

    goals, changed = _goals(state, target, measured, limits)
    followed = min(state.followed + dt, START_TIME)
    velocity_max = limits.velocity_max * (followed / START_TIME)
    acceleration_max, jerk_max = limits.acceleration_max, limits.jerk_max
    motion = _within(step(state.motion, goals, velocity_max, acceleration_max, jerk_max, dt), limits)
    if guard is not None and not guard.far(motion.positions, reach_to_rest(motion, acceleration_max, jerk_max)):
        path = np.vstack((motion.positions, way_to_rest(motion, acceleration_max, jerk_max, dt)))
        obstacle = guard.obstructs(state.positions, path)
        if obstacle is not None:
            return Command(_rest(state, dt, limits), (*changed, obstacle))

    held_back = _held_back(motion, goals, velocity_max, acceleration_max, followed < START_TIME)
    return Command(FilterState(motion, followed), changed + held_back)


def _refusals(
    state: FilterState, target: Array, age_s: float, measured: Array | None, limits: Limits
) -> tuple[str, ...]:
    """Why nothing is followed; empty: it is."""
    refused = []
    if not all(map(isfinite, target.tolist())):
        refused.append(NOT_FINITE)
    if not age_s <= limits.age_max_s:
        refused.append(STALE)
    if measured is not None:
        rows = _by_joint(state.positions, measured, limits.tracking_error_max)
        if not all(abs(told - here) <= error_max for told, here, error_max in rows):
            refused.append(TRACKING)
    return tuple(refused)


def _goals(state: FilterState, target: Array, measured: Array | None, limits: Limits) -> tuple[Array, tuple[str, ...]]:
    """Where each joint may aim, shape (n,), and the rules that made it another place than what was asked.

    To its position limit; no further than `lead_max` from where it is seen to be, so that one that is held up does not
    get far to leap; in the soft margin before a limit no further than a share of the margin ahead of the joint, or of
    the margin's edge, so that it is nowhere faster than it can stop before its goal. The last two reach for the joint
    from its limits inwards: what is seen outside of them draws no goal there.
    """
    margin, ahead = limits.soft_margin, limits.soft_margin * MARGIN_SHARE
    goals, beyond, leads, slowed = [], False, False, False
    seen = state.positions if measured is None else measured
    rows = _by_joint(target, state.positions, seen, limits.position_min, limits.position_max, limits.lead_max)
    for wanted, place, there, low, high, lead in rows:
        inside = min(max(wanted, low), high)
        near = inside if measured is None else min(max(inside, there - lead), there + lead)
        last = min(high, max(high - margin, place) + ahead)
        goal = min(max(near, low, min(low + margin, place) - ahead), last)
        beyond |= inside != wanted
        leads |= near != inside
        slowed |= goal != near
        goals.append(goal)
    named = ((POSITION, beyond), (LEAD, leads), (MARGIN, slowed))
    return np.array(goals), tuple(reason for reason, so in named if so)


def _held_back(
    motion: Motion, goals: Array, velocity_max: Array, acceleration_max: Array, starting: bool
) -> tuple[str, ...]:
    """Which limits keep joints from their goals after this step."""
    short = fast = hard = smooth = False
    rows = _by_joint(goals, *motion, velocity_max * AT_LIMIT, acceleration_max * AT_LIMIT)
    for goal, place, speed, push, fastest, hardest in rows:
        if not abs(goal - place) > AT_GOAL:
            continue
        short = True
        at_speed, at_push = abs(speed) >= fastest, abs(push) >= hardest
        fast |= at_speed
        hard |= at_push
        smooth |= not (at_speed or at_push)
    named = ((START, starting and short), (VELOCITY, fast), (ACCELERATION, hard), (JERK, smooth))
    return tuple(reason for reason, so in named if so)


def _by_joint(*columns: Array) -> list[list[float]]:
    """A row for each joint: a handful of plain numbers are looked at faster than arrays of them. Raises `ValueError`
    for columns of different lengths."""
    rows: list[list[float]] = np.array(columns).T.tolist()
    return rows


def _rest(state: FilterState, dt: float, limits: Limits) -> FilterState:
    """The state after the next tick on the way to rest."""
    motion = rest_step(state.motion, limits.acceleration_max, limits.jerk_max, dt)
    return FilterState(_within(motion, limits), state.followed)


def _within(motion: Motion, limits: Limits) -> Motion:
    """`motion` with what rounding put beyond the position limits taken off."""
    # A third of the time of np.clip for a handful of joints.
    inside = np.minimum(np.maximum(motion.positions, limits.position_min), limits.position_max)
    return Motion(inside, motion.velocities, motion.accelerations)
