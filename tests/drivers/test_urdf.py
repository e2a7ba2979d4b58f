"""Which joints of a URDF an arm drives: by name, by mimicry, and every mistake as one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from drivers.config import ConfigError
from drivers.urdf import DrivenJoint, driven_joints

HAND = """<robot name="hand">
  <joint name="roll" type="revolute"/>
  <joint name="bolt" type="fixed"/>
  <joint name="left" type="prismatic"><mimic joint="gripper" multiplier="0.02" offset="0.001"/></joint>
  <joint name="right" type="prismatic"><mimic joint="gripper"/></joint>
</robot>"""


def write(folder: Path, text: str) -> Path:
    path = folder / "hand.urdf"
    path.write_text(text)
    return path


def mistake(urdf: Path, names: tuple[str, ...]) -> str:
    with pytest.raises(ConfigError) as caught:
        driven_joints(urdf, names)
    message = str(caught.value)
    assert message.startswith(str(urdf)) and "\n" not in message
    return message


def test_joints_are_driven_by_name_or_by_mimicry_also_of_a_servo_that_is_no_joint(tmp_path: Path) -> None:
    assert driven_joints(write(tmp_path, HAND), ("gripper", "roll")) == (
        DrivenJoint("roll", 1),
        DrivenJoint("left", 0, 0.02, 0.001, prismatic=True),
        DrivenJoint("right", 0, 1.0, 0.0, prismatic=True),
    )


def test_a_joint_that_nothing_drives_is_named_with_a_way_out(tmp_path: Path) -> None:
    message = mistake(write(tmp_path, HAND), ("gripper",))
    assert "'roll'" in message and "mimics none of gripper" in message and "fixed" in message


def test_a_joint_that_the_file_lacks_is_named(tmp_path: Path) -> None:
    assert "no joint 'elbow'" in mistake(write(tmp_path, HAND), ("gripper", "roll", "elbow"))


@pytest.mark.parametrize("text", ["", "<robot>", "joints: []"])
def test_what_is_no_urdf_is_refused(tmp_path: Path, text: str) -> None:
    assert "not a URDF" in mistake(write(tmp_path, text), ("roll",))


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    assert "not a URDF" in mistake(tmp_path / "none.urdf", ("roll",))


def test_a_multiplier_that_is_no_number_is_refused(tmp_path: Path) -> None:
    wrong = HAND.replace("0.02", "two")
    assert "'left': mimic: could not convert string to float: 'two'" in mistake(
        write(tmp_path, wrong), ("gripper", "roll")
    )
