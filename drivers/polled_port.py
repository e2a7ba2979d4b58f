"""A serial port that is looked at from time to time, instead of waking its reader for each byte.

On Linux a worker of the kernel, at normal priority, carries every received byte through the terminal layer, that of a
USB adapter like that of a pseudo-terminal. It wakes whoever waits there in the middle of its work. A reader at
real-time priority takes the processor from it at that moment, and where other programs keep the processors busy it
gets it back late. Until then the terminal answers nobody: `select` waits for the worker, not for a byte, and no timeout
ends that. Measured on 2 busy cores: 10 to 20 ms, most often in the `select` with which pyserial ends a write. A reader
that sleeps by the clock and asks how many bytes there are neither interrupts the worker nor waits for it.

Knows no servos, and opens nothing.
"""

from __future__ import annotations

import os
import time

import serial

LOOK = 150e-6  # s between two looks: a sixth of what the replies of six servos take at 1 Mbit/s


class PolledPort:
    """An open `serial.Serial` of Linux with a `timeout`, as a `drivers.bus.SerialPort`.

    Every method raises `OSError` when the port dies.
    """

    def __init__(self, opened: serial.Serial) -> None:
        self._serial = opened
        self._timeout = float(opened.timeout or 0.0)

    @property
    def port(self) -> str | None:
        """Its name."""
        return self._serial.port

    @property
    def in_waiting(self) -> int:
        return self._serial.in_waiting

    def read(self, size: int = 1, /) -> bytes:
        """Up to `size` bytes, waiting at most `timeout` seconds for the first one."""
        end = time.monotonic() + self._timeout
        while not (waiting := self._serial.in_waiting):
            if time.monotonic() >= end:
                return b""
            time.sleep(LOOK)
        return bytes(self._serial.read(min(size, waiting)))

    def write(self, data: bytes, /) -> int:
        """Hand `data` to the kernel; what its buffer does not take at once is waited for, with pyserial's timeout."""
        try:
            taken = os.write(self._serial.fileno(), data)
        except BlockingIOError:
            taken = 0
        if taken < len(data):
            self._serial.write(data[taken:])
        return len(data)

    def close(self) -> None:
        self._serial.close()
