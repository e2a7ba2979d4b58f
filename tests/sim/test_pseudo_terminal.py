"""A serial port that is not there, seen by pyserial and by the system."""

from __future__ import annotations

import os
import select
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from serial import Serial, SerialException

from sim.faults import EmulatorError
from sim.pseudo_terminal import PseudoTerminal


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[PseudoTerminal]:
    terminal = PseudoTerminal(tmp_path / "port")
    yield terminal
    terminal.close()


def received(terminal: PseudoTerminal) -> bytes:
    assert select.select([terminal], [], [], 5)[0]
    return terminal.read()


def test_bytes_go_both_ways_unchanged(terminal: PseudoTerminal) -> None:
    everything = bytes(range(256))
    with Serial(str(terminal.path), 1_000_000, timeout=5) as port:
        port.write(everything)
        data = b""
        while len(data) < len(everything):
            data += received(terminal)
        assert data == everything
        terminal.write(everything)
        assert port.read(256) == everything
    assert terminal.read() == b""


def test_the_speed_that_the_client_sets_is_seen(terminal: PseudoTerminal) -> None:
    assert terminal.baudrate() == 1_000_000
    for speed in (57_600, 128_000, 1_000_000, 4_500_000):  # some of them have no name in termios
        with Serial(str(terminal.path), speed):
            assert terminal.baudrate() == speed


def test_in_use_while_a_client_has_it_open(terminal: PseudoTerminal) -> None:
    assert not terminal.in_use()
    with Serial(str(terminal.path), 57_600):
        assert terminal.in_use()
        assert terminal.baudrate() == 57_600
    assert not terminal.in_use()


def test_writing_to_nobody_never_waits(terminal: PseudoTerminal) -> None:
    for _ in range(100):
        terminal.write(bytes(4096))


def test_unplugging_hangs_up_and_plugging_brings_a_new_port_under_the_same_name(terminal: PseudoTerminal) -> None:
    port = Serial(str(terminal.path), 1_000_000, timeout=1)
    before = os.readlink(terminal.path)
    terminal.unplug()
    assert not terminal.plugged and not terminal.path.is_symlink() and not terminal.in_use()
    with pytest.raises((SerialException, OSError)):
        port.read(1)
    port.close()
    terminal.write(b"lost")
    with pytest.raises(SerialException):
        Serial(str(terminal.path))
    keeper = os.openpty()  # takes the number that has become free: the new port is another one
    terminal.plug()
    assert terminal.plugged and os.readlink(terminal.path) != before
    with Serial(str(terminal.path), 1_000_000, timeout=5) as port:
        port.write(b"again")
        assert received(terminal) == b"again"
    for end in keeper:
        os.close(end)


def test_a_blocked_reader_is_woken_by_the_hang_up(terminal: PseudoTerminal) -> None:
    port = os.open(terminal.path, os.O_RDWR | os.O_NOCTTY)
    terminal.unplug()
    started = time.monotonic()
    poll = select.poll()
    poll.register(port, select.POLLIN)
    assert poll.poll(5000)[0][1] & select.POLLHUP and time.monotonic() - started < 5
    os.close(port)


def test_a_name_that_somebody_else_took_is_left_to_them(terminal: PseudoTerminal) -> None:
    terminal.unplug()
    terminal.path.write_text("theirs")
    terminal.plug()
    terminal.close()
    assert terminal.path.read_text() == "theirs"


def test_a_stale_link_is_replaced_a_file_is_not_and_close_tidies_up(tmp_path: Path) -> None:
    link = tmp_path / "servos"
    link.symlink_to("/nowhere")
    terminal = PseudoTerminal(link)
    assert link.exists()
    terminal.close()
    terminal.close()
    assert not link.is_symlink()
    link.write_text("precious")
    with pytest.raises(EmulatorError, match="--link"):
        PseudoTerminal(link)
    assert link.read_text() == "precious"
