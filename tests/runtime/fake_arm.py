"""An arm without physics for the tests of the servo loop: it is where it was last told to be, and fails on request.

Imports nothing but drivers, so that the servo process may open it.
"""

from __future__ import annotations

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
    """Every goal is reached at once. `broken_reads` and `broken_writes` count down; -1 is broken for good."""

    def __init__(self, clock: Callable[[], int] = time.monotonic_ns) -> None:
        self.spec = SPEC
        self.counters = BusCounters()
        self.positions = np.array(START)
        self.temperatures_c = np.full(3, 30.0)
        self.errors: tuple[str, ...] = ()
        self.torque = False
        self.connected = False
        self.written: list[Array] = []
        self.broken_reads = self.broken_writes = 0
        self._clock = clock

    def connect(self) -> None:
        self.connected = True

    def read(self) -> JointState:
        if self.broken_reads:
            self.broken_reads -= 1
            raise ArmError("no answer from lift")
        still = frozen(np.zeros(3))
        return JointState(
            self._clock(), frozen(self.positions), still, still, frozen(self.temperatures_c), still, self.errors
        )

    def write(self, targets: Array) -> None:
        if self.broken_writes:
            self.broken_writes -= 1
            raise ArmError("port is gone")
        assert self.torque
        self.written.append(np.array(targets))
        self.positions = np.array(targets)

    def hold(self) -> JointState:
        self.torque = True
        return self.read()

    def release(self) -> ReleaseReport:
        self.torque = False
        return ReleaseReport(self.spec.joint_names)

    def close(self) -> None:
        self.connected = False


class LoggingArm(FakeArm):
    """Leaves a line in a file for each call that another process wants to know of."""

    def __init__(self, log: Path) -> None:
        super().__init__()
        self._log = log.open("a", buffering=1)

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
        self._note("close", self.positions)
        super().close()


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
