"""The memory table of X-series Dynamixels, and what differs between the models. Written from the maker's e-manual."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from sim.servo_table import Field, Layout

EEPROM = 64  # where RAM begins
SIZE = 147
BAUDRATES = (9_600, 57_600, 115_200, 1_000_000, 2_000_000, 3_000_000, 4_000_000, 4_500_000)  # by register value


class Register(IntEnum):
    """Addresses of the memory table."""

    MODEL = 0
    MODEL_INFORMATION = 2
    FIRMWARE = 6
    ID = 7
    BAUD_RATE = 8
    RETURN_DELAY = 9
    DRIVE_MODE = 10
    OPERATING_MODE = 11
    SECONDARY_ID = 12
    PROTOCOL = 13
    HOMING_OFFSET = 20
    MOVING_THRESHOLD = 24
    TEMPERATURE_LIMIT = 31
    MAX_VOLTAGE = 32
    MIN_VOLTAGE = 34
    PWM_LIMIT = 36
    CURRENT_LIMIT = 38
    VELOCITY_LIMIT = 44
    MAX_POSITION = 48
    MIN_POSITION = 52
    STARTUP = 60
    PWM_SLOPE = 62
    SHUTDOWN = 63
    TORQUE_ENABLE = 64
    LED = 65
    STATUS_LEVEL = 68
    REGISTERED = 69
    HARDWARE_ERROR = 70
    VELOCITY_I_GAIN = 76
    VELOCITY_P_GAIN = 78
    POSITION_D_GAIN = 80
    POSITION_I_GAIN = 82
    POSITION_P_GAIN = 84
    FEEDFORWARD_2 = 88
    FEEDFORWARD_1 = 90
    BUS_WATCHDOG = 98
    GOAL_PWM = 100
    GOAL_CURRENT = 102
    GOAL_VELOCITY = 104
    PROFILE_ACCELERATION = 108
    PROFILE_VELOCITY = 112
    GOAL_POSITION = 116
    TICK = 120
    MOVING = 122
    MOVING_STATUS = 123
    PRESENT_PWM = 124
    PRESENT_CURRENT = 126
    PRESENT_VELOCITY = 128
    PRESENT_POSITION = 132
    VELOCITY_TRAJECTORY = 136
    POSITION_TRAJECTORY = 140
    PRESENT_VOLTAGE = 144
    PRESENT_TEMPERATURE = 146


@dataclass(frozen=True, slots=True)
class Model:
    """What tells one model from another. Voltages in V; gains as velocity I, P, position D, I, P."""

    name: str
    number: int
    voltage: float  # what it is supplied with
    voltages: tuple[float, float]  # factory limits
    temperature_c: int  # factory limit
    velocity: int  # factory limit, steps of 0.229 rpm
    gains: tuple[int, int, int, int, int]
    stall_current: float  # A, at that voltage
    current_step: float | None  # A; None: it measures load and no current
    current_limit: int = 0  # factory value, steps
    shutdown: int = 0b110100  # overload, shock, overheat
    baudrates: int = 8  # how many of BAUDRATES
    slope: int | None = None  # factory value of PWM slope; None: it has none


MODELS = {
    model.name: model
    for model in (
        Model(
            "xl330-m288", 1200, 5.0, (3.5, 7.0), 70, 445, (1600, 180, 0, 0, 400), 1.47, 0.001, 1750, 0b110101, 7, 140
        ),
        Model(
            "xl330-m077", 1190, 5.0, (3.5, 7.0), 70, 1620, (1600, 180, 0, 0, 400), 1.47, 0.001, 1750, 0b110101, 7, 140
        ),
        Model("xl430-w250", 1060, 12.0, (6.0, 14.0), 72, 265, (1000, 100, 4000, 0, 640), 1.4, None),
        Model("xm430-w350", 1020, 12.0, (9.5, 16.0), 80, 200, (1920, 100, 0, 0, 800), 2.3, 0.00269, 1193),
        Model("xm540-w270", 1120, 12.0, (9.5, 16.0), 80, 128, (1920, 100, 0, 0, 800), 4.4, 0.00269, 2047),
    )
}


def layout(model: Model) -> Layout:
    """The memory table of a model as it leaves the factory."""
    velocity_i, velocity_p, position_d, position_i, position_p = model.gains
    turns = 1_048_575  # counts, either way
    gain = 16_383
    r = Register
    fields: dict[int, Field] = {
        r.MODEL: Field(2, model.number, writable=False),
        r.MODEL_INFORMATION: Field(4, writable=False),
        r.FIRMWARE: Field(1, 52, writable=False),
        r.ID: Field(1, 1, 0, 252),
        r.BAUD_RATE: Field(1, 1, 0, model.baudrates - 1),
        r.RETURN_DELAY: Field(1, 250, 0, 254),
        r.DRIVE_MODE: Field(1, 0, 0, 13),
        r.OPERATING_MODE: Field(1, 3, 0, 16),
        r.SECONDARY_ID: Field(1, 255, 0, 255),
        r.PROTOCOL: Field(1, 2, 2, 22),
        r.HOMING_OFFSET: Field(4, 0, -1_044_479, 1_044_479),
        r.MOVING_THRESHOLD: Field(4, 10, 0, 1023),
        r.TEMPERATURE_LIMIT: Field(1, model.temperature_c, 0, 100),
        r.MAX_VOLTAGE: Field(2, round(model.voltages[1] * 10), 31, 160),
        r.MIN_VOLTAGE: Field(2, round(model.voltages[0] * 10), 31, 160),
        r.PWM_LIMIT: Field(2, 885, 0, 885),
        r.VELOCITY_LIMIT: Field(4, model.velocity, 0, 2047),
        r.MAX_POSITION: Field(4, 4095, 0, 4095),
        r.MIN_POSITION: Field(4, 0, 0, 4095),
        r.STARTUP: Field(1, 0, 0, 3),
        r.SHUTDOWN: Field(1, model.shutdown, 0, 63),
        r.TORQUE_ENABLE: Field(1, 0, 0, 1),
        r.LED: Field(1, 0, 0, 1),
        r.STATUS_LEVEL: Field(1, 2, 0, 2),
        r.REGISTERED: Field(1, writable=False),
        r.HARDWARE_ERROR: Field(1, writable=False),
        r.VELOCITY_I_GAIN: Field(2, velocity_i, 0, gain),
        r.VELOCITY_P_GAIN: Field(2, velocity_p, 0, gain),
        r.POSITION_D_GAIN: Field(2, position_d, 0, gain),
        r.POSITION_I_GAIN: Field(2, position_i, 0, gain),
        r.POSITION_P_GAIN: Field(2, position_p, 0, gain),
        r.FEEDFORWARD_2: Field(2, 0, 0, gain),
        r.FEEDFORWARD_1: Field(2, 0, 0, gain),
        r.BUS_WATCHDOG: Field(1, 0, 0, 127),
        r.GOAL_PWM: Field(2, 885, -885, 885),
        r.GOAL_VELOCITY: Field(4, model.velocity, -2047, 2047),
        r.PROFILE_ACCELERATION: Field(4, 0, 0, 32_767),
        r.PROFILE_VELOCITY: Field(4, 0, 0, 32_767),
        r.GOAL_POSITION: Field(4, 0, -turns, turns),
        **{
            register: Field(size, writable=False)
            for register, size in {
                r.TICK: 2, r.MOVING: 1, r.MOVING_STATUS: 1, r.PRESENT_PWM: 2, r.PRESENT_CURRENT: 2,
                r.PRESENT_VELOCITY: 4, r.PRESENT_POSITION: 4, r.VELOCITY_TRAJECTORY: 4, r.POSITION_TRAJECTORY: 4,
                r.PRESENT_VOLTAGE: 2, r.PRESENT_TEMPERATURE: 1,
            }.items()
        },
    }  # fmt: skip
    if model.current_step is not None:
        fields[r.CURRENT_LIMIT] = Field(2, model.current_limit, 0, model.current_limit)
        fields[r.GOAL_CURRENT] = Field(2, model.current_limit, -model.current_limit, model.current_limit)
    if model.slope is not None:
        fields[r.PWM_SLOPE] = Field(1, model.slope, 1, 255)
    return Layout(fields, Register, SIZE, EEPROM)
