"""The servo process for real: spawned, killed, orphaned. Times are checked against what it wrote down, loosely."""

from __future__ import annotations

import functools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path

import numpy as np
import pytest

from drivers.arm import ArmError, Array
from runtime.clock import SECOND
from runtime.servo import Target
from runtime.servo_process import ServoProcess
from runtime.supervisor import RefusedError, State
from tests.runtime.fake_arm import SPEC, START, AbsentArm, LoggingArm

ROOT = Path(__file__).parents[2]
FAR = START + np.array([1.5, -1.0, 1.0])
PATIENCE = 10.0  # s


def wait_for(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def entries(log: Path) -> list[tuple[int, str, Array]]:
    """What a `LoggingArm` did: stamp, call, positions."""
    rows = [line.split() for line in log.read_text().splitlines()]
    return [(int(row[0]), row[1], np.array(row[2:], dtype=float)) for row in rows]


def assert_holds_at_the_end(log: Path) -> None:
    """Every write within the acceleration limit of the ones before, the last ones at rest."""
    path = np.array([START, START] + [positions for _, what, positions in entries(log) if what == "write"])
    velocities = np.diff(path, axis=0) / 0.01
    assert (np.abs(np.diff(velocities, axis=0)) / 0.01 <= SPEC.acceleration_max + 1e-6).all()
    assert np.abs(velocities).max() > 0.5
    assert not velocities[-5:].any()


def memory_exists(name: str) -> bool:
    try:
        os.stat(f"/dev/shm/{name}")
    except FileNotFoundError:
        return False
    return True


def run_targets(servo: ServoProcess, steps: int) -> None:
    for _ in range(steps):
        servo.send_target(Target(time.monotonic_ns(), FAR))
        time.sleep(0.03)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "arm.log"


@pytest.fixture
def servo(log: Path) -> Iterator[ServoProcess]:
    servo = ServoProcess(functools.partial(LoggingArm, log), SPEC)
    servo.open()
    yield servo
    servo.stop()


def test_start_move_hold_release(servo: ServoProcess, log: Path) -> None:
    assert servo.state().state is State.IDLE
    servo.start()
    assert servo.state().state is State.HOLDING
    np.testing.assert_array_equal(servo.state().command, START)
    run_targets(servo, 6)
    state = servo.state()
    assert state.state is State.RUNNING
    assert state.command[0] > START[0]
    assert state.counters.targets >= 3
    assert state.split.read > 0
    servo.hold()
    assert servo.state().state is State.HOLDING
    report = servo.stop()
    assert report is not None
    assert report.released == SPEC.joint_names
    assert servo.stop() is None
    calls = [what for _, what, _ in entries(log)]
    assert calls[0] == "hold"
    assert calls[-2:] == ["release", "close"]
    with pytest.raises(ArmError, match="not running"):
        servo.state()


def test_a_silent_policy_is_a_latched_fault_that_a_reset_leaves(servo: ServoProcess, log: Path) -> None:
    servo.start()
    run_targets(servo, 4)
    wait_for(lambda: servo.state().state is State.FAULT)
    assert "target stale" in (servo.state().fault or "")
    time.sleep(0.1)
    assert_holds_at_the_end(log)
    with pytest.raises(RefusedError, match="target stale"):
        servo.start()
    assert len(servo.fault_record()) > 0
    servo.reset()
    servo.start()
    wait_for(lambda: servo.state().state is State.HOLDING)


def test_targets_from_before_the_start_move_nothing(servo: ServoProcess) -> None:
    servo.send_target(Target(time.monotonic_ns(), FAR))
    servo.start()
    time.sleep(0.1)
    assert servo.state().state is State.HOLDING
    np.testing.assert_array_equal(servo.state().command, START)


def test_a_target_of_another_shape_is_refused(servo: ServoProcess) -> None:
    with pytest.raises(ValueError, match=r"\(2,\)"):
        servo.send_target(Target(time.monotonic_ns(), np.zeros(2)))


def test_sigint_is_the_policy_process_s_affair(servo: ServoProcess) -> None:
    assert servo.pid is not None
    os.kill(servo.pid, signal.SIGINT)
    servo.start()
    run_targets(servo, 3)
    assert servo.state().fault is None


def test_sigterm_decelerates_and_leaves_the_arm_held(servo: ServoProcess, log: Path) -> None:
    servo.start()
    run_targets(servo, 4)
    assert servo.pid is not None
    os.kill(servo.pid, signal.SIGTERM)
    wait_for(lambda: "ended" in (servo.state().fault or ""))
    calls = [what for _, what, _ in entries(log)]
    assert calls[-1] == "close"
    assert "release" not in calls
    path = [positions for _, what, positions in entries(log) if what == "write"]
    np.testing.assert_array_equal(path[-1], path[-2])


def test_a_killed_servo_process_is_a_fault_and_nothing_is_called_released(servo: ServoProcess) -> None:
    servo.start()
    assert servo.pid is not None
    os.kill(servo.pid, signal.SIGKILL)
    wait_for(lambda: servo.state().state is State.FAULT)
    assert "keep their last goal" in (servo.state().fault or "")
    servo.hold()
    with pytest.raises(ArmError):
        servo.start()
    report = servo.stop()
    assert report is not None
    assert report.still_energised == SPEC.joint_names


def test_an_arm_that_cannot_be_opened_says_so_and_leaves_nothing_behind() -> None:
    servo = ServoProcess(AbsentArm, SPEC)
    with pytest.raises(ArmError, match="no such port"):
        servo.open()
    assert servo.pid is None
    assert servo.stop() is None


def test_the_memory_goes_with_the_process(log: Path) -> None:
    with ServoProcess(functools.partial(LoggingArm, log), SPEC) as servo:
        assert servo._block is not None
        name = servo._block.name
        assert memory_exists(name)
    assert not memory_exists(name)
    with pytest.raises(FileNotFoundError):
        SharedMemory(name)


MOVING_PARENT = """
import functools, sys, time
from pathlib import Path
import cv2
import numpy as np
from runtime.servo import Target
from runtime.servo_process import ServoProcess
from tests.runtime.fake_arm import SPEC, START, LoggingArm

servo = ServoProcess(functools.partial(LoggingArm, Path(sys.argv[1])), SPEC, orphan_hold_s=0.3)
servo.open()
servo.start()
for step in range(1000):
    servo.send_target(Target(time.monotonic_ns(), START + np.array([1.5, -1.0, 1.0])))
    if step == 5:
        print(servo.pid, servo._block.name, flush=True)
    time.sleep(0.02)
"""


def test_sigkill_of_the_policy_process_in_motion(log: Path, tmp_path: Path) -> None:
    script = tmp_path / "parent.py"
    script.write_text(MOVING_PARENT)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen([sys.executable, script, log], stdout=subprocess.PIPE, text=True, env=environment) as parent:
        assert parent.stdout is not None
        name = parent.stdout.readline().split()[1]
        assert memory_exists(name)
        killed = time.monotonic_ns()
        parent.kill()
    wait_for(lambda: entries(log)[-1][1] == "close")
    wait_for(lambda: not memory_exists(name))
    assert_holds_at_the_end(log)
    done = entries(log)
    assert "release" not in [what for _, what, _ in done]
    assert done[-1][0] - killed >= 0.3 * SECOND
    held = done[-1][2]
    moving = [stamp for stamp, _, positions in done if not np.array_equal(positions, held)]
    assert moving[-1] - killed < 0.2 * SECOND


def test_the_servo_process_loads_no_vision_and_no_inference(tmp_path: Path) -> None:
    listing, script = tmp_path / "modules", tmp_path / "parent.py"
    script.write_text(
        "import functools, sys\n"
        "from pathlib import Path\n"
        "import cv2\n"
        "from runtime.servo_process import ServoProcess\n"
        "from tests.runtime.fake_arm import SPEC, ListingArm\n"
        "with ServoProcess(functools.partial(ListingArm, Path(sys.argv[1])), SPEC):\n"
        "    pass\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, script, listing], check=True, env=environment, timeout=60)
    loaded = {name.split(".")[0] for name in listing.read_text().split()}
    assert {"runtime", "drivers", "numpy"} <= loaded
    assert loaded.isdisjoint({"cv2", "torch", "onnx", "onnxruntime", "pybullet", "policies", "sim", "mcap"})
