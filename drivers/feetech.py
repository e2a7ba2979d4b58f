"""Feetech servos: the models known here, their protocol for servo_arm.py and servo_line.py, and `FeetechArm`.

Knows no port. The STS3215 is the servo of SO-100 and SO-101. Of the SCS series only the SCS0009 is here, the one whose
model number is published (LeRobot's table); for the others (SCS15 ...) neither that nor the angle of a count is.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Final

from drivers import feetech_codec as codec
from drivers.config import ArmConfig
from drivers.servo_arm import ServoArm
from drivers.servo_protocol import Register, ServoModel, ServoProtocol

STS3215: Final = ServoModel(
    name="sts3215",
    number=777,
    counts_per_turn=4096,
    byteorder="little",
    decode_present=codec.decode_present,
    encode=codec.encode,
    decode=codec.decode,
    modes={0: (0, 4095)},
    mode=codec.OPERATING_MODE,
    follow=(codec.ACCELERATION, codec.GOAL_TIME_AND_VELOCITY),
)

SCS0009: Final = ServoModel(
    name="scs0009",
    number=1284,
    counts_per_turn=1024 * 360 / 300,  # data sheet: 300 degrees in 1024 counts
    byteorder="big",
    decode_present=partial(codec.decode_present, byteorder="big"),
    encode=partial(codec.encode, byteorder="big"),
    decode=partial(codec.decode, byteorder="big"),
    modes={0: (0, 1023)},
    mode=None,
    follow=(codec.GOAL_TIME_AND_VELOCITY,),  # no acceleration in SCSCL.h
    registers={"lock": Register(48, 1)},
    sync_read=False,
)

FEETECH: Final = ServoProtocol(
    name="feetech",
    framing=codec.FeetechFraming(),
    overhead=codec.OVERHEAD,
    models={model.name: model for model in (STS3215, SCS0009)},
    usual_model=STS3215.name,
    baudrates={1_000_000: 0, 500_000: 1, 250_000: 2, 128_000: 3, 115_200: 4, 76_800: 5, 57_600: 6, 38_400: 7},
    registers=codec.REGISTERS,
    model_number=codec.MODEL_NUMBER,
    firmware=codec.FIRMWARE,
    torque=codec.TORQUE_ENABLE,
    goal=codec.GOAL_POSITION,
    present=codec.PRESENT,
    health=codec.TORQUE_ENABLE,
    decode_health=codec.decode_health,
    decode_firmware=codec.decode_firmware,
    status_errors=codec.error_names,
    alert=0,
    ping=codec.ping,
    ping_size=0,
    read=codec.read,
    write=codec.write,
    sync_read=codec.sync_read,
    sync_write=codec.sync_write,
)


class FeetechArm(ServoArm):
    """An arm of Feetech servos; see `ServoArm`."""

    def __init__(self, config: ArmConfig, *, clock: Callable[[], int] = time.monotonic_ns) -> None:
        super().__init__(config, FEETECH, clock=clock)
