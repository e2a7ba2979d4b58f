"""The PyBullet scene: forgets at a reset, and is exactly symmetric in colours and in left and right."""

from __future__ import annotations

import math
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from sim.expert import Expert
from sim.tasks import TASKS, Judge
from sim.world import BEARING, BLOCK, COLOURS, HOME, RADIUS, SPACING, World, sample_layout

CAMERAS = ("fixed", "wrist")


@pytest.fixture
def world(shared: World) -> World:
    shared.reset(np.random.default_rng(0))
    return shared


def episode(world: World, seed: int, steps: int = 240) -> tuple[NDArray[np.float64], list[NDArray[np.uint8]]]:
    """Everything that can be measured at each step of a demonstration, and the last images."""
    world.reset(np.random.default_rng(seed))
    task = TASKS[seed % len(TASKS)]
    expert, judge = Expert(world, task), Judge(world, task)
    command = world.joint_targets()
    rows = []
    while judge.outcome is None and len(rows) < steps:
        command = expert.act(command)
        world.set_targets(command)
        world.step(10)
        judge.update()
        blocks = [part for colour in COLOURS for part in world.block_pose(colour)]
        rows.append(np.concatenate([*world.joint_states(), *blocks]))
    return np.array(rows), [world.render(camera) for camera in CAMERAS]


def test_a_used_world_is_a_fresh_one_after_a_reset_to_the_last_bit() -> None:
    used = World()
    for seed, left_after in enumerate((3, 20, 27, 33, 240)):  # above the block, with it in the jaws, on the way, done
        fresh = World()
        expected, pictures = episode(fresh, seed)
        fresh.close()
        measured, images = episode(used, seed)
        np.testing.assert_array_equal(measured, expected)
        np.testing.assert_array_equal(images, pictures)
        episode(used, 50 + seed, left_after)
        used.set_torque(np.zeros(6, dtype=bool))
        used.step(7 * seed)
    used.close()


def test_a_reset_places_the_arm_or_leaves_it(world: World) -> None:
    np.testing.assert_allclose(world.joint_positions(), HOME, atol=0.01)
    assert world.time == pytest.approx(2 / world.physics_rate)
    pose = np.array([0.5, -0.4, 0.3, 1.2, 0.4, 0.8])
    world.reset(np.random.default_rng(1), arm_pose=pose)
    np.testing.assert_allclose(world.joint_positions(), pose, atol=0.01)
    before = world.block_pose("red")[0]
    world.reset(np.random.default_rng(2), keep_arm=True)
    np.testing.assert_allclose(world.joint_positions(), pose, atol=0.02)
    assert np.abs(world.block_pose("red")[0] - before).max() > 0.005


@given(st.integers(0, 2**32 - 1))
def test_layouts_are_within_reach_and_apart(seed: int) -> None:
    layout = np.array(sample_layout(np.random.default_rng(seed)))
    radius, bearing = np.hypot(layout[:, 0], layout[:, 1]), np.arctan2(layout[:, 1], layout[:, 0])
    assert (radius >= RADIUS[0] - 1e-9).all() and (radius <= RADIUS[1] + 1e-9).all()
    assert (np.abs(bearing) <= BEARING + 1e-9).all() and (np.abs(layout[:, 2]) <= math.pi / 4).all()
    assert min(np.hypot(*(a - b)[:2]) for a, b in permutations(layout, 2)) >= SPACING - 1e-9


def test_layouts_lie_left_as_often_as_right() -> None:
    rng = np.random.default_rng(0)
    sides = np.array([sample_layout(rng) for _ in range(1000)])[:, :, 1] > 0
    assert np.abs(sides.mean(axis=0) - 0.5).max() < 0.06  # 3.8 standard deviations


def pictures(world: World, seed: int, side: int = 1, order: tuple[str, ...] = COLOURS) -> list[NDArray[np.int16]]:
    """The same scene, its left and right exchanged when `side` is -1, its blocks coloured in `order`."""
    rng = np.random.default_rng(seed)
    layout = sample_layout(rng)
    pose = HOME + rng.uniform(-1, 1, 6) * [1, 0.2, 0, 0, 1, 0.2]
    pose[[0, 4]] *= side
    for colour, (x, y, yaw) in zip(order, layout, strict=True):
        world.place_block(colour, (x, side * y, BLOCK / 2), side * yaw)
    world.place_arm(pose)
    return [world.render(camera).astype(np.int16) for camera in CAMERAS]


@pytest.mark.parametrize("seed", range(5))
def test_a_flipped_image_is_the_mirrored_scene_but_for_edges(world: World, seed: int) -> None:
    for image, mirrored in zip(pictures(world, seed), pictures(world, seed, side=-1), strict=True):
        differs = np.abs(image[:, ::-1] - mirrored).max(axis=-1) > 8
        around = [np.roll(mirrored, (down, right), (0, 1)) for down in (-1, 0, 1) for right in (-1, 0, 1)]
        edge = np.max([np.abs(near - mirrored).max(axis=-1) for near in around], axis=0) > 8
        assert not (differs & ~edge).any()


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_other_colours_are_other_channels_and_nothing_else(world: World, order: tuple[int, int, int]) -> None:
    recoloured = pictures(world, 1, order=tuple(COLOURS[channel] for channel in order))
    for image, other in zip(pictures(world, 1), recoloured, strict=True):
        # What was COLOURS[c] is now COLOURS[order[c]]: channel order[c] of the new image is channel c of the old.
        np.testing.assert_array_equal(other[..., list(order)], image)


def test_everything_but_the_blocks_is_grey(world: World) -> None:
    for colour in COLOURS:
        world.place_block(colour, (-1.0, 0.0, 1.0), 0.0)
    for camera in CAMERAS:
        image = world.render(camera)
        assert (image == image[..., :1]).all()


@pytest.mark.parametrize("seed", range(4))
def test_a_block_is_where_the_matrices_say(world: World, seed: int) -> None:
    world.reset(np.random.default_rng(seed), arm_pose=np.array([1.9, -1.2, 0.6, 0.5, 0.0, 1.0]))
    image = world.render("fixed")
    view, projection = world.camera_matrices("fixed")
    for channel, colour in enumerate(COLOURS):
        x, y, _, w = projection @ view @ [*world.block_pose(colour)[0], 1.0]
        column, row = int((x / w + 1) / 2 * 64), int((1 - y / w) / 2 * 64)
        assert image[row, column].argmax() == channel and np.ptp(image[row, column].astype(int)) > 60


def test_an_image_has_the_size_asked_for() -> None:
    world = World(image_size=(48, 80))
    world.reset(np.random.default_rng(0))
    image = world.render("wrist")
    assert image.shape == (48, 80, 3) and image.dtype == np.uint8
    with pytest.raises(KeyError):
        world.render("left")
    world.close()
    world.close()


def test_servos_follow_their_goals_while_they_have_torque(world: World) -> None:
    goal = HOME + np.array([0.3, 0.1, -0.1, -0.2, 0.5, -0.8])
    world.set_targets(goal)
    world.step(world.physics_rate)
    np.testing.assert_allclose(world.joint_positions(), goal, atol=0.02)
    np.testing.assert_allclose(world.joint_velocities(), 0, atol=0.05)
    assert (np.abs(world.joint_loads()) <= 1).all()
    np.testing.assert_array_equal(world.joint_targets(), goal)
    world.set_torque(np.zeros(6, dtype=bool))
    world.step(world.physics_rate)
    assert np.abs(world.joint_positions() - goal).max() > 0.1
    assert (np.abs(world.joint_loads()) <= 0.02).all()
