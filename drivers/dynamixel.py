"""Dynamixel X servos: the models known here, their protocol for servo_arm.py and servo_line.py, and `DynamixelArm`.

Knows no port. Model numbers, units and stall currents are those of ROBOTIS's e-manual, the latter at 5 V (XL330) and
12 V; a present current is told as a share of the stall current.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Final

from drivers import dynamixel_codec as codec
from drivers.config import ArmConfig
from drivers.servo_arm import ServoArm
from drivers.servo_protocol import ServoModel, ServoProtocol, Watchdog

MODES: Final = {  # operating modes that follow goal positions
    3: (0, 4095),  # position
    4: (-1_048_575, 1_048_575),  # extended position
    5: (-1_048_575, 1_048_575),  # position with a current limit: how LeRobot leaves a Koch's gripper
}
CURRENT_STEP: Final = 0.00269  # A, of the XM servos; an XL330 counts milliamperes
WATCHDOG: Final = Watchdog(codec.BUS_WATCHDOG, off=b"\x00", armed=b"\x05", period=0.1)  # in steps of 20 ms


def _model(name: str, number: int, load_unit: float, *, fast_read_from: int, watchdog_from: int) -> ServoModel:
    return ServoModel(
        name=name,
        number=number,
        counts_per_turn=4096,
        byteorder="little",
        decode_present=partial(codec.decode_present, load_unit=load_unit),
        encode=codec.encode,
        decode=codec.decode,
        modes=MODES,
        mode=codec.OPERATING_MODE,
        follow=(codec.PROFILE,),
        fast_read_from=fast_read_from,
        watchdog_from=watchdog_from,
    )


# Fast sync read came with firmware 45, with 46 on the XL330; the bus watchdog with 38, the XL330 always had it.
MODELS: Final = (
    _model("xl330-m077", 1190, 0.001 / 1.47, fast_read_from=46, watchdog_from=0),
    _model("xl330-m288", 1200, 0.001 / 1.47, fast_read_from=46, watchdog_from=0),
    _model("xl430-w250", 1060, 0.001, fast_read_from=45, watchdog_from=38),
    _model("xm430-w350", 1020, CURRENT_STEP / 2.3, fast_read_from=45, watchdog_from=38),
    _model("xm540-w270", 1120, CURRENT_STEP / 4.4, fast_read_from=45, watchdog_from=38),
)

DYNAMIXEL: Final = ServoProtocol(
    name="dynamixel",
    framing=codec.DynamixelFraming(),
    overhead=codec.OVERHEAD,
    models={model.name: model for model in MODELS},
    usual_model="xl330-m288",
    baudrates={9_600: 0, 57_600: 1, 115_200: 2, 1_000_000: 3, 2_000_000: 4, 3_000_000: 5, 4_000_000: 6},
    registers=codec.REGISTERS,
    model_number=codec.MODEL_NUMBER,
    firmware=codec.FIRMWARE,
    torque=codec.TORQUE_ENABLE,
    goal=codec.GOAL_POSITION,
    present=codec.PRESENT,
    health=codec.HEALTH,
    decode_health=codec.decode_health,
    decode_firmware=codec.decode_firmware,
    status_errors=codec.error_names,
    alert=codec.ALERT,
    ping=codec.ping,
    ping_size=codec.PING_SIZE,
    read=codec.read,
    write=codec.write,
    sync_read=codec.sync_read,
    sync_write=codec.sync_write,
    fast_sync_read=codec.fast_sync_read,
    reboot=codec.reboot,
    watchdog=WATCHDOG,
)


class DynamixelArm(ServoArm):
    """An arm of Dynamixel X servos; see `ServoArm`."""

    def __init__(self, config: ArmConfig, *, clock: Callable[[], int] = time.monotonic_ns) -> None:
        super().__init__(config, DYNAMIXEL, clock=clock)
