"""The Dynamixel Protocol 2.0 wire format as pure functions: packets, CRC, byte stuffing, registers, error numbers.

Knows no port and no joint names. Sources: ROBOTIS e-manual, "DYNAMIXEL Protocol 2.0" and the control tables of the X
series. Packet: `FF FF FD 00 id lenL lenH instruction params crcL crcH`; `FF FF FD` within instruction and params
becomes `FF FF FD FD`; length and CRC count what is sent. Numbers are little-endian, in two's complement.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from enum import IntEnum
from typing import Final

from drivers.bus import Reply
from drivers.servo_protocol import Health, Present, Register

HEADER: Final = b"\xff\xff\xfd\x00"
BROADCAST: Final = 0xFE
STATUS: Final = 0x55  # stands where a request has its instruction
OVERHEAD: Final = 11  # bytes of a status packet besides its parameters
PING_SIZE: Final = 3  # model number, firmware
ALERT: Final = 0x80  # bit of the error byte: look at the hardware error register
CRC_POLYNOMIAL: Final = 0x8005
VELOCITY_UNIT: Final = 0.229 / 60 * 4096  # counts/s in a step of 0.229 rpm

ERROR_NUMBERS: Final = {  # of the low bits of the error byte
    1: "instruction failed",
    2: "instruction unknown",
    3: "request with a wrong CRC",
    4: "value out of range",
    5: "value too short",
    6: "value beyond its limit",
    7: "register not accessible",
}
HARDWARE_ERRORS: Final = {0: "voltage", 2: "overheat", 3: "encoder", 4: "electrical shock", 5: "overload"}  # by bit
WATCHDOG_TRIPPED: Final = 0xFF  # -1


class Instruction(IntEnum):
    """Instruction codes of requests."""

    PING = 0x01
    READ = 0x02
    WRITE = 0x03
    REBOOT = 0x08
    SYNC_READ = 0x82
    SYNC_WRITE = 0x83
    FAST_SYNC_READ = 0x8A


SIGN: Final = 31  # any number but 0 marks a register as signed: two's complement has its sign in the top bit

MODEL_NUMBER: Final = Register(0, 2)
FIRMWARE: Final = Register(6, 1)
OPERATING_MODE: Final = Register(11, 1, eeprom=True)
TORQUE_ENABLE: Final = Register(64, 1)
HEALTH: Final = Register(64, 35)  # torque enable to bus watchdog, the hardware errors among them
BUS_WATCHDOG: Final = Register(98, 1)
PROFILE: Final = Register(108, 8)  # acceleration, velocity
GOAL_POSITION: Final = Register(116, 4, SIGN)
PRESENT: Final = Register(126, 21)  # current or load, velocity, position, two of the trajectory, voltage, temperature

REGISTERS: Final[Mapping[str, Register]] = {
    "model_number": MODEL_NUMBER,
    "id": Register(7, 1, eeprom=True),
    "baudrate": Register(8, 1, eeprom=True),
    "return_delay": Register(9, 1, eeprom=True),  # steps of 2 us
    "drive_mode": Register(10, 1, eeprom=True),
    "operating_mode": OPERATING_MODE,
    "secondary_id": Register(12, 1, eeprom=True),
    "homing_offset": Register(20, 4, SIGN, eeprom=True),
    "max_temperature": Register(31, 1, eeprom=True),
    "max_voltage": Register(32, 2, eeprom=True),
    "min_voltage": Register(34, 2, eeprom=True),
    "max_position": Register(48, 4, SIGN, eeprom=True),
    "min_position": Register(52, 4, SIGN, eeprom=True),
    "shutdown": Register(63, 1, eeprom=True),
    "torque_enable": TORQUE_ENABLE,
    "status_level": Register(68, 1),
    "hardware_error": Register(70, 1),
    "bus_watchdog": Register(98, 1, SIGN),
    "goal_position": GOAL_POSITION,
    "present_load": Register(126, 2, SIGN),  # of an XL430; the others have their current here
    "present_velocity": Register(128, 4, SIGN),
    "present_position": Register(132, 4, SIGN),
    "present_voltage": Register(144, 2),  # 0.1 V
    "present_temperature": Register(146, 1),  # C
}


def _crc_table() -> tuple[int, ...]:
    """What each value of the top byte does to a CRC."""
    table = []
    for byte in range(256):
        crc = byte << 8
        for _ in range(8):
            crc = (crc << 1) ^ (CRC_POLYNOMIAL if crc & 0x8000 else 0)
        table.append(crc & 0xFFFF)
    return tuple(table)


_CRC: Final = _crc_table()


def crc16(data: bytes | bytearray, crc: int = 0) -> int:
    """The CRC of bytes that follow those whose CRC is `crc`."""
    table = _CRC
    for byte in data:
        crc = (crc << 8 & 0xFF00) ^ table[crc >> 8 ^ byte]
    return crc


def stuff(body: bytes) -> bytes:
    """Bytes from the instruction to the last parameter as they are sent: they never hold a header."""
    return body.replace(b"\xff\xff\xfd", b"\xff\xff\xfd\xfd")


def unstuff(body: bytes) -> bytes:
    """What `stuff` was given."""
    return body.replace(b"\xff\xff\xfd\xfd", b"\xff\xff\xfd")


def packet(id: int, instruction: int, params: bytes = b"") -> bytes:
    """A whole packet; raises `ValueError` for an id or a length that the format cannot carry."""
    if not 0 <= id <= BROADCAST or len(params) > 1000:  # servos take no packet beyond 1 KiB
        raise ValueError(f"no packet carries id {id} with {len(params)} parameter bytes")
    body = stuff(bytes((instruction,)) + params)
    whole = HEADER + struct.pack("<BH", id, len(body) + 2) + body
    return whole + crc16(whole).to_bytes(2, "little")


def ping(id: int) -> bytes:
    """Asks one servo for its model number and firmware."""
    return packet(id, Instruction.PING)


def read(id: int, register: Register) -> bytes:
    """Asks one servo for one register."""
    return packet(id, Instruction.READ, struct.pack("<HH", register.address, register.size))


def write(id: int, register: Register, value: bytes) -> bytes:
    """Sets one register of one servo, which answers according to its status level."""
    register.check(value)
    return packet(id, Instruction.WRITE, struct.pack("<H", register.address) + value)


def reboot(id: int) -> bytes:
    """Restarts one servo: torque off, a latched hardware error cleared."""
    return packet(id, Instruction.REBOOT)


def sync_read(ids: Iterable[int], register: Register) -> bytes:
    """Asks the given servos for one register each; each sends a status packet, in this order."""
    return packet(BROADCAST, Instruction.SYNC_READ, struct.pack("<HH", register.address, register.size) + bytes(ids))


def fast_sync_read(ids: Iterable[int], register: Register) -> bytes:
    """Like `sync_read`, but their answers form one status packet."""
    params = struct.pack("<HH", register.address, register.size) + bytes(ids)
    return packet(BROADCAST, Instruction.FAST_SYNC_READ, params)


def sync_write(register: Register, values: Mapping[int, bytes]) -> bytes:
    """Sets one register of several servos; none answers. Raises `ValueError` for a value of the wrong size."""
    params = bytearray(struct.pack("<HH", register.address, register.size))
    for id, value in values.items():
        register.check(value)
        params.append(id)
        params += value
    return packet(BROADCAST, Instruction.SYNC_WRITE, bytes(params))


def encode(register: Register, value: int) -> bytes:
    """A number as it stands in a register; raises `ValueError` for one that the register cannot hold."""
    try:
        return value.to_bytes(register.size, "little", signed=bool(register.sign))
    except OverflowError as error:
        raise ValueError(f"{value} does not fit in the {register.size} bytes of register {register.address}") from error


def decode(register: Register, raw: bytes) -> int:
    """The number in a register."""
    return int.from_bytes(raw, "little", signed=bool(register.sign))


def decode_present(block: bytes, load_unit: float) -> Present:
    """The numbers in a `PRESENT` block; `load_unit` is one step of its first as a share of stall torque.

    Raises `ValueError` if it has not 21 bytes.
    """
    if len(block) != PRESENT.size:
        raise ValueError(f"the present block has {PRESENT.size} bytes, not {len(block)}")
    load, velocity, position, _, _, voltage, temperature = struct.unpack("<hiiiiHB", block)
    return Present(
        position=position,
        velocity=velocity * VELOCITY_UNIT,
        load=max(-1.0, min(1.0, load * load_unit)),
        voltage=voltage / 10,
        temperature_c=temperature,
    )


def decode_health(block: bytes) -> Health:
    """What a `HEALTH` block says: torque, hardware errors, and whether the bus watchdog has tripped."""
    bits = block[70 - HEALTH.address]
    return Health(
        torque=block[0] != 0,
        errors=tuple(HARDWARE_ERRORS.get(bit, f"hardware error bit {bit}") for bit in range(8) if bits >> bit & 1),
        tripped=block[BUS_WATCHDOG.address - HEALTH.address] == WATCHDOG_TRIPPED,
    )


def decode_firmware(block: bytes) -> tuple[str, int]:
    """A `FIRMWARE` block, one number, as text and as that number."""
    return str(block[0]), block[0]


def error_names(error: int) -> tuple[str, ...]:
    """What a status packet's error byte says; its alert bit says no more than that `HEALTH` has more."""
    number = error & ~ALERT
    return (ERROR_NUMBERS.get(number, f"error number {number}"),) if number else ()


class DynamixelFraming:
    """Finds status packets in a byte stream (see `drivers.bus.Framing`), those of a fast sync read among them.

    Such a packet comes from the broadcast id and holds for each servo `error id data crcL crcH`, unstuffed, each CRC
    over all that is before it. So the answers of the servos before a silent one are whole, and count.
    """

    def parse(self, buffer: bytearray, expected: Mapping[int, int]) -> tuple[list[Reply], int]:
        """Whole, expected replies with a sound CRC; whatever else stands before or between them is skipped.

        A header counts only with an id and a length that are awaited: noise that looks like a header cannot make the
        parser wait for bytes that never come, nor swallow the true reply behind it.
        """
        replies: list[Reply] = []
        start = accepted = 0
        while (start := _next_header(buffer, start)) + 8 <= len(buffer):
            id, length = buffer[start + 4], buffer[start + 5] | buffer[start + 6] << 8
            if buffer[start + 7] != STATUS:
                end = None
            elif id == BROADCAST:
                end = _take_chain(buffer, start, length, expected, replies)
            else:
                end = _take_single(buffer, start, length, expected.get(id), replies)
            if end is None:
                start += 1
            elif end > len(buffer):
                break
            else:
                accepted += end - start
                start = end
        del buffer[:start]
        return replies, start - accepted


def _take_single(buffer: bytearray, start: int, length: int, size: int | None, replies: list[Reply]) -> int | None:
    """Append the reply of one servo; returns the packet's end (beyond the buffer: not all there), None: it is none."""
    if size is None or not size + 4 <= length <= size + 4 + (size + 1) // 3:  # stuffing adds a byte to three
        return None
    end = start + 7 + length
    if end <= len(buffer):
        body = unstuff(bytes(buffer[start + 8 : end - 2]))
        if len(body) != size + 1 or _crc_at(buffer, end) != crc16(buffer[start : end - 2]):
            return None
        replies.append(Reply(buffer[start + 4], body[0], body[1:]))
    return end


def _take_chain(
    buffer: bytearray, start: int, length: int, expected: Mapping[int, int], replies: list[Reply]
) -> int | None:
    """The same for the answers to a fast sync read: those that are there are appended, whole packet or not."""
    sizes = set(expected.values())
    if len(sizes) != 1:
        return None
    block = sizes.pop() + 4
    if length % block != 1 or not len(expected) <= length // block <= BROADCAST:
        return None
    end = start + 7 + length
    done, crc = start, 0
    for at in range(start + 8, min(end, len(buffer)) - block + 1, block):
        crc = crc16(buffer[done : at + block - 2], crc)
        done = at + block - 2
        if _crc_at(buffer, at + block) != crc:
            return None
        id = buffer[at + 1]
        if id in expected:
            replies.append(Reply(id, buffer[at], bytes(buffer[at + 2 : done])))
    return end


def _crc_at(buffer: bytearray, end: int) -> int:
    return buffer[end - 2] | buffer[end - 1] << 8


def _next_header(buffer: bytearray, start: int) -> int:
    """Where the next header begins, or may begin with bytes still to come."""
    found = buffer.find(HEADER, start)
    if found >= 0:
        return found
    size = len(buffer)
    return next((size - n for n in (3, 2, 1) if size - n >= start and buffer.endswith(HEADER[:n])), size)
