"""A stop button that the system shows as an input device: a USB foot switch, a mushroom on a GPIO, any key at all.

Read without waiting, by the process that owns the bus, straight from the kernel's `struct input_event`. Knows no arm
and no stop category. Losing the button is as bad as pressing it: both are told in one line.
"""

from __future__ import annotations

import os
import struct

from drivers.config import ConfigError

if os.name == "posix":
    import fcntl

EVENT = struct.Struct("llHHi")  # struct input_event of linux/input.h: seconds, microseconds, type, code, value
EV_KEY = 0x01  # linux/input-event-codes.h
_UP = 0  # value of a key event; 1 is down, 2 is a repetition
_KEY_BYTES = 96  # KEY_MAX is 0x2ff
_EVIOCGKEY = (2 << 30) | (_KEY_BYTES << 16) | (ord("E") << 8) | 0x18  # linux/input.h: which keys are down
_EVENTS = 64  # read at once, at most


class StopButton:
    """Any key of the input device at `path`. Raises `ConfigError` when it cannot be opened."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._down: set[int] = set()
        try:
            self._file = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        except OSError as error:
            raise ConfigError(
                f"safety.stop_button: {path}: {error.strerror}; plug it in, and let your user read it (group input)"
            ) from error
        self._pressed = self._down_already()
        self._lost = False

    def poll(self) -> str | None:
        """What is wrong: the button was pressed since the last call or still is, or it is gone. Never waits."""
        pressed = self._pressed
        self._pressed = False
        while not self._lost:
            try:
                data = os.read(self._file, _EVENTS * EVENT.size)
            except BlockingIOError:
                break
            except OSError:
                data = b""
            self._lost = not data
            for offset in range(0, len(data) - EVENT.size + 1, EVENT.size):
                _, _, kind, code, value = EVENT.unpack_from(data, offset)
                if kind == EV_KEY and value == _UP:
                    self._down.discard(code)
                elif kind == EV_KEY:
                    self._down.add(code)
                    pressed = True
        if self._lost:
            return f"stop button lost: {self._path} is gone: plug it in and start again"
        return "stop button pressed: release it, then reset" if pressed or self._down else None

    def close(self) -> None:
        """Let go of the device; may be called more than once."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _down_already(self) -> bool:
        """A mushroom that is latched when the runtime starts sends no event: ask."""
        keys = bytearray(_KEY_BYTES)
        try:
            fcntl.ioctl(self._file, _EVIOCGKEY, keys)
        except OSError:  # not a device of the input subsystem
            return False
        self._down = {8 * byte + bit for byte, bits in enumerate(keys) for bit in range(8) if bits >> bit & 1}
        return bool(self._down)
