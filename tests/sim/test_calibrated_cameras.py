"""Simulated cameras that stand where real ones were found: a block is seen where the calibration says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import yaml

from drivers.camera_calibration import CameraCalibration
from drivers.config import ConfigError, load_robot
from sim.rig import Rig
from sim.world import World
from tests.drivers.test_camera_calibration import LENS, PLACE

SIZE = (240, 320)


def calibration(name: str) -> CameraCalibration:
    """The fixed camera above the table's middle, turned by 0.2 rad; the wrist's above the fingers, looking ahead."""
    half = 0.1
    fixed = (np.cos(half), np.sin(half), 0.0, 0.0)  # half a turn about an axis in the plane: z down
    wrist = (-0.5, 0.5, -0.5, 0.5)  # x to the hand's -y, y to its -z, z ahead
    update = {
        "fixed": {"position": (0.17, 0.01, 0.55), "orientation": fixed},
        "wrist": {"position": (0.02, 0.0, 0.05), "orientation": wrist, "carried_by": "link", "link": "hand"},
    }[name]
    return CameraCalibration(camera=name, lens=LENS, place=PLACE.model_copy(update=update))


@pytest.fixture
def world() -> World:
    world = World(image_size=SIZE)
    world.reset(np.random.default_rng(0))
    return world


def seen_red(image: np.ndarray) -> np.ndarray:
    red = (image[:, :, 0].astype(int) > 1.5 * image[:, :, 1]) & (image[:, :, 0] > 60)
    rows, columns = np.nonzero(red)
    assert rows.size > 20
    return np.array([(columns.min() + columns.max()) / 2, (rows.min() + rows.max()) / 2])


def test_the_fixed_camera_shows_a_block_where_the_lens_projects_it(world: World) -> None:
    found = calibration("fixed")
    world.stand_cameras({"fixed": found})
    assert found.place is not None
    for x, y in ((0.15, 0.08), (0.2, -0.1), (0.24, 0.05)):
        for number, colour in enumerate(("green", "blue")):
            world.place_block(colour, (-0.3, 0.3 * number, 0.02), 0.0)
        world.place_block("red", (x, y, -0.0135), 0.0)  # its upper face just above the table: nothing but it is seen
        in_camera = np.linalg.inv(found.place.pose) @ [x, y, 0.0005, 1.0]
        lens = found.lens.fitted(SIZE)
        expected = (lens.matrix @ in_camera[:3] / in_camera[2])[:2]
        np.testing.assert_allclose(seen_red(world.render("fixed")), expected, atol=1.2)


def test_the_wrist_camera_moves_with_the_hand(world: World) -> None:
    world.stand_cameras({"wrist": calibration("wrist")})
    before, _ = world.camera_matrices("wrist")
    pose = np.array([0.5, -0.55, 0.35, 1.35, 0.0, 1.5])
    world.place_arm(pose)
    after, _ = world.camera_matrices("wrist")
    turn = after[:3, :3] @ before[:3, :3].T
    assert np.arccos((np.trace(turn) - 1) / 2) == pytest.approx(0.5, abs=0.02)


def test_without_a_calibration_nothing_changes(world: World) -> None:
    before = world.camera_matrices("fixed"), world.camera_matrices("wrist")
    world.stand_cameras({})
    after = world.camera_matrices("fixed"), world.camera_matrices("wrist")
    np.testing.assert_array_equal(before, after)


def test_a_robots_file_places_its_cameras(tmp_path: Path) -> None:
    for name in ("fixed", "wrist"):
        content = calibration(name).model_dump(mode="json")
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(content))
    robot = load_robot("emulated").model_dump(mode="json", exclude_none=True)
    for name in ("fixed", "wrist"):
        robot["cameras"][name]["calibration"] = f"{name}.yaml"
    (tmp_path / "my.yaml").write_text(yaml.safe_dump(robot))
    rig = Rig.of(load_robot(str(tmp_path / "my.yaml")), image_size=SIZE)
    rig.reset(np.random.default_rng(0))
    view, _ = rig.camera_matrices("fixed")
    eye = -view[:3, :3].T @ view[:3, 3]
    np.testing.assert_allclose(eye, (0.17, 0.01, 0.55), atol=1e-6)
    rig.close()


def test_a_camera_without_a_place_or_on_another_link_is_refused(world: World) -> None:
    with pytest.raises(ConfigError, match="its place is not calibrated"):
        world.stand_cameras({"fixed": CameraCalibration(camera="fixed", lens=LENS)})
    wrong = calibration("wrist").model_copy(update={"camera": "fixed"})
    with pytest.raises(ConfigError, match="was calibrated on the link 'hand'"):
        world.stand_cameras({"fixed": wrong})
