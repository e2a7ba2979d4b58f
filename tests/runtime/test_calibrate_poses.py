"""Poses for hand-eye: each, and the whole way to it and back, keeps its margins; each shows the board."""

from __future__ import annotations

import functools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calibration.hand_eye import Kind, Sample
from calibration.poses import difference
from calibration.rehearsal.places import exact_view
from drivers.arm import Array
from runtime.calibrate_poses import (
    CLEARANCE,
    LIMIT_MARGIN,
    ROOM,
    SELF_ROOM,
    SQUARE_MIN,
    unfolded,
)
from runtime.guard import Guard
from runtime.safety import COLLISION, TABLE, WORKSPACE
from tests.runtime.fake_rig import GUARD, KINEMATICS, ROBOT, SPEC, FakeRig

LOOKS = 200  # places of a way that are looked at here, far more than the planner does
WATCHED = Guard(unfolded(ROBOT))
LIMITS = np.array([SELF_ROOM if pair.rule == COLLISION else ROOM for pair in WATCHED.pairs])


@functools.cache
def rig(kind: Kind, seed: int = 3) -> FakeRig:
    return FakeRig(kind, seed)


def lowest_of_board(pose: Array, made: FakeRig) -> float:
    """Height of the held board's lowest corner, m."""
    width, height = made.true.board.size
    corners = np.array([[x, y, 0.0, 1.0] for x in (0, width) for y in (0, height)])
    return float((KINEMATICS.pose(pose) @ made.true.board_pose @ corners.T)[2].min())


def sampled(here: Array, there: Array) -> Array:
    return np.linspace(here, there, LOOKS)


anywhere = st.lists(st.floats(0, 1), min_size=12, max_size=12).map(
    lambda shares: SPEC.position_min + np.reshape(shares, (2, 6)) * (SPEC.position_max - SPEC.position_min)
)


@given(anywhere, st.sampled_from(["fixed", "wrist"]), st.lists(st.sampled_from([-1, 1]), min_size=6, max_size=6))
@settings(max_examples=60, deadline=None)
def test_a_way_that_is_called_safe_has_room_all_along(ends: Array, kind: Kind, signs: list[int]) -> None:
    """More than half the margin, and the guard would let an arm pass whose joints are half a degree from what it says;
    a way with less anywhere is never called safe."""
    made = rig(kind)
    if not made.planner.safe(ends[0], ends[1], made.found):
        return
    off = np.radians(0.5) * np.array(signs)
    for pose in sampled(*ends):
        assert GUARD.check(pose + off) is None
        assert (WATCHED.clearances(pose) > LIMITS / 2).all()
        assert kind == "wrist" or lowest_of_board(pose, made) > CLEARANCE / 2 + (ROBOT.safety.table_height or 0.0)


@given(anywhere)
@settings(max_examples=60, deadline=None)
def test_a_way_with_room_to_spare_is_called_safe(ends: Array) -> None:
    """The planner is no more careful than it says: where all of a way keeps its margins it may be gone."""
    made = rig("wrist")
    roomy = all((WATCHED.clearances(pose) > LIMITS + 0.002).all() for pose in sampled(*ends))
    assert made.planner.safe(ends[0], ends[1], made.found) or not roomy


def test_ways_that_only_pass_something_are_not_safe() -> None:
    """Both ends have room and the middle has none: through the table, past a wall."""
    rng = np.random.default_rng(0)
    planner, through = rig("wrist").planner, set()
    for _ in range(3000):
        here, there = rng.uniform(SPEC.position_min, SPEC.position_max, (2, 6))
        if planner.cramped(here) or planner.cramped(there):
            continue
        rules = {
            GUARD.pairs[int(GUARD.clearances(pose).argmin())].rule
            for pose in sampled(here, there)[::20]
            if GUARD.check(pose)
        }
        if rules:
            assert not planner.safe(here, there)
            through |= rules
        if through >= {TABLE, WORKSPACE}:
            return
    pytest.fail(f"only {through} were passed")


@pytest.mark.parametrize("kind", ["fixed", "wrist"])
def test_planned_poses_show_the_board_keep_their_margins_and_determine_the_place(kind: Kind) -> None:
    made = rig(kind)
    here, samples = made.start, []
    uncertain = []
    for pose in [made.start, *list(made.planner.first(made.start))[:5]]:
        view = exact_view(made.true.board, made.true.lens, made.true.seen(KINEMATICS.pose(pose)))
        assert view is not None
        samples.append(Sample(pose, view))
    known = made.problem.expected() + sum(made.problem.information(made.found, sample.joints) for sample in samples)
    for _ in range(4):
        pose = made.planner.next(made.found, samples, here)
        assert pose is not None
        assert pose[-1] == made.start[-1]  # the gripper holds the board
        assert (pose[:-1] >= SPEC.position_min[:-1] + LIMIT_MARGIN).all()
        assert (pose[:-1] <= SPEC.position_max[:-1] - LIMIT_MARGIN).all()
        assert all(GUARD.check(between) is None for between in sampled(here, pose))
        assert (WATCHED.clearances(pose) > LIMITS).all()
        view = exact_view(made.true.board, made.true.lens, made.true.seen(KINEMATICS.pose(pose)))
        assert view is not None
        if kind == "fixed":
            assert len(view.ids) == len(made.true.board.corners)
            rows = view.corners.reshape(made.true.board.rows - 1, -1, 2)
            assert min(np.linalg.norm(np.diff(rows, axis=axis), axis=-1).min() for axis in (0, 1)) >= SQUARE_MIN - 0.5
        known = known + made.problem.information(made.found, pose)
        uncertain.append(float(np.trace(np.linalg.inv(known)[3:6, 3:6])))
        here = pose
        samples.append(Sample(pose, view))
    assert uncertain == sorted(uncertain, reverse=True)
    assert (
        min(difference(KINEMATICS.pose(made.start), KINEMATICS.pose(sample.joints))[1] for sample in samples[6:]) > 0.1
    )


def test_a_chosen_pose_tells_more_than_a_random_one() -> None:
    made = rig("fixed")
    start = [made.start, *list(made.planner.first(made.start))[:5]]
    samples = [
        Sample(pose, view)
        for pose in start
        if (view := exact_view(made.true.board, made.true.lens, made.true.seen(KINEMATICS.pose(pose)))) is not None
    ]
    known = made.problem.expected() + sum(made.problem.information(made.found, sample.joints) for sample in samples)

    def left(pose: Array) -> float:
        return float(np.trace(np.linalg.inv(known + made.problem.information(made.found, pose))[3:6, 3:6]))

    chosen = made.planner.next(made.found, samples, made.start)
    assert chosen is not None
    rng = np.random.default_rng(1)
    shown: list[Array] = []
    while len(shown) < 20:
        pose = np.append(rng.uniform(SPEC.position_min[:-1], SPEC.position_max[:-1]), made.start[-1])
        if made.planner.shows(made.found, pose):
            shown.append(pose)
    assert left(chosen) < np.median([left(pose) for pose in shown])


def test_the_first_poses_are_near_the_start_and_no_lower() -> None:
    made = rig("fixed")
    height = KINEMATICS.pose(made.start)[2, 3]
    poses = list(made.planner.first(made.start))
    assert len(poses) > 12
    for pose in poses:
        assert np.abs(pose - made.start).max() <= 0.4 + 1e-9 and pose[-1] == made.start[-1]
        assert KINEMATICS.pose(pose)[2, 3] > height - 0.016


def test_what_is_too_near_is_named() -> None:
    made = rig("wrist")
    assert made.planner.cramped(np.array(ROBOT.arm.home)) is None
    said = made.planner.cramped(np.array(ROBOT.arm.rest))
    assert said is not None and said.endswith("would hit the table")


def test_the_way_back_goes_through_what_was_visited_where_a_straight_one_is_not_safe() -> None:
    made = rig("wrist")
    rng = np.random.default_rng(5)
    visited = [made.start]
    while len(visited) < 4 or made.planner.safe(visited[-1], visited[0], made.found):
        pose = rng.uniform(SPEC.position_min + 0.1, SPEC.position_max - 0.1)
        if made.planner.safe(visited[-1], pose, made.found):
            visited.append(pose)
    way = made.planner.way_back(visited, made.found)
    np.testing.assert_array_equal(way[-1], visited[0])
    assert 2 <= len(way) < len(visited)
    for here, there in zip([visited[-1], *way], way, strict=False):
        assert all(GUARD.check(pose) is None for pose in sampled(here, there))
    assert made.planner.way_back(visited[:1], made.found) == []
