"""Calibrations on disk, and the robot's YAML around them."""

from __future__ import annotations

from pathlib import Path

import pytest

from calibration.errors import CalibrationError
from calibration.files import edit_robot, name_camera_calibration, write_calibration
from drivers.camera_calibration import CameraCalibration, load_camera_calibration
from drivers.config import URDF_FOLDER, load_robot
from tests.drivers.test_camera_calibration import LENS, PLACE

ROBOTS = URDF_FOLDER.parent


def test_a_written_calibration_is_read_back(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    for place in (None, PLACE):
        calibration = CameraCalibration(camera="fixed", lens=LENS, place=place)
        write_calibration(path, calibration)
        assert load_camera_calibration(path) == calibration
    assert [file.name for file in tmp_path.iterdir()] == ["c.yaml"]


@pytest.mark.parametrize("name", ["so101", "koch", "emulated"])
def test_naming_a_calibration_changes_nothing_else_in_the_robots_file(name: str, tmp_path: Path) -> None:
    robot = tmp_path / "my.yaml"
    text = (ROBOTS / f"{name}.yaml").read_text()
    robot.write_text(text)
    before = load_robot(str(robot))
    name_camera_calibration(robot, "fixed", tmp_path / "my.fixed.yaml")
    after = load_robot(str(robot))
    assert after.cameras["fixed"].calibration == str(tmp_path / "my.fixed.yaml")
    assert (
        after.arm == before.arm and after.safety == before.safety and after.cameras["wrist"] == before.cameras["wrist"]
    )
    comments = [line[line.index("#") :] for line in text.splitlines() if "#" in line]
    written = robot.read_text()
    assert comments and all(comment in written for comment in comments)
    changed = set(written.splitlines()) - set(text.splitlines())
    assert len(changed) <= 8, changed  # long flow mappings may be folded anew


def test_a_file_that_is_no_yaml_is_refused_and_stays(tmp_path: Path) -> None:
    robot = tmp_path / "my.yaml"
    robot.write_text("cameras: {fixed: [")
    with pytest.raises(CalibrationError, match="not YAML"):
        edit_robot(robot, lambda content: None)
    assert robot.read_text() == "cameras: {fixed: ["
