"""What must hold before servos may be moved, on servos in memory."""

from __future__ import annotations

import pytest

from drivers.config import ConfigError
from tests.drivers.arm_conformance import refused
from tests.drivers.fake_servos import PORT
from tests.drivers.servo_kit import KITS, Kit, config


@pytest.fixture(params=KITS)
def kit(request: pytest.FixtureRequest) -> Kit:
    return KITS[request.param]()


def test_connect_writes_no_goal_and_no_torque(kit: Kit) -> None:
    kit.arm().connect()
    assert not kit.writes(kit.protocol.goal) and not kit.writes(kit.protocol.torque)
    for register in next(iter(kit.protocol.models.values())).follow:
        assert kit.writes(register)


def test_a_missing_servo_is_named_with_its_id_and_port(kit: Kit) -> None:
    kit.bus.servos[3].silent = True
    arm = kit.arm()
    message = refused(arm.connect)
    assert "elbow_flex (id 3)" in message and PORT in message and "shoulder" not in message
    assert "not connected" in refused(arm.read)  # the failed connect has closed the port


def test_no_servo_at_all_asks_for_power(kit: Kit) -> None:
    for servo in kit.bus.servos.values():
        servo.silent = True
    assert "powered" in refused(kit.arm().connect)


def test_another_servo_model_is_refused(kit: Kit) -> None:
    address = kit.protocol.model_number.address
    kit.bus.servos[1].put(address, 4321, 2)
    assert "shoulder_pan (id 1) is model 4321" in refused(kit.arm().connect)


def test_an_operating_mode_without_goals_is_refused(kit: Kit) -> None:
    kit.bus.servos[2].memory[kit.protocol.registers["operating_mode"].address] = 1
    message = refused(kit.arm().connect)
    assert "shoulder_lift (id 2)" in message and "mode 1" in message


def test_servos_that_answer_too_late_are_told(kit: Kit) -> None:
    for servo in kit.bus.servos.values():
        servo.memory[kit.protocol.registers["return_delay"].address] = 250  # 0.5 ms
    if getattr(kit.bus, "fast", False):
        kit.arm().connect()  # a fast sync read waits but once
    else:
        message = refused(kit.arm().connect)
        assert "shoulder_pan (id 1)" in message and "return delay" in message
    kit.arm(deadline=0.02).connect()


def test_a_config_without_a_port_is_refused(kit: Kit) -> None:
    with pytest.raises(ConfigError, match=r"arm\.port"):
        kit.arm(port=None)


def test_an_unknown_servo_is_refused_with_a_suggestion(kit: Kit) -> None:
    known = kit.protocol.usual_model
    joints = [config().joints[0].model_copy(update={"servo": known + "x"})]
    with pytest.raises(ConfigError, match=rf"shoulder_pan: no {kit.protocol.name} servo.*did you mean '{known}'"):
        kit.arm(joints=joints)


def test_two_servos_with_one_id_are_refused(kit: Kit) -> None:
    joints = [config().joints[0].model_copy(update={"shadow": 2}), *config().joints[1:]]
    with pytest.raises(ConfigError, match="two servos have the id 2"):
        kit.arm(joints=joints)


def test_a_deadline_shorter_than_the_wire_takes_is_refused(kit: Kit) -> None:
    with pytest.raises(ConfigError, match=r"arm\.deadline: 0\.004 s is too short, a reading takes 0\.0[23]\d\d s"):
        kit.arm(baudrate=57_600)
