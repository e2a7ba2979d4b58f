"""When a servo must be asked how it is, and what is known to be wrong with each.

Knows no bus: the driver asks, this keeps the answers. Asking costs a transaction, so it is done when something may
have happened (a servo was silent, or nobody spoke to it for a while: it may have restarted, or its watchdog may have
tripped) and, while a servo says that it has an alert, once a second.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from drivers.bus import Reply
from drivers.servo_protocol import Health, ServoProtocol

RECHECK: Final = 1_000_000_000  # ns
TORQUE_LOST: Final = "torque went off"
WATCHDOG_TRIPPED: Final = "bus watchdog tripped"


class ServoHealth:
    """The health of the servos of one arm; stamps are monotonic ns."""

    def __init__(self, protocol: ServoProtocol) -> None:
        self._protocol = protocol
        watchdog = protocol.watchdog
        self._gap = None if watchdog is None else round(watchdog.period * 1e9 / 2)
        self._held = False
        self._suspect = False
        self._last_reading: int | None = None
        self._checked: dict[int, int] = {}  # servo -> when, for those with an alert
        self._alarms: dict[int, tuple[str, ...]] = {}  # while the alert lasts
        self._troubles: dict[int, tuple[str, ...]] = {}  # until the arm is held again

    def held(self) -> None:
        """Every servo has just been seen with torque on: what was wrong before is over."""
        self._held, self._suspect = True, False
        self._last_reading = None
        self._troubles.clear()
        self._checked.clear()

    def released(self) -> None:
        """Torque is off, or nobody knows: servos without torque are no trouble."""
        self._held = self._suspect = False
        self._troubles.clear()

    def failed(self) -> None:
        """Some servo was silent."""
        self._suspect = True

    def due(self, replies: Mapping[int, Reply], stamp: int) -> list[int]:
        """The servos to ask now, after a reading of all of them."""
        last, self._last_reading = self._last_reading, stamp
        if self._gap is not None and last is not None and stamp - last > self._gap:
            self._suspect = True
        if self._suspect and self._held:
            return list(replies)
        alert = self._protocol.alert
        if not alert:
            return []
        due = []
        for id, reply in replies.items():
            if not reply.error & alert:
                self._checked.pop(id, None)
                self._alarms.pop(id, None)
            elif id not in self._checked or stamp - self._checked[id] >= RECHECK:
                due.append(id)
        return due

    def note(self, answers: Mapping[int, Health], stamp: int) -> None:
        """What the servos that were asked have said."""
        for id, health in answers.items():
            self._checked[id] = stamp
            self._alarms[id] = health.errors
            wrong = {TORQUE_LOST: not health.torque, WATCHDOG_TRIPPED: health.tripped}
            if self._held and any(wrong.values()):
                self._troubles[id] = tuple(what for what, so in wrong.items() if so)
        self._suspect = False

    def errors(self, id: int, reply: Reply, alarms: Iterable[str]) -> list[str]:
        """All that is wrong with a servo, each thing once: its status byte, `alarms` of its reading, its health."""
        found = [*self._protocol.status_errors(reply.error), *alarms]
        found += self._alarms.get(id, ())
        found += self._troubles.get(id, ())
        if reply.error & self._protocol.alert and not found:
            found.append("alert")
        return list(dict.fromkeys(found))
