"""When servos are asked how they are, and what is remembered of it."""

from __future__ import annotations

from drivers.bus import Reply
from drivers.dynamixel import DYNAMIXEL
from drivers.feetech import FEETECH
from drivers.servo_health import RECHECK, ServoHealth
from drivers.servo_protocol import Health

MS = 1_000_000
WELL = {1: Reply(1, 0, b""), 2: Reply(2, 0, b"")}
ILL = {1: Reply(1, 0x80, b""), 2: Reply(2, 0, b"")}


def test_servos_that_are_well_are_left_alone() -> None:
    for protocol in (FEETECH, DYNAMIXEL):
        health = ServoHealth(protocol)
        health.held()
        assert [health.due(WELL, stamp) for stamp in range(0, 500 * MS, 10 * MS)] == [[]] * 50
        assert health.errors(1, WELL[1], ()) == []


def test_an_alert_is_looked_into_at_once_and_once_a_second() -> None:
    health = ServoHealth(DYNAMIXEL)
    asked = []
    for stamp in range(0, 2 * RECHECK + 1, 10 * MS):
        if due := health.due(ILL, stamp):
            asked.append(stamp)
            health.note(dict.fromkeys(due, Health(torque=True, errors=("overload",))), stamp)
        assert health.errors(1, ILL[1], ()) == ["overload"]
    assert asked == [0, RECHECK, 2 * RECHECK]
    assert health.due(WELL, 3 * RECHECK) == [] and health.errors(1, WELL[1], ()) == []


def test_silence_and_gaps_make_held_servos_suspect() -> None:
    health = ServoHealth(DYNAMIXEL)
    health.failed()
    assert health.due(WELL, 0) == [], "without torque there is nothing to lose"
    health.held()
    assert health.due(WELL, 10 * MS) == []
    health.failed()
    assert health.due(WELL, 20 * MS) == [1, 2]
    assert health.due(WELL, 30 * MS) == [1, 2], "until somebody has answered"
    health.note(dict.fromkeys(WELL, Health(torque=True)), 30 * MS)
    assert health.due(WELL, 40 * MS) == []
    assert health.due(WELL, 91 * MS) == [1, 2], "half the watchdog's period has passed"


def test_a_gap_means_nothing_to_servos_without_a_watchdog() -> None:
    health = ServoHealth(FEETECH)
    health.held()
    assert health.due(WELL, 0) == health.due(WELL, RECHECK) == []


def test_what_stopped_a_servo_stands_until_it_is_held_again() -> None:
    health = ServoHealth(DYNAMIXEL)
    health.held()
    health.note({1: Health(torque=False, tripped=True), 2: Health(torque=True, tripped=True)}, 0)
    for _ in range(3):
        health.due(WELL, 0)
        assert health.errors(1, WELL[1], ()) == ["torque went off", "bus watchdog tripped"]
        assert health.errors(2, WELL[2], ()) == ["bus watchdog tripped"]
    health.held()
    assert health.errors(1, WELL[1], ()) == health.errors(2, WELL[2], ()) == []


def test_each_thing_is_told_once_and_an_alert_never_kept_back() -> None:
    health = ServoHealth(DYNAMIXEL)
    assert health.errors(1, ILL[1], ()) == ["alert"]
    assert health.errors(1, ILL[1], ("overheat", "overheat")) == ["overheat"]
