"""What is particular to Dynamixel servos: hardware errors, the bus watchdog, fast sync read, modes, units."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from drivers import dynamixel_codec as codec
from drivers.config import ArmConfig, ConfigError, load_robot
from drivers.dynamixel import DYNAMIXEL, WATCHDOG, DynamixelArm
from drivers.robot import open_arm
from drivers.servo_arm import ServoArm
from tests.drivers.arm_conformance import refused
from tests.drivers.fake_servos import PORT, FakeDynamixel


def config(servo: str | None = None, **changes: Any) -> ArmConfig:
    arm = load_robot("emulated").arm
    joints = [joint.model_copy(update={"servo": servo}) for joint in arm.joints]
    return arm.model_copy(update={"driver": "dynamixel", "port": PORT, "deadline": 0.004, "joints": joints} | changes)


def arm_on(bus: FakeDynamixel, servo: str | None = None, **changes: Any) -> ServoArm:
    return ServoArm(config(servo, **changes), DYNAMIXEL, clock=bus.clock, open_port=bus.open)


def sent(bus: FakeDynamixel, instruction: int, address: int) -> list[bytes]:
    return [packet for packet in bus.heard if packet[7] == instruction and packet[8] == address]


def live(bus: FakeDynamixel, arm: ServoArm, seconds: float) -> None:
    for _ in range(round(seconds / 0.01)):
        bus.advance(0.01)
        arm.read()


def test_the_driver_is_found_by_its_name() -> None:
    arm = open_arm(config())
    assert isinstance(arm, DynamixelArm)
    assert "no such serial port" in refused(arm.connect)


@pytest.mark.parametrize(
    ("servo", "number", "load"),
    [
        ("xl330-m077", 1190, 735 / 1470),
        ("xl330-m288", 1200, 735 / 1470),
        ("xl430-w250", 1060, 0.735),
        ("xm430-w350", 1020, 735 * 0.00269 / 2.3),
        ("xm540-w270", 1120, 735 * 0.00269 / 4.4),
    ],
)
def test_every_model_is_told_apart_and_its_units_are_its_own(servo: str, number: int, load: float) -> None:
    bus = FakeDynamixel(number=number)
    arm = arm_on(bus, servo)
    arm.connect()
    ill = bus.servos[1]
    ill.put(126, 735, 2)
    ill.put(128, -100, 4)
    state = arm.read()
    assert state.loads[0] == pytest.approx(load)
    assert state.velocities[0] == pytest.approx(-100 * 0.229 * 2 * math.pi / 60)
    np.testing.assert_allclose(state.voltages, 5.0)
    np.testing.assert_allclose(state.temperatures_c, 30)
    other = "xm430-w350" if servo != "xm430-w350" else "xl430-w250"
    assert f"is model {number} ({servo})" in refused(arm_on(bus, other).connect)


def test_a_load_beyond_stall_is_no_load_beyond_one() -> None:
    bus = FakeDynamixel()
    arm = arm_on(bus)
    arm.connect()
    bus.servos[1].put(126, -1750, 2)
    assert arm.read().loads[0] == -1.0


@pytest.mark.parametrize(("firmware", "fast"), [(46, True), (45, False)])
def test_fast_sync_read_is_used_where_the_firmware_has_it(firmware: int, fast: bool) -> None:
    bus = FakeDynamixel(firmware=firmware)
    arm = arm_on(bus)
    arm.connect()
    heard = len(bus.heard)
    arm.read()
    assert [packet[7] for packet in bus.heard[heard:]] == [0x8A if fast else 0x82]


def test_servos_that_do_not_answer_a_fast_sync_read_are_asked_the_plain_way_from_then_on() -> None:
    bus = FakeDynamixel(fast=False)
    arm = arm_on(bus)
    arm.connect()
    assert sent(bus, 0x8A, codec.PRESENT.address)
    heard = len(bus.heard)
    for _ in range(5):
        arm.read()
    assert {packet[7] for packet in bus.heard[heard:]} == {0x82}


def test_a_lost_fast_reply_is_asked_for_the_plain_way() -> None:
    bus = FakeDynamixel()
    arm = arm_on(bus)
    arm.connect()
    heard = len(bus.heard)
    bus.hears = lambda request: request[7] != 0x8A
    assert arm.read().positions.shape == (6,)
    assert [packet[7] for packet in bus.heard[heard:]] == [0x8A, 0x82]


def test_profiles_are_zeroed_so_that_goals_are_followed_at_once() -> None:
    bus = FakeDynamixel()
    for servo in bus.servos.values():
        servo.put(108, 20, 4)
        servo.put(112, 60, 4)
    arm_on(bus).connect()
    assert all(servo.memory[108:116] == bytes(8) for servo in bus.servos.values())


def test_an_alert_is_looked_into_once_a_second_and_named() -> None:
    bus = FakeDynamixel()
    arm = arm_on(bus)
    arm.connect()
    arm.hold()
    ill = bus.servos[2]
    ill.error, ill.memory[70] = codec.ALERT, 1 << 0 | 1 << 5
    before = len(sent(bus, 0x82, codec.HEALTH.address)) + len(sent(bus, 0x8A, codec.HEALTH.address))
    for _ in range(250):
        bus.advance(0.01)
        assert arm.read().errors == ("shoulder_lift: voltage", "shoulder_lift: overload")
    after = len(sent(bus, 0x82, codec.HEALTH.address)) + len(sent(bus, 0x8A, codec.HEALTH.address))
    assert after - before == 3
    ill.error = ill.memory[70] = 0
    assert arm.read().errors == ()


def test_an_alert_is_looked_into_after_a_slow_reading_too() -> None:
    bus = FakeDynamixel()
    arm = arm_on(bus)
    arm.connect()
    arm.hold()
    ill = bus.servos[2]
    ill.error, ill.memory[70] = codec.ALERT, 1 << 5
    replies = iter((b"",))
    bus.spoil = lambda sent: next(replies, sent)
    assert arm.read().errors == ("shoulder_lift: overload",)


def test_an_alert_that_cannot_be_looked_into_is_told_all_the_same() -> None:
    bus = FakeDynamixel()
    arm = arm_on(bus)
    arm.connect()
    bus.servos[2].error = codec.ALERT
    bus.hears = lambda request: request[8] != codec.HEALTH.address
    assert arm.read().errors == ("shoulder_lift: alert",)


def test_error_numbers_in_the_status_byte_are_told() -> None:
    bus = FakeDynamixel()
    arm = arm_on(bus)
    arm.connect()
    bus.servos[2].error = 4
    assert arm.read().errors == ("shoulder_lift: value out of range",)


def test_the_watchdog_is_armed_with_torque_and_disarmed_with_it() -> None:
    bus = FakeDynamixel()
    arm = arm_on(bus)
    arm.connect()
    assert all(servo.memory[98] == 0 for servo in bus.servos.values())
    arm.hold()
    assert all(servo.memory[98] == WATCHDOG.armed[0] for servo in bus.servos.values())
    arm.release()
    assert all(servo.memory[98] == 0 for servo in bus.servos.values())


def test_the_watchdog_trips_when_the_host_is_silent_and_needs_a_new_hold() -> None:
    bus = FakeDynamixel()
    arm = arm_on(bus)
    arm.connect()
    target = arm.hold().positions.clip(arm.spec.position_min, arm.spec.position_max)
    live(bus, arm, 0.3)
    assert arm.read().errors == ()
    bus.advance(0.15)
    expected = tuple(f"{name}: bus watchdog tripped" for name in arm.spec.joint_names)
    assert arm.read().errors == expected
    live(bus, arm, 0.1)
    assert arm.read().errors == expected
    arm.write(target + 0.1)
    assert [bus.goal(servo) for servo in bus.servos.values()] == [2048] * 6, "a tripped servo takes no goals"
    assert arm.hold().errors == ()
    live(bus, arm, 0.1)
    assert arm.read().errors == ()
    assert all(servo.memory[98] == WATCHDOG.armed[0] for servo in bus.servos.values())
    arm.write(target + 0.1)
    assert bus.goal(bus.servos[1]) > 2048


def test_a_watchdog_that_tripped_while_nobody_was_connected_is_cleared_by_hold() -> None:
    bus = FakeDynamixel()
    first = arm_on(bus)
    first.connect()
    first.hold()
    first.close()
    bus.advance(1.0)
    second = arm_on(bus)
    second.connect()
    assert second.energised() == second.spec.joint_names
    assert all(servo.memory[98] == 0xFF for servo in bus.servos.values())
    bus.servos[1].position = 2100.0
    second.hold()
    assert bus.goal(bus.servos[1]) == 2100


def test_no_torque_where_the_watchdog_cannot_be_cleared() -> None:
    bus = FakeDynamixel()
    arm = arm_on(bus)
    arm.connect()
    bus.servos[3].memory[98] = 0xFF
    bus.hears = lambda request: request[7:9] != bytes((0x83, 98))
    message = refused(arm.hold)
    assert "elbow_flex (id 3) did not clear its watchdog; torque was not switched on" in message
    assert not any(servo.memory[64] for servo in bus.servos.values())


def test_firmware_without_a_watchdog_is_not_asked_for_one() -> None:
    bus = FakeDynamixel(number=1060, firmware=37)
    arm = arm_on(bus, "xl430-w250")
    arm.connect()
    arm.hold()
    assert not sent(bus, 0x83, 98)
    assert arm.release().still_energised == ()


def test_extended_position_reaches_beyond_a_turn_and_position_mode_does_not() -> None:
    bus = FakeDynamixel()
    joints = [config().joints[0].model_copy(update={"zero": 4000}), *config().joints[1:]]
    assert "shoulder_pan: limit 1.92 rad is servo position 5252, outside 0..4095" in refused(
        arm_on(bus, joints=joints).connect
    )
    bus.servos[1].memory[11] = 4
    arm = arm_on(bus, joints=joints)
    arm.connect()
    bus.servos[1].position = -10.0
    assert arm.hold().positions[0] == pytest.approx(-4010 * 2 * math.pi / 4096)
    assert bus.goal(bus.servos[1]) == -10


def test_limits_beyond_every_mode_are_refused() -> None:
    joints = [config().joints[0].model_copy(update={"zero": 2_000_000}), *config().joints[1:]]
    with pytest.raises(ConfigError, match="shoulder_pan: limit"):
        arm_on(FakeDynamixel(), joints=joints)
