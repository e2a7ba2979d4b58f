"""Joints with two servos, on servos in memory."""

from __future__ import annotations

import pytest

from drivers.dynamixel import DYNAMIXEL
from drivers.feetech import FEETECH
from drivers.servo_arm import ServoArm
from tests.drivers.arm_conformance import refused
from tests.drivers.fake_servos import FakeDynamixel, FakeFeetech
from tests.drivers.servo_kit import Kit, config


def shadowed_arm(kit: Kit) -> ServoArm:
    """The shoulder lift has a second servo, id 12."""
    base = config().joints
    joints = [base[0], base[1].model_copy(update={"shadow": 12}), *base[2:]]
    return kit.arm(joints=joints, deadline=0.008)


@pytest.fixture(params=[FakeFeetech, FakeDynamixel])
def shadowed(request: pytest.FixtureRequest) -> Kit:
    bus = request.param((1, 2, 3, 4, 5, 6, 12))
    if request.param is FakeFeetech:
        return Kit(FEETECH, bus, goal_at=42, overheat_error=4)
    return Kit(DYNAMIXEL, bus, goal_at=116, overheat_error=0x80)


def test_a_shadow_gets_every_goal_and_torque_of_its_joint(shadowed: Kit) -> None:
    arm = shadowed_arm(shadowed)
    arm.connect()
    positions = arm.hold().positions.copy()
    assert positions.shape == (6,)
    assert all(shadowed.torque())
    positions[1] += 0.1
    arm.write(positions)
    assert shadowed.bus.goal(shadowed.bus.servos[12]) == shadowed.bus.goal(shadowed.bus.servos[2]) > 2048
    assert arm.release().still_energised == ()
    assert not any(shadowed.torque())


def test_a_shadow_that_keeps_torque_keeps_its_joint_energised(shadowed: Kit) -> None:
    arm = shadowed_arm(shadowed)
    arm.connect()
    arm.hold()
    shadow = shadowed.bus.servos[12]
    shadow.silent = True
    assert arm.release().still_energised == ("shoulder_lift",)
    assert "shoulder_lift shadow (id 12)" in refused(arm.read)
    shadow.silent = False
    assert arm.energised() == ("shoulder_lift",)


def test_a_shadow_s_heat_and_errors_are_its_joint_s(shadowed: Kit) -> None:
    arm = shadowed_arm(shadowed)
    arm.connect()
    shadow = shadowed.bus.servos[12]
    shadow.memory[63 if shadowed.protocol is FEETECH else 146] = 71
    shadow.error = shadowed.overheat_error
    shadow.memory[70] = 4 if shadowed.protocol is DYNAMIXEL else 0
    state = arm.read()
    assert state.temperatures_c.tolist() == [30, 71, 30, 30, 30, 30]
    assert state.errors == ("shoulder_lift: overheat",)


def test_two_servos_of_a_joint_that_are_apart_get_no_torque(shadowed: Kit) -> None:
    arm = shadowed_arm(shadowed)
    arm.connect()
    shadowed.bus.servos[12].position += 100
    assert "shoulder_lift shadow (id 12) is 0.15 rad from its joint's other servo" in refused(arm.hold)
    assert not any(shadowed.torque())
