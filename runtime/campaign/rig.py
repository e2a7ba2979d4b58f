"""What a trial is run on: an emulated arm that can be broken, and a run of the program that can be broken too.

A `Bench` is the arm, kept for many runs; a `Run` is the program with its three processes. Knows how to break things,
not what should come of it.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import resource
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Collection
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from drivers.arm import ArmError
from drivers.config import RobotConfig
from runtime.campaign.subject import SubjectSettings
from runtime.campaign.trace import JointTrace, TraceFile, joints_of
from runtime.recorder import FILE_NAME
from sim.emulator import EmulatorProcess
from sim.tasks import TASKS

MARK = "GATO_ARM_CAMPAIGN"  # environment variable by which a run's processes are found again
START_TIMEOUT = 40.0  # s, three interpreters on a busy machine
ANSWER_TIMEOUT = 15.0  # s
BOOT = 0.3  # s, for servos that were switched off and on
END_TIMEOUT = 40.0  # s: a guardian lowers the arm, half a turn at most


class RigError(ArmError):
    """The campaign cannot go on; the message says why and what to do."""


class Bench:
    """An emulated arm with traces of goals and motion in `folder`; a context manager."""

    def __init__(self, robot: RobotConfig, folder: Path, seed: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.robot, self.folder = robot, folder
        sizes = {camera.size for camera in robot.cameras.values()} or {(64, 64)}
        goals, motion = folder / "goals.csv", folder / "motion.csv"
        self.emulator = EmulatorProcess(robot, trace=goals, motion=motion, seed=seed, image_size=min(sizes))
        # Not emulated any more: the program must find a robot like any other.
        self.config = self.emulator.on_devices(robot.model_copy(update={"emulated": False}))
        self._files = TraceFile(goals), TraceFile(motion)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    @property
    def alive(self) -> bool:
        return running(self.emulator.pid)

    @property
    def can_place(self) -> bool:
        """Whether the arm can be put back to its home pose."""
        return self.robot.emulated

    def place(self, seed: int) -> None:
        """Put the arm to its home pose, by hand as it were; goals in force are set there."""
        self.emulator.reset(seed, TASKS[0].text, home=True)

    def power_cycle(self, servos: Collection[int]) -> None:
        """Switch servos (ids) off and on: errors that they latch are forgotten."""
        if servos:
            self.emulator.fault("reboot", ids=sorted(servos))
            time.sleep(BOOT)

    def read(self) -> tuple[JointTrace, ...]:
        """What was added to the traces since the last call."""
        if self.alive:
            self.emulator.trace()
            self.emulator.motion()
        goals, motion = (file.read() for file in self._files)
        return joints_of(self.config, goals, motion)

    def close(self) -> None:
        self.emulator.close()


class Run:
    """The program on the bench's arm, recording into `folder`. Raises `RigError` when it does not come up."""

    def __init__(
        self,
        bench: Bench,
        folder: Path,
        low: NDArray[np.float64],
        high: NDArray[np.float64],
        policy: str | None,
        orphan_hold_s: float,
    ) -> None:
        folder.mkdir(parents=True)
        self.bench, self.folder = bench, folder
        self.recording = folder / FILE_NAME
        self.mark = uuid.uuid4().hex
        self.events: list[dict[str, Any]] = []
        self._stderr = folder / "stderr"
        self._queue: queue.Queue[dict[str, Any] | None] = queue.Queue()
        settings = SubjectSettings(
            str(folder),
            bench.config.model_dump_json(),
            tuple(low.tolist()),
            tuple(high.tolist()),
            policy,
            orphan_hold_s,
        )
        root = str(Path(__file__).resolve().parents[2])
        path = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))
        with self._stderr.open("wb") as errors:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "runtime.campaign.subject", settings.to_json()],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                env=os.environ | {"PYTHONPATH": path, MARK: self.mark},
                start_new_session=True,
            )
        threading.Thread(target=self._listen, name="events", daemon=True).start()
        ready = self.wait_for("ready", START_TIMEOUT)
        if ready is None:
            self.end()
            raise RigError(f"the run did not come up: {self.last_line() or 'it said nothing'}")
        self.notes: list[str] = ready["notes"]
        self.pids: dict[str, int] = {
            "policy": self._process.pid,
            "servo": ready["servo"],
            "guardian": ready["guardian"],
        }

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def ask(self, do: str, **content: Any) -> None:
        """Send a request; a run that is gone does not get it."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps({"do": do, **content}).encode() + b"\n")
            self._process.stdin.flush()
        except OSError:
            return

    def wait_for(self, event: str, timeout: float = ANSWER_TIMEOUT) -> dict[str, Any] | None:
        """The next event of that name; None when the run ends, or the time, without one."""
        deadline = time.monotonic() + timeout
        while (left := deadline - time.monotonic()) > 0:
            try:
                found = self._queue.get(timeout=left)
            except queue.Empty:
                return None
            if found is None:
                self._queue.put(None)
                return None
            self.events.append(found)
            if found["event"] == event:
                return found
        return None

    def heard(self, event: str) -> dict[str, Any] | None:
        """The last event of that name that is there already."""
        while not self._queue.empty():
            found = self._queue.get()
            if found is None:
                self._queue.put(None)
                break
            self.events.append(found)
        return next((found for found in reversed(self.events) if found["event"] == event), None)

    def kill(self, process: str, number: signal.Signals) -> int:
        """Send a signal to one of the run's processes; the monotonic stamp (ns) just before."""
        stamp = time.monotonic_ns()
        os.kill(self.pids[process], number)
        return stamp

    def fill_disk(self) -> int:
        """From now on no file of the policy process can grow; the monotonic stamp (ns)."""
        size = self.recording.stat().st_size
        stamp = time.monotonic_ns()
        hard = resource.prlimit(self.pids["policy"], resource.RLIMIT_FSIZE)[1]
        resource.prlimit(self.pids["policy"], resource.RLIMIT_FSIZE, (size, hard))
        return stamp

    def last_line(self) -> str:
        """The last line that the run has printed for its operator."""
        lines = self._stderr.read_text(errors="replace").strip().splitlines()
        return lines[-1] if lines else ""

    def processes(self) -> dict[int, str]:
        """The run's processes that are still there: id -> command line."""
        return marked(self.mark)

    def end(self, timeout: float = END_TIMEOUT) -> dict[int, str]:
        """Ask it to quit and wait until every process of it is gone; those that are not are killed and returned.

        A later call returns nothing.
        """
        assert self._process.stdin is not None
        if self._process.stdin.closed:
            return {}
        self.ask("quit")
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        deadline = time.monotonic() + timeout
        while (left := self.processes()) and time.monotonic() < deadline:
            self._process.poll()  # a dead child is buried by its parent alone
            time.sleep(0.02)
        for pid in left:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()
        return left

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._queue.put(json.loads(line))
        self._queue.put(None)


def marked(mark: str) -> dict[int, str]:
    """Processes whose environment has that mark, zombies left out: id -> command line."""
    found = {}
    wanted = f"{MARK}={mark}".encode()
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            if wanted in (entry / "environ").read_bytes() and running(int(entry.name)):
                found[int(entry.name)] = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
        except OSError:
            continue
    return found


def running(pid: int) -> bool:
    """Whether there is a process of that id that is not dead and merely unburied."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] not in ("Z", "X")
