"""A process is killed in mid-motion: what the emulated servos were told, and what is left.

The policy process of a real run, and the servo process, whose guardian then has the arm.
"""

from __future__ import annotations

import csv
import functools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from importlib import resources
from pathlib import Path

import numpy as np
import pytest
import yaml

from drivers.arm import ArmError
from drivers.config import RobotConfig, load_robot
from drivers.robot import open_arm
from runtime.course import Target
from runtime.recording import Recording
from runtime.servo_process import ServoProcess
from runtime.servo_state import ServoSettings
from runtime.supervisor import State
from sim.emulator import EmulatorProcess
from sim.so101 import SPEC

COUNT = 2 * np.pi / 4096  # rad
STOPPED_WITHIN = 0.2  # s


def goals(trace: Path) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Of each joint: stamps (s), goals (rad), torque."""
    with trace.open() as file:
        rows = [[int(value) for value in row] for row in list(csv.reader(file))[1:]]
    table = np.array(rows)
    joints = [table[table[:, 1] == joint] for joint in range(1, 7)]
    return [(rows[:, 0] / 1e9, rows[:, 2] * COUNT, rows[:, 3]) for rows in joints]


def moving(trace: Path, since: float) -> bool:
    if not trace.exists() or trace.stat().st_size < 200:
        return False
    try:
        speeds = [np.ptp(position[stamp > since]) for stamp, position, _ in goals(trace) if (stamp > since).any()]
    except (ValueError, IndexError):  # the last line is half written
        return False
    return len(speeds) == 6 and max(speeds[:5]) > 0.12


def patient_robot(folder: Path) -> Path:
    """The emulated arm for a machine that may be too busy: how the policy dies is looked at, not how fast it is."""
    text = resources.files("drivers").joinpath("robots/emulated.yaml").read_text()
    robot = yaml.safe_load(text)
    robot["safety"] |= {"deadline_misses_max": 10_000, "silence_max_s": 2.0}
    path = folder / "patient.yaml"
    path.write_text(yaml.safe_dump(robot))
    return path


def test_sigkill_of_the_policy_in_mid_motion_ends_in_a_decelerated_hold(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    options = ["--robot", str(patient_robot(tmp_path)), "--episodes", "3", "--seed", "7", "--record", str(folder)]
    command = [sys.executable, "-m", "runtime.cli", "run", *options]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    recording, trace = folder / "recording.mcap", folder / "servo_goals.csv"
    give_up = time.monotonic() + 60
    while not (
        recording.exists()
        and recording.stat().st_size > 30_000
        and moving(trace, time.monotonic() - 0.3)
        and Recording(recording).summary().steps > 12
    ):
        assert time.monotonic() < give_up and process.poll() is None
        time.sleep(0.02)
    killed = time.monotonic_ns() / 1e9
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    time.sleep(2.5)

    moved_after = 0.0
    for joint, (stamp, position, torque) in enumerate(goals(trace)):
        changes = stamp[1:][np.abs(np.diff(position)) > COUNT / 2]
        assert changes.max(initial=0.0) < killed + STOPPED_WITHIN
        moved_after = max(moved_after, changes.max(initial=0.0) - killed)
        assert (torque[stamp > killed] == 1).all(), "a held arm keeps its torque"
        late = stamp > killed - 0.3
        steps = np.diff(position[late])
        assert np.abs(steps).max() <= SPEC.velocity_max[joint] * 0.01 + 2 * COUNT
        assert np.abs(np.diff(steps)).max() <= SPEC.acceleration_max[joint] * 0.01**2 + 3 * COUNT
    assert moved_after > 0, "it was killed in motion: the last commands decelerate"

    left_over = Recording(recording)
    assert not left_over.complete
    assert left_over.summary().steps > 10

    end = time.monotonic() + 30
    while (left := running(folder)) and time.monotonic() < end:
        time.sleep(0.2)
    assert not left


def running(folder: Path) -> list[str]:
    """Command lines of processes that still know of this run."""
    lines = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            except OSError:
                continue
            if str(folder) in line:
                lines.append(line)
    return lines


@pytest.fixture
def emulator(tmp_path: Path) -> Iterator[EmulatorProcess]:
    with EmulatorProcess(trace=tmp_path / "goals.csv", seed=7) as emulator:
        yield emulator


@pytest.fixture
def config(emulator: EmulatorProcess) -> RobotConfig:
    return load_robot("emulated").with_devices(str(emulator.port), {})


@pytest.fixture
def servo(config: RobotConfig) -> Iterator[ServoProcess]:
    servo = ServoProcess(
        functools.partial(open_arm, config.arm), config.arm.spec(), settings=ServoSettings.of_robot(config)
    )
    servo.open()
    yield servo
    servo.stop()


def wave(servo: ServoProcess, seconds: float) -> None:
    """Turn the arm about its first axis for a while, and be in motion at the end."""
    servo.start()
    start, began = servo.state().command, time.monotonic()
    while (elapsed := time.monotonic() - began) < seconds:
        offset = np.zeros(SPEC.joints)
        offset[0] = 0.4 * np.sin(4 * elapsed)
        servo.send_target(Target(time.monotonic_ns(), start + offset))
        time.sleep(0.02)


def wait_for(condition: Callable[[], object], seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_sigkill_of_the_servo_process_ends_in_a_lowered_and_released_arm(
    emulator: EmulatorProcess, config: RobotConfig, servo: ServoProcess
) -> None:
    wave(servo, 1.2)
    assert servo.state().state is State.RUNNING and servo.pid is not None
    killed = time.monotonic_ns() / 1e9
    os.kill(servo.pid, signal.SIGKILL)
    wait_for(lambda: (servo.state().fault or "").endswith("the guardian holds the arm"))
    wait_for(lambda: "lowered and released" in (servo.state().fault or ""))
    rest = np.array(config.arm.rest)
    np.testing.assert_allclose(servo.state().positions, rest, atol=0.1)
    report = servo.stop()
    assert report is not None and report.released == SPEC.joint_names
    for stamp, position, torque in goals(emulator.trace()):
        later = stamp > killed
        steps = np.abs(np.diff(position[later]))
        assert (steps[1:] <= 0.3 * np.pi / 2 * 0.03 + 2 * COUNT).all(), "slowly, once it is held"
        assert torque[later][0] == 1


def test_a_second_program_on_the_same_port_is_refused_and_the_first_goes_on(
    config: RobotConfig, servo: ServoProcess
) -> None:
    wave(servo, 0.3)
    before = servo.state().counters
    other = ServoProcess(functools.partial(open_arm, config.arm), config.arm.spec())
    with pytest.raises(ArmError, match="in use by another process; stop that one first"):
        other.open()
    with pytest.raises(ArmError, match="in use by another process; stop that one first"):
        open_arm(config.arm).connect()
    servo.hold()
    servo.reset()
    wave(servo, 0.3)
    state = servo.state()
    assert state.state is State.RUNNING
    assert state.counters.ticks > before.ticks + 30
