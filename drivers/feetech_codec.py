"""The Feetech STS wire format as pure functions: packets, sign-magnitude numbers, registers, error bits, units.

Knows no port and no joint names. Sources: Feetech's STS3215 memory table and communication manual. Packet:
`FF FF id length instruction params checksum`, length = params + 2, checksum = ~(id + ... + params) & 0xFF, numbers
little-endian; a status packet carries an error byte where a request carries its instruction.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from drivers.bus import Reply

HEADER: Final = b"\xff\xff"
BROADCAST: Final = 0xFE
COUNTS_PER_TURN: Final = 4096
MODEL_STS3215: Final = 777
POSITION_SIGN: Final = 15  # sign bit of position, velocity and goal
LOAD_SIGN: Final = 10  # sign bit of load, whose magnitude is in thousandths
ERROR_NAMES: Final = ("voltage", "encoder", "overheat", "overcurrent", "overload")  # bits 0..4


class Instruction(IntEnum):
    """Instruction codes of requests."""

    PING = 0x01
    READ = 0x02
    WRITE = 0x03
    SYNC_READ = 0x82
    SYNC_WRITE = 0x83


@dataclass(frozen=True, slots=True)
class Register:
    """A stretch of a servo's memory table."""

    address: int
    size: int  # bytes


FIRMWARE: Final = Register(0, 2)  # major, minor
MODEL_NUMBER: Final = Register(3, 2)
TORQUE_ENABLE: Final = Register(40, 1)
ACCELERATION: Final = Register(41, 1)
GOAL_POSITION: Final = Register(42, 2)
GOAL_TIME_AND_VELOCITY: Final = Register(44, 4)
PRESENT: Final = Register(56, 15)  # position, velocity, load, voltage, temperature, status, moving, current


@dataclass(frozen=True, slots=True)
class Present:
    """The `PRESENT` block of one servo, in the servo's own units and direction."""

    position: int  # counts
    velocity: int  # counts/s
    load: int  # thousandths of full drive
    voltage: float  # V
    temperature_c: int
    status: int  # error bits, as in every status packet


def encode_sign_magnitude(value: int, sign_bit: int) -> int:
    """The register value of a signed number; raises `ValueError` if its magnitude does not fit below `sign_bit`."""
    if abs(value) >= 1 << sign_bit:
        raise ValueError(f"{value} does not fit in {sign_bit} bits and a sign")
    return value if value >= 0 else (1 << sign_bit) | -value


def decode_sign_magnitude(raw: int, sign_bit: int) -> int:
    """The signed number of a register value; raises `ValueError` if bits are set above `sign_bit`."""
    if not 0 <= raw < 1 << (sign_bit + 1):
        raise ValueError(f"{raw:#x} does not fit in a sign at bit {sign_bit} and the bits below")
    magnitude = raw & ((1 << sign_bit) - 1)
    return -magnitude if raw >> sign_bit else magnitude


def encode_goal(counts: int) -> bytes:
    """A goal position (counts, signed) as it stands in `GOAL_POSITION`."""
    return encode_sign_magnitude(counts, POSITION_SIGN).to_bytes(2, "little")


def decode_present(block: bytes) -> Present:
    """The numbers in a `PRESENT` block; raises `ValueError` if it has not 15 bytes."""
    if len(block) != PRESENT.size:
        raise ValueError(f"the present block has {PRESENT.size} bytes, not {len(block)}")
    position, velocity, load = (int.from_bytes(block[i : i + 2], "little") for i in (0, 2, 4))
    load &= (1 << (LOAD_SIGN + 1)) - 1  # the bits above the sign are undocumented
    return Present(
        position=decode_sign_magnitude(position, POSITION_SIGN),
        velocity=decode_sign_magnitude(velocity, POSITION_SIGN),
        load=decode_sign_magnitude(load, LOAD_SIGN),
        voltage=block[6] / 10,
        temperature_c=block[7],
        status=block[9],
    )


def counts_to_radians(counts: float, zero: int, direction: int) -> float:
    """Joint angle of a servo position; also turns counts/s into rad/s with `zero` 0. `direction` is 1 or -1."""
    return direction * (counts - zero) * (2 * math.pi / COUNTS_PER_TURN)


def radians_to_counts(angle: float, zero: int, direction: int) -> int:
    """The servo position nearest to a joint angle."""
    return zero + direction * round(angle * (COUNTS_PER_TURN / (2 * math.pi)))


def error_names(bits: int) -> tuple[str, ...]:
    """What each set error bit means; an undocumented one is named by its number."""
    return tuple(
        ERROR_NAMES[bit] if bit < len(ERROR_NAMES) else f"error bit {bit}" for bit in range(8) if bits >> bit & 1
    )


def checksum(body: bytes | bytearray) -> int:
    """The checksum of a packet's bytes from the id to the last parameter."""
    return ~sum(body) & 0xFF


def packet(id: int, instruction: int, params: bytes = b"") -> bytes:
    """A whole packet; raises `ValueError` for an id or a length that the format cannot carry."""
    if not 0 <= id <= BROADCAST or len(params) > 253:
        raise ValueError(f"no packet carries id {id} with {len(params)} parameter bytes")
    body = bytes((id, len(params) + 2, instruction)) + params
    return HEADER + body + bytes((checksum(body),))


def ping(id: int) -> bytes:
    """Asks one servo for an empty status packet."""
    return packet(id, Instruction.PING)


def sync_read(ids: Iterable[int], register: Register) -> bytes:
    """Asks the given servos for one register each; they answer one after the other, in this order."""
    return packet(BROADCAST, Instruction.SYNC_READ, bytes((register.address, register.size, *ids)))


def sync_write(register: Register, values: Mapping[int, bytes]) -> bytes:
    """Sets one register of several servos; none answers. Raises `ValueError` for a value of the wrong size."""
    params = bytearray((register.address, register.size))
    for id, value in values.items():
        if len(value) != register.size:
            raise ValueError(f"register {register.address} has {register.size} bytes, not {len(value)}")
        params += bytes((id,)) + value
    return packet(BROADCAST, Instruction.SYNC_WRITE, bytes(params))


class FeetechFraming:
    """Finds status packets in a byte stream (see `drivers.bus.Framing`)."""

    def parse(self, buffer: bytearray, expected: Mapping[int, int]) -> tuple[list[Reply], int]:
        """Whole, expected replies with a sound checksum; whatever else stands before or between them is skipped.

        A header counts only with an id and a length that are awaited: noise that looks like a header cannot make the
        parser wait for bytes that never come, nor swallow the true reply behind it.
        """
        replies: list[Reply] = []
        start = skipped = 0
        while len(buffer) - start >= 4:
            id, length = buffer[start + 2], buffer[start + 3]
            if buffer[start : start + 2] != HEADER or expected.get(id, -1) != length - 2:
                start, skipped = start + 1, skipped + 1
                continue
            end = start + 4 + length
            if len(buffer) < end:
                break
            if buffer[end - 1] != checksum(buffer[start + 2 : end - 1]):
                start, skipped = start + 1, skipped + 1
                continue
            replies.append(Reply(id, buffer[start + 4], bytes(buffer[start + 5 : end - 1])))
            start = end
        del buffer[:start]
        return replies, skipped
