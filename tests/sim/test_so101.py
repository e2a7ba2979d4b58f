"""Kinematics of the SO-101: inverse undoes forward, and both agree with the URDF that PyBullet loads."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim import so101
from sim.so101 import SPEC
from sim.world import BEARING, BLOCK, HOME, RADIUS, World

bearings = st.floats(-BEARING, BEARING)
radii = st.floats(*RADIUS)
heights = st.floats(BLOCK / 2, 0.12)
arm_joints = st.tuples(*(st.floats(*limits) for limits in zip(SPEC.position_min, SPEC.position_max, strict=True)))


def point(radius: float, bearing: float, height: float) -> np.ndarray:
    return np.array([radius * math.cos(bearing), radius * math.sin(bearing), height])


@given(radii, bearings, heights)
def test_inverse_reaches_the_whole_working_area_within_limits(radius: float, bearing: float, height: float) -> None:
    wanted = point(radius, bearing, height)
    joints = so101.inverse(wanted)
    assert joints is not None
    assert (joints >= SPEC.position_min[:4]).all() and (joints <= SPEC.position_max[:4]).all()
    reached, pitch = so101.forward(joints)
    np.testing.assert_allclose(reached, wanted, atol=1e-9)
    assert -math.pi / 2 - 1e-9 <= pitch <= -math.pi / 4 + 1e-9


@given(radii, bearings, heights)
def test_a_mirrored_point_is_reached_by_the_mirrored_pose(radius: float, bearing: float, height: float) -> None:
    joints, mirrored = so101.inverse(point(radius, bearing, height)), so101.inverse(point(radius, -bearing, height))
    assert joints is not None and mirrored is not None
    np.testing.assert_allclose(mirrored, joints * [-1, 1, 1, 1], atol=1e-9)


@given(arm_joints)
def test_forward_stays_within_the_arm_s_length(joints: tuple[float, ...]) -> None:
    reached, _ = so101.forward(np.array(joints))
    shoulder = so101.SHOULDER_RADIUS * np.array([math.cos(joints[0]), math.sin(joints[0]), 0])
    shoulder[2] = so101.SHOULDER_HEIGHT
    assert np.linalg.norm(reached - shoulder) <= so101.UPPER_ARM + so101.FOREARM + so101.HAND + 1e-9


@pytest.mark.parametrize("beyond", [(0.6, 0.0, 0.05), (-0.2, 0.0, 0.02), (0.0, 0.0, 0.6)])
def test_out_of_reach_is_none(beyond: tuple[float, float, float]) -> None:
    assert so101.inverse(np.array(beyond)) is None


def test_at_zero_the_upper_arm_stands_and_the_rest_points_ahead() -> None:
    reached, pitch = so101.forward(np.zeros(6))
    ahead = so101.SHOULDER_RADIUS + so101.FOREARM + so101.HAND
    np.testing.assert_allclose(reached, [ahead, 0, so101.SHOULDER_HEIGHT + so101.UPPER_ARM], atol=1e-12)
    assert pitch == pytest.approx(0)


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    world = World()
    yield world
    world.close()


@pytest.mark.parametrize("seed", range(8))
def test_the_urdf_has_the_same_lengths(world: World, seed: int) -> None:
    """The wrist camera hangs on the hand: 30 mm ahead of its frame, which lies 98.1 mm before the grasp centre."""
    rng = np.random.default_rng(seed)
    pose = rng.uniform(SPEC.position_min, SPEC.position_max) if seed else HOME
    world.place_arm(np.array(pose))
    view, _ = world.camera_matrices("wrist")
    axes = view[:3, :3]  # rows: right, up, backward
    eye = -axes.T @ view[:3, 3]
    grasp, pitch = so101.forward(np.array(pose))
    hand = np.array([math.cos(pitch) * math.cos(pose[0]), math.cos(pitch) * math.sin(pose[0]), math.sin(pitch)])
    off_axis = eye - grasp - hand * (0.03 - 0.0981)
    assert np.linalg.norm(off_axis) == pytest.approx(0.06, abs=1e-3)
    assert off_axis @ hand == pytest.approx(0, abs=1e-3)
