"""What a run's own recording says of it, whole or broken off: faults, lateness, and when it ends.

All stamps are monotonic ns: the campaign's runs record without an epoch. Knows no fault and no rule.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.clock import SECOND
from runtime.recording import Recording

TOPICS = ("/tick", "/fault", "/step", "/recorder")


@dataclass(frozen=True)
class RecordedFault:
    """A fault as the recording has it."""

    stamp: int  # ns
    text: str
    pairs: int  # (command, state) pairs that it carries


@dataclass(frozen=True)
class Recorded:
    """What one recording holds."""

    damaged: int  # chunks that could not be read
    ticks: NDArray[np.int64]  # stamps, ns
    skipped: NDArray[np.int64]  # servo cycles skipped so far, at each tick
    steps: NDArray[np.int64]  # stamps of the control steps, ns
    late_ms: NDArray[np.float64]  # of the control steps
    faults: tuple[RecordedFault, ...]
    dropped: int

    @classmethod
    def of(cls, path: Path) -> Recorded:
        """Read a recording to its end or its break. Raises `RecordingError` for what is none."""
        recording = Recording(path)
        ticks, skipped, steps, late, faults = [], [], [], [], []
        dropped = 0
        for message in recording.messages(TOPICS):
            data = message.data
            if message.topic == "/tick":
                ticks.append(message.stamp)
                skipped.append(data["counters"]["skipped"])
            elif message.topic == "/step":
                steps.append(message.stamp)
                late.append(data["late_ms"])
            elif message.topic == "/fault":
                faults.append(RecordedFault(_nanoseconds(data["timestamp"]), data["text"], len(data["pairs"])))
            elif message.topic == "/recorder":
                dropped = max(dropped, data["dropped"] + data["ticks_dropped"])
        return cls(
            recording.damaged,
            np.array(ticks, np.int64),
            np.array(skipped, np.int64),
            np.array(steps, np.int64),
            np.array(late, np.float64),
            tuple(faults),
            dropped,
        )

    def lost_before(self, moment: int) -> float:
        """Seconds before `moment` (ns) of which the recording has no tick any more; infinity without a tick."""
        before = self.ticks[self.ticks <= moment]
        return (moment - int(before[-1])) / SECOND if before.size else np.inf

    def fault_between(self, start: int, end: int) -> RecordedFault | None:
        """The first fault with start <= stamp < end (ns)."""
        return next((fault for fault in self.faults if start <= fault.stamp < end), None)

    def skipped_between(self, start: int, end: int) -> int:
        """Servo cycles that were skipped from `start` to `end` (ns)."""
        inside = self.skipped[(self.ticks >= start) & (self.ticks < end)]
        return int(inside[-1] - inside[0]) if inside.size else 0

    def late_between(self, start: int, end: int) -> float:
        """The latest start of a control step from `start` to `end` (ns), ms."""
        inside = self.late_ms[(self.steps >= start) & (self.steps < end)]
        return float(inside.max(initial=0.0))


def _nanoseconds(time: dict[str, Any]) -> int:
    return int(time["sec"]) * SECOND + int(time["nsec"])
