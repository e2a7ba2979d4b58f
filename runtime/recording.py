"""Reads flight recordings, whole ones and those that break off: every whole message up to the break, in file order.

A reader that trusts the index at the end returns nothing from a file whose process was killed; this one goes through
the chunks, skips one whose checksum is wrong, and stops where the bytes stop making sense. What a file claims about
sizes is believed within bounds only. Knows only the file; no robot, no policy.
"""

from __future__ import annotations

import base64
import json
import struct
import zlib
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import zstandard
from mcap.exceptions import McapError
from mcap.records import Channel, Chunk, McapRecord, Message, Metadata, Schema
from mcap.stream_reader import CRCValidationError, StreamReader, breakup_chunk
from numpy.typing import NDArray

MAGIC = b"\x89MCAP0\r\n"
MAX_RECORD_BYTES = 64 << 20  # of one record, and of one chunk's content; the recorder's chunks are a thousandth of it
# What a file that ends anywhere, or lies, can raise: a short record, a short magic, a wrong checksum, a huge string.
_BROKEN = (McapError, CRCValidationError, struct.error, zstandard.ZstdError, zlib.error, ValueError)
_NO_ROOM = (MemoryError, OverflowError)


class RecordingError(Exception):
    """The file is no recording; the message says what, where and what to do."""


@dataclass(frozen=True)
class RecordedMessage:
    """One message: its topic, its time (ns, Unix time of a real-time run) and its decoded JSON."""

    topic: str
    stamp: int
    data: dict[str, Any]


@dataclass(frozen=True)
class RawMessage:
    """One message as it stands in the file."""

    topic: str
    stamp: int
    data: bytes
    schema: Schema | None


@dataclass(frozen=True)
class RecordedEpisode:
    """One episode as the recording tells it; `outcome` is None when it was cut off or not judged."""

    index: int
    task: str
    outcome: str | None
    steps: int
    ended: bool


@dataclass(frozen=True)
class Summary:
    """What a recording holds."""

    complete: bool
    messages: dict[str, int]  # topic -> count
    duration: float  # s, first to last message
    dropped: int  # records that the recorder had to drop, as far as the file knows
    steps: int
    missed: int  # control steps that missed their deadline
    episodes: tuple[RecordedEpisode, ...]


class Recording:
    """An MCAP file of `runtime.recorder`, opened for reading; every iteration reads the file anew."""

    def __init__(self, path: Path) -> None:
        """Raises `RecordingError` when `path` is missing or no MCAP file."""
        self.path = path
        self.damaged = 0  # chunks that the last iteration had to skip
        self.told: dict[str, str] = {}  # all metadata that the last iteration met
        try:
            with path.open("rb") as file:
                head = file.read(len(MAGIC))
                self.size = file.seek(0, 2)
                file.seek(max(0, self.size - len(MAGIC)))
                tail = file.read()
        except OSError as error:
            raise RecordingError(f"{path}: {error.strerror or error}; name a recording.mcap") from error
        if head != MAGIC:
            what = "is empty" if not self.size else "is no MCAP recording"
            raise RecordingError(f"{path} {what}; name a recording.mcap")
        self.complete = self.size > len(MAGIC) and tail == MAGIC

    def records(self, on_position: Callable[[int], None] | None = None) -> Iterator[McapRecord]:
        """Every record, chunks opened, until the end or the break. `on_position` is told the bytes read so far."""
        self.damaged, self.told = 0, {}
        with self.path.open("rb") as file:
            stream = iter(StreamReader(file, emit_chunks=True, record_size_limit=MAX_RECORD_BYTES).records)
            while True:
                try:
                    record = next(stream, None)
                except (*_BROKEN, *_NO_ROOM):
                    return
                if record is None:
                    return
                if isinstance(record, Metadata):
                    self.told.update(record.metadata)
                if not isinstance(record, Chunk):
                    yield record
                    continue
                if on_position is not None:
                    on_position(file.tell())
                try:
                    inside = _opened(record)
                except (*_BROKEN, *_NO_ROOM):
                    self.damaged += 1
                    continue
                yield from inside

    def raw(self, on_position: Callable[[int], None] | None = None) -> Iterator[RawMessage]:
        """Every whole message, not decoded."""
        channels: dict[int, Channel] = {}
        schemas: dict[int, Schema] = {}
        for record in self.records(on_position):
            if isinstance(record, Schema):
                schemas[record.id] = record
            elif isinstance(record, Channel):
                channels[record.id] = record
            elif isinstance(record, Message) and (channel := channels.get(record.channel_id)) is not None:
                yield RawMessage(channel.topic, record.log_time, record.data, schemas.get(channel.schema_id))

    def messages(
        self, topics: Collection[str] | None = None, on_position: Callable[[int], None] | None = None
    ) -> Iterator[RecordedMessage]:
        """Messages of `topics` (default all) in file order, which is time order within a topic.

        Raises `RecordingError` for a message that is not a JSON object.
        """
        for message in self.raw(on_position):
            if topics is None or message.topic in topics:
                yield RecordedMessage(message.topic, message.stamp, self.decode(message))

    def metadata(self) -> dict[str, str]:
        """What the recorder was told about the run, and the joint names under "joints"."""
        for _ in self.records():
            pass
        return self.told

    def frames(self, camera: str) -> Iterator[NDArray[np.uint8]]:
        """The images of one camera, (H, W, 3) RGB, as JPEG left them."""
        from runtime.picture import decode

        for message in self.messages([f"/camera/{camera}"]):
            yield decode(base64.b64decode(message.data["data"]))

    def summary(self) -> Summary:
        """Count what is there; reads the whole file once."""
        messages: Counter[str] = Counter()
        first = last = None
        dropped = missed = 0
        episodes: dict[int, RecordedEpisode] = {}
        for message in self.messages():
            data = message.data
            messages[message.topic] += 1
            first = message.stamp if first is None else min(first, message.stamp)
            last = message.stamp if last is None else max(last, message.stamp)
            dropped = max(dropped, data.get("dropped", 0))
            if message.topic == "/step":
                missed += bool(data["missed"])
                episode = episodes.get(data["episode"], RecordedEpisode(data["episode"], "", None, 0, False))
                if not episode.ended:
                    steps = max(episode.steps, data["index"] + 1)
                    episodes[episode.index] = RecordedEpisode(episode.index, episode.task, None, steps, False)
            elif message.topic == "/episode":
                present = episodes.get(data["index"])
                steps = present.steps if present else 0
                ended = data["event"] != "start"
                episodes[data["index"]] = RecordedEpisode(
                    data["index"], data["task"], data.get("outcome"), data.get("steps", steps), ended
                )
        dropped = max(dropped, int(self.told.get("dropped", 0)))
        duration = (last - first) / 1e9 if first is not None and last is not None else 0.0
        ordered = tuple(episodes[index] for index in sorted(episodes))
        return Summary(self.complete, dict(messages), duration, dropped, messages["/step"], missed, ordered)

    def decode(self, message: RawMessage) -> dict[str, Any]:
        """A message's JSON object. Raises `RecordingError`."""
        try:
            data = json.loads(message.data)
        except (ValueError, RecursionError) as error:
            raise RecordingError(f"{self.path}: {message.topic} is not JSON: no recording of gato-arm") from error
        if not isinstance(data, dict):
            raise RecordingError(f"{self.path}: {message.topic} is no JSON object: no recording of gato-arm")
        return data


def _opened(chunk: Chunk) -> list[McapRecord]:
    """The records in a chunk, if its size is within bounds and its checksum right."""
    if chunk.compression == "zstd":
        size = zstandard.get_frame_parameters(chunk.data).content_size  # what decompression would allocate
    elif chunk.compression == "":
        size = len(chunk.data)
    else:
        raise McapError(f"compression {chunk.compression}")
    if size != chunk.uncompressed_size or size > MAX_RECORD_BYTES:
        raise McapError(f"a chunk of {size} bytes")
    return breakup_chunk(chunk, validate_crc=True)
