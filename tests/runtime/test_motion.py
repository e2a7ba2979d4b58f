from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drivers.arm import Array
from runtime import motion
from runtime.motion import Motion, reach_to_rest, rest_step, step, way_to_rest

VELOCITY = np.array([2.5, 4.0])
ACCELERATION = np.array([40.0, 80.0])
JERK = np.array([2000.0, 4000.0])
DT = 0.01

LANDING = 2e-8  # rad: Ruckig lands within 1e-8 of its goal
unhurried = settings(deadline=None, max_examples=60)  # a loaded machine is no failure

positions = st.tuples(st.floats(-2, 2), st.floats(-2, 2)).map(np.array)
shares = st.tuples(st.floats(-1, 1), st.floats(-1, 1)).map(np.array)


def still(at: Array) -> Motion:
    return Motion(at, np.zeros(2), np.zeros(2))


def towards(state: Motion, goals: Array) -> Motion:
    return step(state, goals, VELOCITY, ACCELERATION, JERK, DT)


def stop(state: Motion) -> list[Motion]:
    """The way to rest, tick by tick."""
    path = [rest_step(state, ACCELERATION, JERK, DT)]
    while path[-1].velocities.any() or path[-1].accelerations.any():
        path.append(rest_step(path[-1], ACCELERATION, JERK, DT))
    return path


def assert_bounded(path: list[Array], velocity_max: Array = VELOCITY) -> None:
    differences = np.array(path)
    for bound in (velocity_max, ACCELERATION, JERK):
        differences = np.diff(differences, axis=0) / DT
        assert (np.abs(differences) <= bound * (1 + 1e-4)).all()


@unhurried
@given(positions, st.lists(positions, min_size=1, max_size=6), st.integers(1, 25))
def test_steps_are_bounded_and_stop_at_the_last_goal(start: Array, goals: list[Array], ticks: int) -> None:
    state, path = still(start), [start] * 3
    for goal in goals:
        for _ in range(ticks):
            state = towards(state, goal)
            path.append(state.positions)
    for _ in range(260):
        state = towards(state, goals[-1])
        path.append(state.positions)
    assert_bounded(path)
    np.testing.assert_allclose(state.positions, goals[-1], atol=LANDING)
    np.testing.assert_allclose(state.velocities, 0, atol=LANDING)


@unhurried
@given(positions, shares, shares)
def test_the_way_to_rest_is_bounded_and_ends_at_rest(start: Array, fast: Array, hard: Array) -> None:
    state = Motion(start, fast * VELOCITY, hard * ACCELERATION)
    path = stop(state)
    moving = [bool(ahead.velocities.any()) for ahead in path]
    assert not moving[-1]
    assert not path[-1].accelerations.any()
    assert all(moving[:-1])
    steps = [state.positions, *(ahead.positions for ahead in path), path[-1].positions, path[-1].positions]
    # Still accelerating it may get faster, until the acceleration is gone.
    assert_bounded(steps, VELOCITY + ACCELERATION**2 / (2 * JERK))
    assert len(path) <= 1 + (VELOCITY / ACCELERATION + 3 * ACCELERATION / JERK).max() / DT


@unhurried
@given(positions, positions, st.integers(1, 40))
def test_going_on_along_the_way_to_rest_is_the_same_way(start: Array, goal: Array, ticks: int) -> None:
    state = still(start)
    for _ in range(ticks):
        state = towards(state, goal)
    path = way_to_rest(state, ACCELERATION, JERK, DT)
    for pose in path:
        state = rest_step(state, ACCELERATION, JERK, DT)
        np.testing.assert_allclose(state.positions, pose, atol=LANDING)
    assert not state.velocities.any()
    assert not state.accelerations.any()


@unhurried
@given(positions, shares, shares)
def test_the_way_to_rest_is_within_its_reach(start: Array, fast: Array, hard: Array) -> None:
    state = Motion(start, fast * VELOCITY, hard * ACCELERATION)
    reach = reach_to_rest(state, ACCELERATION, JERK)
    for pose in way_to_rest(state, ACCELERATION, JERK, DT / 5):
        assert (np.abs(pose - start) <= reach + LANDING).all()


def test_a_reach_is_not_much_more_than_the_way() -> None:
    for speed, push in ((1.0, 0.0), (0.2, 0.0), (0.8, 0.5), (-0.8, -0.5)):
        state = Motion(np.zeros(2), speed * VELOCITY, push * ACCELERATION)
        way = np.abs(way_to_rest(state, ACCELERATION, JERK, DT)[-1])
        assert (reach_to_rest(state, ACCELERATION, JERK) <= 1.3 * way + 1e-9).all()
    assert not reach_to_rest(still(np.ones(2)), ACCELERATION, JERK).any()
    # 10 ms until the acceleration is gone, in which 0.1 rad/s come to 2 rad/s; then 2.1 / 40 s and 20 ms.
    state = Motion(np.zeros(2), np.array([-2.0, 0.0]), np.array([-20.0, 0.0]))
    np.testing.assert_allclose(reach_to_rest(state, ACCELERATION, JERK), [2.1 * (0.01 + (2.1 / 40 + 0.02) / 2), 0.0])


@unhurried
@given(positions, positions, st.integers(1, 40))
def test_no_step_leads_the_way_to_rest_beyond_the_goal(start: Array, goal: Array, ticks: int) -> None:
    state = still(start)
    low, high = np.minimum(start, goal) - LANDING, np.maximum(start, goal) + LANDING
    for _ in range(ticks):
        state = towards(state, goal)
        for ahead in stop(state):
            assert (ahead.positions >= low).all()
            assert (ahead.positions <= high).all()


def test_an_arm_at_rest_stays_there() -> None:
    (only,) = stop(still(np.array([0.3, -0.2])))
    assert only.positions.tolist() == [0.3, -0.2]
    assert towards(only, only.positions).positions.tolist() == [0.3, -0.2]


@pytest.mark.parametrize("sign", [-1, 1])
def test_distances_for_which_ruckig_finds_no_profile_are_travelled_all_the_same(sign: int) -> None:
    start, goal = sign * np.array([0.0, 1.179999999999999]), sign * np.array([0.0, 1.244])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(motion, "NUDGES", (0.0,))
        assert towards(still(start), goal).positions.tolist() == start.tolist()  # else it finds this one by now
    state, path = still(start), [start] * 3
    for _ in range(20):
        state = towards(state, goal)
        path.append(state.positions)
        assert abs(state.positions[1]) <= 1.244 + LANDING
    np.testing.assert_allclose(state.positions, goal, atol=LANDING)
    assert_bounded(path)


def test_where_ruckig_finds_no_profile_at_all_the_arm_comes_to_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    state = still(np.zeros(2))
    for _ in range(8):
        state = towards(state, np.ones(2))
    monkeypatch.setattr(motion, "NUDGES", ())
    np.testing.assert_array_equal(towards(state, np.ones(2)).positions, stop(state)[0].positions)


def test_nothing_is_kept_from_one_call_to_the_next() -> None:
    state = towards(still(np.zeros(2)), np.ones(2))
    first, path = towards(state, np.ones(2)), way_to_rest(state, ACCELERATION, JERK, DT)
    towards(still(np.ones(2)), np.full(2, -1.0))
    stop(Motion(np.ones(2), VELOCITY, ACCELERATION))
    np.testing.assert_array_equal(towards(state, np.ones(2)), first)
    np.testing.assert_array_equal(way_to_rest(state, ACCELERATION, JERK, DT), path)


@pytest.mark.parametrize("start", [-1.5, -0.6, 0.6, 1.5])
@pytest.mark.parametrize("goal", [-1.0, 1.0])
def test_a_nudge_is_towards_the_joint(monkeypatch: pytest.MonkeyPatch, start: float, goal: float) -> None:
    monkeypatch.setattr(motion, "NUDGES", (0.01,))
    state = still(np.full(2, start))
    for _ in range(200):
        state = towards(state, np.full(2, goal))
    np.testing.assert_allclose(state.positions, goal + np.copysign(0.01, start - goal), atol=1e-6)


def test_a_way_to_rest_of_whole_ticks_has_no_tick_more() -> None:
    # 2 rad/s at 40 rad/s^2, and 40 / 2000 s for the jerk: 0.07 s. The other joint is at rest.
    moving = Motion(np.zeros(2), np.array([2.0, 0.0]), np.zeros(2))
    assert len(way_to_rest(moving, ACCELERATION, JERK, DT)) == len(stop(moving)) == 7
