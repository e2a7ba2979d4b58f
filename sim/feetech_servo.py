"""An STS3215: its memory table, and what reading and writing it does to the servo's body.

Written from Feetech's STS3215 memory table, and on purpose not from `drivers.feetech_codec`, so that each checks the
other. Emulated: position mode, homing offset, position limits, speed and acceleration, torque limit, EEPROM lock,
status level, alarms of voltage, heat and overload, an encoder that begins anew with each turn. Stored without effect:
gains, other modes, goal time.
"""

from __future__ import annotations

import struct
from enum import IntEnum

from sim.feetech_wire import CALIBRATE_OFFSET, RESET
from sim.servo_body import CENTRE, COUNTS_PER_TURN, Body, Plant
from sim.servo_bus import Instruction
from sim.servo_table import Field, Layout, TableServo

MODEL_STS3215 = 777
VOLTAGE = 7.4  # V, supply
TORQUE_CALIBRATE = 128  # written to TORQUE_ENABLE: take the present position as the centre
MOVING_SPEED = 20  # counts/s, above this MOVING reads 1
STALL_CURRENT = 415  # 2.7 A in steps of 6.5 mA
ACCELERATION_STEP = 100.0  # counts/s^2
RETURN_DELAY_STEP = 2e-6  # s
BAUDRATES = (1_000_000, 500_000, 250_000, 128_000, 115_200, 76_800, 57_600, 38_400)  # by register value

VOLTAGE_ERROR, OVERHEAT, OVERLOAD = 1 << 0, 1 << 2, 1 << 5
POSITION_SIGN, OFFSET_SIGN, LOAD_SIGN = 15, 11, 10  # sign bits: numbers are sign and magnitude


class Register(IntEnum):
    """Addresses of the memory table."""

    FIRMWARE = 0
    FIRMWARE_MINOR = 1
    MODEL = 3
    ID = 5
    BAUD_RATE = 6
    RETURN_DELAY = 7
    STATUS_LEVEL = 8
    MIN_POSITION = 9
    MAX_POSITION = 11
    MAX_TEMPERATURE = 13
    MAX_VOLTAGE = 14
    MIN_VOLTAGE = 15
    MAX_TORQUE = 16
    PHASE = 18
    UNLOADING = 19
    LED_ALARM = 20
    P_GAIN = 21
    D_GAIN = 22
    I_GAIN = 23
    MIN_START_FORCE = 24
    CLOCKWISE_DEAD_ZONE = 26
    COUNTER_DEAD_ZONE = 27
    PROTECTION_CURRENT = 28
    RESOLUTION = 30
    HOMING_OFFSET = 31
    OPERATING_MODE = 33
    PROTECTIVE_TORQUE = 34
    PROTECTION_TIME = 35
    OVERLOAD_TORQUE = 36
    SPEED_P_GAIN = 37
    OVERCURRENT_TIME = 38
    SPEED_I_GAIN = 39
    TORQUE_ENABLE = 40
    ACCELERATION = 41
    GOAL_POSITION = 42
    GOAL_TIME = 44
    GOAL_VELOCITY = 46
    TORQUE_LIMIT = 48
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
    MAX_ACCELERATION = 85


_TWO_BYTES = {
    Register.MODEL, Register.MIN_POSITION, Register.MAX_POSITION, Register.MAX_TORQUE, Register.MIN_START_FORCE,
    Register.PROTECTION_CURRENT, Register.HOMING_OFFSET, Register.GOAL_POSITION, Register.GOAL_TIME,
    Register.GOAL_VELOCITY, Register.TORQUE_LIMIT, Register.PRESENT_POSITION, Register.PRESENT_VELOCITY,
    Register.PRESENT_LOAD, Register.PRESENT_CURRENT,
}  # fmt: skip
_FACTORY = {
    Register.FIRMWARE: 3,
    Register.FIRMWARE_MINOR: 10,
    Register.MODEL: MODEL_STS3215,
    Register.ID: 1,
    Register.STATUS_LEVEL: 1,
    Register.MAX_POSITION: COUNTS_PER_TURN - 1,
    Register.MAX_TEMPERATURE: 70,
    Register.MAX_VOLTAGE: 80,
    Register.MIN_VOLTAGE: 40,
    Register.MAX_TORQUE: 1000,
    Register.UNLOADING: 44,
    Register.LED_ALARM: 47,
    Register.P_GAIN: 32,
    Register.D_GAIN: 32,
    Register.MIN_START_FORCE: 16,
    Register.CLOCKWISE_DEAD_ZONE: 1,
    Register.COUNTER_DEAD_ZONE: 1,
    Register.PROTECTION_CURRENT: 500,
    Register.RESOLUTION: 1,
    Register.PROTECTIVE_TORQUE: 20,
    Register.PROTECTION_TIME: 200,
    Register.OVERLOAD_TORQUE: 80,
    Register.SPEED_P_GAIN: 10,
    Register.OVERCURRENT_TIME: 200,
    Register.SPEED_I_GAIN: 10,
    Register.TORQUE_LIMIT: 1000,
    Register.LOCK: 1,
}
EEPROM, WORKING, READ_ONLY = 40, 56, 71  # where EEPROM ends, where present values begin and end
TORQUE, GOAL = 40, 42  # as numbers, for what happens at every tick
LAYOUT = Layout(
    {
        register: Field(
            2 if register in _TWO_BYTES else 1,
            _FACTORY.get(register, 0),
            writable=not (register < Register.ID or WORKING <= register < READ_ONLY),
        )
        for register in Register
    },
    Register,
    size=87,
    eeprom=EEPROM,
)
_PRESENT = struct.Struct("<HHHBBBBBxxH")  # from PRESENT_POSITION to PRESENT_CURRENT


def encode_signed(value: int, sign_bit: int) -> int:
    """Sign and magnitude, the magnitude cut to what fits below `sign_bit`."""
    magnitude = min(abs(value), (1 << sign_bit) - 1)
    return magnitude | (1 << sign_bit if value < 0 else 0)


def decode_signed(raw: int, sign_bit: int) -> int:
    """The number of a sign and magnitude; bits above `sign_bit` are ignored."""
    magnitude = raw & ((1 << sign_bit) - 1)
    return -magnitude if raw >> sign_bit & 1 else magnitude


class FeetechServo(TableServo):
    """An STS3215 with `servo_id` (1..253), set to `baudrate`, as servo `index` of `plant`."""

    def __init__(self, index: int, plant: Plant, servo_id: int, baudrate: int = BAUDRATES[0]) -> None:
        super().__init__(Body(index, plant, VOLTAGE), LAYOUT)
        self.error = 0  # the error bits of every status packet
        self._overload_side = 0  # after a trip by load: the sign of what it pushed with
        self.memory[Register.ID] = servo_id
        self.memory[Register.BAUD_RATE] = BAUDRATES.index(baudrate)
        self._overload_imposed = False
        self.wake()

    @property
    def id(self) -> int:
        return self.memory[Register.ID]

    @property
    def baudrate(self) -> int:
        code = self.memory[Register.BAUD_RATE]
        return BAUDRATES[code] if code < len(BAUDRATES) else 0

    @property
    def return_delay(self) -> float:
        return self.memory[Register.RETURN_DELAY] * RETURN_DELAY_STEP

    def answers(self, instruction: int) -> bool:
        return instruction in (Instruction.PING, Instruction.READ) or self.memory[Register.STATUS_LEVEL] != 0

    def ping(self) -> tuple[int, bytes]:
        return self.error, b""

    def read(self, address: int, length: int) -> tuple[int, bytes]:
        """Beyond the table there are zeros."""
        if address < READ_ONLY and address + length > WORKING:
            self._measure()
        return self.error, bytes(self.memory[address : address + length]).ljust(length, b"\0")

    def write(self, address: int, data: bytes) -> int:
        """Read-only bytes and locked EEPROM keep their values: nothing refuses them, nothing says so."""
        end = min(address + len(data), len(self.memory))
        torque = self.memory[Register.TORQUE_ENABLE]
        if address >= EEPROM and end <= WORKING:
            self.memory[address:end] = data
        else:
            locked = self.memory[Register.LOCK] != 0
            for place, byte in enumerate(data[: max(0, end - address)], address):
                if not (place < Register.ID or WORKING <= place < READ_ONLY or (locked and place < EEPROM)):
                    self.memory[place] = byte
        if self.memory[TORQUE] == TORQUE_CALIBRATE:
            self.memory[TORQUE] = torque
            self._calibrate()
        if address < EEPROM:
            self.on_change()
        if address != GOAL or end > GOAL + 2:
            self._set_up()
        if address <= GOAL + 1 and end > TORQUE:
            self._drive()
        return self.error

    def store(self, address: int, data: bytes) -> int:
        self.pending = (address, data)
        return self.error

    def action(self) -> int:
        pending, self.pending = self.pending, None
        return self.error if pending is None else self.write(*pending)

    def special(self, instruction: int, params: bytes, broadcast: bool) -> int | None:
        if instruction == RESET:
            servo_id = self.id
            self.memory[:] = self.layout.image()
            self.memory[Register.ID] = servo_id
            self.pending = None
            self.wake()
        elif instruction == CALIBRATE_OFFSET:
            self._calibrate()
        else:
            return None
        self.on_change()
        return self.error

    def wake(self) -> None:
        self._overload_side = 0
        self.memory[Register.TORQUE_ENABLE] = 0
        self.put(Register.TORQUE_LIMIT, self.word(Register.MAX_TORQUE))
        self._set_up()
        self.judge()
        self._aim_at_present()
        self._drive()

    def upkeep(self, seconds: float) -> None:
        body = self.body
        body.work(seconds)
        if body.strained > self.memory[Register.PROTECTION_TIME] / 100 and not self._overload_side:
            self._trip()
        self.judge()

    def judge(self) -> None:
        voltage = round(self.body.voltage * 10)
        sound = self.memory[Register.MIN_VOLTAGE] <= voltage <= self.memory[Register.MAX_VOLTAGE]
        hot = self.body.temperature_c > self.memory[Register.MAX_TEMPERATURE]
        alarms = (0 if sound else VOLTAGE_ERROR) | (OVERHEAT if hot else 0)
        self.error = alarms | (OVERLOAD if self._overload_side else 0)
        self._present = voltage, round(self.body.temperature_c)
        if hot and self.body.torque:
            self.memory[Register.TORQUE_ENABLE] = 0
            self._drive()

    def overload(self, imposed: bool) -> None:
        self._overload_imposed = imposed
        if imposed:
            self._trip()

    def goal_to_present(self) -> None:
        self._aim_at_present()
        self.body.place()

    def _aim_at_present(self) -> None:
        self._measure()
        self.put(Register.GOAL_POSITION, self.word(Register.PRESENT_POSITION))

    def _measure(self) -> None:
        """Measure into the present registers."""
        sensed = self.body.sense()
        position, velocity, load = self._shown(sensed.position), sensed.velocity, round(sensed.load * 1000)
        current = round(sensed.load * STALL_CURRENT)
        _PRESENT.pack_into(
            self.memory,
            WORKING,
            position & 0x7FFF if position >= 0 else encode_signed(position, POSITION_SIGN),
            velocity & 0x7FFF if velocity >= 0 else encode_signed(velocity, POSITION_SIGN),
            load if load >= 0 else encode_signed(load, LOAD_SIGN),
            *self._present,
            self.pending is not None,
            self.error,
            not -MOVING_SPEED <= velocity <= MOVING_SPEED,
            current if current >= 0 else encode_signed(current, POSITION_SIGN),
        )

    def _shown(self, position: int) -> int:
        """What the servo says of a position on the encoder's own scale: without limits, turns are counted."""
        shown = position - self._offset
        return shown % COUNTS_PER_TURN if self._limits != (0, 0) else shown

    def _calibrate(self) -> None:
        """Choose the homing offset that makes the present position the centre."""
        offset = self.body.sense().position - CENTRE
        self.put(Register.HOMING_OFFSET, encode_signed(offset, OFFSET_SIGN))
        self._set_up()

    def _set_up(self) -> None:
        """Note the offset, hand speed, acceleration and torque limits to the body."""
        body, memory = self.body, self.memory
        self._offset = decode_signed(self.word(Register.HOMING_OFFSET), OFFSET_SIGN)
        self._limits = self.word(Register.MIN_POSITION), self.word(Register.MAX_POSITION)
        body.profile.velocity = decode_signed(self.word(Register.GOAL_VELOCITY), POSITION_SIGN)
        body.profile.acceleration = memory[Register.ACCELERATION] * ACCELERATION_STEP
        body.strain_load = memory[Register.OVERLOAD_TORQUE] / 100
        share = min(1.0, self.word(Register.TORQUE_LIMIT) / 1000)
        body.limit_torque(min(share, memory[Register.PROTECTIVE_TORQUE] / 100) if self._overload_side else share)

    def _drive(self) -> None:
        memory = self.memory
        goal = decode_signed(memory[GOAL] | memory[GOAL + 1] << 8, POSITION_SIGN)
        low, high = self._limits
        if low or high:  # both 0: multi-turn, no limits
            goal = min(max(goal, low), high)
        present = self.body.sense().position
        goal += present - self._shown(present)  # on the encoder's own scale, on the turn on which the servo is
        torque = memory[TORQUE] != 0
        if self._overload_side and not self._overload_imposed:
            relieved = (goal - self.body.sense().position) * self._overload_side < 0
            if relieved or not torque:
                self._overload_side = 0
                self._set_up()
                self.judge()
        self.body.command(goal, torque)

    def _trip(self) -> None:
        """Push with the protective torque alone, until torque is switched off or the goal is on the other side."""
        self._overload_side = 1 if self.body.sense().load >= 0 else -1
        self._set_up()
        self.judge()
