"""The flight recorder: a subscriber of the control loop that writes MCAP from a thread of its own.

The control step only appends to a bounded queue, and the servo process only writes to a ring in shared memory; what
finds either of them full is dropped and counted, and the counts are in the recording. Every `FLUSH_PERIOD` the writer
ends the chunk in hand and syncs the file, so a crash, SIGKILL included, loses at most that much and
`runtime.recording` reads what is left. A disk that is full ends the recording, with a notice, and nothing else.

docs/recording.md lists the topics. Knows no policy, no robot and no simulator.
"""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from runtime.loop import FAULT, EpisodeInfo, EpisodeResult, Step
from runtime.recording_file import RecordingFile
from runtime.recording_messages import (
    Json,
    file_time,
    image_message,
    joints_message,
    log_line,
    pair_message,
    step_message,
    tick_message,
)
from runtime.servo_state import ServoState

FILE_NAME = "recording.mcap"
FLUSH_PERIOD = 0.2  # s
DRAIN_PERIOD = 0.05  # s between two looks into the ring of servo ticks
STATISTICS_PERIOD = 1.0  # s
QUEUE_RECORDS = 400  # 20 s of control steps
CLOSE_TIMEOUT = 10.0  # s, for the queue to drain
PAIRS = 50  # (command, state) pairs that a fault carries, as libfranka's exception does

DEBUG, INFO, WARNING, ERROR, FATAL = 1, 2, 3, 4, 5  # foxglove.Log levels


class TickSource(Protocol):
    """Where servo ticks are read from: `runtime.shared_block.SharedBlock`, for example."""

    def drain(self) -> tuple[Sequence[ServoState], int]:
        """The ticks since the last call, oldest first, and how many were lost."""

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class _Entry:
    """What is queued: what is told, its monotonic stamp in ns (None: the newest so far), and its content."""

    kind: str
    stamp: int | None
    content: Any


class Recorder:
    """Records episodes into `folder`/recording.mcap until `close`. A subscriber: see `runtime.loop`.

    Arrays and images that a step holds must not be changed afterwards: they are encoded later.
    """

    def __init__(
        self,
        folder: Path,
        joint_names: tuple[str, ...],
        *,
        epoch: int = 0,
        metadata: Mapping[str, str] | None = None,
        queue_records: int = QUEUE_RECORDS,
        notify: Callable[[str], None] | None = None,
    ) -> None:
        """`epoch` is added to monotonic stamps (ns) to get the file's times: Unix time minus monotonic time in real
        time, 0 in lock-step. `metadata` is stored in the file. `notify` is told, on the recorder's thread and in one
        line, when the recording ends early. Raises `RecordingError` when there is a recording in `folder` already, and
        OSError when the file cannot be made."""
        self.path = folder / FILE_NAME
        self.dropped = 0  # records that found the queue full
        self.ticks_dropped = 0  # servo ticks that were overwritten before they were read
        self.error: OSError | None = None  # what ended the writing early, e.g. a full disk
        self._joint_names = joint_names
        self._epoch = epoch
        self._notify = notify
        self._episode = -1
        self._queue: queue.Queue[_Entry | None] = queue.Queue(queue_records)
        self._source: TickSource | None = None
        self._pairs: deque[ServoState] = deque(maxlen=PAIRS)
        self._last: ServoState | None = None
        self._stamp: int | None = None  # ns, of the newest record
        self._told_dropped = 0
        self._told_fault: str | None = None  # of this episode
        self._file = RecordingFile(self.path, {"joints": ",".join(joint_names), **(metadata or {})})
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="recorder", daemon=True)
        self._thread.start()

    def __enter__(self) -> Recorder:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # ---- on the control loop's thread: append and return

    def on_episode_start(self, info: EpisodeInfo) -> None:
        self._put("start", info.stamp, info)

    def on_step(self, step: Step) -> None:
        self._put("step", step.stamp, step)

    def on_episode_end(self, result: EpisodeResult) -> None:
        self._put("end", result.stamp, result)

    def on_tick(self, state: ServoState) -> None:
        """Record one servo tick, where the servo loop runs in this process; else see `follow`."""
        self._put("tick", state.stamp, state)

    def verdict(self, result: EpisodeResult) -> None:
        """Correct an episode's outcome, for a judge who speaks after the end."""
        self._put("verdict", result.stamp, result)

    def log(self, stamp: int, level: int, message: str) -> None:
        """Add a line to /log; `stamp` in monotonic ns, `level` one of DEBUG … FATAL."""
        self._put("log", stamp, (level, message))

    def event(self, stamp: int | None, kind: str, text: str) -> None:
        """Something that happened, as an operator's action: `kind` in a word, `text` in a line; `stamp` in monotonic
        ns, None: with the newest record."""
        self._put("event", stamp, (kind, text))

    def follow(self, source: TickSource) -> None:
        """Record every tick of `source` from here on; the recorder closes it. An earlier source is read to its end."""
        self._put("follow", None, source)

    def close(self) -> None:
        """Write what is queued, then the index. Takes at most `CLOSE_TIMEOUT`; may be called more than once."""
        if self._closed:
            return
        self._closed = True
        deadline = time.monotonic() + CLOSE_TIMEOUT
        while self._thread.is_alive() and time.monotonic() < deadline:
            with contextlib.suppress(queue.Full):
                self._queue.put(None, timeout=0.1)
                self._thread.join(CLOSE_TIMEOUT)
        # A disk that stalled for so long leaves a file that recovery reads.

    def _put(self, kind: str, stamp: int | None, content: object) -> None:
        if self._closed or self.error is not None:
            self.dropped += 1
            return
        try:
            self._queue.put_nowait(_Entry(kind, stamp, content))
        except queue.Full:
            self.dropped += 1

    # ---- on the writer's thread

    def _run(self) -> None:
        try:
            self._write_all()
        except OSError as error:
            self.error = error
            reason = error.strerror or str(error)
            self._file.abandon({"dropped": str(self.dropped), "error": reason})
            if self._notify is not None:
                self._notify(f"recording  stopped, the arm goes on: {self.path}: {reason}")
        finally:
            self._leave_source()
            self._file.close()

    def _write_all(self) -> None:
        flush = statistics = time.monotonic()
        over = False
        while not over:
            try:
                entry = self._queue.get(timeout=DRAIN_PERIOD)
            except queue.Empty:
                pass
            else:
                over = entry is None
                if entry is not None:
                    self._write(entry)
            self._drain()
            now = time.monotonic()
            if now >= flush + FLUSH_PERIOD or over:
                self._tell_drops()
                if now >= statistics + STATISTICS_PERIOD or over:
                    self._statistics()
                    statistics = now
                self._file.commit()
                flush = now
        self._file.finish({"dropped": str(self.dropped), "ticks_dropped": str(self.ticks_dropped)})

    def _drain(self) -> None:
        if self._source is not None:
            states, lost = self._source.drain()
            self.ticks_dropped += lost
            for state in states:
                self._write_tick(state)

    def _leave_source(self) -> None:
        source, self._source = self._source, None
        if source is not None:
            source.close()

    def _tell_drops(self) -> None:
        dropped = self.dropped + self.ticks_dropped
        if self._stamp is not None and dropped > self._told_dropped:
            self._log(
                self._stamp, WARNING, f"recorder: {dropped - self._told_dropped} records dropped, {dropped} in all"
            )
            self._told_dropped = dropped

    def _statistics(self) -> None:
        if self._stamp is None:
            return  # nothing happened yet, hence no time
        content = {
            "timestamp": self._time(self._stamp),
            "messages": self._file.messages,
            "bytes": self._file.size,
            "queued": self._queue.qsize(),
            "dropped": self.dropped,
            "ticks_dropped": self.ticks_dropped,
        }
        self._message("/recorder", "gato_arm.Recorder", self._stamp, content)

    def _write(self, entry: _Entry) -> None:
        stamp = entry.stamp if entry.stamp is not None else self._stamp or 0
        content = entry.content
        if entry.kind != "follow":
            self._stamp = max(self._stamp or stamp, stamp)
        if entry.kind == "step":
            self._write_step(content)
        elif entry.kind == "tick":
            self._write_tick(content)
        elif entry.kind == "log":
            self._log(stamp, *content)
        elif entry.kind == "event":
            self._event(stamp, *content)
        elif entry.kind == "follow":
            self._drain()
            self._leave_source()
            self._source = content
        elif entry.kind == "start":
            self._episode, self._told_fault = content.index, None
            told = {"index": content.index, "task": content.task, "policy": content.policy, "dropped": self.dropped}
            self._message("/episode", "gato_arm.Episode", stamp, {"event": "start", **told})
        else:
            self._write_end(entry.kind, content)

    def _write_end(self, event: str, result: EpisodeResult) -> None:
        told = {"index": result.index, "task": result.task, "outcome": result.outcome, "steps": result.steps}
        self._message("/episode", "gato_arm.Episode", result.stamp, {"event": event, **told, "dropped": self.dropped})
        if event == "end" and result.outcome.startswith(FAULT):
            self._drain()
            text = result.outcome.removeprefix(FAULT)
            if text != self._told_fault:  # else a servo tick has told it
                self._fault(result.stamp, text)

    def _write_step(self, step: Step) -> None:
        for camera, image in step.observation.images.items():
            captured = self._time(step.frame_stamps.get(camera, step.observation.stamp))
            self._message(
                f"/camera/{camera}", "foxglove.CompressedImage", step.stamp, image_message(captured, camera, image)
            )
        state, names = step.joint_state, self._joint_names
        for topic, stamp, content in (
            ("/joints", state.stamp, joints_message(self._time(state.stamp), names, state.positions, state)),
            ("/command", step.stamp, joints_message(self._time(step.stamp), names, step.command)),
            ("/target", step.stamp, joints_message(self._time(step.stamp), names, step.action.targets)),
        ):
            self._message(topic, "foxglove.JointStates", stamp, content)
        self._message("/step", "gato_arm.Step", step.stamp, step_message(step, self._episode, self.dropped, self._time))

    def _write_tick(self, state: ServoState) -> None:
        self._stamp = max(self._stamp or state.stamp, state.stamp)
        last, self._last = self._last, state
        self._pairs.append(state)
        self._message("/tick", "gato_arm.Tick", state.stamp, tick_message(state, self._time))
        if last is not None and last.state is not state.state:
            self._event(state.stamp, "state", f"{last.state.name.lower()} -> {state.state.name.lower()}")
        before = None if last is None else last.fault
        if state.fault is not None and state.fault != before:
            self._fault(state.stamp, state.fault)
        elif state.fault is None and before is not None:
            self._event(state.stamp, "reset", f"fault forgotten: {before}")

    def _event(self, stamp: int, kind: str, text: str) -> None:
        self._message("/event", "gato_arm.Event", stamp, {"timestamp": self._time(stamp), "kind": kind, "text": text})
        self._log(stamp, INFO, f"{kind}: {text}")

    def _fault(self, stamp: int, text: str) -> None:
        """A fault with the ticks before it, oldest first."""
        self._told_fault = text
        content = {
            "timestamp": self._time(stamp),
            "text": text,
            "joints": list(self._joint_names),
            "pairs": [pair_message(state, self._time) for state in self._pairs],
        }
        self._message("/fault", "gato_arm.Fault", stamp, content)
        self._log(stamp, ERROR, f"fault: {text}")

    def _log(self, stamp: int, level: int, text: str) -> None:
        self._message("/log", "foxglove.Log", stamp, log_line(self._time(stamp), level, text))

    def _message(self, topic: str, schema: str, stamp: int, content: Mapping[str, Any]) -> None:
        self._file.message(topic, schema, stamp + self._epoch, content)

    def _time(self, stamp: int) -> Json:
        return file_time(stamp + self._epoch)
