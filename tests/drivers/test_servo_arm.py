"""What the servo driver does whatever the protocol, on servos in memory."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

from drivers.arm import ArmError
from drivers.bus import PortLost
from drivers.dynamixel import DYNAMIXEL
from drivers.feetech import FEETECH
from drivers.servo_arm import ServoArm
from drivers.servo_protocol import Register
from tests.drivers.arm_conformance import FaultyArmConformance, refused
from tests.drivers.fake_servos import PORT, USB_SERIAL
from tests.drivers.servo_kit import KITS, NAMES, Kit, config


@pytest.fixture(params=KITS)
def kit(request: pytest.FixtureRequest) -> Kit:
    return KITS[request.param]()


class TestServoArmConformance(FaultyArmConformance):
    tolerance = 0.01

    @pytest.fixture
    def arm(self, kit: Kit) -> ServoArm:
        return kit.arm()

    @pytest.fixture
    def advance(self, kit: Kit) -> Callable[[float], None]:
        return kit.bus.advance

    @pytest.fixture
    def cable(self, kit: Kit) -> object:
        class Cable:
            def pull(self) -> None:
                kit.bus.device = None

            def put_back(self) -> None:
                kit.bus.device = PORT

        return Cable()

    @pytest.fixture
    def overheat(self, kit: Kit) -> Callable[[str, bool], None]:
        def overheat(joint: str, ill: bool) -> None:
            servo = kit.bus.servos[NAMES.index(joint) + 1]
            servo.error = kit.overheat_error if ill else 0
            if kit.protocol is DYNAMIXEL:
                servo.memory[70] = 4 if ill else 0

        return overheat


def test_a_reading_is_one_request_and_a_command_is_one(kit: Kit) -> None:
    arm = kit.arm()
    arm.connect()
    held = arm.hold().positions
    for _ in range(20):
        heard = len(kit.bus.heard)
        arm.read()
        arm.write(held)
        assert len(kit.bus.heard) == heard + 2


def test_zero_and_direction_turn_counts_into_angles(kit: Kit) -> None:
    joints = [joint.model_copy(update={"zero": 2000, "direction": -1}) for joint in config().joints[:5]]
    arm = kit.arm(joints=joints)
    arm.connect()
    np.testing.assert_allclose(arm.hold().positions, -48 * 2 * math.pi / 4096)
    arm.write(np.full(5, 0.1))
    wanted = 2000 - round(0.1 * 4096 / (2 * math.pi))
    assert [kit.bus.goal(servo) for servo in kit.bus.servos.values()][:5] == [wanted] * 5


def test_goals_stand_before_torque_goes_on(kit: Kit) -> None:
    for servo in kit.bus.servos.values():
        servo.put(kit.goal_at, 100, 2)
    arm = kit.arm()
    arm.connect()
    seen: list[list[int]] = []

    def hears(request: bytes) -> bool:
        if request in kit.writes(kit.protocol.torque):
            seen.append([kit.bus.goal(servo) for servo in kit.bus.servos.values()])
        return True

    kit.bus.hears = hears
    arm.hold()
    assert seen == [[2048] * 6]
    assert all(kit.torque())


def lose_first(kit: Kit, register: Register) -> list[bytes]:
    """The first sync write to a register gets lost; it is in the list then."""
    lost: list[bytes] = []

    def hears(request: bytes) -> bool:
        if not lost and request in kit.writes(register):
            lost.append(request)
            return False
        return True

    kit.bus.hears = hears
    return lost


def test_a_lost_goal_is_sent_again_before_torque(kit: Kit) -> None:
    arm = kit.arm()
    arm.connect()
    lost = lose_first(kit, kit.protocol.goal)
    arm.hold()
    assert lost
    kit.bus.advance(0.05)
    assert [servo.position for servo in kit.bus.servos.values()] == [2048.0] * 6


def test_no_torque_without_the_goals(kit: Kit) -> None:
    kit.bus.hears = lambda request: request not in kit.writes(kit.protocol.goal)
    arm = kit.arm()
    arm.connect()
    message = refused(arm.hold)
    assert "torque was not switched on" in message and "shoulder_pan (id 1)" in message
    assert not any(kit.torque())
    assert "hold" in refused(lambda: arm.write(np.zeros(6)))


def test_torque_that_does_not_come_is_told(kit: Kit) -> None:
    kit.bus.hears = lambda request: request not in kit.writes(kit.protocol.torque)
    arm = kit.arm()
    arm.connect()
    assert "did not switch torque on; release the arm" in refused(arm.hold)


def test_hold_beyond_the_limits_stays_there(kit: Kit) -> None:
    kit.bus.servos[1].position = 3800.0
    arm = kit.arm()
    arm.connect()
    assert arm.hold().positions[0] > arm.spec.position_max[0]
    kit.bus.advance(0.05)
    assert kit.bus.servos[1].position == 3800.0


def test_release_visits_every_servo_and_tells_who_did_not_follow(kit: Kit) -> None:
    arm = kit.arm()
    arm.connect()
    arm.hold()
    kit.bus.servos[2].silent = True
    report = arm.release()
    assert report.still_energised == ("shoulder_lift",)
    assert report.released == tuple(name for name in NAMES if name != "shoulder_lift")
    assert kit.torque() == [False, True, False, False, False, False]


def test_a_lost_torque_off_is_sent_again(kit: Kit) -> None:
    arm = kit.arm()
    arm.connect()
    arm.hold()
    lost = lose_first(kit, kit.protocol.torque)
    assert arm.release().still_energised == ()
    assert lost and not any(kit.torque())


@pytest.mark.parametrize("chained", [False, True])
def test_one_silent_servo_is_named_alone_and_within_a_quarter_second(kit: Kit, chained: bool) -> None:
    kit.bus.chained = chained
    arm = kit.arm()
    arm.connect()
    arm.hold()
    arm.read()
    kit.bus.servos[3].silent = True
    before, missing = kit.bus.now, dict(arm.counters.missing)
    for _ in range(10):  # as many as the servo loop takes before it gives up
        message = refused(arm.read)
        assert "elbow_flex (id 3)" in message
        assert not any(name in message for name in NAMES if name != "elbow_flex")
        kit.bus.now = before + max(10_000_000, kit.bus.now - before)  # a tick takes at least its period
    assert kit.bus.now - before <= 250_000_000
    assert arm.counters.missing[3] - missing.get(3, 0) == 20
    kit.bus.servos[3].silent = False
    assert arm.read().positions.shape == (6,)


def test_noise_costs_retries_not_readings(kit: Kit) -> None:
    rng = np.random.default_rng(3)

    def spoil(replies: bytes) -> bytes:
        if rng.random() < 0.9 or not replies:
            return replies
        damaged = bytearray(replies)
        damaged[rng.integers(len(replies))] ^= int(rng.integers(1, 256))
        return bytes(damaged) if rng.random() < 0.5 else b""

    arm = kit.arm(retries=5)
    arm.connect()
    failed = arm.counters.failed
    kit.bus.spoil = spoil
    for _ in range(100):
        np.testing.assert_allclose(arm.read().positions, 0.0)
    counters = arm.counters
    assert counters.retried > 0 and counters.corrupt > 0 and counters.timed_out > 0 and counters.failed == failed
    assert sum(counters.missing.values()) > 0


def with_wrist_flex_restarted(kit: Kit) -> ServoArm:
    """A held arm, one servo of which was silent in the last reading and answers again, without torque."""
    arm = kit.arm()
    arm.connect()
    arm.hold()
    servo = kit.bus.servos[4]
    servo.silent = True
    refused(arm.read)
    servo.restart()
    servo.silent = False
    return arm


def test_a_servo_that_restarts_is_an_error_until_the_arm_is_held_again(kit: Kit) -> None:
    arm = with_wrist_flex_restarted(kit)
    assert arm.read().errors == ("wrist_flex: torque went off",)
    assert arm.read().errors == ("wrist_flex: torque went off",)
    servo = kit.bus.servos[4]
    assert not servo.memory[kit.bus.torque_at], "nothing but hold may switch torque on"
    assert arm.hold().errors == ()
    assert arm.read().errors == ()
    assert servo.memory[kit.bus.torque_at]


def test_a_reading_that_took_two_tries_leaves_the_question_for_health_to_the_next(kit: Kit) -> None:
    arm = with_wrist_flex_restarted(kit)
    replies = iter((b"",))
    kit.bus.spoil = lambda sent: next(replies, sent)
    assert arm.read().errors == ()
    assert arm.read().errors == ("wrist_flex: torque went off",)


def test_a_question_for_health_is_put_off_once_and_not_again(kit: Kit) -> None:
    arm = with_wrist_flex_restarted(kit)
    lost = iter((True, False, True))
    kit.bus.spoil = lambda sent: b"" if next(lost, False) else sent
    assert arm.read().errors == ()
    assert arm.read().errors == ("wrist_flex: torque went off",)


def test_a_servo_that_was_silent_and_is_well_is_no_error(kit: Kit) -> None:
    arm = kit.arm()
    arm.connect()
    arm.hold()
    kit.bus.servos[4].silent = True
    refused(arm.read)
    kit.bus.servos[4].silent = False
    heard = len(kit.bus.heard)
    assert arm.read().errors == ()
    assert len(kit.bus.heard) == heard + 2, "a reading, and one look at how it is"
    assert arm.read().errors == ()
    assert len(kit.bus.heard) == heard + 3


def test_a_released_arm_has_no_torque_to_lose(kit: Kit) -> None:
    arm = kit.arm()
    arm.connect()
    arm.hold()
    arm.release()
    kit.bus.servos[4].silent = True
    refused(arm.read)
    kit.bus.servos[4].silent = False
    assert arm.read().errors == ()


def test_a_lost_port_is_one_line_that_names_it(kit: Kit) -> None:
    arm = kit.arm()
    arm.connect()
    arm.hold()
    kit.bus.device = None
    with pytest.raises(PortLost, match=PORT):
        arm.read()
    with pytest.raises(PortLost, match=PORT):
        arm.energised()
    assert arm.release().still_energised == arm.spec.joint_names
    with pytest.raises(ArmError, match="no such serial port"):
        arm.connect()
    arm.close()


def test_an_adapter_is_found_again_by_its_usb_serial_number(kit: Kit) -> None:
    arm = kit.arm(port=None, usb_serial=USB_SERIAL)
    arm.connect()
    arm.hold()
    kit.bus.device = None
    refused(arm.read)
    assert USB_SERIAL in refused(arm.connect)
    kit.bus.device = "/dev/fake1"
    heard = len(kit.bus.heard)
    arm.connect()
    assert [port for port, _ in kit.bus.opened] == [PORT, "/dev/fake1"]
    new = kit.bus.heard[heard:]
    for register in (kit.protocol.goal, kit.protocol.torque):
        assert not set(new).intersection(kit.writes(register))
    assert arm.energised() == NAMES, "torque stays as it was"
    assert "hold" in refused(lambda: arm.write(np.zeros(6)))


def test_firmware_is_told_by_joint(kit: Kit) -> None:
    arm = kit.arm()
    refused(arm.firmware)
    arm.connect()
    assert arm.firmware() == dict.fromkeys(NAMES, "3.10" if kit.protocol is FEETECH else "46")
