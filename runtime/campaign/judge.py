"""What a trial amounts to: figures, and which of the promises were broken. Reads what was observed; does nothing.

The rules are invariants.py's. What a broken bound of time may be owed to, a machine that was too late, is noted beside
it: `late` says so and hides nothing.
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from runtime.campaign import invariants
from runtime.campaign.fault import Ends
from runtime.campaign.invariants import TICK, Violation
from runtime.campaign.plan import Expected, expected
from runtime.campaign.trace import COUNT, JointTrace, without
from runtime.campaign.trial import POWER_CYCLE, Observed
from runtime.clock import MILLISECOND, SECOND

LOST_MAX = 0.5  # s before a kill of which a recording may know nothing
LATE_MS = 20.0  # a pause of the emulator, or a start of a control step, from which on the machine was late
LATE_TICKS = 2  # servo cycles skipped, from which on it was
GOING_ON = 0.4  # s before the end in which an arm that goes on has moved
LEFT_ON = re.compile(r"release: (.+) still energised")  # what a run says of joints that it could not release
AFTERWARDS = SECOND // 2  # ns after the end of what was watched, in which a fault is still this trial's


@dataclass(frozen=True)
class Verdict:
    """What came of a trial; times in s after its first fault, None where there is none."""

    name: str
    seed: int
    moment: float  # s after the arm was asked to move
    speed: float  # rad/s, of the fastest joint at the moment of the fault
    ends: str
    told: str  # the fault as it was latched, or the line
    told_s: float | None
    goals_stop_s: float | None
    arm_stops_s: float | None
    lost_s: float | None  # of the recording before the fault
    mended: str  # what the operator had to do before a reset was accepted; "": nothing
    pauses_ms: float  # the emulator's longest
    steps_late_ms: float  # the control step that began latest
    ticks_skipped: int  # of the servo loop
    late: bool  # the machine was
    violations: tuple[Violation, ...]

    @property
    def told_ticks(self) -> int | None:
        """Servo ticks until the fault was latched."""
        return None if self.told_s is None else round(self.told_s / TICK)

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | {"told_ticks": self.told_ticks, "violations": [str(found) for found in self.violations]}


def judge(observed: Observed) -> Verdict:
    """The verdict on a trial whose run is over."""
    wanted = expected(observed.plan)
    since = observed.since()
    sound = without(observed.traces, observed.plan.limp())
    watched = [trace.between(observed.began, observed.ended) for trace in sound]
    ends = _end(observed, sound, wanted)
    told, told_s = _told(observed, wanted, since)
    stops = ends is not Ends.GOES_ON
    goals_stop = (invariants.goals_stop(watched, since) - since) / SECOND if stops else None
    arm_stops = (invariants.arm_stops(watched, since) - since) / SECOND if stops else None
    pauses, late_ms, skipped = _lateness(observed)
    found = [
        *_of_motion(observed, since),
        *_of_end(observed, watched, wanted, ends, since),
        *_of_time(observed, wanted, goals_stop, told_s),
        *_of_words(observed, wanted, told, ends),
        *_of_reset(observed, since),
        *_of_recording(observed, since),
        *[Violation("processes gone", "", 0.0, f"{line} ({pid}) was left") for pid, line in observed.left.items()],
    ]
    recorded = observed.recorded
    return Verdict(
        name=observed.plan.name,
        seed=observed.plan.seed,
        moment=(since - observed.began) / SECOND,
        speed=_speed_at(watched, since),
        ends=ends.value,
        told=told,
        told_s=told_s,
        goals_stop_s=goals_stop,
        arm_stops_s=arm_stops,
        lost_s=None if recorded is None else recorded.lost_before(since),
        mended=observed.mended,
        pauses_ms=pauses,
        steps_late_ms=late_ms,
        ticks_skipped=skipped,
        late=pauses > LATE_MS or late_ms > LATE_MS or skipped > LATE_TICKS,
        violations=tuple(found),
    )


def _of_motion(observed: Observed, since: int) -> list[Violation]:
    """Limits: of every goal, and of every joint that its servo drives."""
    deaf, traces = observed.deaf(), observed.traces
    faults = [strike.fault for strike in observed.plan.strikes]
    sound = without(traces, observed.plan.limp())
    end = _last_stamp(traces) + 1
    # Whoever limits acceleration may be gone, and what the arm hits moves it: until then all is judged.
    smooth = since if any(fault.abrupt for fault in faults) else end
    free = since if any(fault.touches for fault in faults) else end
    return [
        *invariants.goals_within_limits(traces, since),
        *invariants.goals_within_speed(sound, deaf, since),
        *invariants.goals_within_acceleration([trace.between(0, smooth) for trace in sound], deaf, since),
        *invariants.motion_within_speed([trace.between(0, free) for trace in sound], since),
        *invariants.motion_within_acceleration([trace.between(0, min(free, smooth)) for trace in sound], since),
    ]


def _end(observed: Observed, sound: tuple[JointTrace, ...], wanted: Expected) -> Ends:
    """What became of the arm, by its trace."""
    if Ends.GONE in wanted.ends:
        return Ends.GONE
    # The run's own end releases the arm as well: only where that is expected it counts.
    final = observed.plan.fatal and Ends.RELEASED in wanted.ends
    moment = _last_stamp(sound) if final else observed.ended
    energised = {name for name, on in invariants.torque_at(sound, moment).items() if on}
    if not energised - (_could_not_hear(observed) if final else set()):
        return Ends.RELEASED
    if final:
        return Ends.HOLDS
    recent = [trace.between(observed.ended - round(GOING_ON * SECOND), observed.ended) for trace in sound]
    recorded = observed.recorded
    latched = recorded is not None and recorded.fault_between(observed.since(), observed.ended) is not None
    fault = latched or (observed.event is not None and observed.event["fault"] is not None)
    # More than a servo does whose bus watchdog trips: it takes its own position for its goal.
    moving = any(np.ptp(trace.goals.goals) > 4 * COUNT for trace in recent if trace.goals.goals.size)
    return Ends.GOES_ON if moving and not fault else Ends.HOLDS


def _could_not_hear(observed: Observed) -> set[str]:
    """Joints of servos that were deaf when a run released the arm, and that it said are energised still."""
    recorded = observed.recorded
    faults = () if recorded is None else recorded.faults
    told = {name for fault in faults if (found := LEFT_ON.match(fault.text)) for name in found[1].split(", ")}
    deaf = observed.deaf()
    return {trace.name for trace in observed.traces if trace.name in told and any(one.covers(trace.id) for one in deaf)}


def _of_end(observed: Observed, watched: list[JointTrace], wanted: Expected, ends: Ends, since: int) -> list[Violation]:
    """What became of the arm is what is stated; it stays so, and lost no torque on the way."""
    if ends is Ends.GONE:
        return []
    found = []
    if ends not in wanted.ends:
        text = f"the arm {ends.value}; stated is: {' or '.join(sorted(wanted.ends))}"
        found.append(Violation("ends", "", (observed.ended - since) / SECOND, text))
    if ends is not Ends.RELEASED:
        found += invariants.torque_kept(watched, since)
    elif not any(strike.fault.drops for strike in observed.plan.strikes):
        found += invariants.released_at_rest(without(observed.traces, observed.plan.limp()), since)
    touches = any(strike.fault.touches for strike in observed.plan.strikes)
    if ends is Ends.HOLDS and wanted.ends == {Ends.HOLDS} and not touches:
        start, freed = invariants.arm_stops(watched, since), observed.plan.freed()
        found += invariants.stays(without(watched, freed), start, since)
        found += invariants.stays([trace for trace in watched if trace.id in freed], start, since, invariants.LEAPS)
    return found


def _of_time(observed: Observed, wanted: Expected, goals_stop: float | None, told_s: float | None) -> list[Violation]:
    found = []
    since = observed.since()
    bounded = [
        (moment - since) / SECOND
        for strike, moment in zip(observed.plan.strikes, observed.moments, strict=True)
        if moment is not None and strike.fault.stops is not None
    ]
    if wanted.stops is not None and bounded and (goals_stop is None or goals_stop > max(bounded) + wanted.stops):
        text = "the goals never stopped" if goals_stop is None else f"the goals stopped, {wanted.stops:g} s are allowed"
        found.append(Violation("stopped in time", "", goals_stop or 0.0, text))
    if wanted.named is not None and (told_s is None or told_s > wanted.named):
        text = "nothing was told" if told_s is None else f"the fault was latched, {wanted.named:g} s are allowed"
        found.append(Violation("told in time", "", told_s or 0.0, text))
    return found


def _of_words(observed: Observed, wanted: Expected, told: str, ends: Ends) -> list[Violation]:
    """The operator is told what is stated; an arm that goes on need not say why it might not have."""
    silent = ends is Ends.GOES_ON and all(strike.fault.by == "fault" for strike in observed.plan.strikes)
    if silent or not wanted.told or any(re.search(pattern, told) for pattern in wanted.told):
        return []
    return [Violation("told", "", 0.0, f"{told!r}; stated is {' or '.join(wanted.told)}")]


def _told(observed: Observed, wanted: Expected, since: int) -> tuple[str, float | None]:
    """What the operator was told: a fault and when it was latched, or else a line."""
    recorded = observed.recorded
    fault = (
        None if recorded is None else recorded.fault_between(since, min(observed.ended + AFTERWARDS, observed.closed))
    )
    lines = [line for line in observed.lines if line]
    fitting = [line for line in lines if any(re.search(pattern, line) for pattern in wanted.told)]
    if fault is not None:
        ended = fitting and LEFT_ON.match(fault.text)  # that is about the run's end: why it ended was said before
        return fitting[0] if ended else fault.text, (fault.stamp - since) / SECOND
    event = observed.event
    if event is not None and event["fault"] is not None:
        return str(event["fault"]), None
    return next(iter(fitting or lines), ""), None


def _of_reset(observed: Observed, since: int) -> list[Violation]:
    """A reset works once the cause is gone, and moves nothing; one that is refused names a servo that was struck."""
    if observed.reset_at is None:
        return []
    sound = without(observed.after_reset, observed.plan.limp())  # a joint without torque may still be falling
    at = (observed.reset_at - since) / SECOND
    found = [
        Violation("reset", violation.joint, violation.at, f"after a reset {violation.text}")
        for violation in invariants.goals_stay(sound, observed.reset_at, since)
    ]
    # What falls without torque, a servo that is switched off or one that was struck, pushes other joints.
    falls = observed.mended == POWER_CYCLE or any(strike.fault.touches for strike in observed.plan.strikes)
    if not falls:
        found += invariants.stays(sound, observed.reset_at, since)
    struck = [trace.name for trace in observed.traces if trace.id in observed.plan.limp()]
    for refusal in observed.refusals:
        if not any(name in refusal for name in struck):
            found.append(Violation("reset", "", at, f"refused, and no joint that was struck is named: {refusal}"))
    if observed.reset_refused is not None:
        found.append(Violation("reset", "", at, observed.reset_refused))
    return found


def _of_recording(observed: Observed, since: int) -> list[Violation]:
    """The recording can be read, up to half a second before the fault at least."""
    recorded = observed.recorded
    if recorded is None:
        return [Violation("recording", "", 0.0, observed.unreadable or "there is none")]
    found = []
    if (lost := recorded.lost_before(since)) > LOST_MAX:
        found.append(Violation("recording", "", -lost, f"the last {lost:.2f} s before the fault are not in it"))
    if recorded.damaged:
        found.append(Violation("recording", "", 0.0, f"{recorded.damaged} chunks cannot be read"))
    return found


def _lateness(observed: Observed) -> tuple[float, float, int]:
    """The emulator's longest pause; before the fault the latest control step, ms, and the servo cycles skipped."""
    pauses = [float(np.diff(trace.motion.stamps).max(initial=0)) / MILLISECOND for trace in observed.traces[:1]]
    recorded = observed.recorded
    if recorded is None:
        return max(pauses, default=0.0), 0.0, 0
    # What is late after the fault may be so because of it.
    before = observed.began, observed.since()
    return max(pauses, default=0.0), recorded.late_between(*before), recorded.skipped_between(*before)


def _speed_at(traces: list[JointTrace], moment: int) -> float:
    """Of the fastest joint just before `moment`, rad/s."""
    fastest = 0.0
    for trace in traces:
        speeds, _ = invariants.speeds_of(trace.between(moment - SECOND // 10, moment))
        fastest = max(fastest, float(speeds[-1:].max(initial=0.0)))
    return fastest


def _last_stamp(traces: tuple[JointTrace, ...]) -> int:
    return max((int(trace.motion.stamps[-1]) for trace in traces if trace.motion.stamps.size), default=0)
