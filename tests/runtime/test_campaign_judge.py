"""The judge says what a trial was, and finds each thing that may be wrong with one."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from runtime.campaign.catalogue import CATALOGUE
from runtime.campaign.judge import judge
from runtime.campaign.plan import Plan, Strike
from runtime.campaign.recorded import Recorded, RecordedFault
from runtime.campaign.trace import JointTrace
from runtime.campaign.trial import POWER_CYCLE, Observed
from runtime.clock import MILLISECOND, SECOND
from tests.runtime.campaign_traces import START, TICK_NS, path, trace_of, with_goal, with_torque_off

END = START + round(1.1 * SECOND)
FAULT = START + 480 * MILLISECOND  # the arm brakes from here on
SILENT = "policy silent for 205 ms: it hangs, was stopped, or is too slow"


def recorded(text: str | None = SILENT, after_ms: int = 160, until: int = END) -> Recorded:
    ticks = np.arange(START, until, TICK_NS)
    faults = () if text is None else (RecordedFault(FAULT + after_ms * MILLISECOND, text, 50),)
    nothing = np.zeros(len(ticks), np.int64)
    return Recorded(0, ticks, nothing, ticks[::5], np.zeros(len(ticks[::5])), faults, 0)


def observed(name: str = "policy_busy", trace: JointTrace | None = None, **changed: Any) -> Observed:
    """A trial in which everything went as it should."""
    strike = Strike(CATALOGUE[name], 0.48)
    trial = Observed(
        plan=Plan(7, (strike,)),
        began=START,
        ended=END,
        moments=[FAULT],
        lifted=[None],
        traces=(trace or trace_of(path(seconds=0.5, rest=0.7)),),
        event={"event": "ended", "outcome": f"fault: {SILENT}", "state": "fault", "fault": SILENT},
        lines=[""],
        left={},
        recorded=recorded(),
    )
    return replace(trial, **changed)


def rules(trial: Observed) -> list[str]:
    return [violation.rule for violation in judge(trial).violations]


def test_a_trial_as_it_should_be() -> None:
    verdict = judge(observed())
    assert verdict.violations == ()
    assert (verdict.ends, verdict.told, verdict.told_ticks) == ("holds", SILENT, 16)
    assert 0 < (verdict.goals_stop_s or 0) < 0.15 < (verdict.arm_stops_s or 0) + 0.1
    assert verdict.speed > 1 and not verdict.late
    assert verdict.to_json()["violations"] == []


def test_an_arm_that_goes_on_is_found() -> None:
    swing = 0.3 * np.sin(np.arange(160) * 0.03)
    trial = observed(trace=trace_of(swing), event={"outcome": "over", "fault": None}, recorded=recorded(None))
    assert rules(trial) == ["ends", "stopped in time", "told in time"]
    assert judge(trial).ends == "goes on"


def test_an_arm_that_stops_too_late_is_found() -> None:
    assert rules(observed(moments=[FAULT - 200 * MILLISECOND])) == ["stopped in time"]


def test_a_fault_that_is_told_too_late_or_in_other_words_is_found() -> None:
    assert rules(observed(recorded=recorded(after_ms=450))) == ["told in time"]
    assert rules(observed(recorded=recorded("bus: 10 reads in a row failed"))) == ["told"]


def test_a_fault_after_the_run_was_switched_off_is_not_the_trial_s() -> None:
    moment = FAULT + 700 * MILLISECOND
    trial = observed(recorded=recorded("power switched off by the operator", 700))
    assert judge(replace(trial, closed=moment)).told == SILENT
    assert judge(replace(trial, closed=moment + 1)).told == "power switched off by the operator"


def test_an_arm_that_loses_torque_is_found() -> None:
    assert rules(observed(trace=with_torque_off(trace_of(path(seconds=0.5, rest=0.7)), -40, -30))) == ["torque kept"]
    assert rules(observed(trace=with_torque_off(trace_of(path(seconds=0.5, rest=0.7)), -40))) == ["ends"]


def test_a_goal_that_breaks_a_limit_is_found() -> None:
    trace = trace_of(path(seconds=0.5, rest=0.7))
    broken = with_goal(trace, 20, trace.goals.goals[20] + 0.1)
    assert set(rules(observed(trace=broken))) == {"goal speed", "goal acceleration"}


def test_after_an_abrupt_fault_the_acceleration_is_the_servos_own() -> None:
    goals = path(seconds=0.5, rest=0.7)
    goals[48:] = goals[48]
    port = "bus: 10 reads in a row failed: PORT: connection lost"
    seen = {"trace": trace_of(goals), "recorded": recorded(port, 90)}
    assert rules(observed("unplugged", **seen, event={"outcome": "", "fault": port})) == []
    assert "goal acceleration" in rules(observed("policy_busy", **seen))


def test_a_process_that_is_left_is_found() -> None:
    assert rules(observed(left={42: "python servo"})) == ["processes gone"]


def test_a_recording_that_cannot_be_read_or_ends_too_early_is_found() -> None:
    assert rules(observed(recorded=None, unreadable="FILE is empty")) == ["told in time", "recording"]
    for lost_ms, broken in ((490, []), (510, ["recording"])):
        last = np.array([FAULT - lost_ms * MILLISECOND])
        assert rules(observed(recorded=replace(recorded(), ticks=last, skipped=np.zeros(1, np.int64)))) == broken
    assert rules(observed(recorded=replace(recorded(), damaged=2))) == ["recording"]


def test_a_reset_that_moves_the_arm_or_is_refused_is_found() -> None:
    still = trace_of(np.full(30, 0.4))
    assert rules(observed(reset_at=START, after_reset=(still,))) == []
    assert rules(observed(reset_at=START, after_reset=(trace_of(path()),))) == ["reset", "stays"]
    assert rules(observed(reset_at=START, after_reset=(still,), reset_refused="the port is gone")) == ["reset"]


def test_a_refused_reset_names_a_servo_that_was_struck() -> None:
    strike = Strike(CATALOGUE["overload"], 0.48, {"ids": [1]}, frozenset({1}))
    still, told = trace_of(np.full(30, 0.4)), "servo: lift: overload"
    struck = replace(still, name="lift")
    seen = {"plan": Plan(7, (strike,)), "trace": struck, "reset_at": START, "after_reset": (still,)}
    seen |= {"recorded": recorded(told, 10), "event": {"fault": told}}
    for refusal, broken in (("servo: lift: overload", []), ("servo: pan: overload", ["reset"])):
        trial = observed(**seen, refusals=[refusal], mended=POWER_CYCLE)
        assert [rule for rule in rules(trial) if rule == "reset"] == broken
        assert judge(trial).mended == POWER_CYCLE


def test_a_joint_that_something_lets_go_of_may_leap_a_little() -> None:
    goals = path(seconds=0.5, rest=0.7)
    for leap, broken in ((0.1, []), (0.2, ["stays"])):
        trace = trace_of(goals)
        places = trace.motion.positions.copy()
        places[-55:] += leap
        moved = replace(trace, motion=replace(trace.motion, positions=places))
        for name in ("freed_joint", "stuck_joint"):
            strikes = (
                Strike(CATALOGUE[name], 0.1, {"joint": "pan"}, frozenset({1} if name == "freed_joint" else ())),
                Strike(CATALOGUE["policy_busy"], 0.48),
            )
            trial = observed(trace=moved, plan=Plan(7, strikes), moments=[FAULT, FAULT], lifted=[None, None])
            found = [rule for rule in rules(trial) if rule == "stays"]
            assert found == (broken if name == "freed_joint" else ["stays"])


def test_a_fault_that_never_came_is_no_stop() -> None:
    trial = observed(moments=[None])
    assert judge(trial).moment == pytest.approx(1.1)


def test_a_released_arm_must_have_been_at_rest() -> None:
    trace = trace_of(path(seconds=0.5, rest=0.7))
    line = {"lines": ["KeyboardInterrupt"], "event": None, "recorded": recorded(None)}
    assert rules(observed("ctrl_c", with_torque_off(trace, -20), **line)) == []
    moving = with_torque_off(trace, 45)
    assert "released at rest" in rules(observed("ctrl_c", moving, **line, moments=[FAULT - 10**8]))


def test_what_the_machine_did_is_noted() -> None:
    trace = trace_of(path(seconds=0.5, rest=0.7))
    stamps = trace.motion.stamps.copy()
    stamps[100:] += 30 * MILLISECOND
    verdict = judge(observed(trace=replace(trace, motion=replace(trace.motion, stamps=stamps))))
    assert verdict.late and verdict.pauses_ms == pytest.approx(35)
    late = replace(recorded(), late_ms=np.full(len(recorded().steps), 25.0))
    assert judge(observed(recorded=late)).late


def test_a_servo_that_was_struck_may_lose_its_torque() -> None:
    strike = Strike(CATALOGUE["overload"], 0.48, {"ids": [2]}, frozenset({2}))
    sound = trace_of(path(seconds=0.5, rest=0.7))
    struck = replace(with_torque_off(trace_of(path(seconds=0.5, rest=0.7), servo=2), -40), name="lift")
    told = "servo: lift: overload"
    trial = observed(
        plan=Plan(7, (strike,)), traces=(sound, struck), recorded=recorded(told, 10), event={"fault": told}
    )
    assert rules(trial) == []
    other = replace(trial, traces=(with_torque_off(sound, -40, -30), struck))
    assert rules(other) == ["torque kept"]


def left_on(name: str, fault: str = "silent_blink") -> Observed:
    """The policy dies, a joint is silent meanwhile, and the run releases all but one joint at its end."""
    still = trace_of(path(seconds=0.5, rest=0.7))
    limp = replace(with_torque_off(still, -40), name="lift", id=2)
    kept = replace(still, name=name, id=1)
    strikes = (Strike(CATALOGUE["policy_memory"], 0.48), Strike(CATALOGUE[fault], 0.48, servos=frozenset({1})))
    return observed(
        plan=Plan(7, strikes),
        moments=[FAULT, FAULT],
        lifted=[None, None],
        traces=(limp, kept),
        lines=["MemoryError"],
        event=None,
        recorded=recorded("release: pan still energised: switch the arm's power off before touching it"),
    )


def test_a_joint_that_could_not_hear_may_be_left_on_if_the_run_says_so() -> None:
    verdict = judge(left_on("pan"))
    assert (verdict.ends, verdict.told) == ("released", "MemoryError")
    assert not {"told", "torque kept", "ends"} & set(rules(left_on("pan")))
    assert "torque kept" in rules(left_on("elbow"))  # not the one that the run named
    assert "torque kept" in rules(left_on("pan", "corrupt"))  # it could hear
