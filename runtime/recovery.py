"""What is taken out of a recording into files of its own: a whole recording from a broken one, and camera frames.

Nothing that exists is overwritten, and no name from inside a recording becomes a path. Knows the file format and
nothing of what the messages mean.
"""

from __future__ import annotations

import base64
import binascii
import os
import re
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from runtime.recording import RawMessage, Recording, RecordingError
from runtime.recording_file import RecordingFile, create

CAMERA = "/camera/"
SUFFIXES = {b"\xff\xd8\xff": ".jpg", b"\x89PNG": ".png"}  # by the first bytes of the data
OTHER_SUFFIX = ".bin"


@dataclass(frozen=True)
class Recovered:
    """What came over: how many messages, from when to when (ns, the file's time), and what did not."""

    messages: int
    first: int
    last: int
    damaged: int  # chunks whose checksum was wrong


def recover(source: Path, out: Path, on_position: Callable[[int], None] | None = None) -> Recovered:
    """Copy every whole message of `source` into the new file `out`, with an index.

    Raises `RecordingError` when `source` is no recording, holds no whole message, or `out` exists, and OSError.
    """
    recording = Recording(source)
    messages = recording.raw(on_position)
    head = next(messages, None)
    if head is None:
        raise RecordingError(f"{source}: not one whole message in it: nothing to recover")
    first = last = head.stamp
    with ExitStack() as stack:
        file = RecordingFile(out, recording.told)
        stack.callback(file.close)
        _copy(file, head)
        for message in messages:
            _copy(file, message)
            first, last = min(first, message.stamp), max(last, message.stamp)
        file.finish({"recovered_from": source.name, "damaged_chunks": str(recording.damaged)})
        return Recovered(file.messages, first, last, recording.damaged)


def _copy(file: RecordingFile, message: RawMessage) -> None:
    schema = message.schema
    name, described = ("", b"") if schema is None else (schema.name, schema.data)
    file.encoded(message.topic, name, described, message.stamp, message.data)


def export_frames(source: Path, folder: Path, on_position: Callable[[int], None] | None = None) -> dict[str, int]:
    """Write each camera's images to `folder`/CAMERA/STAMP.jpg (stamp: ns, the file's time); returns camera to count.

    Raises `RecordingError` when `source` is no recording, a frame's file exists or its content is no image; OSError.
    """
    recording = Recording(source)
    counts: dict[str, int] = {}
    for message in recording.raw(on_position):
        if not message.topic.startswith(CAMERA):
            continue
        camera = safe_name(message.topic.removeprefix(CAMERA))
        try:
            data = base64.b64decode(recording.decode(message)["data"], validate=True)
        except (KeyError, TypeError, ValueError, binascii.Error) as error:
            raise RecordingError(f"{source}: {message.topic}: no image in a message") from error
        suffix = next((suffix for magic, suffix in SUFFIXES.items() if data.startswith(magic)), OTHER_SUFFIX)
        descriptor = create(folder / camera / f"{message.stamp}{suffix}")
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
        counts[camera] = counts.get(camera, 0) + 1
    return counts


def safe_name(name: str) -> str:
    """`name` as one part of a path: anything but letters, digits, dash and underscore becomes an underscore."""
    return re.sub(r"[^A-Za-z0-9_-]", "_", name)[:64] or "_"
