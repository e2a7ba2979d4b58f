"""Joint calibrations on disk, ours and LeRobot's, and the robot's file around them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from calibration.errors import CalibrationError
from calibration.files import write_calibration
from calibration.joint_files import (
    JointCalibration,
    JointRecord,
    differences,
    export_lerobot,
    import_lerobot,
    load_joint_calibration,
    set_zeros,
)
from drivers.config import URDF_FOLDER, load_robot

ARM = load_robot("so101").arm
STORED = JointCalibration(
    date="2026-01-02",
    method="test",
    joints={
        joint.name: JointRecord(
            id=joint.id, homing_offset=100 * joint.id, zero=2040 + joint.id, low=900, high=3200, source="stops"
        )
        for joint in ARM.joints
    },
)


def test_the_file_is_read_back(tmp_path: Path) -> None:
    write_calibration(tmp_path / "j.yaml", STORED)
    assert load_joint_calibration(tmp_path / "j.yaml") == STORED


@pytest.mark.parametrize("text", ["[1", "kind: camera", "a: 1", ""])
def test_what_is_no_calibration_is_refused_in_one_line(text: str, tmp_path: Path) -> None:
    (tmp_path / "j.yaml").write_text(text)
    with pytest.raises(CalibrationError, match=r"j.yaml: ") as caught:
        load_joint_calibration(tmp_path / "j.yaml")
    assert "\n" not in str(caught.value)


def test_servos_that_differ_are_named() -> None:
    offsets = {name: record.homing_offset for name, record in STORED.joints.items()}
    assert differences(STORED, offsets) == {}
    assert differences(STORED, offsets | {"gripper": -5}) == {"gripper": (600, -5)}


def test_zeros_go_into_the_robots_file_and_nothing_else_changes(tmp_path: Path) -> None:
    robot = tmp_path / "my.yaml"
    text = (URDF_FOLDER.parent / "so101.yaml").read_text()
    robot.write_text(text)
    before = load_robot(str(robot))
    set_zeros(robot, STORED, tmp_path / "my.joints.yaml")
    after = load_robot(str(robot))
    assert [joint.zero for joint in after.arm.joints] == [2041, 2042, 2043, 2044, 2045, 2046]
    assert after.arm.calibration == str(tmp_path / "my.joints.yaml")
    plain = [joint.model_copy(update={"zero": 2048}) for joint in after.arm.joints]
    assert before.arm == after.arm.model_copy(update={"joints": plain, "calibration": None})
    assert all(line in robot.read_text() for line in text.splitlines() if line.startswith("#"))


def test_lerobots_file_and_back(tmp_path: Path) -> None:
    export_lerobot(tmp_path / "l.json", STORED)
    content = json.loads((tmp_path / "l.json").read_text())
    assert content["wrist_roll"] == {
        "id": 5, "drive_mode": 0, "homing_offset": 500, "range_min": 900, "range_max": 3200,
    }  # fmt: skip
    back = import_lerobot(tmp_path / "l.json", ARM, date="2026-02-03")
    assert {name: record.homing_offset for name, record in back.joints.items()} == {
        name: record.homing_offset for name, record in STORED.joints.items()
    }
    assert back.joints["elbow_flex"].zero == 2050  # the middle of its range: its limits are symmetric
    gripper = back.joints["gripper"]  # angles 0 to 1.75 rad
    assert gripper.zero == round(2050 - 0.875 * 4096 / 6.283185307)
    export_lerobot(tmp_path / "again.json", back)
    assert json.loads((tmp_path / "again.json").read_text()) == content


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda content: content.pop("gripper"), "is for the joints"),
        (lambda content: content["gripper"].update(id=9), "has id 9 there and 6"),
        (lambda content: content["gripper"].update(range_min=3200), "is empty"),
        (lambda content: content["gripper"].update(drive_mode=7), "drive_mode"),
        (lambda content: content.update(gripper=3), "no calibration of LeRobot's"),
    ],
)
def test_another_arms_calibration_is_refused(
    change: Callable[[dict[str, Any]], object], said: str, tmp_path: Path
) -> None:
    export_lerobot(tmp_path / "l.json", STORED)
    content = json.loads((tmp_path / "l.json").read_text())
    change(content)
    (tmp_path / "l.json").write_text(json.dumps(content))
    with pytest.raises(CalibrationError, match=said):
        import_lerobot(tmp_path / "l.json", ARM, date="x")


def test_text_that_is_no_json_is_refused(tmp_path: Path) -> None:
    (tmp_path / "l.json").write_text("{")
    with pytest.raises(CalibrationError, match="no calibration of LeRobot's"):
        import_lerobot(tmp_path / "l.json", ARM, date="x")
