"""A ring of fixed-size records in shared memory: the servo process writes every tick, the recorder reads behind it.

One writer, one reader, no waiting on either side: a writer that is a whole ring ahead overwrites, and the reader counts
what it never saw. Every slot carries its record's number and a checksum, so a reader gets whole records only, also
after the writer was killed half-way. Knows no process, no arm and no file; the records are bytes.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass

READ_ATTEMPTS = 16
_WORD = 8  # bytes
_SLOT_HEADER = 2 * _WORD  # number, 0 while the slot is written, and checksum


@dataclass(frozen=True, slots=True)
class Drained:
    """What a reader found: whole records, oldest first, and how many were overwritten before it came."""

    records: tuple[bytes, ...]
    dropped: int


class TickRing:
    """The last `records` records of `record_bytes` each, in `buffer`, which must be 8-byte aligned and at first zero.

    Records are numbered from 1. Whoever opens the ring to write goes on after the last one; whoever opens it to read
    begins with the oldest that is still there.
    """

    def __init__(self, buffer: memoryview, record_bytes: int, records: int) -> None:
        """Raises `ValueError` for a buffer that is smaller than `size(record_bytes, records)`."""
        if len(buffer) < self.size(record_bytes, records):
            raise ValueError(
                f"a ring of {records} x {record_bytes} bytes needs {self.size(record_bytes, records)}, "
                f"the buffer has {len(buffer)}"
            )
        self._record_bytes, self._records = record_bytes, records
        slot = self._slot_size(record_bytes)
        self._count = buffer[:_WORD].cast("Q")
        starts = [_WORD + index * slot for index in range(records)]
        self._words = [buffer[start : start + _SLOT_HEADER].cast("Q") for start in starts]
        self._payloads = [buffer[start + _SLOT_HEADER :][:record_bytes] for start in starts]
        self._written = self._count[0]
        self._next = max(1, self._written - records + 1)

    @staticmethod
    def size(record_bytes: int, records: int) -> int:
        """Bytes that a ring takes."""
        return _WORD + records * TickRing._slot_size(record_bytes)

    @staticmethod
    def _slot_size(record_bytes: int) -> int:
        return _SLOT_HEADER + -(-record_bytes // _WORD) * _WORD

    def write(self, record: bytes) -> None:
        """Append one record of `record_bytes`; never waits. Raises `ValueError` for another length."""
        number = self._written + 1
        index = self._written % self._records
        words = self._words[index]
        words[0] = 0
        self._payloads[index][:] = record
        words[1] = zlib.crc32(record)
        words[0] = number
        self._count[0] = self._written = number

    def drain(self) -> Drained:
        """Everything written since the last call, at most one ring full."""
        written = self._count[0]
        oldest = written - self._records + 1
        dropped = max(0, oldest - self._next)
        found = []
        for number in range(self._next + dropped, written + 1):
            record = self._read(number)
            if record is None:
                dropped += 1
            else:
                found.append(record)
        self._next = max(self._next, written + 1)
        return Drained(tuple(found), dropped)

    def latest(self) -> tuple[int, bytes] | None:
        """The newest record and its number; None before the first. A ring of two is enough for that: what a writer
        overwrites is the older one, so that one who is interrupted or killed leaves the newest whole."""
        for _ in range(READ_ATTEMPTS):
            number = self._count[0]
            record = self._read(number) if number else None
            if record is not None:
                return number, record
        return None

    def _read(self, number: int) -> bytes | None:
        """Record `number`; None when the writer was faster, or died while it overwrote this one."""
        index = (number - 1) % self._records
        words, payload = self._words[index], self._payloads[index]
        for _ in range(READ_ATTEMPTS):
            if words[0] != number:
                continue  # another processor may show its writes in another order: look again
            record = bytes(payload)
            if words[1] == zlib.crc32(record) and words[0] == number:
                return record
        return None

    def close(self) -> None:
        """Let go of the buffer; needed before shared memory can be closed."""
        for view in (self._count, *self._words, *self._payloads):
            view.release()
