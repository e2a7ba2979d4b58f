"""The doctor: what it finds on the emulated arms, on loose servos, and what it says of each thing that is wrong."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from drivers.arm import ArmError, JointState
from drivers.config import load_robot
from runtime import doctor, servo_scan
from runtime.commands.doctor import doctor as verb
from runtime.doctor import Diagnosis, diagnose
from runtime.picture import decode
from runtime.report import write_json
from sim.emulator import EmulatorProcess
from tests.runtime.fake_arm import FakeArm
from tests.runtime.servo_shelf import ServoShelf

BARE = (
    "name: bare\narm:\n  driver: feetech\n  port: {port}\n  joints:\n"
    "    - {{name: a, id: 1, minimum: -1, maximum: 1, velocity_max: 1, acceleration_max: 1}}\n"
    "    - {{name: b, id: 2, minimum: -1, maximum: 1, velocity_max: 1, acceleration_max: 1}}\n"
)


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    """A robot file with the joints a and b, on a port that is not there."""
    file = tmp_path / "robot.yaml"
    file.write_text(BARE.format(port="/dev/nothing"))
    return file


@pytest.fixture(scope="module", params=["emulated", "emulated_dynamixel"])
def emulated(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Diagnosis, Path]:
    pictures = tmp_path_factory.mktemp("pictures")
    return request.param, diagnose(request.param, pictures, reads=20, watch=0.5), pictures


def test_an_emulated_arm_is_looked_at_whole(emulated: tuple[str, Diagnosis, Path]) -> None:
    name, diagnosis, _ = emulated
    assert diagnosis.robot == name and diagnosis.scan is None
    assert [row["joint"] for row in diagnosis.joints] == list(load_robot(name).arm.spec().joint_names)
    assert [row["id"] for row in diagnosis.joints] == [1, 2, 3, 4, 5, 6]
    assert all(row["voltage"] > 4 and 0 < row["temperature_c"] < 90 for row in diagnosis.joints)
    assert all(row["firmware"] and row["errors"] == [] for row in diagnosis.joints)
    assert diagnosis.round_trip_ms is not None and 0 < diagnosis.round_trip_ms["p50"] <= diagnosis.round_trip_ms["p99"]
    assert diagnosis.own_time_ms is not None and diagnosis.own_time_ms["p50"] > 0
    assert diagnosis.own_time_of == "reading and command"
    assert diagnosis.counters["sent"] >= 2 * (20 - diagnosis.failed_reads)


def test_the_cameras_of_an_emulated_arm(emulated: tuple[str, Diagnosis, Path]) -> None:
    _, diagnosis, pictures = emulated
    assert [row["camera"] for row in diagnosis.cameras] == ["fixed", "wrist"]
    assert all(row["fps"] > 3 and row["repeats"] == 0 for row in diagnosis.cameras)
    assert all(row["mode"].startswith("64x64") for row in diagnosis.cameras)
    assert not any("frozen" in problem for problem in diagnosis.problems)
    for row in diagnosis.cameras:
        assert Path(row["snapshot"]) == pictures / f"{row['camera']}.png"
        assert decode(Path(row["snapshot"]).read_bytes()).shape == (64, 64, 3)


def test_a_diagnosis_is_json(emulated: tuple[str, Diagnosis, Path], tmp_path: Path) -> None:
    write_json(tmp_path / "d.json", emulated[1].to_json())
    assert json.loads((tmp_path / "d.json").read_text())["robot"] == emulated[0]


def test_the_simulated_arm_is_looked_at_too() -> None:
    diagnosis = diagnose("simulated", reads=5, watch=0.2)
    assert len(diagnosis.joints) == 6 and diagnosis.own_time_of == "reading"
    assert diagnosis.problems == []


def test_nothing_connected_is_said_line_by_line(bare: Path) -> None:
    bare.write_text(bare.read_text() + "cameras:\n  fixed: {driver: opencv, source: nothing.mp4, size: [64, 64]}\n")
    diagnosis = diagnose(str(bare))
    assert len(diagnosis.problems) == 2
    assert "/dev/nothing" in diagnosis.problems[0] and "camera fixed" in diagnosis.problems[1]


def test_an_unplugged_adapter_is_said(bare: Path) -> None:
    bare.write_text(bare.read_text().replace("port: /dev/nothing", "usb_serial: A1B2"))
    assert "A1B2" in " ".join(diagnose(str(bare)).problems)


@pytest.fixture(scope="module")
def emulator() -> Iterator[EmulatorProcess]:
    with EmulatorProcess() as process:
        yield process


def test_a_port_stands_for_that_of_the_file(bare: Path, emulator: EmulatorProcess) -> None:
    bare.write_text(bare.read_text() + "cameras:\n  fixed: {driver: opencv, source: nothing.mp4, size: [64, 64]}\n")
    diagnosis = diagnose(str(bare), port=str(emulator.port), reads=5)
    assert [row["joint"] for row in diagnosis.joints] == ["a", "b"]
    assert diagnosis.own_time_of == "reading"
    assert any("camera fixed" in problem for problem in diagnosis.problems)


def test_an_emulated_robot_on_a_port_is_looked_at_without_its_cameras(emulator: EmulatorProcess) -> None:
    diagnosis = diagnose("emulated", port=str(emulator.port), reads=5)
    assert len(diagnosis.joints) == 6 and diagnosis.cameras == []
    assert diagnosis.own_time_of == "reading"  # what is on that port may be real
    assert any("cameras are left out" in note for note in diagnosis.notes)


def test_a_dead_servo_and_a_hot_one_are_named(emulator: EmulatorProcess) -> None:
    emulator.fault("overheat", ids=[2])
    try:
        hot = diagnose("emulated", port=str(emulator.port), reads=5)
    finally:
        emulator.clear()
    assert any(problem.startswith("shoulder_lift: ") for problem in hot.problems)
    assert hot.joints[1]["errors"]
    emulator.fault("silent", ids=[3])
    try:
        dead = diagnose("emulated", port=str(emulator.port), reads=5)
    finally:
        emulator.clear()
    assert any("elbow_flex" in problem for problem in dead.problems)


@pytest.fixture
def shelf(monkeypatch: pytest.MonkeyPatch, bare: Path) -> ServoShelf:
    """Servos 1 at the right baud rate, 2 at another, 9 too many; the file's port is "shelf"."""
    shelf = ServoShelf("feetech", [(1, 1_000_000), (2, 115_200), (9, 1_000_000)])

    def made(protocol: Any, port: str, baudrate: int, *, deadline: float) -> Any:
        return shelf.open_line(protocol, port, baudrate)

    monkeypatch.setattr(servo_scan, "ServoLine", made)
    bare.write_text(BARE.format(port="shelf"))
    return shelf


@pytest.mark.usefixtures("shelf")
def test_a_scan_compares_what_answers_with_the_file(bare: Path) -> None:
    steps: list[tuple[int, int]] = []
    diagnosis = diagnose(str(bare), search=True, on_progress=lambda *step: steps.append(step))
    assert diagnosis.scan is not None
    assert [(row["id"], row["baudrate"]) for row in diagnosis.scan] == [(1, 1_000_000), (9, 1_000_000), (2, 115_200)]
    assert steps[-1] == (8, 8)
    assert [note for note in diagnosis.notes if "id 9" in note and "no joint of bare" in note]
    wrong = [problem for problem in diagnosis.problems if problem.startswith("b: ")]
    assert len(wrong) == 1
    assert "id 2 at 115200 baud" in wrong[0]
    assert wrong[0].endswith("gato-arm setup-servo --port shelf --protocol feetech --id 2 --baudrate 1000000")
    assert not any(problem.startswith("a: ") for problem in diagnosis.problems)


def test_a_scan_knows_a_shadow(bare: Path, shelf: ServoShelf) -> None:
    bare.write_text(bare.read_text().replace("id: 1,", "id: 1, shadow: 9,"))
    diagnosis = diagnose(str(bare), search=True)
    assert not any("id 9" in note for note in diagnosis.notes)


def test_an_arm_without_servos_cannot_be_scanned() -> None:
    diagnosis = diagnose("simulated", search=True, reads=2, watch=0.1)
    assert diagnosis.scan is None and any("'simulated' is no servo protocol" in text for text in diagnosis.problems)


@pytest.fixture
def arm(bare: Path, monkeypatch: pytest.MonkeyPatch) -> FakeArm:
    """The arm that the file `bare` stands for, healthy until a test makes it ill: joints pan, lift and gripper."""
    arm = FakeArm()
    monkeypatch.setattr(doctor, "open_arm", lambda config: arm)
    joints = "".join(
        f"    - {{name: {name}, id: {i}, minimum: 0, maximum: 1, velocity_max: 1, acceleration_max: 1}}\n"
        for i, name in enumerate(arm.spec.joint_names, 1)
    )
    bare.write_text(f"name: bare\narm:\n  driver: fake\n  port: here\n  joints:\n{joints}")
    return arm


def test_a_real_arm_is_neither_energised_nor_commanded(bare: Path, arm: FakeArm) -> None:
    diagnosis = diagnose(str(bare), reads=5)
    assert diagnosis.problems == [] and len(diagnosis.joints) == 3
    assert not arm.torque and arm.written == [] and not arm.connected
    assert diagnosis.own_time_of == "reading"


def test_failed_reads_are_counted_and_said_once(bare: Path, arm: FakeArm) -> None:
    arm.broken_reads = 3
    diagnosis = diagnose(str(bare), reads=10)
    assert diagnosis.failed_reads == 3 and diagnosis.problems == ["no answer from lift"]


def test_an_arm_that_is_never_read_has_no_joints(bare: Path, arm: FakeArm) -> None:
    arm.broken_reads = 10
    diagnosis = diagnose(str(bare), reads=10)
    assert diagnosis.joints == [] and diagnosis.round_trip_ms is None and diagnosis.own_time_ms is None
    assert diagnosis.problems == ["no answer from lift"]


def test_what_is_beyond_the_files_limits_is_said(bare: Path, arm: FakeArm) -> None:
    bare.write_text(bare.read_text() + "safety: {voltage_min: 7, voltage_max: 8, temperature_max_c: 60}\n")
    arm.voltages[:] = 6.9, 7.5, 8.1
    arm.temperatures_c[:] = 60, 61, 30
    problems = diagnose(str(bare), reads=2).problems
    assert [problem.split(";")[0] for problem in problems] == [
        "pan: 6.9 V, below 7",
        "lift: 61 C, above 60",
        "gripper: 8.1 V, above 8",
    ]


def test_voltages_without_limits_are_the_servos_own_matter(bare: Path, arm: FakeArm) -> None:
    arm.voltages[:] = 1, 50, 7
    assert diagnose(str(bare), reads=2).problems == []


def test_errors_stand_with_their_joint(bare: Path, arm: FakeArm) -> None:
    arm.errors = ("lift: overload",)
    diagnosis = diagnose(str(bare), reads=2)
    assert diagnosis.problems == ["lift: overload"]
    assert [row["errors"] for row in diagnosis.joints] == [[], ["lift: overload"], []]


def test_replies_that_go_missing_are_counted_for_each_servo(bare: Path, arm: FakeArm) -> None:
    bare.write_text(bare.read_text().replace("id: 3,", "id: 3, shadow: 7,"))
    arm.counters.missing = {1: 50}  # while the servos were looked for
    read = arm.read

    def lossy() -> JointState:
        arm.counters.missing[2] = arm.counters.missing.get(2, 0) + 1
        arm.counters.missing[7] = 2
        return read()

    arm.read = lossy
    diagnosis = diagnose(str(bare), reads=100)
    assert [row["missing"] for row in diagnosis.joints] == [0, 100, 2]
    assert diagnosis.problems == ["lift (id 2): 100 replies of 100 missing; check the cables before it"]


def test_an_arm_that_answers_slowly_is_said(bare: Path, arm: FakeArm) -> None:
    read = arm.read

    def slow() -> JointState:
        time.sleep(0.006)
        return read()

    arm.read = slow
    problems = diagnose(str(bare), reads=3).problems
    assert len(problems) == 1 and "more than 5" in problems[0]


def test_the_latency_timer_of_the_arms_port_is_a_problem(bare: Path, arm: FakeArm, tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "latency_timer").write_text("16\n")
    problems = diagnose(str(bare), reads=2, sysfs=tmp_path).problems
    assert len(problems) == 1 and "16 ms" in problems[0] and "udev" in problems[0]
    assert diagnose(str(bare), port="elsewhere", reads=2, sysfs=tmp_path).problems == []


def test_a_driver_that_knows_its_firmware_is_asked(bare: Path, arm: FakeArm, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arm, "firmware", lambda: {"lift": "3.10"}, raising=False)
    assert [row["firmware"] for row in diagnose(str(bare), reads=2).joints] == ["", "3.10", ""]

    def silent() -> dict[str, str]:
        raise ArmError("no answer from pan")

    monkeypatch.setattr(arm, "firmware", silent)
    assert diagnose(str(bare), reads=2).problems == ["no answer from pan"]


def test_the_verb_shows_writes_and_says_by_its_exit_code(
    bare: Path, arm: FakeArm, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert verb(str(bare), json=tmp_path / "d.json") == 0
    assert "no problems found" in capsys.readouterr().out
    assert json.loads((tmp_path / "d.json").read_text())["problems"] == []
    arm.errors = ("lift: overload",)
    assert verb(str(bare)) == 3
    assert "problem: lift: overload" in capsys.readouterr().out
