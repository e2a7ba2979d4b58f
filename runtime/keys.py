"""The operator's keys while the arm moves: read one by one from a terminal, without Enter, on a thread of their own.

Knows no arm: what a stop does is a callable that is passed in. The terminal is left as it was found, whatever happens.
"""

from __future__ import annotations

import contextlib
import os
import queue
import select
import threading
from collections import deque
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Self

from runtime.clock import SECOND, Clock
from runtime.supervisor import Stop

if os.name == "posix":
    import termios
    import tty

HELP = "space or s: stop and hold   l: lower and release   0 twice: power off at once   Ctrl-C: end"
SECOND_PRESS_S = 2.0  # after the first, a second press of 0 is its confirmation
RESET, QUIT = "r", "q"
_NEVER = -1  # ns
_LOOK_S = 0.2  # between two looks whether the operator has pressed Ctrl-C instead


class StopKeys:
    """Which stop a key means."""

    def __init__(self) -> None:
        self._armed_until = _NEVER  # ns, for power off

    def press(self, key: str, now: int) -> Stop | None:
        """The stop that this key asks for at `now` ns; None for none, and for a first press of 0."""
        confirmed = now <= self._armed_until
        self._armed_until = _NEVER
        if key in (" ", "s"):
            return Stop.HOLD
        if key == "l":
            return Stop.LOWER
        if key == "0" and confirmed:
            return Stop.POWER_OFF
        if key == "0":
            self._armed_until = now + round(SECOND_PRESS_S * SECOND)
        return None


class OperatorKeys:
    """Reads keys from the terminal behind the descriptor `terminal` inside `with`.

    `stop` is called on the reading thread, once for each stop; `say` tells a line. Other keys wait for `asked`.
    """

    def __init__(self, terminal: int, stop: Callable[[Stop], None], say: Callable[[str], None], clock: Clock) -> None:
        self._terminal, self._stop, self._say, self._clock = terminal, stop, say, clock
        self._keys: queue.Queue[str] = queue.Queue(64)
        self._stops = StopKeys()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        self._found = termios.tcgetattr(self._terminal)
        self._begin()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Leave the terminal to a question that is answered by a line."""
        self._end()
        try:
            yield
        finally:
            self._begin()

    def take(self) -> str | None:
        """The next key that stops nothing; None when none waits."""
        with contextlib.suppress(queue.Empty):
            return self._keys.get_nowait()
        return None

    def forget(self) -> None:
        """Keys that were pressed before count no more."""
        while self.take() is not None:
            continue

    def wants_reset(self, fault: str) -> bool:
        """Ask what is to become of a run after a fault; True: the operator resets it."""
        self.forget()
        self._say(f"stopped by a fault: {fault}")
        self._say(f"remove the cause, then press {RESET} to reset and go on, or {QUIT} to end")
        while True:
            with contextlib.suppress(queue.Empty):
                key = self._keys.get(timeout=_LOOK_S)
                if key in (RESET, QUIT):
                    return key == RESET
            if self._thread is None or not self._thread.is_alive():
                return False  # the terminal is gone

    def _begin(self) -> None:
        tty.setcbreak(self._terminal)
        self._wake, self._waking = os.pipe()
        self._thread = threading.Thread(target=self._read, name="keys", daemon=True)
        self._thread.start()

    def _end(self) -> None:
        if self._thread is None:
            return
        os.write(self._waking, b".")
        self._thread.join()
        self._thread = None
        os.close(self._wake)
        os.close(self._waking)
        with contextlib.suppress(termios.error):  # the terminal is gone
            termios.tcsetattr(self._terminal, termios.TCSADRAIN, self._found)

    def _read(self) -> None:
        while True:
            ready, _, _ = select.select([self._terminal, self._wake], [], [])
            if self._wake in ready:
                return
            try:
                data = os.read(self._terminal, 64)
            except OSError:
                data = b""
            if not data:
                return
            for key in data.decode(errors="replace").lower():
                self._press(key)

    def _press(self, key: str) -> None:
        category = self._stops.press(key, self._clock.now())
        if category is not None:
            self._stop(category)
        elif key == "0":
            self._say("power off: an arm in the air falls; press 0 again to confirm")
        else:
            with contextlib.suppress(queue.Full):
                self._keys.put_nowait(key)


class KeyListener:
    """Keys for whoever need not know whether somebody is there: `listen` is a stage's, `take` gives none before."""

    def __init__(self, terminal: int | None, say: Callable[[str], None], clock: Clock, hint: str = "") -> None:
        """`terminal` None: there is nobody. `hint` is said after what the keys for stopping mean."""
        self._terminal, self._say, self._clock, self._hint = terminal, say, clock, hint
        self.keys: OperatorKeys | None = None
        self._waiting: deque[str] = deque(maxlen=64)

    @contextlib.contextmanager
    def listen(self, stop: Callable[[Stop], None]) -> Iterator[None]:
        """Read keys inside `with`; `stop` is told of those that stop the arm."""
        if self._terminal is None:
            yield
            return
        with OperatorKeys(self._terminal, stop, self._say, self._clock) as self.keys:
            self._say(HELP)
            if self._hint:
                self._say(self._hint)
            yield

    @property
    def there(self) -> bool:
        """Somebody is at the terminal."""
        return self.keys is not None

    def take(self, among: str) -> str | None:
        """The next key of those in `among`; None when none waits. Others wait for who wants them."""
        while self.keys is not None and (key := self.keys.take()) is not None:
            self._waiting.append(key)
        for key in self._waiting:
            if key in among:
                self._waiting.remove(key)
                return key
        return None

    def forget(self) -> None:
        """Keys that were pressed before count no more."""
        if self.keys is not None:
            self.keys.forget()
        self._waiting.clear()
