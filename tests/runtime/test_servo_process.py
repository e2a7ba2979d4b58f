"""The servo process for real: spawned, killed, orphaned. Times are checked against what it wrote down, loosely."""

from __future__ import annotations

import functools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path

import numpy as np
import pytest

from drivers.arm import ArmError, Array
from drivers.config import SafetyConfig
from runtime.clock import SECOND
from runtime.servo import ServoSettings, Target
from runtime.servo_process import ServoProcess
from runtime.stop_button import EVENT
from runtime.supervisor import RefusedError, State, Stop
from tests.runtime.fake_arm import SPEC, START, AbsentArm, BlockedArm, CrashingArm, FlakyArm, LoggingArm, SilentArm

ROOT = Path(__file__).parents[2]
FAR = START + np.array([1.5, -1.0, 1.0])
REST = (0.1, -0.4, 0.4)
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


@pytest.fixture
def lowerable(log: Path) -> Iterator[ServoProcess]:
    """An arm with a rest pose."""
    settings = ServoSettings(rest=REST)
    servo = ServoProcess(functools.partial(LoggingArm, log), SPEC, settings=settings, orphan_hold_s=0.3)
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
    assert (servo.state().fault or "").startswith("policy silent for 2")
    time.sleep(0.1)
    assert_holds_at_the_end(log)
    with pytest.raises(RefusedError, match="policy silent"):
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


def kinds(log: Path) -> list[str]:
    """What was called, without repetitions."""
    calls = [what for _, what, _ in entries(log)]
    return [what for what, before in zip(calls, [None, *calls], strict=False) if what != before]


def fault_of(servo: ServoProcess) -> str:
    return servo.state().fault or ""


def test_a_killed_servo_process_leaves_the_arm_to_a_guardian_that_lowers_it(lowerable: ServoProcess, log: Path) -> None:
    servo = lowerable
    servo.start()
    run_targets(servo, 12)
    assert servo.pid is not None and servo.guardian_pid is not None
    killed = time.monotonic_ns()
    os.kill(servo.pid, signal.SIGKILL)
    wait_for(lambda: fault_of(servo).endswith("the guardian holds the arm"))
    assert fault_of(servo) == "the servo process ended (-9): the guardian holds the arm"
    held = [stamp for stamp, what, _ in entries(log) if what == "hold"][1]
    assert held - killed < 1 * SECOND
    wait_for(lambda: "lowered and released" in fault_of(servo))
    with pytest.raises(ArmError):
        servo.start()
    report = servo.stop()
    assert report is not None and report.released == SPEC.joint_names
    assert kinds(log) == ["hold", "write", "hold", "write", "release", "close"]
    end = entries(log)[-1][2]
    np.testing.assert_allclose(end, REST, atol=1e-5)
    lowering = np.array([positions for stamp, what, positions in entries(log) if what == "write" and stamp > held])
    assert np.abs(np.diff(lowering, axis=0)).max() < 0.01, "slowly"
    assert servo.guardian_pid is None


def test_a_servo_process_that_hangs_is_killed_by_the_guardian(lowerable: ServoProcess, log: Path) -> None:
    servo = lowerable
    servo.start()
    run_targets(servo, 4)
    assert servo.pid is not None
    os.kill(servo.pid, signal.SIGSTOP)
    wait_for(lambda: "the guardian holds the arm" in fault_of(servo))
    report = servo.stop()
    assert report is not None and report.released == SPEC.joint_names
    assert kinds(log)[-2:] == ["release", "close"]


def test_a_servo_process_that_crashes_leaves_the_arm_to_the_guardian(log: Path) -> None:
    servo = ServoProcess(functools.partial(CrashingArm, log), SPEC)
    servo.open()
    servo.start()
    wait_for(lambda: "the guardian holds the arm" in fault_of(servo))
    report = servo.stop()
    assert report is not None and report.released == SPEC.joint_names


def test_without_a_rest_pose_the_guardian_holds_until_it_is_told_to_release(servo: ServoProcess, log: Path) -> None:
    servo.start()
    run_targets(servo, 4)
    assert servo.pid is not None
    os.kill(servo.pid, signal.SIGKILL)
    wait_for(lambda: "the guardian holds the arm" in fault_of(servo))
    time.sleep(0.3)
    assert "release" not in kinds(log)
    with pytest.raises(ArmError, match="in use by another process"):
        LoggingArm(log).connect()
    report = servo.stop()
    assert report is not None and report.released == SPEC.joint_names
    assert kinds(log)[-2:] == ["release", "close"]


def test_an_arm_without_torque_is_left_so(servo: ServoProcess, log: Path) -> None:
    assert servo.pid is not None
    os.kill(servo.pid, signal.SIGKILL)
    wait_for(lambda: "the arm has no torque" in fault_of(servo))
    report = servo.stop()
    assert report is not None and report.released == SPEC.joint_names
    assert "hold" not in kinds(log)


def test_what_the_guardian_cannot_do_is_told_and_nothing_is_called_released(log: Path) -> None:
    servo = ServoProcess(functools.partial(SilentArm, log), SPEC)
    servo.open()
    servo.start()
    assert servo.pid is not None
    os.kill(servo.pid, signal.SIGKILL)
    wait_for(lambda: "cannot take the bus" in fault_of(servo))
    assert fault_of(servo).endswith("no servo answers; the servos keep their last goal")
    servo.hold()
    report = servo.stop()
    assert report is not None and report.still_energised == SPEC.joint_names


def test_a_guardian_that_dies_is_a_fault(servo: ServoProcess) -> None:
    assert servo.guardian_pid is not None
    os.kill(servo.guardian_pid, signal.SIGKILL)
    wait_for(lambda: servo.state().state is State.FAULT)
    assert fault_of(servo).startswith("the guardian process ended")
    report = servo.stop()
    assert report is not None and report.released == SPEC.joint_names


def test_in_good_order_the_guardian_never_touches_the_bus(servo: ServoProcess, log: Path) -> None:
    servo.start()
    run_targets(servo, 3)
    guardian = servo.guardian_pid
    assert guardian is not None
    servo.stop(release=False)
    wait_for(lambda: not Path(f"/proc/{guardian}").exists())
    assert kinds(log) == ["hold", "write", "close"]


@pytest.mark.parametrize(
    ("category", "text", "torque"),
    [(Stop.HOLD, "stopped", True), (Stop.LOWER, "lowered", False), (Stop.POWER_OFF, "power switched off", False)],
)
def test_an_operator_s_stop_needs_no_answer(
    lowerable: ServoProcess, log: Path, category: Stop, text: str, torque: bool
) -> None:
    servo = lowerable
    servo.start()
    run_targets(servo, 3)
    servo.request_stop(category)
    wait_for(lambda: servo.state().state is State.FAULT)
    assert fault_of(servo) == f"{text} by the operator"
    assert ("release" in kinds(log)) is not torque
    servo.reset()
    assert servo.state().state is (State.HOLDING if torque else State.IDLE)
    time.sleep(0.05)
    assert servo.state().fault is None, "a stop from before the reset is over"


@pytest.mark.parametrize("interrupted", ["moving", "fault", "lowering"])
def test_at_the_end_of_a_run_the_arm_is_held_lowered_and_released(
    lowerable: ServoProcess, log: Path, interrupted: str
) -> None:
    lowerable.start()
    run_targets(lowerable, 3)
    if interrupted == "fault":
        lowerable.fault("a camera died")
    elif interrupted == "lowering":
        lowerable.request_stop(Stop.LOWER)
        time.sleep(0.3)
    report = lowerable.stop()
    assert report is not None and report.released == SPEC.joint_names
    assert kinds(log) == ["hold", "write", "release", "close"]
    np.testing.assert_allclose(entries(log)[-1][2], REST, atol=1e-5)
    moved = np.array([positions for _, what, positions in entries(log) if what == "write"])
    still = ~np.diff(moved, axis=0).any(axis=1)
    held = max(len(run) for run in "".join("x" if rests else " " for rests in still).split())
    assert (held > 80) is (interrupted != "lowering"), "it is held for a second, and then lowered"


@pytest.mark.parametrize(("then", "end"), [(Stop.LOWER, "release"), (Stop.POWER_OFF, "release"), (None, "write")])
def test_an_operator_may_stop_the_arm_on_its_way_down(
    lowerable: ServoProcess, log: Path, then: Stop | None, end: str
) -> None:
    servo = lowerable
    servo.start()
    run_targets(servo, 8)
    with ThreadPoolExecutor(1) as threads:
        stopping = threads.submit(servo.stop)
        view = servo.ticks()
        wait_for(lambda: (state := view.read_state()) is not None and state.state is State.STOPPING)
        wait_for(lambda: (state := view.read_state()) is not None and state.state is State.HOLDING)
        time.sleep(1.3)
        servo.request_stop(Stop.HOLD)
        wait_for(lambda: (state := view.read_state()) is not None and state.state is State.FAULT)
        time.sleep(0.3)
        assert not stopping.done() and "release" not in kinds(log)
        if then is not None:
            servo.request_stop(then)
        report = stopping.result()
        view.close()
    assert report is not None and (report.still_energised == SPEC.joint_names) is (then is None)
    assert kinds(log)[-2:] == [end, "close"]


def test_an_arm_that_is_held_up_is_not_let_go(log: Path) -> None:
    servo = ServoProcess(functools.partial(BlockedArm, log), SPEC, settings=ServoSettings(rest=REST))
    servo.open()
    servo.start()
    run_targets(servo, 40)
    assert fault_of(servo).startswith("tracking: pan")
    report = servo.stop()
    assert report is not None and report.still_energised == SPEC.joint_names
    assert "release" not in kinds(log)


@pytest.mark.parametrize(("times", "end"), [(1, "release"), (10**6, "write")])
def test_a_bus_that_fails_on_the_way_down_does_not_let_the_arm_fall(log: Path, times: int, end: str) -> None:
    servo = ServoProcess(functools.partial(FlakyArm, log, times), SPEC, settings=ServoSettings(rest=REST))
    servo.open()
    servo.start()
    run_targets(servo, 8)
    report = servo.stop()
    assert kinds(log)[-2:] == [end, "close"]
    assert report is not None and (report.released if end == "release" else report.still_energised) == SPEC.joint_names
    arrived = np.allclose(entries(log)[-1][2], REST, atol=1e-5)
    assert arrived is (end == "release"), "it goes on when the bus is back, and is not let go where it stays"


def test_a_fault_seen_by_the_policy_is_latched(servo: ServoProcess) -> None:
    servo.start()
    run_targets(servo, 3)
    servo.fault("camera wrist: frozen")
    wait_for(lambda: servo.state().state is State.FAULT)
    assert fault_of(servo) == "camera wrist: frozen"
    assert len(servo.fault_record()) > 0


def test_a_stop_button_stops_the_arm_and_its_loss_too(log: Path, tmp_path: Path) -> None:
    button = tmp_path / "button"
    os.mkfifo(button)
    keeper = os.open(button, os.O_RDWR)
    settings = ServoSettings.of(SafetyConfig(stop_button=str(button)))
    with ServoProcess(functools.partial(LoggingArm, log), SPEC, settings=settings) as servo:
        servo.start()
        run_targets(servo, 3)
        os.write(keeper, EVENT.pack(0, 0, 1, 30, 1) + EVENT.pack(0, 0, 1, 30, 0))
        wait_for(lambda: servo.state().state is State.FAULT)
        assert fault_of(servo) == "stop button pressed: release it, then reset"
        servo.reset()
        servo.start()
        os.close(keeper)
        wait_for(lambda: fault_of(servo).startswith("stop button lost"))


def test_a_stop_button_that_is_not_there_is_one_line(log: Path, tmp_path: Path) -> None:
    settings = ServoSettings.of(SafetyConfig(stop_button=str(tmp_path / "none")))
    servo = ServoProcess(functools.partial(LoggingArm, log), SPEC, settings=settings)
    with pytest.raises(ArmError, match=r"safety.stop_button: .*none: No such file"):
        servo.open()


def test_a_second_process_on_the_same_bus_is_refused_and_the_first_goes_on(servo: ServoProcess, log: Path) -> None:
    servo.start()
    run_targets(servo, 3)
    other = ServoProcess(functools.partial(LoggingArm, log), SPEC)
    with pytest.raises(ArmError, match="in use by another process"):
        other.open()
    servo.hold()
    assert servo.state().fault is None or fault_of(servo).startswith("policy silent")


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
