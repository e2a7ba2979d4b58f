"""`gato-arm calibrate joints`: sweep every joint, show the centre pose, write the servos' offsets, see that it is so.

Torque is off while a person moves the arm. Nothing is written before everything is known, and nothing that is stored is
replaced before it was shown. How a zero follows from a sweep is calibration/joints.py.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

import numpy as np
from rich.table import Table

from calibration.errors import CalibrationError
from calibration.files import write_calibration
from calibration.joint_files import (
    JointCalibration,
    as_calibration,
    differences,
    load_joint_calibration,
    set_zeros,
)
from calibration.joints import DYNAMIXEL, DYNAMIXEL_EXTENDED, FEETECH, PER_RADIAN, OffsetRule, Sweep, find_joint
from drivers.config import ArmConfig, JointConfig, RobotConfig
from runtime.calibrate_operator import Operator
from runtime.clock import Clock
from runtime.loop import Servo
from runtime.stage import go_to

POSITION_MODE = 3  # of Dynamixel servos: one turn
NUDGE = 0.12  # rad that each joint is moved to see that it obeys
NUDGE_TOLERANCE = 0.04  # rad: a loaded joint sags
PERIOD = 50_000_000  # ns between targets


class Line(Protocol):
    """The part of `drivers.servo_line.ServoLine` that is needed."""

    def read(self, id: int, register: str) -> int: ...
    def write(self, id: int, register: str, value: int) -> None: ...


def rule_of(arm: ArmConfig, line: Line, joint: JointConfig) -> OffsetRule:
    """How the homing offset of a joint's servo works."""
    if arm.driver != "dynamixel":
        return FEETECH
    return DYNAMIXEL if line.read(joint.id, "operating_mode") == POSITION_MODE else DYNAMIXEL_EXTENDED


def read_offsets(arm: ArmConfig, line: Line) -> dict[str, int]:
    """The homing offset that each joint's servo holds."""
    return {joint.name: line.read(joint.id, "homing_offset") for joint in arm.joints}


def sweep_and_centre(arm: ArmConfig, line: Line, operator: Operator, *, date: str) -> JointCalibration:
    """Let the operator sweep every joint, then show the centre pose; torque off throughout. Writes nothing.

    Raises `CalibrationError` with the reason when a joint cannot be calibrated from what was shown.
    """
    if any(joint.shadow is not None for joint in arm.joints):
        raise CalibrationError("two servos on one joint are not calibrated here; set their offsets by hand")
    release(arm, line)
    offsets = read_offsets(arm, line)
    rules = {joint.name: rule_of(arm, line, joint) for joint in arm.joints}
    sweeps = {joint.name: Sweep(joint.name) for joint in arm.joints}

    def look() -> Table:
        for joint in arm.joints:
            sweeps[joint.name].add(line.read(joint.id, "present_position"))
        return ranges(arm, sweeps)

    operator.watch(
        "sweep", "Torque is off: hold the arm. Move every joint slowly from one stop to the other and back.", look
    )
    operator.watch(
        "centre",
        "Now hold it in its centre pose (docs/calibration.md): upper arm upright, forearm level and straight ahead, "
        "hand in line with it, gripper closed.",
        look,
    )
    found = [find_joint(joint, sweeps[joint.name], offsets[joint.name], rules[joint.name]) for joint in arm.joints]
    return as_calibration(found, date=date)


def release(arm: ArmConfig, line: Line) -> None:
    """Torque off at every joint, read back."""
    for joint in arm.joints:
        line.write(joint.id, "torque_enable", 0)


def ranges(arm: ArmConfig, sweeps: Mapping[str, Sweep]) -> Table:
    """Live: how far each joint was moved, and how far it has to be."""
    table = Table("joint", "now", "travel", "of", "encoder", "")
    for joint in arm.joints:
        sweep, expected = sweeps[joint.name], joint.maximum - joint.minimum
        done = sweep.travel >= expected - math.radians(4)
        table.add_row(
            joint.name,
            f"{sweep.here % 4096}",
            f"{math.degrees(sweep.travel):.0f}°",
            f"{math.degrees(expected):.0f}°",
            "begins anew inside" if sweep.seams else "",
            "done" if done else "go on",
        )
    return table


def write_servos(arm: ArmConfig, line: Line, calibration: JointCalibration) -> None:
    """Homing offsets and position limits into the servos' EEPROM, each read back. Torque must be off.

    A servo's own limits follow the offset: those of before would cut off what is now elsewhere.
    """
    for joint in arm.joints:
        record = calibration.joints[joint.name]
        line.write(joint.id, "homing_offset", record.homing_offset)
        if arm.driver != "dynamixel" or line.read(joint.id, "operating_mode") == POSITION_MODE:
            line.write(joint.id, "min_position", max(0, min(record.low, record.high)))
            line.write(joint.id, "max_position", min(4095, max(record.low, record.high)))


def check_stored(
    path: Path, arm: ArmConfig, line: Line, operator: Operator, new: JointCalibration | None = None
) -> bool:
    """Show a stored calibration beside the servos (and a new one); may it be replaced? True when there is none."""
    if not path.exists():
        return True
    stored, offsets = load_joint_calibration(path), read_offsets(arm, line)
    off = differences(stored, offsets)
    if new is None and not off:
        return True
    operator.say(f"{path} holds a calibration of {stored.date} ({stored.method}):")
    operator.say(f"{'joint':16}{'stored':>8}{'servo':>8}{'new':>8}   (homing offsets, counts)")
    for joint in arm.joints:
        record, found = stored.joints.get(joint.name), None if new is None else new.joints[joint.name]
        held = "-" if record is None else str(record.homing_offset)
        fresh = "" if found is None else str(found.homing_offset)
        note = "   servo and file disagree" if joint.name in off else ""
        operator.say(f"{joint.name:16}{held:>8}{offsets[joint.name]:>8}{fresh:>8}{note}")
    return operator.confirm("Replace the stored calibration?" if new else "They disagree. Calibrate anew?")


def store(robot_file: Path | None, path: Path, calibration: JointCalibration, operator: Operator) -> None:
    """Write the file, and each joint's zero into the robot's own YAML if there is one."""
    write_calibration(path, calibration)
    operator.say(f"written   {path}")
    if robot_file is None:
        zeros = ", ".join(f"{name} {record.zero}" for name, record in calibration.joints.items())
        operator.say(f"set `zero` of each joint in your robot's file: {zeros}")
        return
    set_zeros(robot_file, calibration, path)
    operator.say(f"zeros in  {robot_file}")


def calibrated(config: RobotConfig, calibration: JointCalibration) -> RobotConfig:
    """The robot with the zeros that were found."""
    joints = [joint.model_copy(update={"zero": calibration.joints[joint.name].zero}) for joint in config.arm.joints]
    return config.model_copy(update={"arm": config.arm.model_copy(update={"joints": joints})})


def verify(servo: Servo, arm: ArmConfig, clock: Clock, say: Callable[[str], None]) -> dict[str, float]:
    """Move each joint a little towards its middle and back, through the safety filter; how far each was off (rad).

    Raises `CalibrationError` for a joint that did not go where it was told.
    """
    off = {}
    middle = (servo.spec.position_min + servo.spec.position_max) / 2
    start = np.array(servo.state().positions)
    for index, joint in enumerate(arm.joints):
        before = np.array(servo.state().positions)
        target = start.copy()
        target[index] += math.copysign(NUDGE, middle[index] - start[index])
        go_to(servo, target, clock, PERIOD)
        moved = float(servo.state().positions[index] - before[index])
        off[joint.name] = abs(moved - (target[index] - start[index]))
        go_to(servo, start, clock, PERIOD)
        if off[joint.name] > NUDGE_TOLERANCE:
            raise CalibrationError(
                f"{joint.name}: told to turn by {math.degrees(target[index] - start[index]):.1f} degrees it turned by "
                f"{math.degrees(moved):.1f}; see that nothing blocks it, and calibrate again"
            )
        say(f"verified  {joint.name}: off by {math.degrees(off[joint.name]):.2f} degrees after a small move")
    return off


def summary(calibration: JointCalibration) -> list[str]:
    """What was found, a line for each joint."""
    lines = [f"{'joint':16}{'offset':>8}{'zero':>7}{'travel':>9}  zero from"]
    for name, record in calibration.joints.items():
        travel = math.degrees((record.high - record.low) / PER_RADIAN)
        note = f" (centre pose {record.disagreement_deg:+.1f}°)" if record.source == "stops" else ""
        lines.append(f"{name:16}{record.homing_offset:>8}{record.zero:>7}{travel:>8.1f}°  {record.source}{note}")
    return lines
