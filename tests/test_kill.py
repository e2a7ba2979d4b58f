"""The policy process of a real run is killed in mid-motion: what the emulated servos were told, and what is left."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from runtime.recording import Recording
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


def test_sigkill_of_the_policy_in_mid_motion_ends_in_a_decelerated_hold(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    command = [sys.executable, "-m", "runtime.cli", "run", "--episodes", "3", "--seed", "7", "--record", str(folder)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    recording, trace = folder / "recording.mcap", folder / "servo_goals.csv"
    give_up = time.monotonic() + 60
    while not (recording.exists() and recording.stat().st_size > 30_000 and moving(trace, time.monotonic() - 0.3)):
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
