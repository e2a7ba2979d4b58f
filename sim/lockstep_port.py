"""Emulated servos as a serial port inside this process: a request is answered at once, time passes when it is told to.

For whatever needs the real drivers and many simulated minutes: no terminal, no thread, no waiting.
"""

from __future__ import annotations

from sim.plants import WorldPlant
from sim.servo_bus import ServoBus

PHYSICS_RATE = 200  # Hz


class LockstepPort:
    """`drivers.bus.SerialPort` onto `bus`, whose servos move what is in `plant`."""

    def __init__(self, bus: ServoBus, plant: WorldPlant) -> None:
        self._bus, self._plant = bus, plant
        self._replies = bytearray()
        self._owed = 0.0  # s that were asked for and were no whole physics step

    @property
    def in_waiting(self) -> int:
        return len(self._replies)

    def read(self, size: int = 1, /) -> bytes:
        taken = bytes(self._replies[:size])
        del self._replies[:size]
        return taken

    def write(self, data: bytes, /) -> int:
        for _, reply in self._bus.feed(data):
            self._replies += reply
        return len(data)

    def close(self) -> None:
        """The servos stay."""

    def advance(self, seconds: float) -> None:
        """Let that much time pass."""
        self._owed += seconds
        while self._owed > 0.5 / PHYSICS_RATE:
            self._bus.advance(1 / PHYSICS_RATE)
            self._plant.step(1)
            self._owed -= 1 / PHYSICS_RATE
