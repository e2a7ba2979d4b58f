"""What a bad cable does to status packets, by chance and repeatable: the random generator is passed in.

Knows no protocol: packets are bytes.
"""

from __future__ import annotations

import numpy as np

from sim.faults import Fault

CHANCES = ("drop", "corrupt", "delay", "duplicate", "extra")
EXTRA_MAX = 8  # bytes of noise before a packet, at most


class LineNoise:
    """Spoils packets as the faults in force say; subscribe it to `Faults`."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._rng = rng
        self._faults: dict[str, Fault] = {}

    def __call__(self, fault: Fault, begins: bool) -> None:
        """A fault begins or ends."""
        if fault.name in CHANCES:
            if begins:
                self._faults[fault.name] = fault
            else:
                self._faults.pop(fault.name, None)

    @property
    def quiet(self) -> bool:
        """True when nothing is spoiled."""
        return not self._faults

    def spoil(self, servo_id: int, packet: bytes) -> tuple[float, bytes]:
        """Seconds by which a servo's packet is late, and the packet as it reaches the host; empty if it never does."""
        if self._happens("drop", servo_id):
            return 0.0, b""
        late = self._faults["delay"].arguments["ms"] / 1000 if self._happens("delay", servo_id) else 0.0
        if self._happens("corrupt", servo_id):
            damaged = bytearray(packet)
            damaged[self._rng.integers(len(packet))] ^= int(self._rng.integers(1, 256))
            packet = bytes(damaged)
        if self._happens("duplicate", servo_id):
            packet += packet
        if self._happens("extra", servo_id):
            packet = self._rng.bytes(int(self._rng.integers(1, EXTRA_MAX + 1))) + packet
        return late, packet

    def _happens(self, name: str, servo_id: int) -> bool:
        fault = self._faults.get(name)
        if fault is None:
            return False
        ids = fault.arguments["ids"]
        return (ids is None or servo_id in ids) and bool(self._rng.random() < fault.arguments["p"])
