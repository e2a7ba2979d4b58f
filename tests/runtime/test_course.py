from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.clock import MILLISECOND, SECOND
from runtime.course import Following, Glide, Lowering, Target, moves, stopping_time
from runtime.motion import Motion, way_to_rest

START, END = np.array([0.0, 1.0]), np.array([0.6, 0.4])
A, J = np.array([40.0, 80.0]), np.array([2000.0, 4000.0])


def motion(velocities: tuple[float, float], accelerations: tuple[float, float] = (0.0, 0.0)) -> Motion:
    return Motion(START, np.array(velocities), np.array(accelerations))


def test_a_target_is_approached_in_equal_parts_and_reached_as_the_next_is_due() -> None:
    following = Following(Target(SECOND, END), START)
    period, policy_period = 10 * MILLISECOND, 50 * MILLISECOND
    goals = [following.goal(SECOND + tick * period, period, policy_period) for tick in range(7)]
    np.testing.assert_allclose([goal[0] for goal in goals], [0.12, 0.24, 0.36, 0.48, 0.6, 0.6, 0.6])
    assert following.age(SECOND + 30 * MILLISECOND) == pytest.approx(0.03)
    assert not following.due(SECOND + 49 * MILLISECOND, policy_period)
    assert following.due(SECOND + 50 * MILLISECOND, policy_period)


def test_a_glide_is_at_rest_at_both_ends_and_as_fast_as_was_said() -> None:
    glide = Glide.between(START, END, 0.3)
    assert glide.seconds == pytest.approx(2.0)
    times = np.linspace(0.0, 2.5, 251)
    path = np.array([glide.at(time) for time in times])
    speeds = np.abs(np.diff(path, axis=0)) / 0.01
    np.testing.assert_allclose(path[0], START, atol=1e-12)
    np.testing.assert_array_equal(path[-1], END)
    assert speeds.max() == pytest.approx(0.3 * np.pi / 2, rel=1e-3)
    assert speeds[0].max() < 0.02 and speeds[-51].max() < 0.02
    assert (np.diff(path[:, 0]) >= 0).all() and (np.diff(path[:, 1]) <= 0).all()


def test_a_glide_of_no_length_is_over_at_once() -> None:
    np.testing.assert_array_equal(Glide.between(START, START, 0.3).at(0.0), START)


def test_a_lowering_arrives_late_and_near_or_is_stuck() -> None:
    lowering = Lowering.of(START, END, SECOND)
    assert not lowering.arrived(SECOND + 1999 * MILLISECOND, END)
    assert lowering.arrived(SECOND + 2000 * MILLISECOND, END + 0.09)
    assert not lowering.arrived(SECOND + 2000 * MILLISECOND, END + np.array([0.0, 0.11]))
    assert not lowering.stuck(SECOND + 3999 * MILLISECOND)
    assert lowering.stuck(SECOND + 4000 * MILLISECOND)
    assert lowering.distance(END + np.array([0.0, -0.2])) == pytest.approx(0.2)
    np.testing.assert_allclose(lowering.goal(SECOND + 1000 * MILLISECOND), [0.3, 0.7])


def test_moving_is_more_than_what_rounding_leaves() -> None:
    assert not moves(motion((0.0, 1e-9)))
    assert moves(motion((0.0, -1e-3)))
    assert moves(motion((0.0, 0.0), (0.1, 0.0)))


def test_the_time_to_rest_from_full_speed() -> None:
    assert stopping_time(motion((2.5, 0.0)), A, J) == pytest.approx(2.5 / 40 + 0.02)
    assert stopping_time(motion((0.0, 0.0), (40.0, 0.0)), A, J) == pytest.approx(0.02 + 0.4 / 40 + 0.02)


@given(
    st.tuples(*[st.floats(-4, 4)] * 2),
    st.tuples(st.floats(-40, 40), st.floats(-80, 80)),
)
def test_no_stop_takes_longer_than_said(velocities: tuple[float, float], accelerations: tuple[float, float]) -> None:
    moving = motion(velocities, accelerations)
    ticks = len(way_to_rest(moving, A, J, 0.01))
    assert 0.01 * (ticks - 1) <= stopping_time(moving, A, J) + 1e-9
