"""The guardian seen from the policy's side: started, listened to, told that the arm may be released.

What happens on the other side is in `runtime.guardian`.
"""

from __future__ import annotations

import contextlib

from drivers.arm import ArmError
from runtime.guardian import RELEASE, GuardianSettings, Notice, guard
from runtime.spawn import spawn

READY_TIMEOUT_S = 20.0  # a new interpreter and its imports
END_TIMEOUT_S = 1.0  # after the servo process's end in good order


class GuardianProcess:
    """A running guardian. `await_ready` before the arm moves."""

    def __init__(self, settings: GuardianSettings) -> None:
        self._process, self._connection = spawn("guardian", guard, settings)
        self._notice: Notice | None = None

    @property
    def pid(self) -> int | None:
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process.is_alive()

    def await_ready(self) -> None:
        """Returns once it watches. Raises `ArmError` when it does not come to that."""
        if self._next(READY_TIMEOUT_S) is None:
            raise ArmError("the guardian process did not start: its own message says why")

    def notice(self) -> Notice | None:
        """The newest that it had to say since it watches; None: nothing."""
        while (notice := self._next(0.0)) is not None:
            self._notice = notice
        return self._notice

    def release(self, timeout_s: float) -> Notice | None:
        """Let it release an arm that it holds, and wait for its last word; None when there is none in that time."""
        with contextlib.suppress(OSError):
            self._connection.send(RELEASE)
        while not ((notice := self.notice()) and notice.last):
            found = self._next(timeout_s)
            if found is None:
                return None
            self._notice = found
        return notice

    def close(self) -> None:
        """Stop listening. A guardian that has nothing to do ends; one that has the arm goes on by itself."""
        self._connection.close()
        self._process.join(END_TIMEOUT_S)
        if not self._process.is_alive():
            self._process.close()

    def _next(self, timeout_s: float) -> Notice | None:
        try:
            if self._connection.poll(timeout_s):
                notice: Notice = self._connection.recv()
                return notice
        except (EOFError, OSError):
            return None
        return None
