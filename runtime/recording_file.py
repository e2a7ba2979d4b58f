"""An MCAP file that is being written: whole chunks or nothing, on disk within a moment, and never through a link.

A chunk goes to the system in one write and is synced. When the disk is full the half-written chunk is cut off and the
file is closed properly without its index, so it stays a valid MCAP file that ends at the last whole chunk. Knows
nothing about what the messages mean, and no threads.
"""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mcap.data_stream import RecordBuilder
from mcap.records import Channel, ChunkIndex, DataEnd, Footer, Metadata, Schema
from mcap.writer import Writer

from runtime.recording import MAGIC, RecordingError
from runtime.recording_schemas import SCHEMAS

CHUNK_BYTES = 64 * 1024
ENDING_BYTES = 1024  # more than any ending takes
_DESCRIBED = {name: json.dumps(schema).encode() for name, schema in SCHEMAS.items()}

# O_EXCL alone refuses whatever stands under the name, links included; O_NOFOLLOW says so a second time.
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)


def create(path: Path) -> int:
    """A descriptor of a new file at `path`, whose folder is made.

    The folder may be reached through a link, since the operator named it; the file itself is always a new one. Raises
    `RecordingError` when something stands there already, and `OSError`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        return os.open(path, _NEW_FILE, 0o644)
    except FileExistsError as error:
        raise RecordingError(f"{path} exists and is never overwritten: name another folder or remove it") from error


class _Pending:
    """What the MCAP writer has written and the disk has not: a stream of which only the end is in memory."""

    def __init__(self) -> None:
        self._data = bytearray()
        self._taken = 0

    def write(self, data: bytes) -> int:
        self._data += data
        return len(data)

    def tell(self) -> int:
        return self._taken + len(self._data)

    def flush(self) -> None:
        """Nothing happens until `take`."""

    def take(self) -> bytes:
        data = bytes(self._data)
        self._data.clear()
        self._taken += len(data)
        return data


class _ChunkIndexes:
    """The MCAP writer's list of chunk indexes, on disk instead of in memory, which they fill at 18 MB an hour.

    They are spooled, as they stand in a file's summary, to an unnamed file in the recording's folder.
    """

    def __init__(self, folder: Path) -> None:
        descriptor, name = tempfile.mkstemp(dir=folder)
        os.unlink(name)
        self._spool = os.fdopen(descriptor, "w+b")

    def append(self, index: ChunkIndex) -> None:
        builder: Any = RecordBuilder()
        index.write(builder)
        self._spool.write(builder.end())

    def __iter__(self) -> Iterator[_Encoded]:
        self._spool.seek(0)
        while data := self._spool.read(CHUNK_BYTES):
            yield _Encoded(data)

    def close(self) -> None:
        with contextlib.suppress(OSError):  # what was buffered, on a disk that is full
            self._spool.close()


class _Encoded:
    """Records that are bytes already."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def write(self, builder: Any) -> None:
        builder.write(self._data)


class RecordingFile:
    """Messages into a new file at `path`. After an `OSError` of any method, call `abandon`; nothing else is allowed."""

    def __init__(self, path: Path, metadata: Mapping[str, str]) -> None:
        """`metadata` is stored under the name gato_arm. Raises `RecordingError` when the file exists, and `OSError`."""
        self.path = path
        self.messages = 0
        self._descriptor = create(path)
        self._pending = _Pending()
        self._safe = [0]  # lengths at which the file may be cut: now, and back to where an ending fits for certain
        stream: Any = self._pending
        self._writer: Any = Writer(stream, chunk_size=CHUNK_BYTES)  # Any: half of mcap's writer has no types
        self._indexes = _ChunkIndexes(path.parent)
        # It has no setting for where they are kept; tests/runtime/test_recorder.py notices when the name changes.
        vars(self._writer)["_Writer__chunk_indices"] = self._indexes
        self._writer.start(profile="", library="gato-arm")
        self._writer.add_metadata("gato_arm", dict(metadata))
        self._channels: dict[str, int] = {}
        self._schemas: dict[str, int] = {}

    @property
    def size(self) -> int:
        """Bytes on disk."""
        return self._safe[-1]

    def message(self, topic: str, schema: str, moment: int, content: Mapping[str, Any]) -> None:
        """Add one message at `moment` (ns, the file's time). Raises `OSError`."""
        data = json.dumps(content, separators=(",", ":")).encode()
        self.encoded(topic, schema, _DESCRIBED[schema], moment, data)

    def encoded(self, topic: str, schema: str, described: bytes, moment: int, data: bytes) -> None:
        """Add one message that is JSON already; `described` is its JSON schema."""
        if topic not in self._channels:
            if schema not in self._schemas:
                self._schemas[schema] = self._writer.register_schema(schema, "jsonschema", described)
            self._channels[topic] = self._writer.register_channel(topic, "json", self._schemas[schema])
            # A second time outside of any chunk: one damaged chunk must not make all others unreadable.
            builder: Any = RecordBuilder()
            Schema(id=self._schemas[schema], data=described, encoding="jsonschema", name=schema).write(builder)
            Channel(self._channels[topic], topic, "json", {}, self._schemas[schema]).write(builder)
            self._pending.write(builder.end())
        self._writer.add_message(self._channels[topic], moment, data, moment, self.messages)
        self.messages += 1
        if self._pending.tell() > self.size:
            self._write()

    def commit(self) -> None:
        """End the chunk in hand and sync the file. Raises `OSError`."""
        self._writer.flush()
        self._write()
        os.fsync(self._descriptor)

    def finish(self, metadata: Mapping[str, str]) -> None:
        """Write `metadata` under the name end, then the index, and close. Raises `OSError`."""
        self._writer.flush()
        self._writer.add_metadata("end", dict(metadata))
        self._write()
        self._writer.finish()
        self._write()
        os.fsync(self._descriptor)
        self.close()

    def abandon(self, metadata: Mapping[str, str]) -> None:
        """Close a file that cannot be written to any more at its last whole chunk. Never raises."""
        builder: Any = RecordBuilder()
        Metadata("end", dict(metadata)).write(builder)
        DataEnd(0).write(builder)
        Footer(0, 0, 0).write(builder)
        ending: bytes = builder.end() + MAGIC
        # What was cut off usually made room for the ending; where it did not, a little more gives way.
        for length in reversed(self._safe):
            with contextlib.suppress(OSError):
                os.ftruncate(self._descriptor, length)
                os.lseek(self._descriptor, length, os.SEEK_SET)
                if length:
                    _write_all(self._descriptor, ending)
                    os.fsync(self._descriptor)
                break
        self.close()

    def close(self) -> None:
        """Close the descriptor; may be called more than once. Never raises."""
        self._indexes.close()
        if self._descriptor >= 0:
            with contextlib.suppress(OSError):
                os.close(self._descriptor)
            self._descriptor = -1

    def _write(self) -> None:
        data = self._pending.take()
        if data:
            _write_all(self._descriptor, data)
            self._safe.append(self.size + len(data))
            while len(self._safe) > 2 and self.size - self._safe[1] >= ENDING_BYTES:
                del self._safe[0]


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
