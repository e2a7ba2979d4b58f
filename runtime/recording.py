"""Reads flight recordings: by index when they were finished, by streaming up to the break when they were not.

Knows only the file; no robot, no policy. A recording whose process was killed is an ordinary one to this reader,
with `complete` False.
"""

from __future__ import annotations

import base64
import json
import struct
import zlib
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import zstandard
from mcap.exceptions import McapError
from mcap.reader import make_reader
from mcap.records import Channel, Message, Metadata
from mcap.stream_reader import CRCValidationError, StreamReader
from numpy.typing import NDArray

MAGIC = b"\x89MCAP0\r\n"
# What a file that ends anywhere can raise: a short record, a short magic, half a compressed chunk, a wrong checksum.
_BROKEN = (McapError, CRCValidationError, struct.error, zstandard.ZstdError, zlib.error, UnicodeDecodeError)


class RecordingError(Exception):
    """The file is no recording; the message says what, where and what to do."""


@dataclass(frozen=True)
class RecordedMessage:
    """One message: its topic, its time (ns, Unix time of a real-time run) and its decoded JSON."""

    topic: str
    stamp: int
    data: dict[str, Any]


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
        try:
            with path.open("rb") as file:
                head = file.read(len(MAGIC))
                size = file.seek(0, 2)
                file.seek(max(0, size - len(MAGIC)))
                tail = file.read()
        except OSError as error:
            raise RecordingError(f"{path}: {error.strerror or error}; name a recording.mcap") from error
        if head != MAGIC:
            raise RecordingError(f"{path} is no MCAP recording; name a recording.mcap")
        self.complete = size > len(MAGIC) and tail == MAGIC

    def messages(self, topics: Collection[str] | None = None) -> Iterator[RecordedMessage]:
        """Messages of `topics` (default all): in time order when the file is complete, else in file order, up to
        where it breaks off."""
        if not self.complete:
            yield from self._recovered(topics)
            return
        wanted = None if topics is None else list(topics)
        with self.path.open("rb") as file:
            for _, channel, message in make_reader(file, validate_crcs=True).iter_messages(topics=wanted):
                yield _decoded(channel, message)

    def metadata(self) -> dict[str, str]:
        """What the recorder was told about the run, and the joint names under "joints"."""
        merged: dict[str, str] = {}
        for record in self._records():
            if isinstance(record, Metadata):
                merged.update(record.metadata)
        return merged

    def frames(self, camera: str) -> Iterator[NDArray[np.uint8]]:
        """The images of one camera, (H, W, 3) RGB, as JPEG left them."""
        from runtime.picture import decode

        for message in self.messages([f"/camera/{camera}"]):
            yield decode(base64.b64decode(message.data["data"]))

    def summary(self) -> Summary:
        """Count what is there; reads the whole file once."""
        messages: Counter[str] = Counter()
        stamps: list[int] = []
        dropped = missed = 0
        episodes: dict[int, RecordedEpisode] = {}
        for message in self.messages():
            data = message.data
            messages[message.topic] += 1
            stamps = [min(stamps[0], message.stamp), max(stamps[1], message.stamp)] if stamps else [message.stamp] * 2
            dropped = max(dropped, data.get("dropped", 0))
            if message.topic == "/step":
                missed += bool(data["missed"])
                episode = episodes.get(data["episode"], RecordedEpisode(data["episode"], "", None, 0, False))
                if not episode.ended:
                    episodes[episode.index] = RecordedEpisode(
                        episode.index, episode.task, None, max(episode.steps, data["index"] + 1), False
                    )
            elif message.topic == "/episode":
                present = episodes.get(data["index"])
                steps = present.steps if present else 0
                ended = data["event"] != "start"
                episodes[data["index"]] = RecordedEpisode(
                    data["index"], data["task"], data.get("outcome"), data.get("steps", steps), ended
                )
        dropped = max(dropped, int(self.metadata().get("dropped", 0)))
        duration = (stamps[1] - stamps[0]) / 1e9 if stamps else 0.0
        return Summary(
            self.complete,
            dict(messages),
            duration,
            dropped,
            messages["/step"],
            missed,
            tuple(episodes[index] for index in sorted(episodes)),
        )

    def _recovered(self, topics: Collection[str] | None) -> Iterator[RecordedMessage]:
        channels: dict[int, Channel] = {}
        for record in self._records():
            if isinstance(record, Channel):
                channels[record.id] = record
            elif isinstance(record, Message):
                channel = channels[record.channel_id]
                if topics is None or channel.topic in topics:
                    yield _decoded(channel, record)

    def _records(self) -> Iterator[object]:
        """Every record, chunks opened, until the end or the break. A chunk counts only if its checksum is right."""
        with self.path.open("rb") as file:
            try:
                yield from StreamReader(file, validate_crcs=True).records
            except _BROKEN:
                if self.complete:
                    raise


def _decoded(channel: Channel, message: Message) -> RecordedMessage:
    return RecordedMessage(channel.topic, message.log_time, json.loads(message.data))
