"""What servos can do: stall torque and no-load speed of each model, from its maker's data sheet.

Knows no protocol and no world. The Dynamixel figures are those of the e-Manual (emanual.robotis.com/docs/en/dxl/x), at
5 V for the XL330 and at 12 V for the others.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from drivers.config import ConfigError, JointConfig, suggest
from drivers.dynamixel import DYNAMIXEL
from drivers.feetech import FEETECH

RPM = 2 * math.pi / 60  # rad/s
KG_CM = 0.0980665  # N m


@dataclass(frozen=True, slots=True)
class Strength:
    """Of one servo, or of all servos of one joint."""

    torque: float  # N m, stalled
    speed: float  # rad/s, without load


STRENGTHS = {
    "sts3215": Strength(19.5 * KG_CM, math.radians(60) / 0.222),  # ST-3215-C001 at 7.4 V, 1:345
    "xl330-m077": Strength(0.215, 383 * RPM),
    "xl330-m288": Strength(0.52, 103 * RPM),
    "xl430-w250": Strength(1.5, 61 * RPM),
    "xm430-w350": Strength(4.1, 46 * RPM),
    "xm540-w270": Strength(10.6, 30 * RPM),
}


def joint_strength(joint: JointConfig, driver: str) -> Strength:
    """What the servos of a joint can do together: a shadow doubles the torque. Raises `ConfigError` for a model that is
    not known."""
    model = joint.servo or (DYNAMIXEL if driver == DYNAMIXEL.name else FEETECH).usual_model
    if model not in STRENGTHS:
        known = ", ".join(STRENGTHS)
        raise ConfigError(
            f"{joint.name}: no strength is known of a servo {model!r}{suggest(model, STRENGTHS)}; known: {known}"
        )
    one = STRENGTHS[model]
    return Strength(one.torque * (2 if joint.shadow is not None else 1), one.speed)
