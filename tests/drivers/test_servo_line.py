"""Single servos by register name, on servos in memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import pytest

from drivers.bus import BusError, PortLost
from drivers.servo_line import BAUDRATES, FoundServo, ServoLine
from tests.drivers.fake_servos import PORT, FakeBus, FakeDynamixel, FakeFeetech

Name = Literal["feetech", "dynamixel"]


@dataclass
class Bench:
    name: Name
    bus: FakeBus

    def line(self, baudrate: int = 1_000_000) -> ServoLine:
        return ServoLine(self.name, PORT, baudrate, clock=self.bus.clock, open_port=self.bus.open)


@pytest.fixture(params=["feetech", "dynamixel"])
def bench(request: pytest.FixtureRequest) -> Bench:
    name: Name = request.param
    return Bench(name, FakeFeetech((1, 4)) if name == "feetech" else FakeDynamixel((1, 4)))


def test_a_scan_finds_who_is_there_and_says_what_they_are(bench: Bench) -> None:
    expected = {
        "feetech": FoundServo(4, 777, "sts3215", "3.10", ()),
        "dynamixel": FoundServo(4, 1200, "xl330-m288", "46", ()),
    }
    with bench.line() as line:
        assert line.ping(2) is None
        assert line.ping(4) == expected[bench.name]
        assert [found.id for found in line.scan(range(8))] == [1, 4]


def test_a_model_that_is_not_known_is_found_all_the_same(bench: Bench) -> None:
    bench.bus.servos[1].put(3 if bench.name == "feetech" else 0, 4321, 2)
    found = bench.line().ping(1)
    assert found is not None and (found.number, found.model) == (4321, None)


def test_errors_of_a_servo_are_told() -> None:
    feetech, dynamixel = FakeFeetech((1,)), FakeDynamixel((1,))
    feetech.servos[1].error = 1 << 5
    dynamixel.servos[1].error, dynamixel.servos[1].memory[70] = 0x80, 1
    found = Bench("feetech", feetech).line().ping(1), Bench("dynamixel", dynamixel).line().ping(1)
    assert [servo.errors for servo in found if servo] == [("overload",), ("voltage",)]


def test_registers_are_read_and_written_by_name(bench: Bench) -> None:
    line = bench.line()
    assert line.read(1, "present_position") == 2048
    assert line.read(1, "present_temperature") == 30
    line.write(1, "goal_position", 1000)
    assert line.read(1, "goal_position") == 1000 == bench.bus.goal(bench.bus.servos[1])
    line.write(1, "homing_offset", -77)
    assert line.read(1, "homing_offset") == -77


def test_a_new_id_is_read_back_under_the_new_id(bench: Bench) -> None:
    line = bench.line()
    line.write(4, "id", 9)
    assert [found.id for found in line.scan(range(12))] == [1, 9]
    for id in (253, 254, -1):
        with pytest.raises(BusError):
            line.write(9, "id", id)
    assert line.ping(9) is not None


def test_a_new_baud_rate_is_followed(bench: Bench) -> None:
    line = bench.line()
    line.write(4, "baudrate", BAUDRATES[bench.name][57_600])
    assert line.baudrate == 57_600
    assert [baudrate for _, baudrate in bench.bus.opened] == [1_000_000, 57_600]
    assert line.read(4, "baudrate") == BAUDRATES[bench.name][57_600]


def test_the_lock_is_opened_for_eeprom_and_closed_again() -> None:
    for big, lock_at in ((False, 55), (True, 48)):
        bus = FakeFeetech((1, 4), big=big)
        line = Bench("feetech", bus).line()
        line.write(4, "id", 9)
        assert bus.servos[9].memory[lock_at] == 1
        bus.hears = lambda request: request[4:6] != b"\x03\x05"
        with pytest.raises(BusError, match="no answer from servo 7"):
            line.write(9, "id", 7)
        assert bus.servos[9].memory[lock_at] == 1, "closed again whatever happened"
        bus.servos[1].memory[lock_at] = 0
        line.write(1, "max_temperature", 60)
        assert bus.servos[1].memory[13] == 60 and bus.servos[1].memory[lock_at] == 0, "an open lock stays open"


def test_eeprom_is_refused_while_there_is_torque(bench: Bench) -> None:
    line = bench.line()
    line.write(1, "torque_enable", 1)
    with pytest.raises(BusError, match="servo 1 has torque; release it before its id is written"):
        line.write(1, "id", 9)
    assert line.ping(1) is not None
    line.write(1, "torque_enable", 0)
    line.write(1, "id", 9)


def test_a_value_that_is_not_taken_is_told_with_the_servos_reason(bench: Bench) -> None:
    line = bench.line()
    address = bytes((0x2A,)) if bench.name == "feetech" else bytes((116,))
    if bench.name == "dynamixel":
        bench.bus.servos[1].memory[98] = 0xFF  # a tripped watchdog refuses goals
    else:
        bench.bus.hears = lambda request: request[4:6] != b"\x03" + address
    with pytest.raises(BusError, match="servo 1 did not take goal_position") as caught:
        line.write(1, "goal_position", 700)
    assert ("value out of range" in str(caught.value)) == (bench.name == "dynamixel")


def test_values_and_registers_that_do_not_exist_are_refused(bench: Bench) -> None:
    line = bench.line()
    for register, value, message in (
        ("goal_position", 1 << 40, "does not fit"),
        ("present_fog", 1, r"no register 'present_fog'; known: .*goal_position"),
    ):
        with pytest.raises(BusError, match=message):
            line.write(1, register, value)
    with pytest.raises(BusError, match="no answer from servo 7 at 1000000 baud"):
        line.read(7, "id")
    with pytest.raises(BusError, match="ids 0 to 252"):
        line.ping(254)
    with pytest.raises(BusError, match="no servo protocol 'modbus'; known: feetech, dynamixel"):
        ServoLine("modbus", PORT, 1_000_000)  # type: ignore[arg-type]


def test_a_restart_clears_a_latched_error_and_torque() -> None:
    bus = FakeDynamixel((1,))
    line = Bench("dynamixel", bus).line()
    line.write(1, "torque_enable", 1)
    bus.servos[1].memory[70] = 32
    line.reboot(1)
    assert (line.read(1, "torque_enable"), line.read(1, "hardware_error")) == (0, 0)
    with pytest.raises(BusError, match="switch their power off and on"):
        Bench("feetech", FakeFeetech((1,))).line().reboot(1)


def test_a_lost_port_is_told_apart_from_a_silent_servo(bench: Bench) -> None:
    line = bench.line()
    bench.bus.device = None
    with pytest.raises(PortLost, match=PORT):
        line.ping(1)
    line.close()
    line.close()
