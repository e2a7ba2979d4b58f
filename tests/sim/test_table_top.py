"""A picture whose table is computed is the picture that is drawn, to the last bit."""

from __future__ import annotations

import numpy as np
import pytest

from sim import table_top
from sim.table_top import TableTop, table_depths
from sim.world import World

CAMERAS = ("fixed", "wrist")
RECTANGLE = ((-0.5, -0.6), (0.7, 0.6))


class Counting:
    """What a `TableTop` is given of a world, counted."""

    def __init__(self, world: World) -> None:
        self.world, self.hidden, self.drawn = world, [False], 0

    def draw(self, view: table_top.Matrix, projection: table_top.Matrix) -> tuple[np.ndarray, np.ndarray]:
        self.drawn += 1
        return self.world._draw(view, projection)

    def hide(self, hidden: bool) -> None:
        self.hidden.append(hidden)
        self.world._hide_table(hidden)


@pytest.fixture
def world(shared: World) -> World:
    shared.reset(np.random.default_rng(0))
    return shared


def matrices(world: World, camera: str) -> tuple[table_top.Matrix, table_top.Matrix]:
    return {"fixed": world._fixed_camera, "wrist": world._wrist_camera}[camera]()


def drawn(world: World, camera: str) -> np.ndarray:
    """The picture with the table drawn."""
    world._table_top._switch(False)
    return world._draw(*matrices(world, camera))[0][:, :, :3]


@pytest.mark.parametrize("size", [(64, 64), (48, 80), (33, 17)])
def test_pictures_are_those_that_are_drawn(size: tuple[int, int]) -> None:
    world = World(image_size=size)
    rng = np.random.default_rng(7)
    for index in range(24):
        if index % 6 == 0:
            world.reset(rng)
        world.set_targets(rng.uniform(World.spec.position_min, World.spec.position_max))
        world.step(15)
        for camera in CAMERAS:
            np.testing.assert_array_equal(world.render(camera), drawn(world, camera))
    world.close()


def test_the_table_is_seldom_drawn(world: World) -> None:
    counting = Counting(world)
    top = TableTop(counting.draw, counting.hide, RECTANGLE)
    top.appear(0.0)
    counting.drawn = 0
    world._table_top._switch(False)
    pictures = 0
    for seed in range(20):
        world.reset(np.random.default_rng(seed))
        for camera in CAMERAS:
            top.picture(*matrices(world, camera))
            pictures += 1
    top._switch(False)
    assert counting.drawn < 1.2 * pictures
    assert counting.hidden[-1] is False


def test_where_a_rounding_could_decide_the_table_is_drawn(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = drawn(world, "fixed")
    counting = Counting(world)
    top = TableTop(counting.draw, counting.hide, RECTANGLE)  # not told its colour: none
    assert (top.picture(*matrices(world, "fixed")) == 0).all(axis=2).any()
    monkeypatch.setattr(table_top, "DEPTH", 2.0)
    np.testing.assert_array_equal(top.picture(*matrices(world, "fixed")), expected)
    assert counting.hidden[-1] is False


def test_depths_are_those_of_the_renderer() -> None:
    world = World()
    world.reset(np.random.default_rng(0))
    world._table_top._switch(False)
    for body, links in ((world.arm, range(-1, 7)), *((block, range(-1, 0)) for block in world.blocks.values())):
        for link in links:
            world._p.changeVisualShape(body, link, rgbaColor=[0, 0, 0, 0])
    for camera in CAMERAS:
        view, projection = matrices(world, camera)
        colours, depths = world._draw(view, projection)
        expected = table_depths(view, projection, RECTANGLE, 0.0, *depths.shape)
        assert expected is not None
        seen = np.isfinite(expected)
        np.testing.assert_array_equal(seen, colours[:, :, 0] == 144)
        np.testing.assert_allclose(depths[seen], expected[seen], atol=table_top.DEPTH / 2)
    world.close()


def test_a_camera_that_sees_no_table_and_one_within_its_plane() -> None:
    up = (1.0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, -1, 1)  # at height 1, looking down
    lens = (1.0, 0, 0, 0, 0, 1, 0, 0, 0, 0, -1.2, -1, 0, 0, -0.22, 0)
    depths = table_depths(up, lens, ((5.0, 5.0), (6.0, 6.0)), 0.0, 8, 8)
    assert depths is not None and np.isinf(depths).all()
    level = (1.0, 0, 0, 0, 0, 0, -1, 0, 0, 1, 0, 0, 0, 0, 0, 1)  # at height 0, looking along y
    assert table_depths(level, lens, RECTANGLE, 0.0, 8, 8) is None
