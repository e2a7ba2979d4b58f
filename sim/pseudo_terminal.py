"""A serial port that is not there: the master side of a pseudo-terminal, under a stable name."""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import struct
import sys
import tty
from pathlib import Path

from sim.faults import EmulatorError

# Linux: terminal settings with speeds as numbers, and where those stand.
_TCGETS2, _TCSETS2, _TERMIOS2 = 0x802C542A, 0x402C542B, 44
_SPEEDS, _SPEEDS_AT = struct.Struct("2I"), 36  # of input and output
_FLAGS, _FLAGS_AT, _SPEED_MASK, _SPEED_OTHER = struct.Struct("I"), 8, 0o10017, 0o10000


class PseudoTerminal:
    """Clients open `path` like any serial port; `read` and `write` are the servos' end, and never wait.

    `link` is made a symlink to the terminal, replacing a stale one, and removed by `close`; `baudrate` is of clients
    who set none. Raises `EmulatorError` when something other than a symlink stands at `link`.
    """

    def __init__(self, link: Path | None = None, baudrate: int = 1_000_000) -> None:
        self._master = self._slave = -1
        self._baudrate = baudrate
        self._device = ""
        self._link: Path | None = None
        self._open()
        if link is not None:
            try:
                if link.is_symlink():
                    link.unlink()
                link.symlink_to(self._device)
            except OSError as error:
                self.close()
                raise EmulatorError(
                    f"--link {link}: cannot make the symlink there ({error.strerror}); choose a path that is free"
                ) from None
            self._link = link

    @property
    def path(self) -> Path:
        """What clients open."""
        return self._link or Path(self._device)

    @property
    def plugged(self) -> bool:
        """False while it is unplugged."""
        return self._master >= 0

    def fileno(self) -> int:
        return self._master

    def read(self) -> bytes:
        """What has come in; empty when nothing has."""
        try:
            return os.read(self._master, 4096)
        except BlockingIOError:
            return b""

    def write(self, data: bytes) -> None:
        """Send; what does not fit because nobody reads is lost, as on a wire, and so is all while unplugged."""
        if self.plugged:
            with contextlib.suppress(BlockingIOError):
                os.write(self._master, data)

    def baudrate(self) -> int | None:
        """Bits a second that the client has set; None where the system does not tell."""
        if sys.platform != "linux":
            return None
        return int(_SPEEDS.unpack_from(fcntl.ioctl(self._slave, _TCGETS2, bytes(_TERMIOS2)), _SPEEDS_AT)[1])

    def in_use(self) -> bool:
        """True when any client has the port open."""
        if not self.plugged:
            return False
        os.close(self._slave)
        poll = select.poll()
        poll.register(self._master, 0)
        in_use = not any(event & select.POLLHUP for _, event in poll.poll(0))
        self._slave = os.open(self._device, os.O_RDWR | os.O_NOCTTY)
        if not in_use:
            tty.setraw(self._slave)
        return in_use

    def unplug(self) -> None:
        """Hang up: clients read errors, and the path is gone. What they then hold open is dead for good."""
        if self._link is not None and self._is_ours(self._link):
            self._link.unlink()
        os.close(self._slave)
        os.close(self._master)
        self._master = self._slave = -1

    def plug(self) -> None:
        """Come back as a new terminal under the same link."""
        self._open()
        if self._link is not None:
            with contextlib.suppress(FileExistsError):  # somebody took the name meanwhile: theirs it is
                self._link.symlink_to(self._device)

    def close(self) -> None:
        """Hang up and remove the link; may be called more than once."""
        if self.plugged:
            self.unplug()

    def _open(self) -> None:
        self._master, self._slave = os.openpty()
        self._device = os.ttyname(self._slave)
        # Held open: without any opener Linux forgets the raw mode and the master reads errors.
        tty.setraw(self._slave)
        os.set_blocking(self._master, False)
        if sys.platform == "linux":
            settings = bytearray(fcntl.ioctl(self._slave, _TCGETS2, bytes(_TERMIOS2)))
            flags = _FLAGS.unpack_from(settings, _FLAGS_AT)[0] & ~_SPEED_MASK | _SPEED_OTHER
            _FLAGS.pack_into(settings, _FLAGS_AT, flags)
            _SPEEDS.pack_into(settings, _SPEEDS_AT, self._baudrate, self._baudrate)
            fcntl.ioctl(self._slave, _TCSETS2, bytes(settings))

    def _is_ours(self, link: Path) -> bool:
        return link.is_symlink() and os.readlink(link) == self._device
