"""What the servo driver must know of a protocol: how to ask, what the answers mean, which servo models there are.

Values only, no behaviour: feetech.py and dynamixel.py fill in one `ServoProtocol` each, from the pure functions of
their codecs; servo_arm.py and servo_line.py use them. Knows no port and no joint.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from drivers.bus import Framing

ByteOrder = Literal["little", "big"]


@dataclass(frozen=True, slots=True)
class Register:
    """A stretch of a servo's control table."""

    address: int
    size: int  # bytes
    sign: int = 0  # bit that holds the sign of a number; 0: the number has none
    eeprom: bool = False  # survives power-off; written with torque off only

    def check(self, value: bytes) -> None:
        """Raise `ValueError` for a value of another size."""
        if len(value) != self.size:
            raise ValueError(f"register {self.address} has {self.size} bytes, not {len(value)}")


@dataclass(frozen=True, slots=True)
class Present:
    """What one servo measures, in its own direction."""

    position: int  # counts
    velocity: float  # counts/s
    load: float  # share of stall torque, within [-1, 1]
    voltage: float  # V
    temperature_c: float
    alarms: tuple[str, ...] = ()  # what else the block says is wrong


@dataclass(frozen=True, slots=True)
class Health:
    """What a servo says of itself beyond its measurements, read when something may have happened to it."""

    torque: bool
    errors: tuple[str, ...] = ()  # latched by the servo itself
    tripped: bool = False  # its watchdog has stopped it, and it obeys no goals


@dataclass(frozen=True, slots=True)
class Watchdog:
    """A register that makes the servo stop by itself when the host falls silent."""

    register: Register
    off: bytes  # disarms it, and clears one that has tripped
    armed: bytes
    period: float  # s of silence after which it trips, armed like that


@dataclass(frozen=True)
class ServoModel:
    """One kind of servo: its numbers and its control table, where that differs from its protocol's."""

    name: str  # as in `JointConfig.servo`
    number: int  # as its model number register holds it
    counts_per_turn: float
    byteorder: ByteOrder
    decode_present: Callable[[bytes], Present]
    encode: Callable[[Register, int], bytes]  # raises ValueError for what the register cannot hold
    decode: Callable[[Register, bytes], int]
    modes: Mapping[int, tuple[int, int]]  # operating modes that obey goal positions: first and last goal, counts
    mode: Register | None  # the operating mode; None: it has but one
    follow: tuple[Register, ...]  # motion profile, all 0: it follows a stream of goals at once
    registers: Mapping[str, Register] = field(default_factory=dict)  # those that are elsewhere than its protocol's
    sync_read: bool = True  # answers a sync read
    fast_read_from: int | None = None  # first firmware that answers a fast sync read; None: none does
    watchdog_from: int | None = None  # first firmware with a bus watchdog; None: none has one


@dataclass(frozen=True)
class ServoProtocol:
    """A servo protocol, and every model that is known to speak it (by name)."""

    name: str
    framing: Framing
    overhead: int  # bytes of a status packet besides its parameters
    models: Mapping[str, ServoModel]
    usual_model: str  # of a joint whose config names none
    baudrates: Mapping[int, int]  # baud -> value of the register "baudrate"
    registers: Mapping[str, Register]  # for bring-up, by name
    model_number: Register
    firmware: Register
    torque: Register
    goal: Register
    present: Register
    health: Register
    decode_health: Callable[[bytes], Health]
    decode_firmware: Callable[[bytes], tuple[str, int]]  # as people write it, and as a number that grows
    status_errors: Callable[[int], tuple[str, ...]]  # what a status packet's error byte says
    alert: int  # bits of that byte which say no more than: look at `health`
    ping: Callable[[int], bytes]
    ping_size: int  # parameter bytes of its reply
    read: Callable[[int, Register], bytes]
    write: Callable[[int, Register, bytes], bytes]
    sync_read: Callable[[Iterable[int], Register], bytes]
    sync_write: Callable[[Register, Mapping[int, bytes]], bytes]
    fast_sync_read: Callable[[Iterable[int], Register], bytes] | None = None
    reboot: Callable[[int], bytes] | None = None
    watchdog: Watchdog | None = None

    def model_of(self, raw: bytes) -> ServoModel | None:
        """The model whose number a servo's model number register holds as `raw`; None if it is not known."""
        return next((m for m in self.models.values() if int.from_bytes(raw, m.byteorder) == m.number), None)
