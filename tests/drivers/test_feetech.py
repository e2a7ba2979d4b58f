"""What is particular to Feetech servos: error bits, SCS servos, limits within one turn."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from drivers import feetech_codec as codec
from drivers.config import ArmConfig, ConfigError, load_robot
from drivers.feetech import FEETECH, SCS0009, STS3215, FeetechArm
from drivers.robot import open_arm
from drivers.servo_arm import ServoArm
from tests.drivers.arm_conformance import refused
from tests.drivers.fake_servos import PORT, FakeFeetech


def config(**changes: Any) -> ArmConfig:
    return load_robot("emulated").arm.model_copy(update={"port": PORT, "deadline": 0.004} | changes)


def arm_on(bus: FakeFeetech, **changes: Any) -> ServoArm:
    return ServoArm(config(**changes), FEETECH, clock=bus.clock, open_port=bus.open)


def test_the_driver_is_found_by_its_name_and_keeps_its_port() -> None:
    arm = open_arm(config())
    assert isinstance(arm, FeetechArm)
    assert "no such serial port" in refused(arm.connect) and PORT in refused(arm.read)


@pytest.mark.parametrize(("bit", "name"), [(0, "voltage"), (1, "encoder"), (2, "overheat"), (5, "overload")])
def test_every_status_byte_reaches_the_state_by_joint_name(bit: int, name: str) -> None:
    bus = FakeFeetech()
    arm = arm_on(bus)
    arm.connect()
    bus.servos[3].error = bus.servos[5].error = 1 << bit
    assert arm.read().errors == (f"elbow_flex: {name}", f"wrist_roll: {name}")


def test_the_status_register_counts_as_well_as_the_status_byte() -> None:
    bus = FakeFeetech()
    arm = arm_on(bus)
    arm.connect()
    bus.servos[1].error = 1
    bus.servos[1].memory[65] = 1 | 1 << 3
    assert arm.read().errors == ("shoulder_pan: voltage", "shoulder_pan: overcurrent")


def test_what_a_servo_measures_is_told_in_the_joint_s_direction() -> None:
    bus = FakeFeetech()
    joints = [joint.model_copy(update={"direction": -1}) for joint in config().joints[:5]]
    arm = arm_on(bus, joints=joints)
    arm.connect()
    bus.servos[1].put(58, 1024, 2)
    bus.servos[1].put(60, 250, 2)
    bus.servos[2].put(58, 0x8000 | 1024, 2)
    bus.servos[2].put(60, 0x0400 | 250, 2)
    state = arm.read()
    np.testing.assert_allclose(state.velocities[:2], [-math.pi / 2, math.pi / 2])
    np.testing.assert_allclose(state.loads[:2], [-0.25, 0.25])
    np.testing.assert_allclose(state.voltages, 7.4)


def test_limits_that_a_servo_cannot_reach_are_refused() -> None:
    joints = [config().joints[0].model_copy(update={"zero": 3500}), *config().joints[1:]]
    with pytest.raises(ConfigError, match=r"shoulder_pan: limit 1\.92 rad is servo position 4752, outside 0\.\.4095"):
        arm_on(FakeFeetech(), joints=joints)


def test_scs_servos_are_read_one_by_one_in_their_own_byte_order() -> None:
    bus = FakeFeetech(big=True)
    changes = {"servo": "scs0009", "zero": 512, "minimum": -1.0, "maximum": 1.0}
    arm = arm_on(bus, joints=[joint.model_copy(update=changes) for joint in config().joints], deadline=0.01)
    arm.connect()
    np.testing.assert_allclose(arm.hold().positions, 0.0)
    arm.write(np.full(6, math.radians(30)))
    assert [bus.goal(servo) for servo in bus.servos.values()] == [512 + round(30 * 1024 / 300)] * 6
    bus.advance(1.0)
    np.testing.assert_allclose(arm.read().positions, math.radians(30), atol=0.003)
    assert arm.energised() == arm.spec.joint_names
    assert arm.release().still_energised == ()
    bus.servos[2].silent = True
    assert "shoulder_lift (id 2)" in refused(arm.read)


def test_an_scs_servo_is_no_sts_servo() -> None:
    bus = FakeFeetech(big=True)
    assert "(scs0009), not 777 (sts3215)" in refused(arm_on(bus).connect)


def test_models_are_known_by_the_bytes_of_their_number() -> None:
    assert FEETECH.model_of(b"\x09\x03") is STS3215
    assert FEETECH.model_of(b"\x05\x04") is SCS0009
    assert FEETECH.model_of(b"\x04\x05") is None
    assert codec.decode_health(b"\x01").torque and not codec.decode_health(b"\x00").torque
