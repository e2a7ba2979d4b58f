"""Every rule of the campaign passes what keeps it and finds what breaks it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.campaign import invariants
from runtime.campaign.invariants import TICK, Deaf
from runtime.campaign.trace import COUNT, JointTrace
from runtime.clock import SECOND
from runtime.safety import FilterState, Limits, filter_command
from tests.runtime.campaign_traces import (
    ACCELERATION,
    START,
    TICK_NS,
    VELOCITY,
    path,
    trace_of,
    with_goal,
    with_torque_off,
    without_writes,
)

MOVING = 30  # a write in the middle of the motion


def rules(trace: JointTrace, deaf: tuple[Deaf, ...] = ()) -> set[str]:
    """The rules that a trace breaks."""
    found = [
        *invariants.goals_within_limits([trace], START),
        *invariants.goals_within_speed([trace], deaf, START),
        *invariants.goals_within_acceleration([trace], deaf, START),
        *invariants.motion_within_speed([trace], START),
        *invariants.motion_within_acceleration([trace], START),
    ]
    return {violation.rule for violation in found}


@pytest.fixture
def trace() -> JointTrace:
    return trace_of(path())


def test_a_motion_within_the_limits_breaks_no_rule(trace: JointTrace) -> None:
    assert rules(trace) == set()


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_nothing_that_the_safety_filter_lets_through_breaks_a_rule(seed: int) -> None:
    rng = np.random.default_rng(seed)
    limits = Limits(
        *(np.array([value]) for value in (-2.0, 2.0, VELOCITY, ACCELERATION, ACCELERATION / 0.02)),
        0.05,
        0.08,
        0.35,
        np.array([0.15]),
    )
    state = FilterState.at_rest(np.zeros(1), limits)
    goals, target = [], np.zeros(1)
    for tick in range(150):
        if tick % 7 == 0:
            target = rng.uniform(-4, 4, 1)
        state = filter_command(state, target, 0.0, TICK, limits).state
        goals.append(float(state.positions[0]))
    assert rules(trace_of(np.array(goals))) == set()


@pytest.mark.parametrize("goal", [-2.0 - 2 * COUNT, 2.0 + 2 * COUNT])
def test_a_goal_outside_the_limits_is_found(trace: JointTrace, goal: float) -> None:
    assert "goal limit" in rules(with_goal(trace, -1, goal))


def test_a_joint_that_rests_outside_its_limits_may_be_held_there() -> None:
    assert rules(trace_of(np.full(40, 2.03))) == set()


def test_a_step_too_large_for_a_tick_is_found(trace: JointTrace) -> None:
    goals = trace.goals.goals
    broken = with_goal(trace, MOVING, goals[MOVING - 1] + VELOCITY * TICK + 2 * COUNT)
    assert "goal speed" in rules(broken)


def test_the_step_may_be_larger_only_where_the_servo_could_not_hear(trace: JointTrace) -> None:
    lost = without_writes(trace, MOVING, MOVING + 5)
    assert "goal speed" in rules(lost)
    window = START + MOVING * TICK_NS, START + (MOVING + 5) * TICK_NS
    assert rules(lost, (Deaf(None, *window),)) == set()
    assert rules(lost, (Deaf(frozenset({1}), *window),)) == set()
    assert "goal speed" in rules(lost, (Deaf(frozenset({2}), *window),))
    leap = with_goal(lost, MOVING, lost.goals.goals[MOVING - 1] + 9 * VELOCITY * TICK)
    assert "goal speed" in rules(leap, (Deaf(None, *window),))


def test_stopping_dead_breaks_the_acceleration_limit() -> None:
    goals = path()
    goals[MOVING:] = goals[MOVING]
    assert "goal acceleration" in rules(trace_of(goals))


def test_a_slow_creep_beyond_the_acceleration_limit_is_found_over_several_ticks() -> None:
    speeds = np.concatenate((np.zeros(20), np.arange(1, 9) * 1.25 * ACCELERATION * TICK, np.zeros(3)))
    trace = trace_of(np.cumsum(speeds[:-3]) * TICK)
    assert "goal acceleration" in rules(trace)


def test_an_arm_may_be_taken_over_where_it_is(trace: JointTrace) -> None:
    goals, present = trace.goals.goals.copy(), trace.goals.present.copy()
    goals[MOVING:], present[MOVING:] = present[MOVING], present[MOVING]
    held = replace(trace, goals=replace(trace.goals, goals=goals, present=present))
    assert {violation.rule for violation in invariants.goals_within_speed([held], (), START)} == set()
    assert {violation.rule for violation in invariants.goals_within_acceleration([held], (), START)} == set()


def test_a_joint_that_outruns_its_limit_is_found(trace: JointTrace) -> None:
    positions = trace.motion.positions.copy()
    positions[60:80] += np.linspace(0, 0.4, 20)
    positions[80:] += 0.4
    fast = replace(trace, motion=replace(trace.motion, positions=positions))
    assert "speed" in rules(fast)
    assert "speed" not in rules(with_torque_off(fast, 25, 45)), "what falls is not driven"


def test_a_joint_that_leaps_is_found(trace: JointTrace) -> None:
    positions = trace.motion.positions.copy()
    positions[-30:] += 0.3
    found = rules(replace(trace, motion=replace(trace.motion, positions=positions)))
    assert {"speed", "acceleration"} <= found


def test_goals_stop_when_the_last_one_changed(trace: JointTrace) -> None:
    changes = np.flatnonzero(np.diff(trace.goals.goals)) + 1
    last = int(trace.goals.stamps[changes[-1]])
    assert invariants.goals_stop([trace], START) == last
    assert invariants.goals_stop([trace], last + 5) == last + 5, "it had stopped before"


def test_motion_after_a_pause_does_not_count_as_stopping(trace: JointTrace) -> None:
    later = with_goal(trace, -1, trace.goals.goals[-1] + 0.01)
    assert invariants.goals_stop([later], START + SECOND // 10) == invariants.goals_stop([trace], START + SECOND // 10)


def test_the_arm_stops_after_its_goals(trace: JointTrace) -> None:
    goals, arm = invariants.goals_stop([trace], START + SECOND // 4), invariants.arm_stops([trace], START + SECOND // 4)
    assert goals < arm < goals + SECOND // 10


def test_a_held_joint_that_moves_on_is_found(trace: JointTrace) -> None:
    stopped = int(trace.goals.stamps[-20])
    assert not invariants.stays([trace], stopped, START)
    positions = trace.motion.positions.copy()
    positions[-10:] += invariants.SINKS * 1.1
    sinking = replace(trace, motion=replace(trace.motion, positions=positions))
    assert [violation.rule for violation in invariants.stays([sinking], stopped, START)] == ["stays"]


def test_after_a_reset_only_the_present_position_may_be_a_goal(trace: JointTrace) -> None:
    at_rest = int(trace.goals.stamps[-20])
    assert not invariants.goals_stay([trace], at_rest, START)
    moving = int(trace.goals.stamps[MOVING])
    assert [violation.rule for violation in invariants.goals_stay([trace], moving, START)] == ["goals stay"]


def test_torque_that_goes_off_is_found(trace: JointTrace) -> None:
    moment = int(trace.goals.stamps[MOVING])
    assert not invariants.torque_kept([trace], moment)
    assert [v.rule for v in invariants.torque_kept([with_torque_off(trace, MOVING + 5)], moment)] == ["torque kept"]
    assert invariants.torque_at([trace], moment) == {"pan": True}
    assert invariants.torque_at([with_torque_off(trace, MOVING)], moment) == {"pan": False}
    assert invariants.torque_at([trace], START - 1) == {"pan": False}, "nothing was told yet"


def test_torque_may_go_off_at_rest_and_not_in_motion(trace: JointTrace) -> None:
    assert not invariants.released_at_rest([with_torque_off(trace, -5)], START)
    moving = invariants.released_at_rest([with_torque_off(trace, MOVING)], START)
    assert [violation.rule for violation in moving] == ["released at rest"]
    assert "torque went off at" in str(moving[0])


def test_an_empty_trace_breaks_nothing() -> None:
    empty = trace_of(path()).between(0, 1)
    assert rules(empty) == set()
    assert invariants.goals_stop([empty], START) == START
    assert invariants.arm_stops([empty], START) == START
