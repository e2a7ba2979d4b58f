"""What must be true of the traces of emulated servos, whatever was broken. Pure functions; nothing acts on them.

Goals are judged tick by tick, by the number of writes and not by their stamps: an emulator that was late does not make
a step larger or smaller. Where servos could not hear (`Deaf`), a step may be that of every tick they missed. A goal
that is the joint's own position and stays asks for no motion and may come at any time: so an arm is taken over. Motion
is judged by physics steps, each of which is the same time, and only while the joint had torque: what falls is not
driven. A goal may come late, after a retry, so in any stretch of time a joint may do what so much more time allows.
Resolution is one encoder count, and every bound leaves room for its rounding.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from drivers.arm import Array
from runtime.campaign.trace import COUNT, Goals, JointTrace, Stamps
from runtime.clock import SECOND

TICK = 0.01  # s, the servo loop's
PHYSICS = 0.005  # s, of one row of a motion trace
LATENESS = 0.016  # s that a goal may come late: its tick's reading has two tries of 8 ms
SPEED_ROWS = (10, 20, 40)  # 50 to 200 ms over which a joint's speed is judged
BRAKE_ROWS = 10  # 50 ms over which its acceleration is
STILL_ROWS = 6  # 30 ms over which it is said to be at rest
SPANS = (1, 2, 5)  # ticks over which the acceleration of goals is measured
HELD = 0.01  # rad: a goal so near to the joint is the joint's own position, read some milliseconds before
RESTS = 2  # writes that repeat it: the arm is held, not moved
READ_BEFORE = SECOND // 20  # ns: a goal that is the joint's own position was read so short a time before
STILL = 0.1  # rad/s: a joint is at rest below
QUIET = 0.3  # s without motion, after which an arm has stopped
SINKS = 0.03  # rad: a joint that is held may give way so far under its load
LEAPS = 0.15 + SINKS  # rad: one that was held and is let go of goes to its goal, `safety.lead_max` away at most


@dataclass(frozen=True)
class Violation:
    """A rule that was broken: by which joint ("" for the whole arm), when (s after the fault), and how."""

    rule: str
    joint: str
    at: float
    text: str

    def __str__(self) -> str:
        where = f" of {self.joint}" if self.joint else ""
        return f"{self.rule}{where} at {self.at:+.3f} s: {self.text}"


@dataclass(frozen=True)
class Deaf:
    """Servos (ids; None: all) that could not hear from `start` to `end`, monotonic ns."""

    ids: frozenset[int] | None
    start: int
    end: int

    def covers(self, servo: int) -> bool:
        return self.ids is None or servo in self.ids


def goals_within_limits(traces: Iterable[JointTrace], since: int) -> list[Violation]:
    """Every goal lies within its joint's limits; `since` (ns) is the moment of the fault."""
    found = []
    for trace in traces:
        goals = trace.goals
        outside = np.maximum(trace.low - goals.goals, goals.goals - trace.high)
        # An arm may rest a little outside and be held there.
        outside[np.abs(goals.goals - goals.present) <= COUNT] = 0.0
        if (worst := _worst(outside - COUNT)) is not None:
            text = f"{goals.goals[worst]:.4f} rad is outside [{trace.low:g}, {trace.high:g}]"
            found.append(_violation("goal limit", trace, goals.stamps[worst], since, text))
    return found


def goals_within_speed(traces: Iterable[JointTrace], deaf: Sequence[Deaf], since: int) -> list[Violation]:
    """No goal is further from the one before than the velocity limit allows in the ticks between them."""
    found = []
    for trace in traces:
        goals = trace.goals
        steps = np.abs(np.diff(goals.goals))
        allowed = trace.velocity_max * TICK * _ticks(trace, deaf) + COUNT
        over = np.where(goals.torque[1:] & ~_taken_over(goals)[1:], steps - allowed, 0.0)
        if (worst := _worst(over)) is not None:
            text = f"a step of {steps[worst]:.4f} rad, {allowed[worst]:.4f} rad are allowed"
            found.append(_violation("goal speed", trace, goals.stamps[worst + 1], since, text))
    return found


def goals_within_acceleration(traces: Iterable[JointTrace], deaf: Sequence[Deaf], since: int) -> list[Violation]:
    """The speed of goals changes within the acceleration limit, over one tick and over several."""
    found = []
    for trace in traces:
        goals, limit = trace.goals, trace.acceleration_max
        breaks = ~goals.torque | (_taken_over(goals) & ~_follows(goals, limit))
        breaks[1:] |= (_ticks(trace, deaf) > 1) | (goals.torque[1:] != goals.torque[:-1])
        for span in SPANS:
            if len(goals.goals) <= 2 * span:
                continue
            bends = np.abs(goals.goals[2 * span :] - 2 * goals.goals[span:-span] + goals.goals[: -2 * span])
            # The first of three goals may be a new beginning, the others not.
            whole = _throughout(~breaks[1:], 2 * span - 1)
            over = np.where(whole, bends - (limit * (span * TICK) ** 2 + 2 * COUNT), 0.0)
            if (worst := _worst(over)) is not None:
                reached = bends[worst] / (span * TICK) ** 2
                text = f"{reached:.0f} rad/s^2 over {span} ticks, {limit:g} rad/s^2 are allowed"
                found.append(_violation("goal acceleration", trace, goals.stamps[worst + 2 * span], since, text))
                break
    return found


def motion_within_speed(traces: Iterable[JointTrace], since: int) -> list[Violation]:
    """No joint that has torque moves faster than its velocity limit, over short times and longer ones."""
    found = []
    for trace in traces:
        for rows in SPEED_ROWS:
            seconds = rows * PHYSICS
            speeds, powered = speeds_of(trace, rows)
            allowed = (trace.velocity_max * (seconds + LATENESS) + 2 * COUNT) / seconds
            if (worst := _worst(np.where(powered, speeds - allowed, 0.0))) is not None:
                text = (
                    f"{speeds[worst]:.2f} rad/s over {seconds * 1000:.0f} ms, {trace.velocity_max:g} rad/s are allowed"
                )
                found.append(_violation("speed", trace, trace.motion.stamps[worst + rows], since, text))
                break
    return found


def motion_within_acceleration(traces: Iterable[JointTrace], since: int) -> list[Violation]:
    """No joint that has torque changes its speed faster than its acceleration limit."""
    found = []
    rows, seconds = BRAKE_ROWS, BRAKE_ROWS * PHYSICS
    for trace in traces:
        places = trace.motion.positions
        if len(places) <= 2 * rows:
            continue
        bends = np.abs(places[2 * rows :] - 2 * places[rows:-rows] + places[: -2 * rows])
        allowed = trace.acceleration_max * seconds**2 + 2 * trace.velocity_max * LATENESS + 4 * COUNT
        over = np.where(_throughout(_powered(trace), 2 * rows), bends - allowed, 0.0)
        if (worst := _worst(over)) is not None:
            reached = bends[worst] / seconds**2
            text = f"{reached:.0f} rad/s^2 over 50 ms, {trace.acceleration_max:g} rad/s^2 are allowed"
            found.append(_violation("acceleration", trace, trace.motion.stamps[worst + 2 * rows], since, text))
    return found


def speeds_of(trace: JointTrace, rows: int = STILL_ROWS) -> tuple[Array, NDArray[np.bool_]]:
    """The joint's mean speed (rad/s) over each `rows` physics steps, and whether it had torque all the while."""
    places = trace.motion.positions
    if len(places) <= rows:
        return np.zeros(0), np.zeros(0, bool)
    return np.abs(places[rows:] - places[:-rows]) / (rows * PHYSICS), _throughout(_powered(trace), rows)


def goals_stop(traces: Iterable[JointTrace], since: int) -> int:
    """When the last goal was given that was not the one before, ns: the first such after which nothing changes for
    `QUIET`, and not before `since`."""
    changes = [
        trace.goals.stamps[1:][np.abs(np.diff(trace.goals.goals)) > COUNT / 2]
        for trace in traces
        if len(trace.goals.stamps)
    ]
    return _before_quiet(changes, since)


def arm_stops(traces: Iterable[JointTrace], since: int) -> int:
    """When the last joint was faster than `STILL`, ns: as `goals_stop`, of the joints themselves."""
    moving = []
    for trace in traces:
        speeds, powered = speeds_of(trace)
        stamps = trace.motion.stamps[len(trace.motion.stamps) - len(speeds) :]
        moving.append(stamps[powered & (speeds > STILL)])
    return _before_quiet(moving, since)


def stays(traces: Iterable[JointTrace], start: int, since: int, allowed: float = SINKS) -> list[Violation]:
    """From `start` (ns) on no joint with torque moves by more than `allowed` (rad)."""
    found = []
    for trace in traces:
        powered = _powered(trace) & (trace.motion.stamps >= start)
        places = trace.motion.positions[powered]
        if places.size and (span := float(np.ptp(places))) > allowed:
            text = f"it moved by {span:.3f} rad after it had stopped"
            found.append(_violation("stays", trace, int(trace.motion.stamps[powered][-1]), since, text))
    return found


def goals_stay(traces: Iterable[JointTrace], start: int, since: int) -> list[Violation]:
    """From `start` (ns) on a new goal is given twice at most, and is the joint's own position: none is asked to move.

    Twice, because a joint that is held a little outside of its limits is brought to the limit.
    """
    found = []
    for trace in traces:
        goals = trace.goals
        new = np.flatnonzero(goals.torque[1:] & ((np.abs(np.diff(goals.goals)) > COUNT / 2) | ~goals.torque[:-1])) + 1
        new = new[goals.stamps[new] >= start]
        far = [index for index in new.tolist() if _from_joint(trace, index) > SINKS]
        if far or new.size > 2:
            text = "a goal was given that is not where the joint is"
            found.append(_violation("goals stay", trace, goals.stamps[far[0] if far else new[-1]], since, text))
    return found


def _from_joint(trace: JointTrace, index: int) -> float:
    """How far goal `index` is from where its joint was when it was read, a moment before; or from the limit that the
    joint was beyond, rad."""
    goals, stamp = trace.goals, int(trace.goals.stamps[index])
    read = trace.motion.between(stamp - READ_BEFORE, stamp).positions
    here = np.append(read, goals.present[index])
    goal = goals.goals[index]
    return float(np.minimum(np.abs(goal - here), np.abs(goal - np.clip(here, trace.low, trace.high))).min())


def torque_at(traces: Iterable[JointTrace], moment: int) -> dict[str, bool]:
    """Which joints had torque at `moment` (ns), by name; a joint that was never told anything had none."""
    found = {}
    for trace in traces:
        index = int(np.searchsorted(trace.goals.stamps, moment, side="right")) - 1
        found[trace.name] = bool(index >= 0 and trace.goals.torque[index])
    return found


def torque_kept(traces: Iterable[JointTrace], since: int) -> list[Violation]:
    """No joint loses its torque from `since` (ns) on."""
    found = []
    for trace in traces:
        later = trace.goals.stamps >= since
        lost = later & ~trace.goals.torque
        if torque_at([trace], since)[trace.name] and lost.any():
            found.append(_violation("torque kept", trace, int(trace.goals.stamps[lost][0]), since, "torque went off"))
    return found


def released_at_rest(traces: Iterable[JointTrace], since: int) -> list[Violation]:
    """No joint's torque is switched off while it moves."""
    found = []
    for trace in traces:
        torque, stamps = trace.goals.torque, trace.goals.stamps
        for index in np.flatnonzero(torque[:-1] & ~torque[1:] & (stamps[1:] >= since)) + 1:
            row = int(np.searchsorted(trace.motion.stamps, stamps[index], side="right")) - 1
            if row < STILL_ROWS:
                continue
            places = trace.motion.positions
            speed = abs(float(places[row] - places[row - STILL_ROWS])) / (STILL_ROWS * PHYSICS)
            if speed > STILL + COUNT / (STILL_ROWS * PHYSICS):
                text = f"torque went off at {speed:.2f} rad/s"
                found.append(_violation("released at rest", trace, int(stamps[index]), since, text))
    return found


def _before_quiet(moments: Sequence[Stamps], since: int) -> int:
    every = np.sort(np.concatenate(moments)) if moments else np.zeros(0, np.int64)
    last = since
    for stamp in every[every >= since]:
        if stamp - last > QUIET * SECOND:
            break
        last = int(stamp)
    return last


def _ticks(trace: JointTrace, deaf: Sequence[Deaf]) -> NDArray[np.int64]:
    """How many ticks may lie between each goal and the next: one, and those in which the servo could not hear."""
    stamps = trace.goals.stamps
    ticks = np.ones(max(0, len(stamps) - 1), np.int64)
    for window in deaf:
        if window.covers(trace.id):
            overlap = np.minimum(stamps[1:], window.end) - np.maximum(stamps[:-1], window.start)
            missed = np.ceil(overlap / (TICK * SECOND)).astype(np.int64) + 1
            ticks = np.where(overlap > 0, ticks + missed, ticks)
    return ticks


def _taken_over(goals: Goals) -> NDArray[np.bool_]:
    """Which goals are the joint's own position, and stay."""
    here = np.abs(goals.goals - goals.present) <= HELD
    for ahead in range(1, RESTS + 1):
        here[:-ahead] &= np.abs(goals.goals[ahead:] - goals.goals[:-ahead]) <= COUNT / 2
    return here


def _follows(goals: Goals, acceleration_max: float) -> NDArray[np.bool_]:
    """Which goals go on from the two before within the acceleration limit: nothing new begins with them."""
    follows = np.zeros(len(goals.goals), bool)
    if len(goals.goals) > 2:
        bends = np.abs(np.diff(goals.goals, 2))
        follows[2:] = bends <= acceleration_max * TICK**2 + 2 * COUNT
    return follows


def _throughout(true: NDArray[np.bool_], rows: int) -> NDArray[np.bool_]:
    """Whether `true` holds from each entry to `rows` entries later; shape (m - rows,)."""
    count = np.concatenate(([0], np.cumsum(true)))
    return np.asarray(count[rows + 1 :] - count[: -rows - 1] == rows + 1)


def _powered(trace: JointTrace) -> NDArray[np.bool_]:
    """Whether the joint had torque at each row of its motion."""
    index = np.searchsorted(trace.goals.stamps, trace.motion.stamps, side="right") - 1
    known = np.concatenate((trace.goals.torque, [False]))  # index -1: before anything was told
    return np.asarray(known[index])


def _worst(over: NDArray[np.float64]) -> int | None:
    """The place of the largest value above rounding; None where there is none."""
    if not over.size or not over.max() > 1e-9:
        return None
    return int(over.argmax())


def _violation(rule: str, trace: JointTrace, stamp: int | np.int64, since: int, text: str) -> Violation:
    return Violation(rule, trace.name, (int(stamp) - since) / SECOND, text)
