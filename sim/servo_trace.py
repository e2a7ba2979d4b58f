"""What the emulated servos were told and where they were, as CSV.

Columns `monotonic_ns,id,goal,torque,present`: stamp, the servo's id when the emulator started, goal and present
position in counts on the encoder's own scale (before any homing offset), torque 0 or 1. A trace of goals has a line for
every write of a goal and every switch of the torque, by whomever it came, also where nothing changed; `present` is
where the servo was then. A trace of motion has one line for each servo and physics step.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TextIO

HEADER = "monotonic_ns,id,goal,torque,present\n"


class ServoTrace:
    """Lines for `file`, kept in memory until `flush`, so that a bus transaction never waits for a disk."""

    def __init__(self, file: TextIO, ids: Sequence[int], clock: Callable[[], int]) -> None:
        self._file, self._ids, self._clock = file, tuple(ids), clock
        self._lines = [HEADER]

    def __call__(self, servo: int, goal: int, torque: bool, present: int) -> None:
        """`servo_body.Watcher`: one line, now."""
        self._lines.append(f"{self._clock()},{self._ids[servo]},{goal},{torque:d},{present}\n")

    def flush(self) -> None:
        """Write down what is in memory."""
        lines, self._lines = self._lines, []
        if lines:
            self._file.write("".join(lines))
            self._file.flush()
