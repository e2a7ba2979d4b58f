"""The Feetech wire format as pure functions: packets, sign-magnitude numbers, registers, error bits.

Knows no port and no joint names. Sources: Feetech's STS3215 memory table and communication manual; for the SCS series,
which has big-endian numbers, its SDK (SCSCL.h). Packet: `FF FF id length instruction params checksum`, length =
params + 2, checksum = ~(id + ... + params) & 0xFF; a status packet carries an error byte where a request carries its
instruction.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from enum import IntEnum
from typing import Final

from drivers.bus import Reply
from drivers.servo_protocol import ByteOrder, Health, Present, Register

HEADER: Final = b"\xff\xff"
BROADCAST: Final = 0xFE
OVERHEAD: Final = 6  # bytes of a packet besides its parameters
POSITION_SIGN: Final = 15  # sign bit of position, velocity and goal
LOAD_SIGN: Final = 10  # sign bit of load, whose magnitude is in thousandths of full drive
OFFSET_SIGN: Final = 11
ERROR_NAMES: Final = {0: "voltage", 1: "encoder", 2: "overheat", 3: "overcurrent", 5: "overload"}  # by bit


class Instruction(IntEnum):
    """Instruction codes of requests."""

    PING = 0x01
    READ = 0x02
    WRITE = 0x03
    SYNC_READ = 0x82
    SYNC_WRITE = 0x83


FIRMWARE: Final = Register(0, 2)  # major, minor
MODEL_NUMBER: Final = Register(3, 2)
OPERATING_MODE: Final = Register(33, 1, eeprom=True)
TORQUE_ENABLE: Final = Register(40, 1)
ACCELERATION: Final = Register(41, 1)
GOAL_POSITION: Final = Register(42, 2, POSITION_SIGN)
GOAL_TIME_AND_VELOCITY: Final = Register(44, 4)
PRESENT: Final = Register(56, 15)  # position, velocity, load, voltage, temperature, status, moving, current

REGISTERS: Final[Mapping[str, Register]] = {
    "model_number": MODEL_NUMBER,
    "id": Register(5, 1, eeprom=True),
    "baudrate": Register(6, 1, eeprom=True),
    "return_delay": Register(7, 1, eeprom=True),  # steps of 2 us
    "status_level": Register(8, 1, eeprom=True),
    "min_position": Register(9, 2, eeprom=True),
    "max_position": Register(11, 2, eeprom=True),
    "max_temperature": Register(13, 1, eeprom=True),
    "max_voltage": Register(14, 1, eeprom=True),
    "min_voltage": Register(15, 1, eeprom=True),
    "homing_offset": Register(31, 2, OFFSET_SIGN, eeprom=True),
    "operating_mode": OPERATING_MODE,
    "torque_enable": TORQUE_ENABLE,
    "acceleration": ACCELERATION,
    "goal_position": GOAL_POSITION,
    "torque_limit": Register(48, 2),
    "lock": Register(55, 1),
    "present_position": Register(56, 2, POSITION_SIGN),
    "present_velocity": Register(58, 2, POSITION_SIGN),
    "present_load": Register(60, 2, LOAD_SIGN),
    "present_voltage": Register(62, 1),  # 0.1 V
    "present_temperature": Register(63, 1),  # C
    "status": Register(65, 1),
}


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


def encode(register: Register, value: int, byteorder: ByteOrder = "little") -> bytes:
    """A number as it stands in a register; raises `ValueError` for one that the register cannot hold."""
    raw = encode_sign_magnitude(value, register.sign) if register.sign else value
    if not 0 <= raw < 1 << 8 * register.size:
        raise ValueError(f"{value} does not fit in the {register.size} bytes of register {register.address}")
    return raw.to_bytes(register.size, byteorder)


def decode(register: Register, raw: bytes, byteorder: ByteOrder = "little") -> int:
    """The number in a register; bits above a sign are undocumented and do not count."""
    value = int.from_bytes(raw, byteorder)
    return decode_sign_magnitude(value & ((2 << register.sign) - 1), register.sign) if register.sign else value


def encode_goal(counts: int) -> bytes:
    """A goal position (counts, signed) as it stands in an STS servo's `GOAL_POSITION`."""
    return encode(GOAL_POSITION, counts)


def decode_present(block: bytes, byteorder: ByteOrder = "little") -> Present:
    """The numbers in a `PRESENT` block; raises `ValueError` if it has not 15 bytes."""
    if len(block) != PRESENT.size:
        raise ValueError(f"the present block has {PRESENT.size} bytes, not {len(block)}")
    position, velocity, load = struct.unpack_from("<HHH" if byteorder == "little" else ">HHH", block)
    load &= (1 << (LOAD_SIGN + 1)) - 1  # the bits above the sign are undocumented
    return Present(
        position=decode_sign_magnitude(position, POSITION_SIGN),
        velocity=decode_sign_magnitude(velocity, POSITION_SIGN),
        load=max(-1.0, min(1.0, decode_sign_magnitude(load, LOAD_SIGN) / 1000)),
        voltage=block[6] / 10,
        temperature_c=block[7],
        alarms=error_names(block[9]),
    )


def decode_health(block: bytes) -> Health:
    """What `TORQUE_ENABLE` says: errors of these servos are in every status packet already."""
    return Health(torque=block[0] != 0)


def decode_firmware(block: bytes) -> tuple[str, int]:
    """A `FIRMWARE` block as "major.minor", and as a number that grows with it."""
    return f"{block[0]}.{block[1]}", block[0] << 8 | block[1]


def error_names(bits: int) -> tuple[str, ...]:
    """What each set error bit means; an undocumented one is named by its number."""
    if not bits:
        return ()
    return tuple(ERROR_NAMES.get(bit, f"error bit {bit}") for bit in range(8) if bits >> bit & 1)


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


def read(id: int, register: Register) -> bytes:
    """Asks one servo for one register."""
    return packet(id, Instruction.READ, bytes((register.address, register.size)))


def write(id: int, register: Register, value: bytes) -> bytes:
    """Sets one register of one servo, which answers according to its status level."""
    register.check(value)
    return packet(id, Instruction.WRITE, bytes((register.address,)) + value)


def sync_read(ids: Iterable[int], register: Register) -> bytes:
    """Asks the given servos for one register each; they answer one after the other, in this order."""
    return packet(BROADCAST, Instruction.SYNC_READ, bytes((register.address, register.size, *ids)))


def sync_write(register: Register, values: Mapping[int, bytes]) -> bytes:
    """Sets one register of several servos; none answers. Raises `ValueError` for a value of the wrong size."""
    params = bytearray((register.address, register.size))
    for id, value in values.items():
        register.check(value)
        params.append(id)
        params += value
    return packet(BROADCAST, Instruction.SYNC_WRITE, bytes(params))


class FeetechFraming:
    """Finds status packets in a byte stream (see `drivers.bus.Framing`)."""

    def parse(self, buffer: bytearray, expected: Mapping[int, int]) -> tuple[list[Reply], int]:
        """Whole, expected replies with a sound checksum; whatever else stands before or between them is skipped.

        A header counts only with an id and a length that are awaited: noise that looks like a header cannot make the
        parser wait for bytes that never come, nor swallow the true reply behind it.
        """
        replies: list[Reply] = []
        start = accepted = 0
        while (start := _next_header(buffer, start)) + 4 <= len(buffer):
            id, length = buffer[start + 2], buffer[start + 3]
            size = expected.get(id)
            if size is None or length != size + 2:
                start += 1
                continue
            end = start + 4 + length
            if len(buffer) < end:
                break
            if buffer[end - 1] != checksum(buffer[start + 2 : end - 1]):
                start += 1
                continue
            replies.append(Reply(id, buffer[start + 4], bytes(buffer[start + 5 : end - 1])))
            accepted += end - start
            start = end
        del buffer[:start]
        return replies, start - accepted


def _next_header(buffer: bytearray, start: int) -> int:
    """Where the next header begins, or may begin with bytes still to come."""
    found = buffer.find(HEADER, start)
    if found >= 0:
        return found
    return len(buffer) - (len(buffer) > start and buffer[-1] == HEADER[0])
