"""A serial port that is not there: the master side of a pseudo-terminal, under a stable name."""

from __future__ import annotations

import contextlib
import os
import select
import tty
from pathlib import Path

from sim.faults import EmulatorError


class PseudoTerminal:
    """Clients open `path` like any serial port; `read` and `write` are the servos' end, and never wait.

    `link` is made a symlink to the terminal, replacing a stale one, and removed by `close`. Raises `EmulatorError` when
    something other than a symlink stands there.
    """

    def __init__(self, link: Path | None = None) -> None:
        self._master, self._slave = os.openpty()
        self._device = os.ttyname(self._slave)
        # Held open: without any opener Linux forgets the raw mode and the master reads errors.
        tty.setraw(self._slave)
        os.set_blocking(self._master, False)
        self._link: Path | None = None
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

    def fileno(self) -> int:
        return self._master

    def read(self) -> bytes:
        """What has come in; empty when nothing has."""
        try:
            return os.read(self._master, 4096)
        except BlockingIOError:
            return b""

    def write(self, data: bytes) -> None:
        """Send; what does not fit because nobody reads is lost, as on a wire."""
        with contextlib.suppress(BlockingIOError):
            os.write(self._master, data)

    def in_use(self) -> bool:
        """True when any client has the port open."""
        os.close(self._slave)
        poll = select.poll()
        poll.register(self._master, 0)
        in_use = not any(event & select.POLLHUP for _, event in poll.poll(0))
        self._slave = os.open(self._device, os.O_RDWR | os.O_NOCTTY)
        if not in_use:
            tty.setraw(self._slave)
        return in_use

    def close(self) -> None:
        """Hang up and remove the link; may be called more than once."""
        if self._master < 0:
            return
        os.close(self._slave)
        os.close(self._master)
        self._master = -1
        if self._link is not None and self._link.is_symlink() and os.readlink(self._link) == self._device:
            self._link.unlink()
