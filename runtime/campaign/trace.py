"""What the emulated servos' own traces say, joint by joint, in rad: goals as they were received, and where joints were.

Reads the CSV files of `sim.servo_trace` while they grow. Knows no fault and no rule.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from drivers.arm import Array
from drivers.config import RobotConfig

COUNT = 2 * np.pi / 4096  # rad: the step of the encoders of STS3215 and X series
COLUMNS = 5

Stamps = NDArray[np.int64]  # monotonic ns, shape (m,)


@dataclass(frozen=True)
class Goals:
    """Every goal that one servo received, and every switch of its torque; arrays of shape (m,)."""

    stamps: Stamps
    goals: Array  # rad
    torque: NDArray[np.bool_]  # as it was from then on
    present: Array  # rad, where the joint was

    def between(self, start: int, end: int) -> Goals:
        """Those with start <= stamp < end (ns)."""
        part = slice(*np.searchsorted(self.stamps, (start, end)))
        return Goals(self.stamps[part], self.goals[part], self.torque[part], self.present[part])


@dataclass(frozen=True)
class Motion:
    """Where one joint was at every physics step; arrays of shape (m,)."""

    stamps: Stamps
    positions: Array  # rad

    def between(self, start: int, end: int) -> Motion:
        """That of start <= stamp < end (ns)."""
        part = slice(*np.searchsorted(self.stamps, (start, end)))
        return Motion(self.stamps[part], self.positions[part])


@dataclass(frozen=True)
class JointTrace:
    """One joint's limits, and what its servo's traces say."""

    name: str
    id: int
    low: float  # rad
    high: float
    velocity_max: float  # rad/s
    acceleration_max: float  # rad/s^2
    goals: Goals
    motion: Motion

    def between(self, start: int, end: int) -> JointTrace:
        """The part of start <= stamp < end (ns)."""
        return JointTrace(
            self.name,
            self.id,
            self.low,
            self.high,
            self.velocity_max,
            self.acceleration_max,
            self.goals.between(start, end),
            self.motion.between(start, end),
        )


class TraceFile:
    """A trace that grows: each `read` gives the whole lines that were added since the last one."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._position = 0

    def read(self) -> NDArray[np.int64]:
        """The new rows, shape (m, 5): stamp, id, goal, torque, present."""
        try:
            with self._path.open("rb") as file:
                file.seek(self._position)
                data = file.read()
        except FileNotFoundError:
            data = b""
        whole = data[: data.rfind(b"\n") + 1]
        if self._position == 0 and whole:
            header = whole.index(b"\n") + 1
            self._position, whole = header, whole[header:]
        self._position += len(whole)
        text = whole.replace(b"\n", b",").decode("ascii")
        return np.fromstring(text, dtype=np.int64, sep=",").reshape(-1, COLUMNS)


def joints_of(config: RobotConfig, goals: NDArray[np.int64], motion: NDArray[np.int64]) -> tuple[JointTrace, ...]:
    """The joints of a robot from rows of both traces (see `TraceFile.read`); a shadow servo is left out."""
    traces = []
    for joint in config.arm.joints:
        told, moved = goals[goals[:, 1] == joint.id], motion[motion[:, 1] == joint.id]

        def angles(counts: NDArray[np.int64], zero: int = joint.zero, direction: int = joint.direction) -> Array:
            return np.asarray(direction * (counts - zero) * COUNT, dtype=np.float64)

        traces.append(
            JointTrace(
                joint.name,
                joint.id,
                joint.minimum,
                joint.maximum,
                joint.velocity_max,
                joint.acceleration_max,
                Goals(told[:, 0], angles(told[:, 2]), told[:, 3] != 0, angles(told[:, 4])),
                Motion(moved[:, 0], angles(moved[:, 4])),
            )
        )
    return tuple(traces)


def without(traces: Sequence[JointTrace], struck: Mapping[int, object] | frozenset[int]) -> tuple[JointTrace, ...]:
    """The joints whose servos are not among `struck` (ids)."""
    return tuple(trace for trace in traces if trace.id not in struck)
