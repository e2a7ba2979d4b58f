from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drivers.arm import ArmSpec, Array
from drivers.config import SafetyConfig
from runtime.motion import Motion, way_to_rest
from runtime.safety import (
    ACCELERATION,
    COLLISION,
    JERK,
    LEAD,
    MARGIN,
    MARGIN_SHARE,
    NOT_FINITE,
    POSITION,
    REASONS,
    STALE,
    START,
    START_TIME,
    START_TOLERANCE,
    TABLE,
    TRACKING,
    VELOCITY,
    WORKSPACE,
    Command,
    FilterState,
    Limits,
    OutsideError,
    filter_command,
)

SPEC = ArmSpec(
    ("pan", "lift", "gripper"),
    position_min=np.array([-1.92, -1.75, 0.0]),
    position_max=np.array([1.92, 1.75, 1.75]),
    velocity_max=np.array([2.5, 2.5, 4.0]),
    acceleration_max=np.array([40.0, 40.0, 80.0]),
    jerk_max=np.array([2000.0, 1000.0, 4000.0]),
)
SAFETY = SafetyConfig(target_age_max_s=0.12)
LIMITS = Limits.of(SPEC, SAFETY)
DT = 0.01
SLACK = 2e-8  # rad: Ruckig lands within 1e-8 of its goal
# Nothing else is granted: at 100 Hz the third difference of 1e-8 rad is 0.04 rad/s^3, of limits of 1000 and more.
ROUNDING = 1e-4  # share of the limit, for velocity, acceleration and jerk
MIDDLE = np.array([0.0, 0.0, 0.9])

unhurried = settings(deadline=None, max_examples=60)  # a loaded machine is no failure

any_float = st.floats(allow_nan=True, allow_infinity=True)
nearby = st.floats(-2.5, 2.5)
targets = st.lists(st.one_of(nearby, any_float), min_size=3, max_size=3).map(np.array)
inside = st.tuples(st.floats(-1.92, 1.92), st.floats(-1.75, 1.75), st.floats(0.0, 1.75)).map(np.array)
ages = st.one_of(st.just(0.0), any_float)
measurements = st.one_of(st.none(), targets, st.floats(-0.2, 0.2))


class Wall:
    """Obstacles that let no pose of a path beyond `allowed`, and remember what they were asked. They are `far` from no
    pose, unless they are said to be."""

    def __init__(self, allowed: Callable[[Array], bool], rule: str = COLLISION, far: bool = False) -> None:
        self._allowed, self._rule, self._far = allowed, rule, far
        self.asked: list[tuple[Array, Array]] = []
        self.asked_far: list[tuple[Array, Array]] = []

    def far(self, positions: Array, reach: Array) -> bool:
        self.asked_far.append((positions, reach))
        return self._far

    def obstructs(self, positions: Array, path: Array) -> str | None:
        self.asked.append((positions, path))
        return None if all(map(self._allowed, path)) else self._rule


def rest(positions: Array) -> FilterState:
    return FilterState.at_rest(positions, LIMITS)


def running(positions: Array) -> FilterState:
    """At rest, with the slow start behind it."""
    return dataclasses.replace(rest(positions), followed=START_TIME)


def follow(state: FilterState, target: Array, ticks: int = 250, limits: Limits = LIMITS) -> list[Command]:
    commands = []
    for _ in range(ticks):
        commands.append(filter_command(state, target, 0.0, DT, limits))
        state = commands[-1].state
    return commands


def assert_within_limits(start: Array, commands: Sequence[Command]) -> None:
    """Positions inside, and the finite differences of the positions themselves bounded, from rest at `start` on."""
    positions = np.array([start] * 3 + [command.positions for command in commands])
    assert np.isfinite(positions).all()
    assert (positions >= SPEC.position_min).all()
    assert (positions <= SPEC.position_max).all()
    differences = positions
    for bound in (SPEC.velocity_max, SPEC.acceleration_max, SPEC.jerk_max):
        differences = np.diff(differences, axis=0) / DT
        assert (np.abs(differences) <= bound * (1 + ROUNDING)).all()


@unhurried
@given(
    inside,
    st.lists(st.tuples(targets, ages, measurements, st.booleans(), st.integers(1, 12)), min_size=1, max_size=10),
)
def test_every_command_is_within_every_limit_whatever_is_asked_and_measured(
    start: Array, sequence: list[tuple[Array, float, Array | float | None, bool, int]]
) -> None:
    state, commands = rest(start), []
    for target, age, measured, blocked, ticks in sequence:
        guard = Wall(lambda pose, blocked=blocked: not blocked)
        for _ in range(ticks):
            seen = state.positions + measured if isinstance(measured, float) else measured
            commands.append(filter_command(state, target, age, DT, LIMITS, measured=seen, guard=guard))
            state = commands[-1].state
    assert_within_limits(start, commands)


@unhurried
@given(inside, st.integers(0, 2**32 - 1), st.floats(0.001, 1.0))
def test_noise_is_followed_within_every_limit(start: Array, seed: int, size: float) -> None:
    rng = np.random.default_rng(seed)
    state, commands = running(start), []
    for _ in range(80):
        target = state.positions + rng.normal(0, size, 3) * rng.choice([0.0, 1.0, 10.0], 3)
        commands.append(filter_command(state, target, 0.0, DT, LIMITS))
        state = commands[-1].state
    assert_within_limits(start, commands)


@unhurried
@given(inside, inside)
def test_a_reachable_target_is_reached_without_overshoot_and_kept(start: Array, target: Array) -> None:
    commands = follow(rest(start), target)
    towards = np.sign(target - start)
    for command in commands:
        assert ((target - command.positions) * towards >= -SLACK).all()
    for command in commands[-20:]:
        np.testing.assert_allclose(command.positions, target, atol=SLACK)
        np.testing.assert_allclose(command.velocities, 0, atol=SLACK)
    assert commands[-1].reasons == ()
    assert_within_limits(start, commands)


@unhurried
@given(inside, targets, targets, st.integers(1, 40))
def test_a_target_changed_in_motion_is_reached_too(start: Array, first: Array, second: Array, ticks: int) -> None:
    state = follow(running(start), first, ticks)[-1].state
    if np.isfinite(second).all():
        goal = np.clip(second, SPEC.position_min, SPEC.position_max)
        np.testing.assert_allclose(follow(state, second)[-1].positions, goal, atol=SLACK)
    else:
        assert not follow(state, second)[-1].velocities.any()


@unhurried
@given(inside, inside, st.integers(0, 60), st.sampled_from([math.inf, math.nan, 0.1200001]))
def test_without_a_fresh_target_the_arm_comes_to_rest_along_its_motion(
    start: Array, target: Array, ticks: int, age: float
) -> None:
    commands = follow(running(start), target, ticks + 1)
    state = commands[-1].state
    for _ in range(15):  # 2.5 / 40 s, twice 40 / 1000 s for the jerk, and a tick
        commands.append(filter_command(state, target, age, DT, LIMITS))
        assert commands[-1].reasons == (STALE,)
        assert ((commands[-1].positions - state.positions) * np.sign(target - start) >= -SLACK).all()
        state = commands[-1].state
    assert not state.velocities.any()
    assert not state.motion.accelerations.any()
    assert_within_limits(start, commands)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_one_value_that_is_not_finite_stops_every_joint(value: float) -> None:
    state = follow(running(MIDDLE), np.array([1.0, 1.0, 1.6]), 10)[-1].state
    command = filter_command(state, np.array([1.0, value, 1.6]), 0.0, DT, LIMITS)
    assert command.reasons == (NOT_FINITE,)
    np.testing.assert_array_equal(command.positions, filter_command(state, MIDDLE, math.inf, DT, LIMITS).positions)


def test_the_age_limit_is_inclusive() -> None:
    assert STALE not in filter_command(rest(MIDDLE), MIDDLE, 0.12, DT, LIMITS).reasons
    assert STALE in filter_command(rest(MIDDLE), MIDDLE, np.nextafter(0.12, 1), DT, LIMITS).reasons


class TestTracking:
    ERROR = SAFETY.tracking_error_max

    @pytest.mark.parametrize("joint", [0, 1])
    @pytest.mark.parametrize("sign", [-1, 1])
    def test_nothing_is_followed_while_one_joint_is_further_away_than_allowed(self, joint: int, sign: int) -> None:
        state = follow(running(MIDDLE), MIDDLE + 0.5, 10)[-1].state
        measured = state.positions.copy()
        measured[joint] += sign * (self.ERROR + 1e-6)
        command = filter_command(state, MIDDLE + 0.5, 0.0, DT, LIMITS, measured=measured)
        assert command.reasons == (TRACKING,)
        stopping = filter_command(state, MIDDLE + 0.5, math.inf, DT, LIMITS)
        np.testing.assert_array_equal(command.positions, stopping.positions)

    def test_the_limit_is_inclusive(self) -> None:
        limits = dataclasses.replace(LIMITS, tracking_error_max=np.full(3, 0.25), lead_max=np.full(3, 0.25))
        for error, reasons in ((0.25, ()), (0.2500001, (TRACKING,))):
            measured = np.array([error, 0.0, 0.9])
            assert filter_command(rest(MIDDLE), MIDDLE, 0.0, DT, limits, measured=measured).reasons == reasons

    def test_a_measurement_that_is_not_a_number_is_too_far_away(self) -> None:
        measured = np.array([0.0, math.nan, 0.9])
        assert filter_command(rest(MIDDLE), MIDDLE, 0.0, DT, LIMITS, measured=measured).reasons == (TRACKING,)

    def test_within_it_and_the_lead_the_measurement_changes_nothing(self) -> None:
        state = follow(running(MIDDLE), MIDDLE + 0.5, 10)[-1].state
        limits = dataclasses.replace(LIMITS, lead_max=np.full(3, np.inf))
        near = filter_command(state, MIDDLE + 0.5, 0.0, DT, limits, measured=state.positions - 0.3)
        blind = filter_command(state, MIDDLE + 0.5, 0.0, DT, LIMITS)
        np.testing.assert_array_equal(near.positions, blind.positions)
        assert near.reasons == blind.reasons


class TestLead:
    LEAD = SAFETY.lead_max

    @pytest.mark.parametrize("sign", [-1, 1])
    def test_a_joint_that_is_held_up_is_waited_for(self, sign: int) -> None:
        state, commands = running(MIDDLE), []
        for _ in range(100):
            commands.append(filter_command(state, MIDDLE + sign * 0.5, 0.0, DT, LIMITS, measured=MIDDLE))
            state = commands[-1].state
        np.testing.assert_allclose(state.positions, MIDDLE + sign * self.LEAD, atol=SLACK)
        assert commands[-1].reasons == (LEAD,)
        assert_within_limits(MIDDLE, commands)

    @pytest.mark.parametrize("sign", [-1, 1])
    def test_it_comes_back_to_a_joint_that_was_left_behind(self, sign: int) -> None:
        state = running(MIDDLE + sign * 0.3)
        for _ in range(60):
            state = filter_command(state, MIDDLE + sign * 0.5, 0.0, DT, LIMITS, measured=MIDDLE).state
        np.testing.assert_allclose(state.positions, MIDDLE + sign * self.LEAD, atol=SLACK)

    def test_a_gripper_has_its_own_and_no_tracking_error(self) -> None:
        limits = Limits.of(SPEC, SafetyConfig(grip_lead_max=0.3))
        state = running(MIDDLE + np.array([0.0, 0.0, 0.8]))
        for _ in range(80):
            command = filter_command(state, np.array([0.0, 0.0, 1.7]), 0.0, DT, limits, measured=MIDDLE)
            assert TRACKING not in command.reasons
            state = command.state
        np.testing.assert_allclose(state.positions, MIDDLE + np.array([0.0, 0.0, 0.3]), atol=SLACK)

    @pytest.mark.parametrize("joint", [0, 1, 2])
    @pytest.mark.parametrize("sign", [-1, 1])
    def test_it_is_named_for_any_joint_that_is_asked_to_be_further_ahead(self, joint: int, sign: int) -> None:
        middle = np.array([0.0, 0.0, 0.875])
        for lead, named in ((self.LEAD - 1e-9, False), (self.LEAD + 1e-6, True)):
            target = middle.copy()
            target[joint] += sign * lead
            command = filter_command(rest(middle), target, 0.0, DT, LIMITS, measured=middle)
            assert (LEAD in command.reasons) == named

    def test_a_joint_that_is_seen_beyond_its_limit_is_called_back_to_it(self) -> None:
        for limit, sign in ((SPEC.position_max, 1), (SPEC.position_min, -1)):
            state = running(limit)
            for _ in range(60):
                command = filter_command(state, MIDDLE, 0.0, DT, LIMITS, measured=limit + sign * 0.3)
                state = command.state
            np.testing.assert_allclose(state.positions, limit, atol=SLACK)
            assert command.reasons == (LEAD, MARGIN)

    def test_where_nothing_is_measured_there_is_none(self) -> None:
        assert LEAD not in filter_command(rest(MIDDLE), MIDDLE + 0.5, 0.0, DT, LIMITS).reasons


class TestSlowStart:
    def test_the_velocity_limit_grows_from_nothing(self) -> None:
        commands = follow(rest(np.array([-1.5, -1.5, 0.0])), np.array([1.5, 1.5, 1.5]), 60)
        for tick, command in enumerate(commands, start=1):
            share = min(1.0, tick * DT / START_TIME)
            assert (np.abs(command.velocities) <= SPEC.velocity_max * share * (1 + ROUNDING)).all()
            assert (START in command.reasons) == (tick * DT < START_TIME - SLACK)
        assert commands[28].velocities[0] > 0.9 * 2.5 * 0.29 / START_TIME
        np.testing.assert_allclose(commands[40].velocities[:2], 2.5)

    def test_it_takes_its_time_of_following_only(self) -> None:
        state = rest(MIDDLE)
        for _ in range(100):
            state = filter_command(state, MIDDLE + 0.5, math.inf, DT, LIMITS).state
        assert state.followed == 0.0
        state = filter_command(state, MIDDLE + 0.5, 0.0, DT, LIMITS).state
        assert state.followed == DT
        assert filter_command(state, MIDDLE + 0.5, 0.0, DT, LIMITS, guard=Wall(lambda _: False)).state.followed == DT

    def test_it_is_over_after_that(self) -> None:
        state = follow(rest(MIDDLE), MIDDLE, 40)[-1].state
        assert state.followed == START_TIME
        assert START not in filter_command(state, MIDDLE + 0.5, 0.0, DT, LIMITS).reasons

    def test_it_is_no_reason_where_the_target_is_reached(self) -> None:
        assert filter_command(rest(MIDDLE), MIDDLE, 0.0, DT, LIMITS).reasons == ()


class TestSoftMargin:
    # No joint that has to stop within 0.01 rad can be faster, whatever its jerk limit.
    SPEED = np.sqrt(2 * SPEC.acceleration_max * SAFETY.soft_margin * MARGIN_SHARE)

    @pytest.mark.parametrize("edge", ["low", "high"])
    def test_towards_the_limit_motion_in_it_is_slow(self, edge: str) -> None:
        limit = SPEC.position_max if edge == "high" else SPEC.position_min
        commands = follow(running(MIDDLE), limit)
        np.testing.assert_allclose(commands[-1].positions, limit, atol=SLACK)
        positions = np.array([MIDDLE] + [command.positions for command in commands])
        speeds = np.abs(np.diff(positions, axis=0)) / DT
        within = np.abs(positions[:-1] - limit) < SAFETY.soft_margin
        for joint in range(3):
            assert speeds[within[:, joint], joint].max() <= self.SPEED[joint]
            assert speeds[~within[:, joint], joint].max() > 2

    @pytest.mark.parametrize("edge", ["low", "high"])
    def test_a_target_in_it_has_its_name_until_it_is_near(self, edge: str) -> None:
        limit, towards = (SPEC.position_max, 1) if edge == "high" else (SPEC.position_min, -1)
        border = limit - towards * SAFETY.soft_margin
        ahead = towards * SAFETY.soft_margin * MARGIN_SHARE
        for offset, named in ((ahead * 0.99, False), (ahead * 1.01, True)):
            for joint in range(3):
                target = MIDDLE.copy()
                target[joint] = border[joint] + offset
                assert (MARGIN in filter_command(rest(MIDDLE), target, 0.0, DT, LIMITS).reasons) == named
        inner = rest(border + ahead)
        assert MARGIN not in filter_command(inner, border + 1.99 * ahead, 0.0, DT, LIMITS).reasons
        assert MARGIN in filter_command(inner, border + 2.01 * ahead, 0.0, DT, LIMITS).reasons

    def test_out_of_it_motion_is_not_slowed(self) -> None:
        commands = follow(running(SPEC.position_max), MIDDLE)
        assert not any(MARGIN in command.reasons for command in commands)
        assert commands[15].velocities[0] == pytest.approx(-2.5)

    def test_without_one_only_the_limit_counts(self) -> None:
        limits = Limits.of(SPEC, SafetyConfig(soft_margin=0.0))
        commands = follow(running(MIDDLE), SPEC.position_max, limits=limits)
        assert not any(MARGIN in command.reasons for command in commands)
        np.testing.assert_allclose(commands[-1].positions, SPEC.position_max, atol=SLACK)


class TestGuard:
    def test_it_is_asked_about_the_step_and_the_whole_way_to_rest_from_there(self) -> None:
        state = follow(running(MIDDLE), MIDDLE + 0.8, 12)[-1].state
        guard = Wall(lambda _: True)
        command = filter_command(state, MIDDLE + 0.8, 0.0, DT, LIMITS, guard=guard)
        ((positions, path),) = guard.asked
        np.testing.assert_array_equal(positions, state.positions)
        np.testing.assert_array_equal(path[0], command.positions)
        state = command.state
        for pose in path[1:]:
            state = filter_command(state, MIDDLE, math.inf, DT, LIMITS).state
            np.testing.assert_allclose(state.positions, pose, atol=SLACK)
        assert not state.velocities.any()
        assert len(path) > 8

    @pytest.mark.parametrize("rule", [WORKSPACE, COLLISION, TABLE])
    def test_before_an_obstacle_the_arm_comes_to_rest(self, rule: str) -> None:
        guard = Wall(lambda pose: bool(pose[0] <= 0.7), rule)
        state, commands = running(MIDDLE), []
        for _ in range(150):
            commands.append(filter_command(state, np.array([1.5, 0.5, 0.9]), 0.0, DT, LIMITS, guard=guard))
            state = commands[-1].state
        positions = np.array([command.positions for command in commands])
        assert positions.max(axis=0)[0] <= 0.7
        assert positions[-1, 0] > 0.69
        assert commands[-1].reasons == (rule,)
        assert not state.velocities.any()
        assert_within_limits(MIDDLE, commands)

    def test_one_that_is_far_from_the_whole_way_to_rest_is_not_asked_about_it(self) -> None:
        state = follow(running(MIDDLE), MIDDLE + 0.8, 12)[-1].state
        guard = Wall(lambda _: False, far=True)
        command = filter_command(state, MIDDLE + 0.8, 0.0, DT, LIMITS, guard=guard)
        plain = filter_command(state, MIDDLE + 0.8, 0.0, DT, LIMITS)
        np.testing.assert_array_equal(command.positions, plain.positions)
        assert (command.reasons, guard.asked) == (plain.reasons, [])
        ((positions, reach),) = guard.asked_far
        np.testing.assert_array_equal(positions, command.positions)
        for pose in way_to_rest(command.state.motion, LIMITS.acceleration_max, LIMITS.jerk_max, DT):
            assert (np.abs(pose - positions) <= reach + SLACK).all()

    def test_what_else_changed_the_target_is_named_too(self) -> None:
        blocked = Wall(lambda _: False, TABLE)
        target = np.array([5.0, 0.0, 0.9])
        command = filter_command(rest(MIDDLE), target, 0.0, DT, LIMITS, guard=blocked)
        assert command.reasons == (POSITION, MARGIN, TABLE)
        assert command.positions.tolist() == MIDDLE.tolist()

    def test_where_nothing_is_in_the_way_it_changes_nothing(self) -> None:
        free = Wall(lambda _: True)
        state = running(MIDDLE)
        for _ in range(60):
            guarded = filter_command(state, MIDDLE + 0.5, 0.0, DT, LIMITS, guard=free)
            plain = filter_command(state, MIDDLE + 0.5, 0.0, DT, LIMITS)
            np.testing.assert_array_equal(guarded.positions, plain.positions)
            assert guarded.reasons == plain.reasons
            state = plain.state

    def test_a_target_that_is_not_followed_needs_no_guard(self) -> None:
        guard = Wall(lambda _: False)
        assert filter_command(rest(MIDDLE), MIDDLE, math.inf, DT, LIMITS, guard=guard).reasons == (STALE,)
        assert guard.asked == []


class TestReasons:
    def test_without_one_the_command_is_the_target(self) -> None:
        command = filter_command(running(MIDDLE), MIDDLE + 1e-4, 0.0, DT, LIMITS)
        assert command.reasons == (JERK,)
        command = filter_command(command.state, MIDDLE + 1e-4, 0.0, DT, LIMITS)
        assert command.reasons == ()
        np.testing.assert_allclose(command.positions, MIDDLE + 1e-4, atol=SLACK)

    def test_each_is_named_for_any_joint_while_it_binds(self) -> None:
        for joint in range(3):
            target = MIDDLE.copy()
            target[joint] = 0.2 if joint == 2 else 1.5
            seen = [command.reasons for command in follow(running(MIDDLE), target, 100)]
            assert seen[0] == (JERK,)
            assert (ACCELERATION,) in seen
            assert (VELOCITY,) in seen
            assert seen[-1] == ()
            order = [seen.index(reasons) for reasons in ((JERK,), (ACCELERATION,), (VELOCITY,), ())]
            assert order == sorted(order)

    def test_joints_are_named_together(self) -> None:
        state = follow(running(MIDDLE), np.array([1.5, 0.0, 0.9]), 20)[-1].state
        assert state.velocities[0] == pytest.approx(2.5)
        command = filter_command(state, np.array([1.5, 0.5, 0.9]), 0.0, DT, LIMITS)
        assert command.reasons == (VELOCITY, JERK)

    @pytest.mark.parametrize("order", [(0, 1), (1, 0)])
    def test_what_binds_for_one_joint_is_named_whatever_the_others_do(self, order: tuple[int, int]) -> None:
        # The first joint at its acceleration limit, or only at its jerk limit, the second at its velocity limit.
        first, second = order
        start = np.array([-1.0, -1.0, 0.9])
        target = start.copy()
        target[second] = 1.5
        state = follow(running(start), target, 20)[-1].state
        target[first] = 0.0
        seen = [command.reasons for command in follow(state, target, 6)]
        assert seen[0] == (VELOCITY, JERK)
        assert (VELOCITY, ACCELERATION) in seen

    def test_columns_of_different_lengths_are_refused(self) -> None:
        with pytest.raises(ValueError, match="inhomogeneous"):
            filter_command(rest(MIDDLE), MIDDLE[:2], 0.0, DT, LIMITS)
        with pytest.raises(ValueError, match="inhomogeneous"):
            filter_command(rest(MIDDLE), MIDDLE, 0.0, DT, LIMITS, measured=MIDDLE[:2])

    @pytest.mark.parametrize("joint", [0, 1, 2])
    @pytest.mark.parametrize("beyond", [-5.0, 5.0])
    def test_a_target_beyond_the_limits_is_named(self, joint: int, beyond: float) -> None:
        limit = (SPEC.position_max if beyond > 0 else SPEC.position_min)[joint]
        for value, named in ((beyond, True), (limit, False), (np.nextafter(limit, beyond), True)):
            target = MIDDLE.copy()
            target[joint] = value
            assert (POSITION in filter_command(rest(MIDDLE), target, 0.0, DT, LIMITS).reasons) == named

    def test_several_refusals_are_all_named_in_order(self) -> None:
        bad = np.full(3, math.nan)
        command = filter_command(rest(MIDDLE), bad, math.nan, DT, LIMITS, measured=bad)
        assert command.reasons == (NOT_FINITE, STALE, TRACKING)
        assert len(set(REASONS)) == len(REASONS) == 13


def test_a_call_is_a_pure_function_of_its_arguments() -> None:
    state, target, measured = running(MIDDLE), np.array([9.0, -9.0, 9.0]), MIDDLE + 0.1
    before = copy.deepcopy((state, target, measured))
    first = filter_command(state, target, 0.0, DT, LIMITS, measured=measured)
    follow(rest(np.array([1.0, -1.0, 0.1])), np.array([-1.0, 1.0, 1.0]), 30)
    again = filter_command(state, target, 0.0, DT, LIMITS, measured=measured)
    for left, right in zip(first.state.motion, again.state.motion, strict=True):
        np.testing.assert_array_equal(left, right)
    assert (first.reasons, first.state.followed) == (again.reasons, again.state.followed)
    for left, right in zip(before[0].motion, state.motion, strict=True):
        np.testing.assert_array_equal(left, right)
    np.testing.assert_array_equal(target, before[1])
    np.testing.assert_array_equal(measured, before[2])


def test_position_comes_first_for_a_state_that_cannot_stop_in_time() -> None:
    for limit, sign in ((SPEC.position_max, 1), (SPEC.position_min, -1)):
        motion = Motion(limit - sign * 0.001, sign * SPEC.velocity_max, np.zeros(3))
        for age in (0.0, math.inf):
            command = filter_command(FilterState(motion, START_TIME), limit, age, DT, LIMITS)
            assert command.positions.tolist() == limit.tolist()


class TestAtRest:
    def test_it_does_not_move_and_starts_slowly(self) -> None:
        state = rest(MIDDLE)
        assert state.positions.tolist() == MIDDLE.tolist()
        assert not state.velocities.any()
        assert not state.motion.accelerations.any()
        assert state.followed == 0.0
        with pytest.raises(ValueError, match="read-only"):
            state.positions[0] = 1.0

    def test_just_outside_it_is_taken_to_be_at_its_limit(self) -> None:
        state = rest(np.array([0.3, 0.0, -START_TOLERANCE]))
        assert state.positions.tolist() == [0.3, 0.0, 0.0]

    @pytest.mark.parametrize("outside", [-START_TOLERANCE * 1.01, 1.75 + START_TOLERANCE * 1.01, math.nan])
    def test_further_out_it_is_refused(self, outside: float) -> None:
        with pytest.raises(OutsideError, match=rf"^rests at {outside:.3f} rad, outside \[0\.000, 1\.750\]$") as raised:
            rest(np.array([0.0, 0.0, outside]))
        assert raised.value.joint == 2

    def test_the_first_of_several_is_named(self) -> None:
        with pytest.raises(OutsideError, match=r"^rests at -3\.000 rad, outside \[-1\.750, 1\.750\]$") as raised:
            rest(np.array([0.0, -3.0, 9.0]))
        assert raised.value.joint == 1


def test_limits_are_those_of_the_arm_and_of_its_safety() -> None:
    safety = SafetyConfig(
        soft_margin=0.03, target_age_max_s=0.2, tracking_error_max=0.4, lead_max=0.2, grip_lead_max=0.1
    )
    limits = Limits.of(SPEC, safety)
    for name in ("position_min", "position_max", "velocity_max", "acceleration_max", "jerk_max"):
        np.testing.assert_array_equal(getattr(limits, name), getattr(SPEC, name))
    assert (limits.soft_margin, limits.age_max_s) == (0.03, 0.2)
    assert limits.tracking_error_max.tolist() == [0.4, 0.4, math.inf]
    assert limits.lead_max.tolist() == [0.2, 0.2, 0.1]
    assert Limits.of(SPEC).age_max_s == SafetyConfig().target_age_max_s
