"""An X-series Dynamixel: what reading and writing its memory table does to the servo's body.

Emulated: position, extended position and current-based position mode, drive mode (direction, time-based profile),
homing offset, position limits, profile, PWM and current limits, secondary id, status return level, shutdown by voltage,
heat and overload, bus watchdog. In the other modes the servo stays where it is. Stored without effect: gains, LED.
"""

from __future__ import annotations

import struct

from sim.dynamixel_table import BAUDRATES, EEPROM, MODELS, SIZE, Register, layout
from sim.dynamixel_wire import BROKEN, CLEAR, FACTORY_RESET, REBOOT
from sim.servo_body import COUNTS_PER_TURN, Body, Plant
from sim.servo_bus import Instruction
from sim.servo_table import TableServo

RESULT_FAIL, UNKNOWN_INSTRUCTION, CRC_ERROR, DATA_RANGE, DATA_LENGTH, DATA_LIMIT, ACCESS = range(1, 8)  # error numbers
ALERT = 1 << 7  # in the error byte: look at HARDWARE_ERROR
VOLTAGE_ERROR, OVERHEAT, OVERLOAD = 1 << 0, 1 << 2, 1 << 5  # in HARDWARE_ERROR
REVERSE, TIME_BASED, TORQUE_BY_GOAL = 1 << 0, 1 << 2, 1 << 3  # in DRIVE_MODE
POSITION, EXTENDED_POSITION, CURRENT_POSITION = 3, 4, 5  # operating modes in which a goal position counts
TRIPPED = 0xFF  # of BUS_WATCHDOG
WATCHDOG_STEP = 0.02  # s
VELOCITY_STEP = 0.229 * COUNTS_PER_TURN / 60  # counts/s
ACCELERATION_STEP = 214.577 * COUNTS_PER_TURN / 3600  # counts/s^2, from rev/min^2
RETURN_DELAY_STEP = 2e-6  # s
PWM_FULL = 885
OVERLOAD_LOAD, OVERLOAD_TIME = 0.9, 2.0  # share of stall torque, s; chosen, the maker does not say
IN_POSITION = 20  # counts
# As numbers, for what happens at every tick.
DRIVE_MODE, TORQUE, WATCHDOG, GOAL, TICK = (
    int(register)
    for register in (
        Register.DRIVE_MODE,
        Register.TORQUE_ENABLE,
        Register.BUS_WATCHDOG,
        Register.GOAL_POSITION,
        Register.TICK,
    )
)
CLEAR_KEY = b"\x01DX\x4c\x22"  # what CLEAR wants to see before it forgets whole turns
_GOALS = frozenset({Register.GOAL_PWM, Register.GOAL_CURRENT, Register.GOAL_VELOCITY, Register.GOAL_POSITION})
_LIMITS: dict[int, tuple[int, int]] = {  # of goals that may go either way
    Register.GOAL_PWM: (Register.PWM_LIMIT, 2),
    Register.GOAL_CURRENT: (Register.CURRENT_LIMIT, 2),
    Register.GOAL_VELOCITY: (Register.VELOCITY_LIMIT, 4),
}
_PRESENT = struct.Struct("<HBBhhiiiiHB")  # from TICK to PRESENT_TEMPERATURE


class DynamixelServo(TableServo):
    """A `model` (a key of `MODELS`) as servo `index` of `plant`; ids are 0..252.

    Set up as on an arm: its id, its baud rate, no return delay. `shadow_of` makes it obey a second id, mounted the
    other way round and set to the reverse direction for it.
    """

    def __init__(
        self,
        index: int,
        plant: Plant,
        servo_id: int,
        baudrate: int = 1_000_000,
        model: str = "xl330-m288",
        shadow_of: int | None = None,
    ) -> None:
        self.model = MODELS[model]
        super().__init__(Body(index, plant, self.model.voltage), layout(self.model))
        self.memory[Register.ID] = servo_id
        self.memory[Register.BAUD_RATE] = BAUDRATES.index(baudrate)
        self.memory[Register.RETURN_DELAY] = 0
        if shadow_of is not None:
            self.memory[Register.SECONDARY_ID] = shadow_of
            self.memory[Register.DRIVE_MODE] = REVERSE
        self.body.strain_load = OVERLOAD_LOAD
        step = self.model.current_step
        self._current_full = 1000 if step is None else self.model.stall_current / step  # what stalling reads
        self._uptime = 0.0
        self._overloaded = False
        self.wake()

    @property
    def id(self) -> int:
        return self.memory[Register.ID]

    @property
    def ids(self) -> tuple[int, ...]:
        second = self.memory[Register.SECONDARY_ID]
        return (self.id, second) if second <= 252 and second != self.id else (self.id,)

    @property
    def baudrate(self) -> int:
        return BAUDRATES[self.memory[Register.BAUD_RATE]]

    @property
    def return_delay(self) -> float:
        return self.memory[Register.RETURN_DELAY] * RETURN_DELAY_STEP

    def answers(self, instruction: int) -> bool:
        level = self.memory[Register.STATUS_LEVEL]
        return level > 1 or instruction == Instruction.PING or (level == 1 and instruction == Instruction.READ)

    def ping(self) -> tuple[int, bytes]:
        return self._alert, bytes((*self.memory[:2], self.memory[Register.FIRMWARE]))

    def read(self, address: int, length: int) -> tuple[int, bytes]:
        end = address + length
        if length == 0 or end > SIZE:
            return self._alert | ACCESS, b""
        if end > TICK:
            self._measure()
        return self._alert, bytes(self.memory[address:end])

    def write(self, address: int, data: bytes) -> int:
        """All of it is stored, or nothing of it."""
        if error := self._refusal(address, data):
            return self._alert | error
        end = address + len(data)
        memory = self.memory
        memory[address:end] = data
        if address == GOAL:
            self._drive()
        elif address < EEPROM:
            self._set_up()
            self.on_change()
        elif end <= Register.BUS_WATCHDOG and address > Register.TORQUE_ENABLE:
            return self._alert  # gains and the like
        else:
            if address <= Register.BUS_WATCHDOG < end:
                self.quiet = 0.0
            self._set_up()
            if end > GOAL or address <= TORQUE:
                self._drive()
        return self._alert

    def store(self, address: int, data: bytes) -> int:
        error = self._refusal(address, data)
        if not error:
            self.pending = (address, data)
            self.memory[Register.REGISTERED] = 1
        return self._alert | error

    def action(self) -> int:
        pending, self.pending = self.pending, None
        self.memory[Register.REGISTERED] = 0
        return self._alert | RESULT_FAIL if pending is None else self.write(*pending)

    def special(self, instruction: int, params: bytes, broadcast: bool) -> int | None:
        if instruction == REBOOT:
            self.reboot()
            return 0
        if instruction == FACTORY_RESET:
            return self._factory_reset(params, broadcast)
        if instruction == CLEAR:
            return self._forget_turns(params)
        return self._alert | (CRC_ERROR if instruction == BROKEN else UNKNOWN_INSTRUCTION)

    def wake(self) -> None:
        memory = self.memory
        self._turns = self.body.sense().position // COUNTS_PER_TURN
        self._latched, self._overloaded = 0, False
        memory[Register.TORQUE_ENABLE] = memory[Register.HARDWARE_ERROR] = 0
        for goal, (limit, size) in _LIMITS.items():
            if goal in self.layout.fields:
                self.put(goal, self.word(limit, size), size)
        self._set_up()
        self._aim_at_present()
        self._drive()
        self.judge()

    def upkeep(self, seconds: float) -> None:
        self._uptime += seconds
        body = self.body
        body.work(seconds)
        if body.strained > OVERLOAD_TIME:
            self._overloaded = True
        watchdog = self.memory[Register.BUS_WATCHDOG]
        if watchdog not in (0, TRIPPED) and self.quiet > watchdog * WATCHDOG_STEP:
            self.memory[Register.BUS_WATCHDOG] = TRIPPED
            self.goal_to_present()
        self.judge()

    def judge(self) -> None:
        """An error that SHUTDOWN names takes the torque away until a reboot; the others come and go."""
        memory, body = self.memory, self.body
        voltage = round(body.voltage * 10)
        errors = OVERLOAD if self._overloaded else 0
        if not self.word(Register.MIN_VOLTAGE) <= voltage <= self.word(Register.MAX_VOLTAGE):
            errors |= VOLTAGE_ERROR
        if body.temperature_c > memory[Register.TEMPERATURE_LIMIT]:
            errors |= OVERHEAT
        self._latched |= errors & memory[Register.SHUTDOWN]
        memory[Register.HARDWARE_ERROR] = errors | self._latched
        self._alert = ALERT if errors | self._latched else 0
        self._weather = voltage, round(body.temperature_c)
        if self._latched and memory[Register.TORQUE_ENABLE]:
            memory[Register.TORQUE_ENABLE] = 0
            self._drive()

    def overload(self, imposed: bool) -> None:
        self._overloaded = imposed
        self.judge()

    def goal_to_present(self) -> None:
        self._aim_at_present()
        self.body.place()

    def _aim_at_present(self) -> None:
        self.put(Register.GOAL_POSITION, self._reported(self.body.sense().position) & 0xFFFFFFFF, 4)

    def _signed(self, address: int, size: int) -> int:
        return int.from_bytes(self.memory[address : address + size], "little", signed=True)

    def _reported(self, position: float) -> int:
        """A position on the encoder's scale as the registers have it."""
        return self._sign * round(position) + self._shift

    def _on_encoder(self, counts: int) -> int:
        """What `_reported` makes `counts` of."""
        return self._sign * (counts - self._shift)

    def _refusal(self, address: int, data: bytes) -> int:
        """The error number with which a write is refused; 0 when it is not."""
        if address == GOAL and len(data) == 4:  # what happens at every tick
            return self._refused_value(GOAL, int.from_bytes(data, "little", signed=True))
        fields, torque = self.layout.fields, self.memory[Register.TORQUE_ENABLE]
        end = address + len(data)
        at = address
        while at < end:
            field = fields.get(at)
            if field is None or not field.writable or (at < EEPROM and torque):
                return ACCESS
            if at + field.size > end:
                return DATA_LENGTH
            raw = data[at - address : at - address + field.size]
            if error := self._refused_value(at, int.from_bytes(raw, "little", signed=field.low < 0)):
                return error
            at += field.size
        return 0

    def _refused_value(self, address: int, value: int) -> int:
        memory, field = self.memory, self.layout.fields[address]
        if not field.low <= value <= field.high:
            return DATA_RANGE
        if address in _GOALS:
            if memory[WATCHDOG] == TRIPPED:
                return DATA_RANGE
            if address == GOAL:
                return 0 if not self._limited or self._limits[0] <= value <= self._limits[1] else DATA_LIMIT
            return DATA_LIMIT if abs(value) > self.word(*_LIMITS[address]) else 0
        if address == Register.TORQUE_ENABLE and value and self._latched:
            return RESULT_FAIL
        return 0

    def _set_up(self) -> None:
        """Note how counts go, hand profile and torque limits to the body."""
        memory, profile = self.memory, self.body.profile
        reverse = memory[Register.DRIVE_MODE] & REVERSE
        self._sign = -1 if reverse else 1
        # A reversed servo counts down from the end of the turn.
        self._shift = self._signed(Register.HOMING_OFFSET, 4) - self._sign * self._turns * COUNTS_PER_TURN
        self._shift += COUNTS_PER_TURN if reverse else 0
        self._moving_from = self.word(Register.MOVING_THRESHOLD, 4)
        self._limits = self.word(Register.MIN_POSITION, 4), self.word(Register.MAX_POSITION, 4)
        self._by_position = memory[Register.OPERATING_MODE] in (POSITION, EXTENDED_POSITION, CURRENT_POSITION)
        self._limited = memory[Register.OPERATING_MODE] == POSITION
        profile.velocity = self.word(Register.PROFILE_VELOCITY, 4) * VELOCITY_STEP
        profile.acceleration = self.word(Register.PROFILE_ACCELERATION, 4) * ACCELERATION_STEP
        share = abs(self._signed(Register.GOAL_PWM, 2)) / PWM_FULL
        if self.model.current_step is not None and memory[Register.OPERATING_MODE] == CURRENT_POSITION:
            current = abs(self._signed(Register.GOAL_CURRENT, 2)) * self.model.current_step
            share = min(share, current / self.model.stall_current)
        self.body.limit_torque(min(1.0, share))

    def _drive(self) -> None:
        memory, body = self.memory, self.body
        goal = self._on_encoder(self._signed(GOAL, 4)) if self._by_position else body.sense().position
        if memory[DRIVE_MODE] & TIME_BASED:
            self._time_profile(abs(goal - body.profile.position))
        body.command(goal, memory[TORQUE] != 0)

    def _time_profile(self, distance: float) -> None:
        """The trapezoid that takes PROFILE_VELOCITY ms, of which PROFILE_ACCELERATION ms to get up to speed."""
        span = self.word(Register.PROFILE_VELOCITY, 4) / 1000
        rise = min(self.word(Register.PROFILE_ACCELERATION, 4) / 1000, span / 2)
        profile = self.body.profile
        profile.velocity = distance / (span - rise) if span > 0 else 0.0
        profile.acceleration = profile.velocity / rise if rise > 0 else 0.0

    def _factory_reset(self, params: bytes, broadcast: bool) -> int:
        """0xFF: all; 1: all but the id; 2: all but id and baud rate. Refused with torque on, and 0xFF to everybody."""
        option = params[0] if params else 0
        if option not in (0xFF, 1, 2) or (option == 0xFF and broadcast):
            return self._alert | DATA_RANGE
        if self.memory[Register.TORQUE_ENABLE]:
            return self._alert | ACCESS
        kept = {0xFF: (), 1: (Register.ID,), 2: (Register.ID, Register.BAUD_RATE)}[option]
        values = {register: self.memory[register] for register in kept}
        self.memory[:] = self.layout.image()
        for register, value in values.items():
            self.memory[register] = value
        self.reboot()
        self.on_change()
        return 0

    def _forget_turns(self, params: bytes) -> int:
        """Report the position within one turn again; not while it moves."""
        if params[:5] != CLEAR_KEY:
            return self._alert | DATA_RANGE
        sensed = self.body.sense()
        if abs(sensed.velocity) > VELOCITY_STEP * 10:
            return self._alert | RESULT_FAIL
        self._turns = sensed.position // COUNTS_PER_TURN
        self._set_up()
        self.goal_to_present()
        return self._alert

    def _measure(self) -> None:
        """Measure into the present registers."""
        body, sign, shift = self.body, self._sign, self._shift
        sensed, profile = body.sense(), body.profile
        position, load = sensed.position, sign * sensed.load
        velocity = round(sign * sensed.velocity / VELOCITY_STEP)
        in_position = -IN_POSITION <= position - body.goal <= IN_POSITION
        _PRESENT.pack_into(
            self.memory,
            TICK,
            int(self._uptime * 1000) % 32768,
            not -self._moving_from <= velocity <= self._moving_from,
            in_position | (body.travelling << 1),
            round(load * PWM_FULL),
            round(load * self._current_full),
            velocity,
            sign * position + shift,
            round(sign * profile.speed / VELOCITY_STEP),
            sign * round(profile.position) + shift,
            *self._weather,
        )
