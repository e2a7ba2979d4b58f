"""Half-duplex serial transactions: one request, its replies, a deadline, a bounded number of retries, counters.

Knows no servo protocol: a `Framing` finds the replies in the byte stream. Assumes an adapter that does not echo what
the host sends (the usual single-wire servo adapters gate their receiver).
"""

from __future__ import annotations

import contextlib
import errno
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

import serial

from drivers.arm import ArmError, BusCounters
from drivers.polled_port import PolledPort

POLL = 0.001  # s, the longest single wait for a byte; bounds how far a try may overrun its deadline
WRITE_MAX = 0.02  # s that the kernel may take for a request; its buffer is a hundred times as long
QUIET_MAX = 0.004  # s, the longest that a line which still talks is listened to before the next request


class BusError(ArmError):
    """The port is gone or cannot be opened. A silent device is no `BusError`: its reply is just not there."""


class PortLost(BusError):
    """The port was open and has gone: the adapter was unplugged. Connecting again may find it."""


class SerialPort(Protocol):
    """What the bus needs of a serial port; `serial.Serial` is one. Every method raises `OSError` if the port dies."""

    @property
    def in_waiting(self) -> int: ...

    def read(self, size: int = 1, /) -> bytes:
        """Up to `size` bytes, waiting at most `POLL` seconds for the first one."""

    def write(self, data: bytes, /) -> int | None: ...

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Reply:
    """One whole status packet whose checksum held."""

    id: int
    error: int  # the device's error bits
    params: bytes


class Framing(Protocol):
    """How a protocol's replies stand in a byte stream."""

    def parse(self, buffer: bytearray, expected: Mapping[int, int]) -> tuple[list[Reply], int]:
        """Take every whole reply out of `buffer`, and the bytes that can belong to none; leave an unfinished tail.

        Only replies in `expected` (id -> number of parameter bytes) count, all else is skipped byte by byte. Returns
        the replies in the order they came, and how many bytes were skipped.
        """


def open_serial(port: str, baudrate: int) -> SerialPort:
    """Open a port for this process alone, 8N1, with short waits and, where the adapter's driver can, low latency.

    Raises `BusError` (one line) when there is no such port, it may not be opened, or another process has it.
    """
    try:
        opened = serial.Serial(port, baudrate, timeout=POLL, write_timeout=WRITE_MAX, exclusive=True)
    except (OSError, ValueError) as error:
        raise BusError(f"{port}: {_reason(port, error)}") from error
    with contextlib.suppress(AttributeError, NotImplementedError, ValueError):  # not Linux, or not such an adapter
        opened.set_low_latency_mode(True)  # an FTDI adapter otherwise keeps bytes back for up to 16 ms
    return PolledPort(opened) if sys.platform == "linux" else opened


def _reason(port: str, error: OSError | ValueError) -> str:
    """What to tell the user about a port that does not open: pyserial hides the cause in an errno or in its text."""
    text = str(error)
    number = error.errno if isinstance(error, OSError) else None
    if number == errno.ENOENT or "FileNotFoundError" in text:
        return "no such serial port; is the arm's adapter plugged in?"
    if number == errno.EACCES or "PermissionError" in text:
        return "no permission to open it; add your user to its group (often dialout)"
    if number in (errno.EAGAIN, errno.EBUSY) or "exclusively lock" in text:
        return "in use by another process; stop that one first"
    return f"not a serial port that can be opened ({' '.join(text.split())})"


class Bus:
    """Transactions with the devices on one port. Not thread-safe: one owner.

    `deadline` (s) bounds one try, from the end of the write to the last reply, and so many deadlines as there may
    be tries bound them together; `retries` more tries ask only for what is still missing, in the opposite order:
    servos that answer in turn may all fall silent behind a dead one, and it alone is missing both ways. Replies
    carry no number, so one that comes late, during the retry, is taken for the retry's; the retry's own is then
    still under way, and the next request waits until the line is quiet. `clock` returns monotonic ns.
    """

    def __init__(
        self,
        port: SerialPort,
        framing: Framing,
        *,
        deadline: float = 0.004,
        retries: int = 1,
        clock: Callable[[], int] = time.monotonic_ns,
        counters: BusCounters | None = None,
    ) -> None:
        self.counters = BusCounters() if counters is None else counters
        self._port = port
        self._framing = framing
        self._deadline_ns = round(deadline * 1e9)
        self._retries = retries
        self._clock = clock
        self._talking = False  # more may come that nobody asked for any more
        self._lost = False

    @property
    def lost(self) -> bool:
        """The port has gone; nothing will work on this bus any more."""
        return self._lost

    def send(self, request: bytes) -> None:
        """Send what no device answers (a broadcast). Raises `PortLost` when the port is gone."""
        try:
            self._send(request)
        except OSError as error:
            raise self._gone(error) from error

    def exchange(
        self,
        request: Callable[[Iterable[int]], bytes],
        expected: Mapping[int, int],
        *,
        retry: Callable[[Iterable[int]], bytes] | None = None,
    ) -> dict[int, Reply]:
        """Ask devices and collect their replies: id -> reply, in which the ids that stayed silent are missing.

        `request` builds the packet that asks the given ids, `retry` (or else `request`) that of every further try;
        `expected` holds for each id its number of parameter bytes. Raises `PortLost` when the port is gone.
        """
        replies: dict[int, Reply] = {}
        build = request
        end = self._clock() + (self._retries + 1) * self._deadline_ns
        try:
            for attempt in range(self._retries + 1):
                missing = {id: size for id, size in expected.items() if id not in replies}
                if attempt:
                    if self._clock() >= end:
                        break
                    self.counters.retried += 1
                    build = retry or request
                    if attempt % 2:
                        missing = dict(reversed(missing.items()))
                self._send(build(missing))
                replies.update(self._collect(missing, end))
                if len(replies) == len(expected):
                    self._talking = attempt > 0
                    return replies
        except OSError as error:
            raise self._gone(error) from error
        self.counters.failed += 1
        return replies

    def close(self) -> None:
        """Close the port."""
        self._port.close()

    def _send(self, request: bytes) -> None:
        # Stale bytes must not be taken for this request's replies, nor collide with them.
        if self._talking:
            self._await_quiet()
        elif waiting := self._port.in_waiting:
            self._port.read(waiting)
        with contextlib.suppress(serial.SerialTimeoutException):  # lost like a packet on the wire: silence tells
            self._port.write(request)
        self.counters.sent += 1

    def _await_quiet(self) -> None:
        """Throw away what still comes, until nothing has come for `POLL`."""
        end = self._clock() + round(QUIET_MAX * 1e9)
        while self._port.read(max(1, self._port.in_waiting)) and self._clock() < end:
            continue
        self._talking = False

    def _collect(self, expected: Mapping[int, int], end: int) -> dict[int, Reply]:
        """What one try yields until every reply is there, the deadline has passed, or it is `end` (ns)."""
        missing = dict(expected)
        replies: dict[int, Reply] = {}
        buffer = bytearray()
        skipped = 0
        end = min(end, self._clock() + self._deadline_ns)
        while missing:
            if late := self._clock() >= end:
                # The last wait may have brought a first byte: what came with it counts as well.
                buffer += self._port.read(self._port.in_waiting)
            else:
                buffer += self._port.read(max(1, self._port.in_waiting))
            found, bytes_skipped = self._framing.parse(buffer, missing)
            skipped += bytes_skipped
            for reply in found:
                if missing.pop(reply.id, None) is not None:
                    replies[reply.id] = reply
            if late:
                break
        if missing and (skipped or buffer):
            self.counters.corrupt += 1
            self._talking = True
        elif missing:
            self.counters.timed_out += 1
        for id in missing:
            self.counters.missing[id] = self.counters.missing.get(id, 0) + 1
        return replies

    def _gone(self, error: OSError) -> PortLost:
        self._lost = True
        self.counters.failed += 1
        where = getattr(self._port, "port", None) or "serial port"
        return PortLost(f"{where}: connection lost ({' '.join(str(error).split())}); check the cable and connect again")
