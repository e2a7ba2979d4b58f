"""Notes, inside the servo process, when each reading of the arm begins: when its tick really ran.

An arm around an arm, so that the servo loop is timed from outside and as it is. The times go into shared memory, which
the bench reads when the run is over: nothing is sent, opened or allocated on a tick.
"""

from __future__ import annotations

import time
from multiprocessing.shared_memory import SharedMemory
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from drivers.arm import Arm, JointState
from drivers.config import ArmConfig
from drivers.robot import open_arm

Stamps = NDArray[np.int64]


class TickTimes:
    """Room for `capacity` times (monotonic ns); one writer. Opens the memory called `name`, or makes it."""

    def __init__(self, capacity: int, name: str | None = None) -> None:
        size = 8 * (capacity + 1)
        self._memory = SharedMemory(name=name, create=name is None, size=size if name is None else 0)
        self._cells: Stamps = np.ndarray((capacity + 1,), dtype=np.int64, buffer=self._memory.buf)
        self.capacity = capacity

    @property
    def name(self) -> str:
        return self._memory.name

    def note(self, stamp: int) -> None:
        """Append a time; dropped when there is no room."""
        count = int(self._cells[0])
        if count < self.capacity:
            self._cells[count + 1] = stamp
            self._cells[0] = count + 1

    def stamps(self) -> Stamps:
        """A copy of what was noted."""
        return self._cells[1 : int(self._cells[0]) + 1].copy()

    def close(self, *, unlink: bool = False) -> None:
        del self._cells
        self._memory.close()
        if unlink:
            self._memory.unlink()


class WatchedArm:
    """An arm that notes when it is read, and is `arm` in everything else."""

    def __init__(self, arm: Arm, times: TickTimes) -> None:
        self._arm, self._times = arm, times

    def read(self) -> JointState:
        self._times.note(time.monotonic_ns())
        return self._arm.read()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._arm, name)


def open_watched_arm(config: ArmConfig, capacity: int, name: str) -> Arm:
    """The arm of a config, watched; called in the servo process. Raises `ConfigError`."""
    return cast(Arm, WatchedArm(open_arm(config), TickTimes(capacity, name)))
