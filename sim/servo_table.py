"""A servo's memory table, and what every servo does with it; the registers themselves belong to each protocol.

Numbers are little-endian. EEPROM survives a loss of power, and a restart of the emulator (sim/eeprom.py); RAM does not.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import IntEnum

from sim.servo_body import BOOT_TIME, Body


@dataclass(frozen=True, slots=True)
class Field:
    """One register: its bytes, its factory value, and the range of what may be written where the servo checks that."""

    size: int
    factory: int = 0
    low: int = 0
    high: int = 0
    writable: bool = True


@dataclass(frozen=True, slots=True)
class Layout:
    """A memory table: registers by address and their names, bytes in all, and how many from 0 on are EEPROM."""

    fields: Mapping[int, Field]
    names: type[IntEnum]
    size: int
    eeprom: int

    def image(self) -> bytearray:
        """The table as it leaves the factory."""
        image = bytearray(self.size)
        for address, field in self.fields.items():
            image[address : address + field.size] = field.factory.to_bytes(
                field.size, "little", signed=field.factory < 0
            )
        return image

    def kept(self) -> dict[str, tuple[int, int]]:
        """Address and size of every register that is kept without power, by name."""
        return {
            self.names(address).name.lower(): (address, field.size)
            for address, field in self.fields.items()
            if address < self.eeprom and field.writable
        }


class TableServo(ABC):
    """One servo: its memory table, its body, and what reading and writing the one does to the other."""

    def __init__(self, body: Body, layout: Layout) -> None:
        self.body, self.layout = body, layout
        self.memory = layout.image()
        self.pending: tuple[int, bytes] | None = None  # a register write that waits for its action
        self.boots_for = 0.0  # s until it listens again
        self.quiet = 0.0  # s since it heard a request
        self.on_change: Callable[[], None] = lambda: None  # told when EEPROM has changed, or whether it listens

    def age(self, seconds: float, heard: bool) -> None:
        """Let time pass; `heard`: there was a request meanwhile that it could hear."""
        self.quiet = 0.0 if heard else self.quiet + seconds
        if self.boots_for:
            self.boots_for = max(0.0, self.boots_for - seconds)
            if not self.boots_for:
                self.on_change()
        self.upkeep(seconds)

    @property
    @abstractmethod
    def id(self) -> int: ...

    @property
    @abstractmethod
    def baudrate(self) -> int:
        """Bits a second that it listens and answers at; 0 where the register says nothing known."""

    @property
    @abstractmethod
    def return_delay(self) -> float:
        """Seconds between a request and its answer."""

    @property
    def ids(self) -> tuple[int, ...]:
        """The ids under which it obeys; it answers under `id` alone."""
        return (self.id,)

    @abstractmethod
    def answers(self, instruction: int) -> bool:
        """Whether the status level has this instruction answered."""

    @abstractmethod
    def ping(self) -> tuple[int, bytes]:
        """Error byte and parameters of the answer to a ping."""

    @abstractmethod
    def read(self, address: int, length: int) -> tuple[int, bytes]:
        """Error byte and content."""

    @abstractmethod
    def write(self, address: int, data: bytes) -> int:
        """Store, and do what follows from it; the error byte."""

    @abstractmethod
    def store(self, address: int, data: bytes) -> int:
        """Keep a write for the `action`; the error byte."""

    @abstractmethod
    def action(self) -> int:
        """Carry out what was stored; the error byte."""

    @abstractmethod
    def special(self, instruction: int, params: bytes, broadcast: bool) -> int | None:
        """Carry out what only this protocol has; the error byte, or None where it keeps silent."""

    @abstractmethod
    def upkeep(self, seconds: float) -> None:
        """What goes on by itself: heat, strain, trips, watchdogs."""

    @abstractmethod
    def judge(self) -> None:
        """Find out anew which errors there are: a fault has begun or ended."""

    @abstractmethod
    def overload(self, imposed: bool) -> None:
        """Trip as after too much load for too long; what is imposed no longer may be cleared as usual."""

    @abstractmethod
    def goal_to_present(self) -> None:
        """Make the present position the goal in force: the plant was moved by hand."""

    @abstractmethod
    def wake(self) -> None:
        """What power does: RAM as it is set at the factory and by the EEPROM, no torque, no errors."""

    def reboot(self) -> None:
        """Lose power for a moment; nothing is heard until the servo is up again."""
        factory = self.layout.image()
        self.memory[self.layout.eeprom :] = factory[self.layout.eeprom :]
        self.pending = None
        self.boots_for = BOOT_TIME
        self.wake()
        self.on_change()

    def word(self, address: int, size: int = 2) -> int:
        """A register's raw value."""
        return int.from_bytes(self.memory[address : address + size], "little")

    def put(self, address: int, value: int, size: int = 2) -> None:
        """Set a register to a raw value, whoever may write it."""
        self.memory[address : address + size] = value.to_bytes(size, "little")

    def eeprom(self) -> dict[str, int]:
        """What is kept without power: register name -> raw value."""
        return {name: self.word(*place) for name, place in self.layout.kept().items()}

    def restore(self, values: Mapping[str, int]) -> None:
        """Set what `eeprom` returned. Raises `KeyError` and `OverflowError` for what does not fit this table."""
        places = self.layout.kept()
        for name, value in values.items():
            address, size = places[name]
            self.put(address, value, size)
        self.wake()
