"""The simulated SO-101: lengths, limits, forward and inverse kinematics. Numbers only, no PyBullet.

Lengths come from the maker's CAD export (TheRobotStudio SO-ARM100, so101_new_calib.urdf), in which every joint's zero
is the middle of its range: upper arm vertical, forearm and gripper horizontal. Torque and speed are the STS3215's at
7.4 V: 19.5 kg cm and 0.222 s for 60 degrees. One thing differs from the real arm: the gripper servo drives two parallel
jaws, not one swinging jaw, so that a grasp is symmetric.
"""

from __future__ import annotations

import math

import numpy as np

from drivers.arm import ArmSpec, Array, frozen

SHOULDER_RADIUS = 0.0304  # m, pan axis to shoulder-lift axis
SHOULDER_HEIGHT = 0.1166  # m, 0.0624 + 0.0542
UPPER_ARM = math.hypot(0.11257, 0.028)  # m
FOREARM = math.hypot(0.1349, 0.0052)  # m
HAND = 0.0611 + 0.0981  # m, wrist-flex axis to the grasp centre between the finger pads

SERVO_TORQUE = 19.5 * 0.0980665  # N m
SERVO_SPEED = math.radians(60) / 0.222  # rad/s

OPENING_PER_RADIAN = 0.065 / 1.75  # m of jaw opening for each radian of the gripper servo

SPEC = ArmSpec(
    joint_names=("shoulder_pan", "shoulder_lift", "elbow_flex", "wrist_flex", "wrist_roll", "gripper"),
    position_min=frozen([-1.92, -1.75, -1.69, -1.66, -2.79, 0.0]),
    position_max=frozen([1.92, 1.75, 1.69, 1.66, 2.79, 1.75]),
    velocity_max=frozen([2.5, 2.5, 2.5, 2.5, 2.5, 4.0]),
    acceleration_max=frozen([40.0, 40.0, 40.0, 40.0, 40.0, 80.0]),
)


def forward(positions: Array) -> tuple[Array, float]:
    """Grasp centre (3,) in m, base frame, and the hand's pitch in rad (-pi/2 points straight down)."""
    pan, lift, elbow, wrist = positions[:4]
    upper = math.pi / 2 - lift
    fore = upper - math.pi / 2 - elbow
    hand = fore - wrist
    radius = SHOULDER_RADIUS + UPPER_ARM * math.cos(upper) + FOREARM * math.cos(fore) + HAND * math.cos(hand)
    height = SHOULDER_HEIGHT + UPPER_ARM * math.sin(upper) + FOREARM * math.sin(fore) + HAND * math.sin(hand)
    return np.array([radius * math.cos(pan), radius * math.sin(pan), height]), hand


def inverse(grasp_centre: Array) -> Array | None:
    """Pan, lift, elbow and wrist (4,) that put the grasp centre there, hand as vertical as the wrist allows.

    Analytic: pan, then a planar chain of two links below a hand of known pitch. The wrist cannot point straight down
    everywhere, so the pitch is tilted outward in steps of 3 degrees up to 45. None: out of reach.
    """
    x, y, z = grasp_centre
    pan = math.atan2(y, x)
    radius = math.hypot(x, y)
    for tilt in range(0, 46, 3):
        chain = _planar(radius, z, math.radians(tilt - 90))
        if chain is not None:
            joints = np.array([pan, *chain])
            if (joints >= SPEC.position_min[:4]).all() and (joints <= SPEC.position_max[:4]).all():
                return joints
    return None


def _planar(radius: float, height: float, pitch: float) -> tuple[float, float, float] | None:
    x = radius - HAND * math.cos(pitch) - SHOULDER_RADIUS
    z = height - HAND * math.sin(pitch) - SHOULDER_HEIGHT
    distance = math.hypot(x, z)
    if distance > UPPER_ARM + FOREARM - 1e-6 or distance < abs(UPPER_ARM - FOREARM) + 1e-6:
        return None
    inner = math.acos((UPPER_ARM**2 + FOREARM**2 - distance**2) / (2 * UPPER_ARM * FOREARM))
    shoulder = math.acos((UPPER_ARM**2 + distance**2 - FOREARM**2) / (2 * UPPER_ARM * distance))
    upper = math.atan2(z, x) + shoulder
    fore = upper - (math.pi - inner)
    return math.pi / 2 - upper, upper - math.pi / 2 - fore, fore - pitch
