"""STS3215 servos on one half-duplex bus: request bytes in, reply bytes out.

Knows the protocol and the memory table; knows no serial port, no clock and no physics: what a servo moves is a `Plant`.
Written from Feetech's STS3215 memory table and communication manual, and on purpose not from `drivers.feetech_codec`,
so that each checks the other. Emulated: position mode, homing offset, position limits, EEPROM lock, status level,
temperature and voltage alarms. Stored without effect: gains, torque limits, profile speed and acceleration, baud rate.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Protocol

from sim.faults import Faults

BROADCAST = 0xFE
MODEL_STS3215 = 777
COUNTS_PER_TURN = 4096
CENTRE = 2048  # counts, what calibration makes of the present position
TORQUE_CALIBRATE = 128  # written to TORQUE_ENABLE: take the present position as the centre
MOVING_SPEED = 20  # counts/s, above this MOVING reads 1
STALL_CURRENT = 415  # 2.7 A in steps of 6.5 mA
HOT = 80  # degrees Celsius, what a `hot` servo reports; the factory limit is 70

OVERVOLTAGE, OVERHEAT = 1 << 0, 1 << 2  # error bits
POSITION_SIGN, OFFSET_SIGN, LOAD_SIGN = 15, 11, 10  # sign bits: numbers are sign and magnitude


class Instruction(IntEnum):
    """Instruction codes of requests."""

    PING = 0x01
    READ = 0x02
    WRITE = 0x03
    REGISTER_WRITE = 0x04
    ACTION = 0x05
    RESET = 0x0A
    CALIBRATE_OFFSET = 0x0B
    SYNC_READ = 0x82
    SYNC_WRITE = 0x83


class Register(IntEnum):
    """Addresses of the memory table that something happens at."""

    FIRMWARE = 0
    MODEL = 3
    ID = 5
    STATUS_LEVEL = 8
    MIN_POSITION = 9
    MAX_POSITION = 11
    MAX_TEMPERATURE = 13
    MAX_VOLTAGE = 14
    MIN_VOLTAGE = 15
    HOMING_OFFSET = 31
    TORQUE_ENABLE = 40
    GOAL_POSITION = 42
    LOCK = 55
    PRESENT_POSITION = 56
    PRESENT_VELOCITY = 58
    PRESENT_LOAD = 60
    PRESENT_VOLTAGE = 62
    PRESENT_TEMPERATURE = 63
    ACTION_PENDING = 64
    STATUS = 65
    MOVING = 66
    PRESENT_CURRENT = 69


TABLE_SIZE = 87  # bytes
EEPROM = range(40)  # writable while LOCK is 0
READ_ONLY = frozenset((*range(5), *range(56, 71)))

# Factory values that are not 0: address, bytes, value.
FACTORY = (
    (Register.FIRMWARE, 1, 3),
    (Register.FIRMWARE + 1, 1, 10),
    (Register.MODEL, 2, MODEL_STS3215),
    (Register.STATUS_LEVEL, 1, 1),
    (Register.MAX_POSITION, 2, COUNTS_PER_TURN - 1),
    (Register.MAX_TEMPERATURE, 1, 70),
    (Register.MAX_VOLTAGE, 1, 80),
    (Register.MIN_VOLTAGE, 1, 40),
    (16, 2, 1000),  # max torque
    (21, 1, 32),  # P
    (22, 1, 32),  # D
    (28, 2, 500),  # protection current
    (34, 1, 20),  # protective torque
    (35, 1, 200),  # protection time
    (36, 1, 80),  # overload torque
    (48, 2, 1000),  # torque limit
    (Register.LOCK, 1, 1),
)


@dataclass(frozen=True, slots=True)
class Sensed:
    """What one servo measures. Positions count from the encoder's own zero, before the homing offset."""

    position: int  # counts
    velocity: int = 0  # counts/s
    load: float = 0.0  # share of stall torque in [-1, 1]
    voltage: float = 7.4  # V
    temperature_c: int = 30


class Plant(Protocol):
    """What the servos move. Servos are numbered from 0 in the order of the bus's `ids`, whatever their id becomes."""

    def drive(self, servo: int, goal: int, torque: bool) -> None:
        """Move `servo` to `goal` (counts on the encoder's scale), or let it go. Called at every write of either."""

    def sense(self, servo: int) -> Sensed:
        """What `servo` measures now."""


def encode_signed(value: int, sign_bit: int) -> int:
    """Sign and magnitude, the magnitude cut to what fits below `sign_bit`."""
    magnitude = min(abs(value), (1 << sign_bit) - 1)
    return magnitude | (1 << sign_bit if value < 0 else 0)


def decode_signed(raw: int, sign_bit: int) -> int:
    """The number of a sign and magnitude; bits above `sign_bit` are ignored."""
    magnitude = raw & ((1 << sign_bit) - 1)
    return -magnitude if raw >> sign_bit & 1 else magnitude


def checksum(body: bytes | bytearray) -> int:
    """Over id to last parameter: the inverted low byte of the sum."""
    return ~sum(body) & 0xFF


class _Servo:
    """One servo: its memory table and what reading and writing it does."""

    def __init__(self, index: int, servo_id: int, plant: Plant, hot: bool) -> None:
        self.index, self.plant, self.hot = index, plant, hot
        self.pending: tuple[int, bytes] | None = None  # a register write that waits for its action
        self.memory = bytearray(TABLE_SIZE)
        self.factory_reset(servo_id)

    def factory_reset(self, servo_id: int) -> None:
        self.memory[:] = bytes(TABLE_SIZE)
        for address, size, value in FACTORY:
            self.put(address, value, size)
        self.memory[Register.ID] = servo_id

    def word(self, address: int) -> int:
        return self.memory[address] | self.memory[address + 1] << 8

    def put(self, address: int, value: int, size: int = 2) -> None:
        self.memory[address : address + size] = value.to_bytes(size, "little")

    @property
    def offset(self) -> int:
        return decode_signed(self.word(Register.HOMING_OFFSET), OFFSET_SIGN)

    def refresh(self) -> int:
        """Measure into the present registers; returns the error byte."""
        sensed = self.plant.sense(self.index)
        temperature = HOT if self.hot else sensed.temperature_c
        voltage = round(sensed.voltage * 10)
        error = OVERHEAT if temperature > self.memory[Register.MAX_TEMPERATURE] else 0
        if not self.memory[Register.MIN_VOLTAGE] <= voltage <= self.memory[Register.MAX_VOLTAGE]:
            error |= OVERVOLTAGE
        self.put(Register.PRESENT_POSITION, encode_signed(sensed.position - self.offset, POSITION_SIGN))
        self.put(Register.PRESENT_VELOCITY, encode_signed(sensed.velocity, POSITION_SIGN))
        self.put(Register.PRESENT_LOAD, encode_signed(round(sensed.load * 1000), LOAD_SIGN))
        self.put(Register.PRESENT_CURRENT, encode_signed(round(sensed.load * STALL_CURRENT), POSITION_SIGN))
        self.memory[Register.PRESENT_VOLTAGE] = voltage
        self.memory[Register.PRESENT_TEMPERATURE] = temperature
        self.memory[Register.ACTION_PENDING] = self.pending is not None
        self.memory[Register.STATUS] = error
        self.memory[Register.MOVING] = abs(sensed.velocity) > MOVING_SPEED
        return error

    def read(self, address: int, length: int) -> bytes:
        """`length` bytes from `address`; beyond the table there are zeros."""
        return bytes(self.memory[address : address + length]).ljust(length, b"\0")

    def write(self, address: int, data: bytes) -> None:
        """Store what may be written; read-only bytes and locked EEPROM keep their values, as nothing refuses them."""
        locked = self.memory[Register.LOCK] != 0
        torque = self.memory[Register.TORQUE_ENABLE]
        for place, byte in enumerate(data, address):
            if place < TABLE_SIZE and place not in READ_ONLY and not (locked and place in EEPROM):
                self.memory[place] = byte
        if self.memory[Register.TORQUE_ENABLE] == TORQUE_CALIBRATE:
            self.memory[Register.TORQUE_ENABLE] = torque
            self.calibrate()
        if address <= Register.GOAL_POSITION + 1 and address + len(data) > Register.TORQUE_ENABLE:
            self.drive()

    def calibrate(self) -> None:
        """Choose the homing offset that makes the present position the centre."""
        offset = self.plant.sense(self.index).position - CENTRE
        self.put(Register.HOMING_OFFSET, encode_signed(offset, OFFSET_SIGN))

    def drive(self) -> None:
        low, high = self.word(Register.MIN_POSITION), self.word(Register.MAX_POSITION)
        goal = decode_signed(self.word(Register.GOAL_POSITION), POSITION_SIGN)
        if low or high:  # both 0: multi-turn, no limits
            goal = min(max(goal, low), high)
        self.plant.drive(self.index, goal + self.offset, self.memory[Register.TORQUE_ENABLE] != 0)


class ServoBus:
    """Servos with `ids` (1..253) on one line, moving `plant`."""

    def __init__(self, ids: Sequence[int], plant: Plant, faults: Faults | None = None) -> None:
        self.faults = faults or Faults()
        self.requests = 0  # sound requests seen
        self._servos = [
            _Servo(index, servo_id, plant, servo_id in self.faults.hot) for index, servo_id in enumerate(ids)
        ]
        self._buffer = bytearray()

    def feed(self, data: bytes) -> bytes:
        """Take bytes off the line; returns what the servos answer. Noise and requests with a wrong checksum are
        ignored; an incomplete request waits for the rest."""
        self._buffer += data
        replies = bytearray()
        while (request := self._next_request()) is not None:
            self.requests += 1
            replies += self._answer(request[0], request[1], request[2:])
        return bytes(replies)

    def forget(self) -> None:
        """Drop an incomplete request, as servos do when the line falls silent within one."""
        self._buffer.clear()

    def goals_to_present(self) -> None:
        """Set every goal to the present position: for a world whose arm has been moved by hand."""
        for servo in self._servos:
            servo.refresh()
            servo.put(Register.GOAL_POSITION, servo.word(Register.PRESENT_POSITION))
            servo.drive()

    def _next_request(self) -> bytes | None:
        """Id, instruction and parameters of the first sound request; None when there is no whole one."""
        buffer = self._buffer
        while True:
            start = buffer.find(b"\xff\xff")
            if start < 0:
                del buffer[: -1 if buffer.endswith(b"\xff") else len(buffer)]
                return None
            del buffer[:start]
            if len(buffer) < 4:
                return None
            length = buffer[3]
            if buffer[2] == 0xFF or length < 2:
                del buffer[0]
                continue
            if len(buffer) < 4 + length:
                return None
            if checksum(buffer[2 : 3 + length]) != buffer[3 + length]:
                del buffer[0]
                continue
            request = bytes((buffer[2], *buffer[4 : 3 + length]))
            del buffer[: 4 + length]
            return request

    def _addressed(self, servo_id: int) -> list[_Servo]:
        present = [servo for servo in self._servos if servo.memory[Register.ID] not in self.faults.silent]
        if servo_id == BROADCAST:
            return present
        return [servo for servo in present if servo.memory[Register.ID] == servo_id]

    def _answer(self, servo_id: int, instruction: int, params: bytes) -> bytes:
        if instruction == Instruction.SYNC_READ:
            return self._sync_read(params)
        if instruction == Instruction.SYNC_WRITE:
            self._sync_write(params)
            return b""
        replies = []
        for servo in self._addressed(servo_id):
            reply = self._execute(servo, instruction, params)
            # On a broadcast only a ping is answered, each servo in its turn.
            if reply is not None and (servo_id != BROADCAST or instruction == Instruction.PING):
                replies.append(reply)
        return b"".join(replies)

    def _execute(self, servo: _Servo, instruction: int, params: bytes) -> bytes | None:
        """Do it; the status packet, or None where the servo keeps silent."""
        address, data = (params[0], params[1:]) if params else (0, b"")
        error = servo.refresh()
        own_id = servo.memory[Register.ID]  # a change of id is acknowledged under the old one
        if instruction == Instruction.PING:
            return self._status(own_id, error)
        if instruction == Instruction.READ and len(params) == 2:
            return self._status(own_id, error, servo.read(address, params[1]))
        acknowledged = servo.memory[Register.STATUS_LEVEL] != 0
        if instruction == Instruction.WRITE and data:
            servo.write(address, data)
        elif instruction == Instruction.REGISTER_WRITE and data:
            servo.pending = (address, data)
        elif instruction == Instruction.ACTION:
            if servo.pending is not None:
                servo.write(*servo.pending)
                servo.pending = None
        elif instruction == Instruction.RESET:
            servo.factory_reset(own_id)
            servo.drive()
        elif instruction == Instruction.CALIBRATE_OFFSET:
            servo.calibrate()
        else:
            return None
        return self._status(own_id, error) if acknowledged else None

    def _sync_read(self, params: bytes) -> bytes:
        if len(params) < 3:
            return b""
        address, length = params[:2]
        replies = bytearray()
        for servo_id in params[2:]:
            for servo in self._addressed(servo_id) if servo_id != BROADCAST else ():
                error = servo.refresh()
                replies += self._status(servo_id, error, servo.read(address, length))
        return bytes(replies)

    def _sync_write(self, params: bytes) -> None:
        if len(params) < 2:
            return
        address, length = params[:2]
        for start in range(2, len(params) - length, length + 1):
            for servo in self._addressed(params[start]):
                servo.write(address, params[start + 1 : start + 1 + length])

    def _status(self, servo_id: int, error: int, data: bytes = b"") -> bytes:
        body = bytes((servo_id, len(data) + 2, error)) + data
        return self.faults.spoil(b"\xff\xff" + body + bytes((checksum(body),)))
