"""The flight recorder: a subscriber of the control loop that writes MCAP from a thread of its own.

The tick only appends to a bounded queue; when the disk cannot keep up, whole steps are dropped and counted, and the
count stands in every later step and at the end of the file. Every `FLUSH_PERIOD` the writer ends the chunk in hand and
syncs the file, so a crash, SIGKILL included, loses at most that much; `runtime.recording` reads what is left.

Topics: /camera/<name> (foxglove.CompressedImage, JPEG), /joints and /command (foxglove.JointStates), /log
(foxglove.Log), /step (gato_arm.Step) and /episode (gato_arm.Episode). Knows no policy, no robot and no simulator.
"""

from __future__ import annotations

import base64
import io
import json
import os
import queue
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mcap.writer import Writer

from runtime.recording_schemas import SCHEMAS

if TYPE_CHECKING:
    from runtime.loop import EpisodeInfo, EpisodeResult, Step

FILE_NAME = "recording.mcap"
CHUNK_BYTES = 64 * 1024
FLUSH_PERIOD = 0.5  # s
QUEUE_RECORDS = 400  # 20 s of control steps
CLOSE_TIMEOUT = 10.0  # s, for the queue to drain

DEBUG, INFO, WARNING, ERROR, FATAL = 1, 2, 3, 4, 5  # foxglove.Log levels


@dataclass(frozen=True, slots=True)
class _Entry:
    """What is queued: a step, an episode's beginning or end, or a log line, with its monotonic stamp in ns."""

    kind: str
    stamp: int
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
    ) -> None:
        """`epoch` is added to monotonic stamps (ns) to get the file's times: Unix time minus monotonic time in real
        time, 0 in lock-step. `metadata` is stored in the file. Raises OSError when the file cannot be made."""
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / FILE_NAME
        self.dropped = 0  # records that found the queue full
        self.error: OSError | None = None  # what ended the writing early, e.g. a full disk
        self._joint_names = joint_names
        self._epoch = epoch
        self._episode = -1
        self._queue: queue.Queue[_Entry | None] = queue.Queue(queue_records)
        # mcap puts a buffer of 8 KiB around a raw file; one of 1 byte passes every chunk straight to the system.
        self._file = io.BufferedWriter(io.FileIO(self.path, "w"), buffer_size=1)
        self._writer: Any = Writer(self._file, chunk_size=CHUNK_BYTES)  # Any: half of mcap's writer has no types
        self._writer.start(profile="", library="gato-arm")
        self._writer.add_metadata("gato_arm", {"joints": ",".join(joint_names), **(metadata or {})})
        self._channels: dict[str, int] = {}
        self._schemas: dict[str, int] = {}
        self._sequence = 0
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="recorder", daemon=True)
        self._thread.start()

    def __enter__(self) -> Recorder:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # ---- on the control loop's thread: append and return

    def on_episode_start(self, info: EpisodeInfo) -> None:
        self._put(_Entry("start", info.stamp, info))

    def on_step(self, step: Step) -> None:
        self._put(_Entry("step", step.stamp, step))

    def on_episode_end(self, result: EpisodeResult) -> None:
        self._put(_Entry("end", result.stamp, result))

    def verdict(self, result: EpisodeResult) -> None:
        """Correct an episode's outcome, for a judge who speaks after the end."""
        self._put(_Entry("verdict", result.stamp, result))

    def log(self, stamp: int, level: int, message: str) -> None:
        """Add a line to /log; `stamp` in monotonic ns, `level` one of DEBUG … FATAL."""
        self._put(_Entry("log", stamp, (level, message)))

    def close(self) -> None:
        """Write what is queued, then the index. Takes at most `CLOSE_TIMEOUT`; may be called more than once."""
        if self._closed:
            return
        self._closed = True
        try:
            self._queue.put(None, timeout=CLOSE_TIMEOUT)
        except queue.Full:
            return  # the disk has stalled; the file stays readable by recovery
        self._thread.join(CLOSE_TIMEOUT)

    def _put(self, entry: _Entry) -> None:
        if self._closed or self.error is not None:
            self.dropped += 1
            return
        try:
            self._queue.put_nowait(entry)
        except queue.Full:
            self.dropped += 1

    # ---- on the writer's thread

    def _run(self) -> None:
        try:
            self._write_all()
        except OSError as error:
            self.error = error
        finally:
            self._file.close()

    def _write_all(self) -> None:
        due = time.monotonic() + FLUSH_PERIOD
        while True:
            try:
                entry = self._queue.get(timeout=max(0.0, due - time.monotonic()))
            except queue.Empty:
                pass
            else:
                if entry is None:
                    break
                self._write(entry)
            if time.monotonic() >= due:
                self._sync()
                due = time.monotonic() + FLUSH_PERIOD
        self._writer.flush()
        self._writer.add_metadata("end", {"dropped": str(self.dropped)})
        self._writer.finish()
        self._sync()

    def _sync(self) -> None:
        self._writer.flush()
        os.fsync(self._file.fileno())

    def _write(self, entry: _Entry) -> None:
        if entry.kind == "step":
            self._write_step(entry.content)
        elif entry.kind == "log":
            level, message = entry.content
            self._message(
                "/log",
                "foxglove.Log",
                entry.stamp,
                {
                    "timestamp": self._time(entry.stamp),
                    "level": level,
                    "message": message,
                    "name": "gato-arm",
                    "file": "",
                    "line": 0,
                },
            )
        elif entry.kind == "start":
            info: EpisodeInfo = entry.content
            self._episode = info.index
            self._message(
                "/episode",
                "gato_arm.Episode",
                entry.stamp,
                {"event": "start", "index": info.index, "task": info.task, "dropped": self.dropped},
            )
        else:
            result: EpisodeResult = entry.content
            self._message(
                "/episode",
                "gato_arm.Episode",
                entry.stamp,
                {
                    "event": entry.kind,
                    "index": result.index,
                    "task": result.task,
                    "outcome": result.outcome,
                    "steps": result.steps,
                    "dropped": self.dropped,
                },
            )

    def _write_step(self, step: Step) -> None:
        from runtime.picture import jpeg

        for camera, image in step.observation.images.items():
            self._message(
                f"/camera/{camera}",
                "foxglove.CompressedImage",
                step.stamp,
                {
                    "timestamp": self._time(step.observation.stamp),
                    "frame_id": camera,
                    "format": "jpeg",
                    "data": base64.b64encode(jpeg(image)).decode("ascii"),
                },
            )
        state = step.joint_state
        self._joints("/joints", state.stamp, positions=state.positions, velocities=state.velocities, loads=state.loads)
        self._joints("/command", step.stamp, positions=step.command)
        self._message(
            "/step",
            "gato_arm.Step",
            step.stamp,
            {
                "timestamp": self._time(step.stamp),
                "episode": self._episode,
                "index": step.index,
                "tokens": step.action.tokens.tolist(),
                "targets": step.action.targets.tolist(),
                "command": step.command.tolist(),
                "proprioception": {name: values.tolist() for name, values in step.observation.proprioception.items()},
                "split_ms": dict(step.split_ms),
                "late_ms": step.late_ms,
                "missed": step.missed,
                "dropped": self.dropped,
            },
        )

    def _joints(self, topic: str, stamp: int, *, positions: Any, velocities: Any = None, loads: Any = None) -> None:
        joints = []
        for i, name in enumerate(self._joint_names):
            joint = {"name": name, "position": float(positions[i])}
            if velocities is not None:
                joint["velocity"] = float(velocities[i])
            if loads is not None:
                joint["effort"] = float(loads[i])  # a share of the stall torque, not N m: the bus reports no more
            joints.append(joint)
        self._message(topic, "foxglove.JointStates", stamp, {"timestamp": self._time(stamp), "joints": joints})

    def _message(self, topic: str, schema: str, stamp: int, content: Mapping[str, Any]) -> None:
        if topic not in self._channels:
            if schema not in self._schemas:
                data = json.dumps(SCHEMAS[schema]).encode()
                self._schemas[schema] = self._writer.register_schema(schema, "jsonschema", data)
            self._channels[topic] = self._writer.register_channel(topic, "json", self._schemas[schema])
        moment = stamp + self._epoch
        self._writer.add_message(self._channels[topic], moment, json.dumps(content).encode(), moment, self._sequence)
        self._sequence += 1

    def _time(self, stamp: int) -> dict[str, int]:
        seconds, nanoseconds = divmod(stamp + self._epoch, 1_000_000_000)
        return {"sec": seconds, "nsec": nanoseconds}
