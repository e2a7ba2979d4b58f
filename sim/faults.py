"""What goes wrong on the emulated bus, by script or by chance, and repeatable: the random numbers come from a seed."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from drivers.arm import ArmError


class EmulatorError(ArmError):
    """The emulated arm cannot do what was asked; the message says what, where and what to do."""


@dataclass
class Faults:
    """Faults of a bus. Chances are per status packet."""

    drop: float = 0.0  # chance that a reply never comes
    corrupt: float = 0.0  # chance that one byte of a reply is flipped
    delay: float = 0.0  # chance that a reply comes late
    delay_ms: float = 20.0  # how late
    silent: frozenset[int] = frozenset()  # servo ids that neither hear nor answer
    hot: frozenset[int] = frozenset()  # servo ids that report overheating
    seed: int = 0
    _rng: np.random.Generator = field(init=False, repr=False, compare=False)
    _late: bool = field(init=False, repr=False, compare=False, default=False)

    def __post_init__(self) -> None:
        self._rng = np.random.default_rng(self.seed)

    def spoil(self, packet: bytes) -> bytes:
        """The status packet as it reaches the host: unchanged, with a flipped byte, or not at all."""
        if self.delay and self._rng.random() < self.delay:
            self._late = True
        if self.drop and self._rng.random() < self.drop:
            return b""
        if self.corrupt and self._rng.random() < self.corrupt:
            damaged = bytearray(packet)
            damaged[self._rng.integers(len(packet))] ^= int(self._rng.integers(1, 256))
            return bytes(damaged)
        return packet

    def take_delay(self) -> float:
        """Seconds by which the replies made since the last call are late."""
        late, self._late = self._late, False
        return self.delay_ms / 1000 if late else 0.0


_CHANCES = ("drop", "corrupt", "delay")
_IDS = ("silent", "hot")


def parse_faults(text: str, seed: int = 0) -> Faults:
    """Faults from "drop=0.01,corrupt=0.01,delay=0.02,delay_ms=20,silent=3+4,hot=2"; "" means none.

    Raises `EmulatorError` naming the part that cannot be understood.
    """
    numbers: dict[str, float] = {}
    ids: dict[str, frozenset[int]] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        key, _, value = part.partition("=")
        try:
            if key in _IDS:
                ids[key] = frozenset(int(item) for item in value.split("+"))
                continue
            number = float(value)
            if (key in _CHANCES and 0 <= number <= 1) or (key == "delay_ms" and 0 <= number < 10_000):
                numbers[key] = number
                continue
        except ValueError:
            pass
        raise EmulatorError(
            f'fault "{part}" is not understood; use NAME=VALUE with {", ".join((*_CHANCES, "delay_ms", *_IDS))} '
            "(chances 0 to 1, ids joined by +), for example drop=0.01,silent=3"
        )
    none: frozenset[int] = frozenset()
    return Faults(
        drop=numbers.get("drop", 0.0),
        corrupt=numbers.get("corrupt", 0.0),
        delay=numbers.get("delay", 0.0),
        delay_ms=numbers.get("delay_ms", Faults.delay_ms),
        silent=ids.get("silent", none),
        hot=ids.get("hot", none),
        seed=seed,
    )
