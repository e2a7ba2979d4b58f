"""A watched run: when ticks ran is noted in the servo process, and told apart by condition."""

from __future__ import annotations

import functools
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from drivers.config import load_robot
from runtime.bench import jitter
from runtime.bench.jitter import IDLE, _judged, _load, _Part, _Rig, _run, _Watch, stop_for
from runtime.bench.watched_arm import TickTimes, WatchedArm, open_watched_arm
from runtime.clock import MILLISECOND, SECOND
from runtime.servo_process import ServoProcess
from runtime.supervisor import RefusedError
from tests.runtime.episodes import make_end, make_step

PERIOD = 10 * MILLISECOND


def test_times_are_kept_up_to_the_room_that_there_is() -> None:
    times = TickTimes(3)
    other = TickTimes(3, times.name)
    for stamp in (5, 6, 7, 8):
        other.note(stamp)
    other.close()
    np.testing.assert_array_equal(times.stamps(), [5, 6, 7])
    times.close(unlink=True)


def test_a_watched_arm_is_the_arm_and_notes_its_readings() -> None:
    class Arm:
        spec = "spec"

        def read(self) -> str:
            return "state"

    times = TickTimes(10)
    before = time.monotonic_ns()
    arm = WatchedArm(Arm(), times)
    assert (arm.spec, arm.read(), arm.read()) == ("spec", "state", "state")
    stamps = times.stamps()
    assert len(stamps) == 2 and before <= stamps[0] <= stamps[1] <= time.monotonic_ns()
    times.close(unlink=True)


def test_the_servo_process_notes_every_tick() -> None:
    config = load_robot("simulated").arm
    times = TickTimes(5000)
    try:
        with ServoProcess(
            functools.partial(open_watched_arm, config, times.capacity, times.name), config.spec()
        ) as servo:
            deadline = time.monotonic() + 10
            while servo.state().counters.ticks < 20 and time.monotonic() < deadline:
                time.sleep(0.01)
            ticks = servo.state().counters.ticks
        stamps = times.stamps()
    finally:
        times.close(unlink=True)
    assert len(stamps) >= ticks >= 20
    assert (np.diff(stamps) > 0).all()


def test_a_process_is_stopped_and_goes_on(tmp_path: Path) -> None:
    script = "import time\nwhile True: print(time.monotonic_ns(), flush=True); time.sleep(0.002)"
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            process.stdout.readline()
            begin, end = stop_for(process.pid, 0.1)
            stamps = [int(process.stdout.readline()) for _ in range(200)]
        finally:
            process.kill()
    assert end - begin >= 0.1 * SECOND
    assert not [stamp for stamp in stamps if begin + 50 * MILLISECOND < stamp < end - 10 * MILLISECOND]
    assert stamps[-1] > end


def test_a_load_is_there_while_it_lasts() -> None:
    with _load(2):
        children = subprocess.run(
            ["ps", "-o", "args=", "--ppid", str(jitter.os.getpid())], capture_output=True, text=True, check=True
        ).stdout
        assert children.count("while True: pass") == 2
    after = subprocess.run(
        ["ps", "-o", "args=", "--ppid", str(jitter.os.getpid())], capture_output=True, text=True, check=True
    ).stdout
    assert "while True: pass" not in after


def run(stamps: np.ndarray, stall: tuple[int, int] | None = None) -> tuple[list, list, dict]:
    watch = _Watch()
    for index in range(10):
        watch.on_step(make_step(index, 0))
    watch.on_episode_end(make_end(0, "success", 10))
    part = _Part(IDLE, int(stamps[0]) - 1, int(stamps[-1]) + 1, watch, stall, 2)
    return _judged(part, stamps, PERIOD)


def test_a_part_counts_late_ticks_and_deadlines() -> None:
    stamps = 7 * SECOND + PERIOD * np.arange(1000, dtype=np.int64)
    stamps[[100, 200, 300]] += 3 * MILLISECOND
    outside = np.concatenate([stamps[:1] - 3 * MILLISECOND, stamps])  # before the part began
    figures, notes, raw = run(outside[1:])
    assert raw["share_late"] == pytest.approx(0.003)
    assert (raw["ticks"], raw["skipped"], raw["steps"], raw["deadline_misses"]) == (1000, 0, 10, 1)
    assert raw["phase_shift_ms"] is None and notes == []
    tick, step, late = figures
    assert (
        "3 of 1000 ticks (0.300%) later than 2 ms" in tick.note
        and "2 readings lost" in tick.note
        and "1 of 10 deadlines" in step.note
    )
    np.testing.assert_allclose(step.samples, 16.1)
    assert len(late.samples) == 10


@pytest.mark.parametrize(("moved", "told"), [(0, "0.00 ms"), (4, "4.00 ms")])
def test_a_stall_is_not_counted_as_jitter_and_its_shift_is_told(moved: int, told: str) -> None:
    stamps = 7 * SECOND + PERIOD * np.arange(1000, dtype=np.int64)
    stall = int(stamps[500]) - MILLISECOND, int(stamps[520]) - MILLISECOND
    stamps = np.delete(stamps, np.arange(500, 520))
    stamps[500:] += moved * MILLISECOND
    _, notes, raw = run(stamps, stall)
    assert raw["share_late"] == 0 and raw["skipped"] == 0
    assert raw["phase_shift_ms"] == pytest.approx(moved, abs=0.01)
    assert told in notes[0] and raw["stall_ms"] == 200


class RefusingStage:
    """Refuses the first episode, as after a fault between two; the second succeeds."""

    def __init__(self) -> None:
        self.resets = 0

    def play(self, index: int, task: str, seed: int) -> object:
        if index == 0:
            raise RefusedError("the arm is in a fault (bus: 10 reads in a row failed)")
        return make_end(index, "success", 10)

    def counters(self) -> dict[str, int]:
        return {"read_failures": 10}

    def reset(self) -> None:
        self.resets += 1


def test_a_fault_between_two_episodes_is_an_outcome_and_is_reset() -> None:
    stage = RefusingStage()
    part = _run(_Rig(stage, lambda watch: None, stage), IDLE, 0.0, 0, 0.0)
    assert stage.resets == 1 and part.lost == 0
