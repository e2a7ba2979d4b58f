"""The calibration's file and the numbers that are taken from it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import yaml

from drivers.camera_calibration import (
    CameraCalibration,
    Lens,
    LensErrors,
    Place,
    PlaceErrors,
    calibration_of,
    load_camera_calibration,
    opengl_matrices,
)
from drivers.config import ConfigError, load_robot
from drivers.opencv_camera import fit

LENS = Lens(
    size=(480, 640), fx=610.5, fy=612.0, cx=322.25, cy=236.5, distortion=(0.1, -0.05, 0.001, -0.001, 0.0),
    date="2026-01-02", method="test", board="table",
    errors=LensErrors(held_out=0.1, fitted=0.09, focal_length=0.2, principal_point=0.3, views=20, corners=900),
)  # fmt: skip
PLACE = Place(
    carried_by="base", link="base", position=(0.5, 0.0, 0.4), orientation=(0.6, -0.8, 0.0, 0.0), date="2026-01-02",
    method="test", board="hand",
    errors=PlaceErrors(
        leave_one_out_mm=1, leave_one_out_deg=0.2, worst_mm=2, worst_deg=0.4, reprojection=0.3, poses=20
    ),
)  # fmt: skip


def test_the_file_is_read_back(tmp_path: Path) -> None:
    calibration = CameraCalibration(camera="fixed", lens=LENS, place=PLACE)
    path = tmp_path / "c.yaml"
    path.write_text(yaml.safe_dump(calibration.model_dump(mode="json")))
    assert load_camera_calibration(path) == calibration


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"version": 2}, "version"),
        ({"kind": "joints"}, "kind"),
        ({"lens": None}, "lens"),
        ({"colour": "red"}, "colour"),
        ({"place": PLACE.model_dump(mode="json") | {"orientation": [1, 1, 0, 0]}}, "no unit quaternion"),
    ],
)
def test_a_wrong_file_is_one_line(change: dict[str, object], said: str, tmp_path: Path) -> None:
    content = CameraCalibration(camera="fixed", lens=LENS, place=PLACE).model_dump(mode="json") | change
    path = tmp_path / "c.yaml"
    path.write_text(yaml.safe_dump(content))
    with pytest.raises(ConfigError, match=said) as caught:
        load_camera_calibration(path)
    assert "\n" not in str(caught.value)


def test_a_missing_file_says_how_it_is_made(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="make it with `gato-arm calibrate camera`"):
        load_camera_calibration(tmp_path / "c.yaml")
    (tmp_path / "c.yaml").write_text("[: no")
    with pytest.raises(ConfigError, match="cannot be read as YAML"):
        load_camera_calibration(tmp_path / "c.yaml")


def test_a_robots_file_names_it_beside_itself(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(
        yaml.safe_dump(CameraCalibration(camera="fixed", lens=LENS).model_dump(mode="json"))
    )
    robot = load_robot("emulated").model_dump(mode="json", exclude_none=True)
    robot["cameras"]["fixed"]["calibration"] = "c.yaml"
    (tmp_path / "r.yaml").write_text(yaml.safe_dump(robot))
    config = load_robot(str(tmp_path / "r.yaml"))
    found = calibration_of(config.cameras["fixed"])
    assert found is not None and found.lens == LENS
    assert calibration_of(config.cameras["wrist"]) is None


def test_the_pose_is_the_rotation_of_its_quaternion() -> None:
    pose = PLACE.pose
    np.testing.assert_allclose(pose[:3, :3] @ pose[:3, :3].T, np.eye(3), atol=1e-12)
    assert np.linalg.det(pose[:3, :3]) == pytest.approx(1)
    np.testing.assert_allclose(pose[:3, 3], PLACE.position)
    # Half a turn about (0.6, -0.8, 0): that axis stays.
    np.testing.assert_allclose(pose[:3, :3] @ [0.6, -0.8, 0], [0.6, -0.8, 0], atol=1e-12)


def test_a_fitted_lens_projects_to_the_pixel_of_the_fitted_picture() -> None:
    """A bright spot in the whole picture is found again where the fitted lens says."""
    small = LENS.fitted((64, 64))
    ray = np.array([0.11, -0.07, 1.0])
    u, v = (LENS.matrix @ ray)[:2]
    rows, columns = np.mgrid[:480, :640]
    spot = 255 * np.exp(-((rows - v) ** 2 + (columns - u) ** 2) / (2 * 12.0**2))
    image = fit(np.repeat(spot[:, :, None], 3, axis=2).astype(np.uint8), (64, 64))[:, :, 0].astype(float)
    expected = (small.matrix @ ray)[:2]
    found = [(image * grid).sum() / image.sum() for grid in (np.arange(64)[None, :], np.arange(64)[:, None])]
    np.testing.assert_allclose(found, expected, atol=0.05)


def test_opengl_sees_a_point_where_the_lens_does() -> None:
    view, projection = opengl_matrices(LENS, PLACE.pose, 0.01, 5.0)
    in_camera = np.array([0.12, -0.05, 0.7])
    in_base = PLACE.pose @ [*in_camera, 1]
    clip = projection @ view @ in_base
    x, y, z = clip[:3] / clip[3]
    pixel = (x + 1) / 2 * 640 - 0.5, (1 - y) / 2 * 480 - 0.5
    expected = LENS.matrix @ in_camera / in_camera[2]
    np.testing.assert_allclose(pixel, expected[:2], atol=1e-9)
    assert -1 < z < 1
