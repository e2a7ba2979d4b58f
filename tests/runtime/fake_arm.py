"""An arm without physics for the tests of the servo loop: it is where it was last told to be, and fails on request.

Imports nothing but drivers, so that the servo process may open it.
"""

from __future__ import annotations

import fcntl
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from drivers.arm import ArmError, ArmSpec, Array, BusCounters, JointState, ReleaseReport, frozen

SPEC = ArmSpec(
    ("pan", "lift", "gripper"),
    position_min=np.array([-1.92, -1.75, 0.0]),
    position_max=np.array([1.92, 1.75, 1.75]),
    velocity_max=np.array([2.5, 2.5, 4.0]),
    acceleration_max=np.array([40.0, 40.0, 80.0]),
)
START = frozen([0.2, -0.3, 0.5])


class FakeArm:
    """Every goal is reached at once, except by joints in `stuck`. `broken_reads` and `broken_writes` count down; -1 is
    broken for good. `limp` names joints whose torque does not show, `stubborn` those whose torque does not go off."""

    def __init__(self, clock: Callable[[], int] = time.monotonic_ns) -> None:
        self.spec = SPEC
        self.counters = BusCounters()
        self.positions = np.array(START)
        self.temperatures_c = np.full(3, 30.0)
        self.voltages = np.full(3, 7.4)
        self.loads = np.zeros(3)
        self.velocities = np.zeros(3)  # as read; positions do not follow from them
        self.stuck: tuple[int, ...] = ()
        self.limp: tuple[str, ...] = ()
        self.stubborn: tuple[str, ...] = ()
        self.errors: tuple[str, ...] = ()
        self.torque = False
        self.connected = False
        self.written: list[Array] = []
        self.broken_reads = self.broken_writes = 0
        self._clock = clock

    def connect(self) -> None:
        if self.broken_reads < 0:
            raise ArmError("no such port")
        self.connected = True

    def read(self) -> JointState:
        if self.broken_reads:
            self.broken_reads -= 1
            raise ArmError("no answer from lift")
        return JointState(
            self._clock(),
            frozen(self.positions),
            frozen(self.velocities),
            frozen(self.loads),
            frozen(self.temperatures_c),
            frozen(self.voltages),
            self.errors,
        )

    def write(self, targets: Array) -> None:
        if self.broken_writes:
            self.broken_writes -= 1
            raise ArmError("port is gone")
        assert self.torque
        self.written.append(np.array(targets))
        reached = np.array(targets)
        reached[list(self.stuck)] = self.positions[list(self.stuck)]
        self.positions = reached

    def energised(self) -> tuple[str, ...]:
        return tuple(name for name in self.spec.joint_names if self.torque and name not in self.limp)

    def hold(self) -> JointState:
        self.torque = True
        return self.read()

    def release(self) -> ReleaseReport:
        if self.broken_writes:
            raise ArmError("port is gone")
        self.torque = False
        released = tuple(name for name in self.spec.joint_names if name not in self.stubborn)
        return ReleaseReport(released, self.stubborn)

    def close(self) -> None:
        self.connected = False


class LoggingArm(FakeArm):
    """Leaves a line in a file for each call that another process wants to know of.

    The file is its bus as well: one process alone may have it, and who connects finds position and torque as the last
    one left them.
    """

    def __init__(self, log: Path) -> None:
        super().__init__()
        self._path = log
        self._log = log.open("a", buffering=1)

    def connect(self) -> None:
        try:
            fcntl.flock(self._log, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ArmError(f"{self._path}: in use by another process; stop that one first") from error
        for line in self._path.read_text().splitlines():
            _, what, *positions = line.split()
            self.positions = np.array(positions, dtype=float)
            self.torque = (self.torque or what == "hold") and what != "release"
        super().connect()

    def _note(self, what: str, positions: Array) -> None:
        self._log.write(f"{time.monotonic_ns()} {what} {' '.join(map(repr, positions.tolist()))}\n")

    def write(self, targets: Array) -> None:
        super().write(targets)
        self._note("write", targets)

    def hold(self) -> JointState:
        self._note("hold", self.positions)
        return super().hold()

    def release(self) -> ReleaseReport:
        self._note("release", self.positions)
        return super().release()

    def close(self) -> None:
        if self.connected:
            self._note("close", self.positions)
            fcntl.flock(self._log, fcntl.LOCK_UN)
        super().close()


class SilentArm(LoggingArm):
    """Cannot be reached by a second process."""

    def connect(self) -> None:
        super().connect()
        if self.torque:
            raise ArmError("/dev/ttyACM0: no servo answers")


class BlockedArm(LoggingArm):
    """Something holds its first joint."""

    def __init__(self, log: Path) -> None:
        super().__init__(log)
        self.stuck = (0,)


class FlakyArm(LoggingArm):
    """Does not answer for 12 readings whenever its first joint is sent to less than 0.15 rad, `times` times."""

    def __init__(self, log: Path, times: int) -> None:
        super().__init__(log)
        self._times = times

    def write(self, targets: Array) -> None:
        super().write(targets)
        if targets[0] < 0.15 and self._times and not self.broken_reads:
            self._times -= 1
            self.broken_reads = 12


class CrashingArm(LoggingArm):
    """Has a defect that nobody thought of, in the process that moves it."""

    def write(self, targets: Array) -> None:
        super().write(targets)
        if len(self.written) == 40:
            raise ZeroDivisionError("a defect")


class AbsentArm(FakeArm):
    """Cannot be connected."""

    def connect(self) -> None:
        raise ArmError("/dev/nowhere: no such port; plug the arm in")


class ListingArm(FakeArm):
    """Writes down, when it is closed, which modules its process has loaded."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path

    def close(self) -> None:
        self._path.write_text("\n".join(sys.modules))
        super().close()
