"""What a flight recording says: one pass over the file into columns of numbers, and the figures that follow from them.

Knows the recorder's messages and nothing of how they are shown; `runtime.log_tables` and `runtime.log_plot` do that.
A recording is read as what it is, somebody's file: what does not fit is refused in one line, naming the topic.
"""

from __future__ import annotations

import math
from array import array
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from mcap.records import Metadata
from numpy.typing import NDArray

from runtime.clock import MILLISECOND, SECOND
from runtime.recording import RawMessage, Recording, RecordingError

Floats = NDArray[np.float64]

STEP_PARTS = ("observe", "decide", "act")
TICK_PARTS = ("read", "filter", "write")
ARRAYS = ("positions", "command", "asked", "velocities", "loads", "temperatures_c", "voltages")
PAIR = ("timestamp", "state", "asked", "command", "reasons", "positions", "velocities", "loads")
MAX_PAIRS = 1000  # of one fault; the recorder writes 50
Json = dict[str, Any]
_MALFORMED = (KeyError, TypeError, ValueError, AttributeError, IndexError)


class Columns:
    """A table of floats that grows by whole rows."""

    def __init__(self, width: int) -> None:
        self._width = width
        self._values = array("d")

    def add(self, row: Sequence[float]) -> None:
        """Append a row. Raises `ValueError` for another width."""
        if len(row) != self._width:
            raise ValueError(f"{len(row)} values, not {self._width}")
        self._values.extend(row)

    def table(self) -> Floats:
        """All rows, shape (rows, width), in order of their first column, the stamp."""
        rows = np.array(self._values).reshape(-1, self._width)
        return np.asarray(rows[np.argsort(rows[:, 0], kind="stable")])


@dataclass(frozen=True)
class Said:
    """An event, a fault or a log line: when (s since the beginning), what kind, and its words."""

    time: float
    kind: str
    text: str


@dataclass(frozen=True)
class Fault:
    """A fault and the servo ticks before it, oldest first, as the recording has them."""

    time: float  # s since the beginning
    text: str
    pairs: tuple[Json, ...]  # the fields of PAIR, "stamp" (ns, the file's time) and "time" (s, before the fault: < 0)


@dataclass
class Episode:
    """One episode; `outcome` is None when the recording breaks off in it."""

    index: int
    task: str
    policy: str = ""
    start: float = math.nan  # s since the beginning
    end: float = math.nan
    outcome: str | None = None
    steps: int = 0
    missed: int = 0


@dataclass(frozen=True)
class Log:
    """Everything that the figures and the plot need. Times are seconds since the first message."""

    path: Path
    complete: bool
    damaged: int  # chunks with a wrong checksum
    size: int  # bytes
    metadata: Mapping[str, str]
    joints: tuple[str, ...]
    began: int  # ns, the file's time of the first message
    duration: float  # s
    messages: Mapping[str, int]
    episodes: tuple[Episode, ...]
    faults: tuple[Fault, ...]
    events: tuple[Said, ...]
    steps: Floats  # (n, 3 + 3): time, late_ms, missed; STEP_PARTS in ms
    ticks: Floats  # (n, 4 + 7 joints): time; TICK_PARTS in ms; ARRAYS
    frames: Mapping[str, Floats]  # camera -> (n, 2): time, age of the image at its step (ms)
    reasons: Mapping[str, Floats]  # of the safety filter -> times
    counters: Mapping[str, int]  # of the servo loop and its bus, summed over its lives
    dropped: int
    ticks_dropped: int

    def tick(self, name: str) -> Floats:
        """A column of the servo ticks: "time", one of TICK_PARTS (ms), or (n, joints) for one of ARRAYS."""
        if name in ARRAYS:
            n = len(self.joints)
            first = 1 + len(TICK_PARTS) + ARRAYS.index(name) * n
            return np.asarray(self.ticks[:, first : first + n])
        return np.asarray(self.ticks[:, ("time", *TICK_PARTS).index(name)])

    def step(self, name: str) -> Floats:
        """A column of the control steps: "time", "late", "missed" or one of STEP_PARTS (ms)."""
        return np.asarray(self.steps[:, ("time", "late", "missed", *STEP_PARTS).index(name)])

    def step_ms(self) -> Floats:
        """How long each control step took, waiting excluded."""
        return np.asarray(self.steps[:, 3:].sum(axis=1))


def read_log(path: Path, on_position: Callable[[int], None] | None = None) -> Log:
    """Read a recording once. `on_position` is told the bytes read so far. Raises `RecordingError`."""
    recording = Recording(path)
    next((record for record in recording.records() if isinstance(record, Metadata)), None)  # the first says the joints
    joints = tuple(name for name in recording.told.get("joints", "").split(",") if name)
    if not joints:
        raise RecordingError(f"{path}: no recording of gato-arm, or cut off in its first moment: it names no joints")
    gathered = _Gathering(joints)
    for message in recording.raw(on_position):
        gathered.count(message)
        if message.topic not in gathered.readers:
            continue
        data = recording.decode(message)
        try:
            gathered.readers[message.topic](message.stamp, data)
        except _MALFORMED as error:
            reason = " ".join(str(error).split())
            raise RecordingError(f"{path}: {message.topic}: not what gato-arm records ({reason})") from error
    return gathered.finish(recording)


class _Gathering:
    """The columns while the file is read; `readers` has a method for each topic that is understood."""

    def __init__(self, joints: tuple[str, ...]) -> None:
        self._joints = joints
        self._messages: Counter[str] = Counter()
        self._first = self._last = 0
        self._steps = Columns(3 + len(STEP_PARTS))
        self._ticks = Columns(1 + len(TICK_PARTS) + len(ARRAYS) * len(joints))
        self._frames: defaultdict[str, Columns] = defaultdict(lambda: Columns(2))
        self._reasons: defaultdict[str, array[float]] = defaultdict(lambda: array("d"))
        self._episodes: dict[int, Episode] = {}
        self._faults: list[tuple[int, Json]] = []
        self._events: list[tuple[int, str, str]] = []
        self._counters: Counter[str] = Counter()
        self._last_counters: dict[str, int] = {}
        self._dropped = self._ticks_dropped = 0
        self.readers: dict[str, Callable[[int, Json], None]] = {
            "/step": self._step,
            "/tick": self._tick,
            "/episode": self._episode,
            "/event": self._event,
            "/fault": self._fault,
            "/recorder": self._recorder,
        }

    def count(self, message: RawMessage) -> None:
        """Every message counts, understood or not."""
        self._first = min(self._first, message.stamp) if self._messages else message.stamp
        self._last = max(self._last, message.stamp)
        self._messages[message.topic] += 1

    def _step(self, stamp: int, data: Json) -> None:
        split = [float(data["split_ms"].get(part, 0.0)) for part in STEP_PARTS]
        self._steps.add([stamp, float(data.get("late_ms", 0.0)), float(bool(data["missed"])), *split])
        for camera, captured in data.get("frames", {}).items():
            age = stamp - (captured["sec"] * SECOND + captured["nsec"])
            self._frames[plain(camera)].add([stamp, age / MILLISECOND])
        index = int(data["episode"])
        episode = self._episodes.setdefault(index, Episode(index, ""))
        if episode.outcome is None:
            episode.steps += 1
        episode.missed += bool(data["missed"])
        self._dropped = max(self._dropped, int(data.get("dropped", 0)))

    def _tick(self, stamp: int, data: Json) -> None:
        row = [float(stamp), *(float(data["split_ms"][part]) for part in TICK_PARTS)]
        for name in ARRAYS:
            values = data[name]
            row += [math.nan] * len(self._joints) if values is None else [_number(value) for value in values]
        self._ticks.add(row)
        for reason in data["reasons"]:
            self._reasons[plain(reason)].append(stamp)
        counters = {plain(name): int(value) for name, value in data["counters"].items()}
        if counters.get("ticks", 0) < self._last_counters.get("ticks", 0):
            self._counters.update(self._last_counters)  # the servo loop was started anew
        self._last_counters = counters

    def _episode(self, stamp: int, data: Json) -> None:
        index = int(data["index"])
        episode = self._episodes.setdefault(index, Episode(index, ""))
        episode.task = plain(data["task"])
        self._dropped = max(self._dropped, int(data.get("dropped", 0)))
        if data["event"] == "start":
            episode.start, episode.policy = stamp, plain(data.get("policy", ""))
            return
        episode.outcome, episode.steps = plain(data["outcome"]), int(data["steps"])
        if data["event"] == "end":
            episode.end = stamp

    def _event(self, stamp: int, data: Json) -> None:
        self._events.append((stamp, plain(data["kind"]), plain(data["text"])))

    def _fault(self, stamp: int, data: Json) -> None:
        pairs = [{key: pair[key] for key in PAIR} for pair in data["pairs"][-MAX_PAIRS:]]
        for pair in pairs:
            pair["stamp"] = pair["timestamp"]["sec"] * SECOND + pair.pop("timestamp")["nsec"]
            if any(len(pair[key]) != len(self._joints) for key in ("positions", "command", "velocities", "loads")):
                raise ValueError(f"pairs of {len(self._joints)} joints have other lengths")
        self._faults.append((stamp, {"text": plain(data["text"]), "pairs": pairs}))

    def _recorder(self, stamp: int, data: Json) -> None:
        self._dropped = max(self._dropped, int(data["dropped"]))
        self._ticks_dropped = max(self._ticks_dropped, int(data["ticks_dropped"]))

    def finish(self, recording: Recording) -> Log:
        """Stamps become seconds since the first message."""
        began = self._first
        told = {plain(key): plain(value) for key, value in recording.told.items()}

        def seconds(stamp: float) -> float:
            return (stamp - began) / SECOND

        def timed(columns: Columns) -> Floats:
            table = columns.table()
            table[:, 0] = (table[:, 0] - began) / SECOND
            return table

        for episode in self._episodes.values():
            episode.start, episode.end = seconds(episode.start), seconds(episode.end)
        faults = tuple(
            Fault(
                seconds(stamp),
                data["text"],
                tuple({**pair, "time": (pair["stamp"] - stamp) / SECOND} for pair in data["pairs"]),
            )
            for stamp, data in self._faults
        )
        self._counters.update(self._last_counters)
        return Log(
            path=recording.path,
            complete=recording.complete,
            damaged=recording.damaged,
            size=recording.size,
            metadata=told,
            joints=tuple(plain(joint) for joint in self._joints),
            began=began,
            duration=seconds(self._last) if self._messages else 0.0,
            messages=dict(sorted((plain(topic), count) for topic, count in self._messages.items())),
            episodes=tuple(self._episodes[index] for index in sorted(self._episodes)),
            faults=faults,
            events=tuple(Said(seconds(stamp), kind, text) for stamp, kind, text in self._events),
            steps=timed(self._steps),
            ticks=timed(self._ticks),
            frames={camera: timed(columns) for camera, columns in sorted(self._frames.items())},
            reasons={reason: (np.array(stamps) - began) / SECOND for reason, stamps in sorted(self._reasons.items())},
            counters=dict(self._counters),
            dropped=max(self._dropped, int(told.get("dropped", 0))),
            ticks_dropped=max(self._ticks_dropped, int(told.get("ticks_dropped", 0))),
        )


def plain(text: object) -> str:
    """A recording's word for a terminal or a file name: one line, nothing that a terminal would obey, 300 characters.

    Raises `TypeError` for what is no text."""
    if not isinstance(text, str):
        raise TypeError(f"{type(text).__name__} where a text should be")
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text[:300])


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)
