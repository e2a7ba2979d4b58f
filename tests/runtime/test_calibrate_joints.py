"""`gato-arm calibrate joints` on emulated servos: from any mounting to true zeros, nothing replaced unseen."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from calibration.errors import CalibrationError
from calibration.files import write_calibration
from calibration.joint_files import JointCalibration, load_joint_calibration
from calibration.rehearsal.arm import RehearsalArm, TrueArm
from drivers.config import URDF_FOLDER, load_robot
from drivers.feetech import FEETECH
from drivers.servo_arm import ServoArm
from runtime import calibrate_joints as steps
from runtime.calibrate_by_hand import HandOperator
from runtime.cli import main
from runtime.clock import SECOND, SimulatedClock
from runtime.loop import LockstepServo
from runtime.servo import ServoLoop, ServoSettings

ROBOT = load_robot("emulated")


@pytest.fixture(scope="module")
def arm() -> Iterator[RehearsalArm]:
    with RehearsalArm(TrueArm.at_random(ROBOT, np.random.default_rng(3))) as rehearsal:
        yield rehearsal


@pytest.fixture(scope="module")
def swept(arm: RehearsalArm) -> JointCalibration:
    return steps.sweep_and_centre(arm.robot.arm, arm.line, HandOperator(arm.hand()), date="2026-01-02")


def test_every_joint_is_recovered_and_obeys(arm: RehearsalArm, swept: JointCalibration) -> None:
    before = steps.read_offsets(arm.robot.arm, arm.line)
    assert before == dict(zip(swept.joints, arm.true.offsets, strict=True))  # nothing was written so far
    steps.write_servos(arm.robot.arm, arm.line, swept)
    offsets = steps.read_offsets(arm.robot.arm, arm.line)
    assert offsets == {name: record.homing_offset for name, record in swept.joints.items()}
    off = arm.errors({name: record.zero for name, record in swept.joints.items()}, offsets)
    assert np.degrees(np.abs(off)).max() < 0.5
    assert {record.source for record in swept.joints.values()} == {"stops"}

    config = steps.calibrated(arm.robot, swept)
    clock = SimulatedClock()
    servo_arm = ServoArm(config.arm.model_copy(update={"port": "x"}), FEETECH, open_port=arm.open_port)
    loop = ServoLoop(servo_arm, clock, ServoSettings.of_robot(config))

    def advance(seconds: float) -> None:
        arm.port.advance(seconds)
        clock.advance(round(seconds * SECOND))

    loop.connect()
    np.testing.assert_allclose(servo_arm.read().positions, arm.world.joint_positions(), atol=np.radians(0.5))
    servo = LockstepServo(loop, advance)
    said: list[str] = []
    verified = steps.verify(servo, config.arm, clock, said.append)
    assert max(verified.values()) < steps.NUDGE_TOLERANCE and len(said) == 6


def test_the_live_table_says_what_is_done(arm: RehearsalArm, swept: JointCalibration) -> None:
    from rich.console import Console

    from calibration.joints import Sweep

    sweeps = {joint.name: Sweep(joint.name) for joint in arm.robot.arm.joints}
    for count in (3000, 3900, 200, 1100, 1500):
        sweeps["shoulder_pan"].add(count)
    console = Console(width=100)
    with console.capture() as shown:
        console.print(steps.ranges(arm.robot.arm, sweeps))
    row = next(line for line in shown.get().splitlines() if "shoulder_pan" in line)
    assert "228°" in row and "220°" in row and "begins anew inside" in row and "done" in row
    assert "go on" in next(line for line in shown.get().splitlines() if "elbow_flex" in line)


def test_a_stored_calibration_that_disagrees_is_shown_side_by_side_and_kept(
    arm: RehearsalArm, swept: JointCalibration, tmp_path: Path
) -> None:
    path = tmp_path / "j.yaml"
    other = swept.joints["elbow_flex"].model_copy(update={"homing_offset": 77})
    stored = swept.model_copy(update={"joints": swept.joints | {"elbow_flex": other}, "date": "2025-12-31"})
    write_calibration(path, stored)
    said: list[str] = []
    refusing = HandOperator(arm.hand(), said.append, agrees=False)
    assert not steps.check_stored(path, arm.robot.arm, arm.line, refusing)
    row = next(line for line in said if line.startswith("elbow_flex"))
    assert "77" in row and str(steps.read_offsets(arm.robot.arm, arm.line)["elbow_flex"]) in row
    assert "servo and file disagree" in row and "2025-12-31" in said[0]
    assert not steps.check_stored(path, arm.robot.arm, arm.line, refusing, swept)
    assert load_joint_calibration(path) == stored
    assert steps.check_stored(tmp_path / "none.yaml", arm.robot.arm, arm.line, refusing)


def test_an_arm_whose_travel_is_blocked_is_refused() -> None:
    """A stop where none should be: the travel is too short, and the joint is named."""
    true = TrueArm.at_random(ROBOT, np.random.default_rng(4))
    high = np.array(true.high)
    high[2] -= 0.4
    blocked = TrueArm(true.zeros, true.offsets, true.low, high, true.unsteady)
    with (
        RehearsalArm(blocked) as arm,
        pytest.raises(CalibrationError, match=r"elbow_flex: swept 17. of the 194 degrees"),
    ):
        steps.sweep_and_centre(arm.robot.arm, arm.line, HandOperator(arm.hand()), date="x")


def test_the_verb_on_the_emulated_arm(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """LeRobot's file of an arm that is mounted as this one is: imported, written, verified in real time."""
    robot = tmp_path / "my.yaml"
    robot.write_text((URDF_FOLDER.parent / "emulated.yaml").read_text())
    zeros = np.random.default_rng(0).integers(0, 4096, 6).tolist()  # as the emulated arm of seed 0 is mounted
    theirs = {}
    for joint, zero in zip(ROBOT.arm.joints, zeros, strict=True):
        offset = int((zero - 2048 + 2048) % 4096 - 2048)
        low, high = (round(2048 + limit * 4096 / 6.283185307) for limit in (joint.minimum, joint.maximum))
        theirs[joint.name] = {
            "id": joint.id, "drive_mode": 0, "homing_offset": offset, "range_min": low, "range_max": high,
        }  # fmt: skip
    (tmp_path / "l.json").write_text(json.dumps(theirs))
    words = ["calibrate", "joints", "--robot", str(robot), "--import", str(tmp_path / "l.json"), "--date", "2026-05-06"]
    assert main([*words, "--export", str(tmp_path / "e.json"), "--json", str(tmp_path / "f.json")]) == 0
    said = capsys.readouterr().out
    assert said.count("verified ") == 6
    assert load_joint_calibration(tmp_path / "my.joints.yaml").date == "2026-05-06"
    assert all(abs(joint.zero - 2048) <= 1 for joint in load_robot(str(robot)).arm.joints)
    assert json.loads((tmp_path / "e.json").read_text()) == theirs
    assert max(json.loads((tmp_path / "f.json").read_text())["verified_off_rad"].values()) < steps.NUDGE_TOLERANCE
