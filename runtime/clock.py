"""Time that is passed in: clocks, and a pacer with absolute deadlines that keeps its phase; nothing else reads one."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

SECOND = 1_000_000_000  # ns
MILLISECOND = 1_000_000  # ns


class Clock(Protocol):
    """A monotonic time line in nanoseconds."""

    def now(self) -> int:
        """Nanoseconds since a fixed, unknown moment; never decreases."""

    def sleep_until(self, deadline: int) -> None:
        """Return once `now() >= deadline`, at once if it already is."""


class MonotonicClock:
    """The system's monotonic clock; every process of the machine shares its zero."""

    def now(self) -> int:
        return time.monotonic_ns()

    def sleep_until(self, deadline: int) -> None:
        while (left := deadline - time.monotonic_ns()) > 0:
            time.sleep(left / SECOND)


class SimulatedClock:
    """A clock that stands still until somebody sleeps or advances it."""

    def __init__(self, start: int = 0) -> None:
        self._now = start

    def now(self) -> int:
        return self._now

    def sleep_until(self, deadline: int) -> None:
        self._now = max(self._now, deadline)

    def advance(self, duration: int) -> None:
        """Let `duration` ns pass. Raises `ValueError` for a negative one: time does not run backwards."""
        if duration < 0:
            raise ValueError(f"a clock cannot advance by {duration} ns")
        self._now += duration


@dataclass(frozen=True, slots=True)
class Tick:
    """One cycle of a paced loop; all times in ns on the pacer's clock."""

    index: int  # cycles of the schedule since its start, skipped ones counted
    scheduled: int
    started: int
    late_ns: int  # started - scheduled; below one period
    skipped: int  # cycles given up just before this one


class Pacer:
    """Absolute deadlines every `period_ns`, the first at the first `wait`.

    A cycle that starts late starts at once. Cycles that were missed altogether are skipped, not caught up, and the
    schedule keeps its phase: one stall never shifts a later tick (ros2_control's rule).
    """

    def __init__(self, clock: Clock, period_ns: int) -> None:
        if period_ns <= 0:
            raise ValueError(f"a pacer needs a period above 0 ns, got {period_ns}")
        self.period_ns = period_ns
        self._clock = clock
        self._index = 0
        self._next: int | None = None

    def reset(self) -> None:
        """Begin a new schedule at the next `wait`."""
        self._index = 0
        self._next = None

    def wait(self) -> Tick:
        """Sleep until the next cycle is due, and say how it started."""
        if self._next is None:
            self._next = self._clock.now()
        self._clock.sleep_until(self._next)
        started = self._clock.now()
        skipped = (started - self._next) // self.period_ns
        scheduled = self._next + skipped * self.period_ns
        tick = Tick(self._index + skipped, scheduled, started, started - scheduled, skipped)
        self._index = tick.index + 1
        self._next = scheduled + self.period_ns
        return tick


def percentiles(durations_ms: Sequence[float] | np.typing.NDArray[np.float64]) -> dict[str, float]:
    """`p50`, `p99` and `max` of durations, as the reports write them; zeros when there are none."""
    if len(durations_ms) == 0:
        return {"p50": 0.0, "p99": 0.0, "max": 0.0}
    p50, p99, highest = np.percentile(durations_ms, (50, 99, 100))
    return {"p50": float(p50), "p99": float(p99), "max": float(highest)}
