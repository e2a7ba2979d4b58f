"""Conditions of a world: drawn within their ranges, alike for both sides and every colour, and what they do."""

from __future__ import annotations

from dataclasses import astuple, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.shapes import Shape, sample_shapes
from sim.variation import (
    NOMINAL,
    VARIATIONS,
    Conditions,
    VariationError,
    conditions_at,
    parse_conditions,
    ranges,
    sample_conditions,
)
from sim.world import COLOURS, HOME, World

CAMERAS = ("fixed", "wrist")


def test_every_variation_has_ranges_and_draws_something() -> None:
    assert tuple(ranges()) == VARIATIONS
    for name in VARIATIONS:
        assert sample_conditions(np.random.default_rng(0), [name]) != NOMINAL
    assert sample_conditions(np.random.default_rng(0), []) == NOMINAL


@given(st.integers(0, 2**32 - 1), st.sets(st.sampled_from(VARIATIONS)))
def test_only_what_is_asked_for_varies_and_the_order_does_not_matter(seed: int, names: set[str]) -> None:
    drawn = sample_conditions(np.random.default_rng(seed), names)
    assert drawn == sample_conditions(np.random.default_rng(seed), sorted(names, reverse=True))
    if "delay" not in names:
        assert drawn.delay == NOMINAL.delay
    low, high = ranges()["block_size"]["edge"]
    assert all(low <= edge <= high for edge in drawn.block_edges)
    assert (drawn.block_edges == NOMINAL.block_edges) == ("block_size" not in names)
    assert parse_conditions(vars(drawn)) == drawn


def test_what_has_a_side_is_drawn_alike_for_both() -> None:
    for name, parts in (("camera_pose", ranges()["camera_pose"]), ("light", {"azimuth": ranges()["light"]["azimuth"]})):
        for part, (low, high) in parts.items():
            assert low == -high, (name, part)


def test_blocks_differ_in_their_own_channel_alone() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        colours = np.array(sample_conditions(rng, ["colours"]).block_colours)
        assert (colours.argmax(axis=1) == range(3)).all()
        assert np.diag(colours).min() >= 0.6 and (colours - np.diag(np.diag(colours))).max() <= 0.28


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"gravity": 3}, "no condition 'gravity'; there are arm_dark"),
        ({"delay": [0.1, 0.2]}, "delay: one number"),
        ({"fixed_shift": [0.1, 0.2]}, "fixed_shift: 3 numbers"),
        ({"block_colours": 0.3}, "block_colours: 3 x 3 numbers"),
        ({"delay": "long"}, "delay: one number, not 'long'"),
    ],
)
def test_conditions_that_make_no_sense_are_one_line(values: dict[str, object], reason: str) -> None:
    with pytest.raises(VariationError, match=reason):
        parse_conditions(values)


def test_one_number_stands_for_all() -> None:
    assert parse_conditions({"block_edges": 0.03, "delay": 1}) == replace(NOMINAL, block_edges=(0.03,) * 3, delay=1.0)
    with pytest.raises(VariationError, match="no variation 'fog'"):
        sample_conditions(np.random.default_rng(0), ["fog"])


def shake(world: World, conditions: Conditions, group: str, seed: int) -> list[object]:
    """Everything that is seen and measured after some motion."""
    world.reset(
        np.random.default_rng(seed), conditions=conditions, shapes=sample_shapes(group, np.random.default_rng(seed))
    )
    rng = np.random.default_rng(seed)
    for _ in range(12):
        world.set_targets(HOME + rng.uniform(-0.5, 0.5, 6))
        world.step(10)
    blocks = [part.tolist() for colour in COLOURS for part in world.block_pose(colour)]
    return [[part.tolist() for part in world.joint_states()], blocks, [world.render(name).tolist() for name in CAMERAS]]


def test_a_world_forgets_its_conditions_and_shapes_to_the_last_bit() -> None:
    rng = np.random.default_rng(3)
    used = World()
    for index, group in enumerate(("cubes", "training", "cubes", "triplet1", "triplet1")):
        conditions = sample_conditions(rng, VARIATIONS) if index % 2 else NOMINAL
        fresh = World()
        assert shake(used, conditions, group, index) == shake(fresh, conditions, group, index)
        fresh.close()
    used.close()


def test_pictures_under_any_conditions_are_those_that_are_drawn(shared: World) -> None:
    rng = np.random.default_rng(5)
    drawn = [sample_conditions(rng, VARIATIONS) for _ in range(12)]
    for conditions in (*drawn, conditions_at("table", "low"), conditions_at("table", "high")):
        shared.reset(rng, conditions=conditions, shapes=sample_shapes("held_out", rng))
        shared.set_targets(HOME + rng.uniform(-0.6, 0.6, 6))
        shared.step(20)
        for camera, matrices in (("fixed", shared._fixed_camera()), ("wrist", shared._wrist_camera())):
            picture = shared.render(camera)
            shared._table_top._switch(False)
            np.testing.assert_array_equal(picture, shared._draw(*matrices)[0][:, :, :3])


def mirrored(conditions: Conditions) -> Conditions:
    """The same conditions with left and right exchanged."""

    def across(triple: tuple[float, float, float]) -> tuple[float, float, float]:
        return triple[0], -triple[1], triple[2]

    def turned(turn: tuple[float, float, float]) -> tuple[float, float, float]:
        return turn[0], -turn[1], -turn[2]

    right, up, forward = conditions.wrist_shift
    return replace(
        conditions,
        fixed_shift=across(conditions.fixed_shift),
        fixed_turn=turned(conditions.fixed_turn),
        wrist_shift=(-right, up, forward),
        wrist_turn=turned(conditions.wrist_turn),
        light_direction=across(conditions.light_direction),
    )


@pytest.mark.parametrize("seed", range(4))
def test_a_mirrored_rig_sees_the_mirrored_scene_but_for_edges(shared: World, seed: int) -> None:
    rng = np.random.default_rng(seed)
    conditions, shapes = sample_conditions(rng, ["camera_pose", "camera_fov", "light"]), sample_shapes("training", rng)
    spots = [(0.15, 0.1, 0.4), (0.2, -0.02, 1.9), (0.17, -0.1, -2.5)]
    images = []
    for side in (1, -1):
        shared.reset(
            np.random.default_rng(0), conditions=conditions if side > 0 else mirrored(conditions), shapes=shapes
        )
        for colour, (x, y, yaw) in zip(COLOURS, spots, strict=True):
            shared.place_block(colour, (x, side * y, shared.solids[colour].below), side * yaw)
        pose = HOME + np.array([0.3, 0, 0, 0, 0.2, 0])
        shared.place_arm(pose * [side, 1, 1, 1, side, 1])
        images.append([shared.render(camera).astype(int) for camera in CAMERAS])
    for image, other in zip(*images, strict=True):
        # The renderer samples a pixel's corner: a flipped picture is one column off.
        differs = np.abs(np.roll(image[:, ::-1], 1, axis=1) - other)[:, 1:].max(axis=-1) > 8
        assert differs.mean() < 0.01


def test_servos_with_play_lag_by_half_of_it_and_the_encoder_shows_it(shared: World) -> None:
    play = 0.02
    shared.reset(np.random.default_rng(0), conditions=replace(NOMINAL, backlash=(play, 0.0, 0.0, 0.0, 0.0)))
    shared.set_targets(HOME + np.array([0.2, 0, 0, 0, 0, 0]))
    shared.step(200)
    there = shared.joint_positions()[0]
    assert there == pytest.approx(0.2 - play / 2, abs=2e-3)
    shared.set_targets(HOME + np.array([0.2 - 0.8 * play, 0, 0, 0, 0, 0]))  # back, but not through the play
    shared.step(200)
    assert shared.joint_positions()[0] == pytest.approx(there, abs=1e-3)


def test_a_goal_takes_effect_after_the_delay(shared: World) -> None:
    shared.reset(np.random.default_rng(0), conditions=replace(NOMINAL, delay=0.05))
    shared.set_targets(HOME + np.array([0.4, 0, 0, 0, 0, 0]))
    shared.step(10)
    assert abs(shared.joint_positions()[0]) < 1e-3 and shared.joint_targets()[0] == 0.4
    shared.step(2)
    assert shared.joint_positions()[0] > 0.01


def test_a_slow_servo_is_slower(shared: World) -> None:
    reached = []
    for gain in (0.6, 1.4):
        shared.reset(np.random.default_rng(0), conditions=replace(NOMINAL, servo_gain=gain))
        shared.set_targets(HOME + np.array([0.1, 0, 0, 0, 0, 0]))
        shared.step(8)
        reached.append(shared.joint_positions()[0])
    assert reached[0] < reached[1] - 0.005


def test_blocks_stand_on_a_table_of_any_height_and_weigh_by_their_volume(shared: World) -> None:
    conditions = replace(
        NOMINAL, table_height=0.005, block_edges=(0.024, 0.028, 0.032), block_masses=(0.02, 0.03, 0.04)
    )
    shapes = {"green": Shape(trapezoid=0.5), "blue": Shape(polygon=6, parallelogram=0.3)}
    shared.reset(np.random.default_rng(0), conditions=conditions, shapes=shapes)
    shared.step(100)
    for colour in COLOURS:
        centre, axes = shared.object_truth(colour)
        assert centre[2] == pytest.approx(0.005 + shared.solids[colour].below, abs=5e-4)
        assert axes[2, 2] > 0.9999
    masses = [shared._p.getDynamicsInfo(shared.blocks[colour], -1)[0] for colour in COLOURS]
    np.testing.assert_allclose(
        masses, [0.02 * (24 / 28) ** 3, 0.03 * shapes["green"].solid().volume / 0.028**3, 0.04 * (32 / 28) ** 3]
    )


def test_other_shapes_leave_the_arm_as_it_is_where_that_is_asked(shared: World) -> None:
    shared.reset(np.random.default_rng(0))
    goal = HOME + np.array([0.4, 0.1, -0.1, -0.2, 0.3, -0.5])
    shared.set_targets(goal)
    shared.step(100)
    before = shared.joint_positions()
    shared.reset(np.random.default_rng(1), keep_arm=True, shapes=sample_shapes("triplet2", np.random.default_rng(0)))
    np.testing.assert_allclose(shared.joint_positions(), before, atol=2e-3)
    np.testing.assert_array_equal(shared.joint_targets(), goal)


def test_conditions_are_plain_numbers() -> None:
    assert all(isinstance(value, float | tuple) for value in astuple(NOMINAL))
