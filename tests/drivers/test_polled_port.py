"""A polled port on a real pseudo-terminal."""

from __future__ import annotations

import os
import pty
import sys
from collections.abc import Iterator

import pytest
import serial

from drivers.polled_port import PolledPort

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="a polled port is for Linux")


@pytest.fixture
def line() -> Iterator[tuple[int, PolledPort]]:
    """The far end of a terminal, and the port on it."""
    master, slave = pty.openpty()
    opened = serial.Serial(os.ttyname(slave), 1_000_000, timeout=0.001, write_timeout=0.02)
    port = PolledPort(opened)
    os.close(slave)
    try:
        yield master, port
    finally:
        port.close()
        os.close(master)


def read_until(port: PolledPort, count: int) -> bytes:
    """`count` bytes, or what has come after very many looks."""
    received = b""
    for _ in range(2000):
        received += port.read(count - len(received))
        if len(received) == count:
            break
    return received


def test_bytes_go_both_ways(line: tuple[int, PolledPort]) -> None:
    master, port = line
    assert port.write(b"\xff\xff\x01") == 3
    assert os.read(master, 16) == b"\xff\xff\x01"
    os.write(master, b"answer")
    assert read_until(port, 4) == b"answ"
    assert read_until(port, 2) == b"er"
    assert port.in_waiting == 0


def test_a_silent_line_gives_nothing(line: tuple[int, PolledPort]) -> None:
    assert line[1].read(8) == b""


def test_what_a_full_buffer_does_not_take_times_out(line: tuple[int, PolledPort]) -> None:
    with pytest.raises(serial.SerialTimeoutException):
        line[1].write(bytes(1 << 20))  # nobody reads; the kernel keeps some kilobytes


def test_an_unplugged_port_is_an_os_error() -> None:
    master, slave = pty.openpty()
    port = PolledPort(serial.Serial(os.ttyname(slave), 1_000_000, timeout=0.001))
    os.close(slave)
    os.close(master)
    with pytest.raises(OSError, match="Input/output"):
        read_until(port, 1)
    with pytest.raises(OSError, match="Input/output"):
        port.write(b"x")
    port.close()
