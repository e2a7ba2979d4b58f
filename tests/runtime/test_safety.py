from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.arm import ArmSpec, Array
from runtime.safety import (
    ACCELERATION,
    NOT_FINITE,
    POSITION,
    REASONS,
    STALE,
    START_TOLERANCE,
    VELOCITY,
    Command,
    FilterState,
    Limits,
    approach_velocity,
    filter_command,
)

SPEC = ArmSpec(
    ("pan", "lift", "gripper"),
    position_min=np.array([-1.92, -1.75, 0.0]),
    position_max=np.array([1.92, 1.75, 1.75]),
    velocity_max=np.array([2.5, 2.5, 4.0]),
    acceleration_max=np.array([40.0, 40.0, 80.0]),
)
LIMITS = Limits.of(SPEC)
DT = 0.01
SLACK = 1e-9

any_float = st.floats(allow_nan=True, allow_infinity=True)
nearby = st.floats(-2.5, 2.5)
targets = st.lists(st.one_of(nearby, any_float), min_size=3, max_size=3).map(np.array)
inside = st.tuples(st.floats(-1.92, 1.92), st.floats(-1.75, 1.75), st.floats(0.0, 1.75)).map(np.array)
ages = st.one_of(st.just(0.0), any_float)


def assert_within_limits(command: Command, previous: FilterState) -> None:
    assert np.isfinite(command.positions).all()
    assert (command.positions >= SPEC.position_min).all()
    assert (command.positions <= SPEC.position_max).all()
    velocities = (command.positions - previous.positions) / DT
    np.testing.assert_allclose(velocities, command.velocities, atol=SLACK)
    assert (np.abs(velocities) <= SPEC.velocity_max + SLACK).all()
    assert (np.abs(velocities - previous.velocities) / DT <= SPEC.acceleration_max + SLACK).all()


def rest(positions: Array) -> FilterState:
    return FilterState.at_rest(positions, LIMITS)


def settle(state: FilterState, target: Array, ticks: int = 250) -> list[Command]:
    commands = []
    for _ in range(ticks):
        command = filter_command(state, target, 0.0, DT, LIMITS)
        commands.append(command)
        state = command.state
    return commands


@given(inside, st.lists(st.tuples(targets, ages, st.integers(1, 12)), min_size=1, max_size=12))
def test_every_command_is_within_limits_whatever_the_targets(
    start: Array, sequence: list[tuple[Array, float, int]]
) -> None:
    state = rest(start)
    for target, age, ticks in sequence:
        for _ in range(ticks):
            command = filter_command(state, target, age, DT, LIMITS)
            assert_within_limits(command, state)
            state = command.state


@given(inside, inside)
def test_a_reachable_target_is_reached_without_overshoot_and_kept(start: Array, target: Array) -> None:
    commands = settle(rest(start), target)
    towards = np.sign(target - start)
    for command in commands:
        assert ((target - command.positions) * towards >= -SLACK).all()
    for command in commands[-20:]:
        np.testing.assert_allclose(command.positions, target, atol=SLACK)
    assert commands[-1].reasons == ()


@given(inside, targets, targets, st.integers(1, 40))
def test_a_target_changed_in_motion_is_reached_too(start: Array, first: Array, second: Array, ticks: int) -> None:
    state = settle(rest(start), first, ticks)[-1].state
    goal = np.clip(second, SPEC.position_min, SPEC.position_max)
    if np.isfinite(second).all():
        np.testing.assert_allclose(settle(state, second)[-1].positions, goal, atol=SLACK)
    else:
        assert not settle(state, second)[-1].velocities.any()


@given(inside, inside, st.integers(0, 60), st.sampled_from([math.inf, math.nan, 0.1200001]))
def test_without_a_fresh_target_the_arm_decelerates_along_its_motion(
    start: Array, target: Array, ticks: int, age: float
) -> None:
    state = settle(rest(start), target, ticks + 1)[-1].state
    for _ in range(8):
        command = filter_command(state, target, age, DT, LIMITS)
        assert command.reasons[0] == STALE
        assert_within_limits(command, state)
        assert (np.abs(command.velocities) <= np.abs(state.velocities) + SLACK).all()
        assert (command.velocities * state.velocities >= -SLACK).all()
        state = command.state
    assert not state.velocities.any()


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_one_value_that_is_not_finite_stops_every_joint(value: float) -> None:
    state = settle(rest(np.zeros(3)), np.array([1.0, 1.0, 1.0]), 10)[-1].state
    command = filter_command(state, np.array([1.0, value, 1.0]), 0.0, DT, LIMITS)
    assert command.reasons[0] == NOT_FINITE
    np.testing.assert_allclose(
        command.velocities, state.velocities - np.minimum(state.velocities, SPEC.acceleration_max * DT), atol=SLACK
    )


def test_the_age_limit_is_inclusive() -> None:
    target = np.array([0.001, 0.0, 0.0])
    assert STALE not in filter_command(rest(np.zeros(3)), target, 0.12, DT, LIMITS).reasons
    assert STALE in filter_command(rest(np.zeros(3)), target, np.nextafter(0.12, 1), DT, LIMITS).reasons


@given(st.floats(0, 4), st.floats(1, 200))
def test_approach_velocity_is_the_highest_that_still_stops_in_time(distance: float, acceleration: float) -> None:
    speed = approach_velocity(distance, acceleration, DT)
    travelled = 0.0
    while speed > 0:
        travelled += speed * DT
        speed -= acceleration * DT
    assert travelled == pytest.approx(distance, abs=1e-9, rel=1e-9)


def test_reasons_name_what_bound_in_order() -> None:
    at = rest(np.zeros(3))
    assert filter_command(at, np.zeros(3), 0.0, DT, LIMITS).reasons == ()
    assert filter_command(at, np.array([0.002, 0, 0]), 0.0, DT, LIMITS).reasons == ()
    assert filter_command(at, np.array([0.0, 0, -0.1]), 0.0, DT, LIMITS).reasons == (POSITION,)
    assert filter_command(at, np.array([0.05, 0, 0]), 0.0, DT, LIMITS).reasons == (ACCELERATION,)
    assert filter_command(at, np.array([9.0, 0, 0]), 0.0, DT, LIMITS).reasons == (POSITION, VELOCITY, ACCELERATION)
    assert REASONS == (NOT_FINITE, STALE, POSITION, VELOCITY, ACCELERATION)


def test_inputs_are_left_alone() -> None:
    state, target = rest(np.zeros(3)), np.array([9.0, -9.0, 9.0])
    filter_command(state, target, 0.0, DT, LIMITS)
    assert target.tolist() == [9.0, -9.0, 9.0]
    assert not state.positions.any()


def test_position_comes_first_for_a_state_that_cannot_brake_in_time() -> None:
    state = FilterState(np.array([1.919, 0.0, 0.0]), np.array([2.5, 0.0, 0.0]))
    assert filter_command(state, np.array([1.92, 0, 0]), 0.0, DT, LIMITS).positions[0] == 1.92


def test_an_arm_resting_just_outside_is_taken_to_be_at_its_limit() -> None:
    state = rest(np.array([0.3, 0.0, -START_TOLERANCE / 2]))
    assert state.positions.tolist() == [0.3, 0.0, 0.0]
    assert not state.velocities.any()


@pytest.mark.parametrize("outside", [-START_TOLERANCE * 1.01, 1.75 + START_TOLERANCE * 1.01, math.nan])
def test_an_arm_resting_further_out_is_refused(outside: float) -> None:
    with pytest.raises(ValueError, match=r"joint 2 rests at .* outside \[0\.000, 1\.750\]"):
        rest(np.array([0.0, 0.0, outside]))
