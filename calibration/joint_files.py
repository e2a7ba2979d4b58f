"""A joint calibration on disk: our YAML, what stands in the robot's file, and LeRobot's JSON.

LeRobot keeps {joint: {id, drive_mode, homing_offset, range_min, range_max}} (its `MotorCalibration`): homing offsets as
the servo's register holds them, ranges in the counts that the servo shows with that offset.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from calibration.errors import CalibrationError
from calibration.files import edit_robot
from calibration.joints import PER_RADIAN, FoundJoint
from drivers.config import ArmConfig

FILE_LIMIT = 1_000_000  # bytes


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class JointRecord(_Model):
    """One joint as it was found; counts are those that the servo shows with its homing offset."""

    id: int = Field(ge=0, le=252)
    homing_offset: int
    zero: int  # at angle 0
    low: int  # at the ends of its travel
    high: int
    source: Literal["stops", "centre", "lerobot"]  # what the zero was taken from
    disagreement_deg: float = 0.0  # between stops and centre pose
    drive_mode: int = 0  # LeRobot's, kept for its export


class JointCalibration(_Model):
    """The file."""

    version: Literal[1] = 1
    kind: Literal["joints"] = "joints"
    date: str
    method: str
    joints: dict[str, JointRecord]


METHOD = "sweep from stop to stop, then the centre pose"


def as_calibration(found: Sequence[FoundJoint], *, date: str) -> JointCalibration:
    """What a sweep found, as it is stored."""
    return JointCalibration(
        date=date,
        method=METHOD,
        joints={
            joint.name: JointRecord(
                id=joint.id,
                homing_offset=joint.offset,
                zero=joint.zero,
                low=joint.low,
                high=joint.high,
                source=joint.source,
                disagreement_deg=round(float(joint.disagreement) * 57.29578, 3),
            )
            for joint in found
        },
    )


def load_joint_calibration(path: Path) -> JointCalibration:
    """Raises `CalibrationError`."""
    try:
        content = yaml.safe_load(_text(path))
        return JointCalibration.model_validate(content)
    except (yaml.YAMLError, RecursionError) as error:
        raise CalibrationError(f"{path}: not YAML ({' '.join(str(error).split())})") from error
    except ValidationError as error:
        raise CalibrationError(f"{path}: {_first(error)}; make it anew with `gato-arm calibrate joints`") from error


def differences(stored: JointCalibration, offsets: Mapping[str, int]) -> dict[str, tuple[int, int]]:
    """Joints whose servo does not hold the stored homing offset: stored, and in the servo."""
    return {
        name: (record.homing_offset, offsets[name])
        for name, record in stored.joints.items()
        if name in offsets and offsets[name] != record.homing_offset
    }


def set_zeros(robot: Path, calibration: JointCalibration, file: Path) -> None:
    """Write each joint's `zero` into a robot's YAML, and the name of the calibration's file; the rest stays."""

    def change(content: Any) -> None:
        for joint in content["arm"]["joints"]:
            joint["zero"] = calibration.joints[joint["name"]].zero
        content["arm"]["calibration"] = file.name

    edit_robot(robot, change)


def export_lerobot(path: Path, calibration: JointCalibration) -> None:
    """LeRobot's JSON."""
    content = {
        name: {
            "id": record.id,
            "drive_mode": record.drive_mode,
            "homing_offset": record.homing_offset,
            "range_min": record.low,
            "range_max": record.high,
        }
        for name, record in calibration.joints.items()
    }
    path.write_text(json.dumps(content, indent=4) + "\n", encoding="utf-8")


class _LeRobotJoint(_Model):
    id: int
    drive_mode: int = Field(ge=0, le=1)
    homing_offset: int
    range_min: int
    range_max: int


def import_lerobot(path: Path, arm: ArmConfig, *, date: str) -> JointCalibration:
    """LeRobot's JSON for this arm: the middle of its range is the middle of the joint's limits.

    Raises `CalibrationError` for a file that is none, for other joints or ids than the arm's, and for an empty range.
    """
    try:
        content = json.loads(_text(path))
        entries = {name: _LeRobotJoint.model_validate(entry) for name, entry in content.items()}
    except (ValueError, AttributeError, RecursionError) as error:
        reason = _first(error) if isinstance(error, ValidationError) else " ".join(str(error).split())
        raise CalibrationError(f"{path}: no calibration of LeRobot's: {reason}") from error
    names = [joint.name for joint in arm.joints]
    if sorted(entries) != sorted(names):
        raise CalibrationError(f"{path}: is for the joints {', '.join(entries)}, this arm has {', '.join(names)}")
    records = {}
    for joint in arm.joints:
        entry = entries[joint.name]
        if entry.id != joint.id:
            raise CalibrationError(f"{path}: {joint.name} has id {entry.id} there and {joint.id} in the robot's file")
        if not entry.range_min < entry.range_max:
            raise CalibrationError(f"{path}: {joint.name}: range {entry.range_min} to {entry.range_max} is empty")
        middle = (entry.range_min + entry.range_max) / 2
        records[joint.name] = JointRecord(
            id=joint.id,
            homing_offset=entry.homing_offset,
            zero=round(middle - joint.direction * (joint.minimum + joint.maximum) / 2 * PER_RADIAN),
            low=entry.range_min,
            high=entry.range_max,
            source="lerobot",
            drive_mode=entry.drive_mode,
        )
    return JointCalibration(date=date, method=f"imported from LeRobot's {path.name}", joints=records)


def _text(path: Path) -> str:
    try:
        if path.stat().st_size > FILE_LIMIT:
            raise CalibrationError(f"{path}: too large for a calibration")
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CalibrationError(f"{path}: cannot be read as text ({error})") from error


def _first(error: ValidationError) -> str:
    detail = error.errors(include_url=False)[0]
    return f"{'.'.join(map(str, detail['loc']))}: {detail['msg']}"
