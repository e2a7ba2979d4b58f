"""X-series Dynamixels, byte for byte, without a port and without physics."""

from __future__ import annotations

import pytest

from sim.dynamixel_servo import (
    ACCESS,
    ALERT,
    CRC_ERROR,
    DATA_LENGTH,
    DATA_LIMIT,
    DATA_RANGE,
    OVERHEAT,
    OVERLOAD,
    RESULT_FAIL,
    REVERSE,
    TIME_BASED,
    TRIPPED,
    UNKNOWN_INSTRUCTION,
    VOLTAGE_ERROR,
)
from sim.dynamixel_table import MODELS, Register
from sim.dynamixel_wire import (
    CLEAR,
    FACTORY_RESET,
    REBOOT,
    SYNC_READ,
)
from sim.servo_bus import BROADCAST, Instruction
from tests.sim.servo_bench import DynamixelBench

status = DynamixelBench.status
CENTRE = (2048).to_bytes(4, "little")


@pytest.fixture
def bench() -> DynamixelBench:
    return DynamixelBench()


def field(address: int, size: int) -> bytes:
    return address.to_bytes(2, "little") + size.to_bytes(2, "little")


def torque(bench: DynamixelBench, servo_id: int, on: int = 1) -> int:
    return bench.write(servo_id, Register.TORQUE_ENABLE, on)


def goal(bench: DynamixelBench, servo_id: int, counts: int) -> int:
    return bench.write(servo_id, Register.GOAL_POSITION, counts, 4)


def test_ping_tells_model_and_firmware(bench: DynamixelBench) -> None:
    assert bench.ask(1, Instruction.PING) == status(1, (1200).to_bytes(2, "little") + b"\x34")


@pytest.mark.parametrize(
    ("model", "number"),
    [("xl330-m288", 1200), ("xl330-m077", 1190), ("xl430-w250", 1060), ("xm430-w350", 1020), ("xm540-w270", 1120)],
)
def test_models(model: str, number: int) -> None:
    bench = DynamixelBench(model=model)
    assert bench.read(1, Register.MODEL, 2) == number
    assert bench.read(1, Register.PRESENT_VOLTAGE, 2) == round(MODELS[model].voltage * 10)
    assert bench.read(1, Register.VELOCITY_LIMIT, 4) == MODELS[model].velocity
    bench.plant.loads[0] = 1.0
    stalled = bench.read(1, Register.PRESENT_CURRENT, 2)
    step = MODELS[model].current_step
    assert stalled == (1000 if step is None else round(MODELS[model].stall_current / step))


def test_goals_move_the_plant(bench: DynamixelBench) -> None:
    assert torque(bench, 2) == 0 and goal(bench, 2, 3000) == 0
    bench.plant.step(0.1)
    assert bench.read(2, Register.MOVING) == 1
    assert bench.read(2, Register.PRESENT_VELOCITY, 4) == round(4760 / (0.229 * 4096 / 60))
    bench.let_pass(0.3)
    assert bench.read(2, Register.PRESENT_POSITION, 4) == 3000
    assert bench.read(2, Register.MOVING) == 0
    assert bench.read(1, Register.PRESENT_POSITION, 4) == 2048


def test_negative_numbers_are_twos_complement(bench: DynamixelBench) -> None:
    bench.plant.positions[0] = -100.0
    bench.plant.loads[0] = -0.5
    assert bench.read(1, Register.PRESENT_POSITION, 4, signed=True) == -100
    assert bench.read(1, Register.PRESENT_PWM, 2, signed=True) == -442
    assert bench.write(1, Register.HOMING_OFFSET, -1000, 4) == 0
    assert bench.read(1, Register.PRESENT_POSITION, 4, signed=True) == -1100


def test_error_numbers(bench: DynamixelBench) -> None:
    assert bench.write(1, Register.PRESENT_POSITION, 5, 4) == ACCESS
    assert bench.write(1, 99, 5) == ACCESS
    assert bench.write(1, Register.GOAL_POSITION, 5, 2) == DATA_LENGTH
    assert torque(bench, 1, 2) == DATA_RANGE
    assert goal(bench, 1, 4096) == DATA_LIMIT
    assert bench.write(1, Register.GOAL_PWM, -886, 2) == DATA_RANGE
    assert bench.ask(1, 0x42) == status(1, error=UNKNOWN_INSTRUCTION)
    assert bench.ask(1, Instruction.READ, field(140, 40)) == status(1, error=ACCESS)
    broken = bytearray(bench.request(1, Instruction.PING))
    broken[-1] ^= 1
    assert bench.feed(bytes(broken)) == status(1, error=CRC_ERROR)
    assert bench.plant.goals == [2048] * 3


def test_a_write_is_all_or_nothing(bench: DynamixelBench) -> None:
    params = Register.PROFILE_ACCELERATION.to_bytes(2, "little") + bytes((5, 0, 0, 0, 6, 0, 0, 0)) + bytes(3)
    assert bench.ask(1, Instruction.WRITE, params) == status(1, error=DATA_LENGTH)
    assert bench.read(1, Register.PROFILE_ACCELERATION, 8) == 0
    assert bench.ask(1, Instruction.WRITE, params[:-3]) == status(1)
    assert bench.read(1, Register.PROFILE_VELOCITY, 4) == 6


def test_eeprom_is_written_only_without_torque(bench: DynamixelBench) -> None:
    torque(bench, 1)
    assert bench.write(1, Register.ID, 7) == ACCESS
    torque(bench, 1, 0)
    assert bench.write(1, Register.ID, 7) == 0
    assert bench.ask(1, Instruction.PING) == b""
    assert bench.read(7, Register.ID) == 7
    assert bench.bus.eeprom_changed


def test_position_limits_refuse_goals_in_position_mode_alone(bench: DynamixelBench) -> None:
    bench.write(1, Register.MIN_POSITION, 1000, 4)
    bench.write(1, Register.MAX_POSITION, 3000, 4)
    assert goal(bench, 1, 3001) == DATA_LIMIT and goal(bench, 1, 999) == DATA_LIMIT
    assert goal(bench, 1, 3000) == 0 and goal(bench, 1, 1000) == 0
    bench.write(1, Register.OPERATING_MODE, 4)
    assert goal(bench, 1, -3000) == 0
    assert bench.plant.goals[0] == -3000


def test_in_a_mode_without_positions_the_servo_stays(bench: DynamixelBench) -> None:
    bench.write(1, Register.OPERATING_MODE, 1)
    torque(bench, 1)
    goal(bench, 1, 3000)
    assert bench.plant.goals[0] == 2048


def test_homing_offset_and_direction_shift_reading_and_goal(bench: DynamixelBench) -> None:
    bench.write(1, Register.HOMING_OFFSET, 100, 4)
    bench.write(1, Register.DRIVE_MODE, REVERSE)
    bench.plant.positions[0] = 2000.0
    assert bench.read(1, Register.PRESENT_POSITION, 4) == 4096 - 2000 + 100
    torque(bench, 1)
    goal(bench, 1, 4096 - 1500 + 100)
    assert bench.plant.goals[0] == 1500
    bench.plant.step(0.1)
    assert bench.read(1, Register.PRESENT_VELOCITY, 4, signed=True) > 0
    bench.plant.loads[0] = -0.5
    assert bench.read(1, Register.PRESENT_PWM, 2, signed=True) == 442


def test_profiles_are_honoured(bench: DynamixelBench) -> None:
    bench.write(1, Register.PROFILE_VELOCITY, 64, 4)  # 1000 counts/s
    bench.write(1, Register.PROFILE_ACCELERATION, 8, 4)  # 1953 counts/s^2
    torque(bench, 1)
    goal(bench, 1, 3048)
    assert bench.read(1, Register.MOVING_STATUS) & 2
    bench.let_pass(0.25)
    assert bench.plant.goals[0] == pytest.approx(2048 + 1953 * 0.25**2 / 2, abs=10)
    assert bench.read(1, Register.VELOCITY_TRAJECTORY, 4) == pytest.approx(31, abs=1)
    assert bench.read(1, Register.POSITION_TRAJECTORY, 4) == round(bench.plant.goals[0])
    bench.let_pass(2.0)
    assert bench.plant.goals[0] == 3048


def test_a_time_based_profile_takes_its_time(bench: DynamixelBench) -> None:
    bench.write(1, Register.DRIVE_MODE, TIME_BASED)
    bench.write(1, Register.PROFILE_VELOCITY, 1000, 4)
    bench.write(1, Register.PROFILE_ACCELERATION, 250, 4)
    torque(bench, 1)
    goal(bench, 1, 3048)
    bench.let_pass(0.5)
    assert bench.plant.goals[0] == pytest.approx(2548, abs=20)
    bench.let_pass(0.46)
    assert bench.plant.goals[0] < 3047
    bench.let_pass(0.06)
    assert bench.plant.goals[0] == 3048


def test_pwm_and_current_limit_the_torque(bench: DynamixelBench) -> None:
    bench.write(1, Register.OPERATING_MODE, 5)
    torque(bench, 1)
    assert bench.plant.strengths[0] == 1.0
    bench.write(1, Register.GOAL_CURRENT, 294, 2)
    assert bench.plant.strengths[0] == pytest.approx(0.2)
    bench.write(1, Register.GOAL_PWM, 89, 2)
    assert bench.plant.strengths[0] == pytest.approx(0.1, abs=0.001)
    torque(bench, 1, 0)
    bench.write(1, Register.CURRENT_LIMIT, 100, 2)
    assert bench.write(1, Register.GOAL_CURRENT, 101, 2) == DATA_LIMIT


def test_status_return_level(bench: DynamixelBench) -> None:
    bench.write(1, Register.STATUS_LEVEL, 1)
    assert bench.ask(1, Instruction.WRITE, b"\x40\x00\x01") == b"" and bench.plant.torque[0]
    assert bench.read(1, Register.TORQUE_ENABLE) == 1
    bench.ask(1, Instruction.WRITE, b"\x44\x00\x00")
    assert bench.ask(1, Instruction.READ, field(64, 1)) == b""
    assert bench.ask(1, Instruction.PING) != b""


def test_register_write_waits_for_the_action(bench: DynamixelBench) -> None:
    params = Register.GOAL_POSITION.to_bytes(2, "little") + (2222).to_bytes(4, "little")
    assert bench.ask(1, Instruction.REGISTER_WRITE, params) == status(1)
    assert bench.read(1, Register.REGISTERED) == 1 and bench.plant.goals[0] == 2048
    assert bench.ask(1, Instruction.ACTION) == status(1)
    assert bench.read(1, Register.REGISTERED) == 0 and bench.plant.goals[0] == 2222
    assert bench.ask(1, Instruction.ACTION) == status(1, error=RESULT_FAIL)
    assert bench.ask(1, Instruction.REGISTER_WRITE, params[:4]) == status(1, error=DATA_LENGTH)


def test_a_shadow_obeys_its_leader_and_answers_for_itself_alone() -> None:
    bench = DynamixelBench(shadow_of=1)
    assert bench.read(3, Register.SECONDARY_ID) == 1
    assert torque(bench, 1) == 0
    assert bench.plant.torque == [True, False, True]
    goal(bench, 1, 2148)
    assert bench.plant.goals == [2148, 2048, 1948]  # mounted the other way round
    assert bench.ask(BROADCAST, SYNC_READ, field(Register.GOAL_POSITION, 4) + b"\x01\x03") == status(
        1, (2148).to_bytes(4, "little")
    ) + status(3, (2148).to_bytes(4, "little"))


def test_the_watchdog_stops_the_servo_and_refuses_goals_until_it_is_cleared(bench: DynamixelBench) -> None:
    bench.write(1, Register.PROFILE_VELOCITY, 10, 4)
    torque(bench, 1)
    assert bench.write(1, Register.BUS_WATCHDOG, 128) == DATA_RANGE
    assert bench.write(1, Register.BUS_WATCHDOG, 5) == 0
    goal(bench, 1, 3000)
    for _ in range(10):
        bench.let_pass(0.09)
        bench.ask(2, Instruction.PING)  # any request counts, not only its own
    assert bench.read(1, Register.BUS_WATCHDOG) == 5
    bench.let_pass(0.2)
    assert bench.read(1, Register.BUS_WATCHDOG) == TRIPPED
    stopped = bench.plant.goals[0]
    assert 2048 < stopped < 2400
    bench.let_pass(0.1)
    assert bench.plant.goals[0] == stopped and bench.plant.torque[0]
    assert goal(bench, 1, 3000) == DATA_RANGE
    assert bench.write(1, Register.BUS_WATCHDOG, 0) == 0
    assert goal(bench, 1, 3000) == 0
    bench.let_pass(0.5)
    assert bench.read(1, Register.BUS_WATCHDOG) == 0


def test_a_silenced_servo_misses_the_requests_that_feed_its_watchdog(bench: DynamixelBench) -> None:
    bench.write(1, Register.BUS_WATCHDOG, 5)
    bench.write(2, Register.BUS_WATCHDOG, 5)
    bench.set_fault("silent", ids=[1])
    for _ in range(5):
        bench.let_pass(0.05)
        bench.ask(3, Instruction.PING)
    bench.bus.faults.clear()
    assert bench.read(1, Register.BUS_WATCHDOG) == TRIPPED
    assert bench.read(2, Register.BUS_WATCHDOG) == 5


def test_overload_latches_until_a_reboot(bench: DynamixelBench) -> None:
    bench.write(1, Register.POSITION_P_GAIN, 999, 2)
    torque(bench, 1)
    bench.plant.loads[0] = 1.0
    bench.bus.advance(1.9)
    assert bench.plant.torque[0]
    bench.bus.advance(0.2)
    assert not bench.plant.torque[0]
    bench.plant.loads[0] = 0.0
    bench.bus.advance(1.0)
    assert bench.ask(1, Instruction.PING)[8] == ALERT
    assert bench.read(1, Register.HARDWARE_ERROR) == OVERLOAD
    assert torque(bench, 1) == ALERT | RESULT_FAIL
    assert bench.ask(1, REBOOT) == status(1)
    bench.let_pass(0.3)
    assert bench.read(1, Register.HARDWARE_ERROR) == 0
    assert bench.read(1, Register.POSITION_P_GAIN, 2) == 400
    assert torque(bench, 1) == 0 and bench.plant.torque[0]


def test_heat_latches_too(bench: DynamixelBench) -> None:
    torque(bench, 1)
    bench.set_fault("overheat", ids=[1], duration=1.0)
    bench.bus.faults.advance(2.0)
    assert bench.read(1, Register.PRESENT_TEMPERATURE) == 30
    assert bench.read(1, Register.HARDWARE_ERROR) == OVERHEAT and not bench.plant.torque[0]


def test_voltage_trips_an_xl330_and_alerts_an_xm430() -> None:
    for model, torque_left in (("xl330-m288", False), ("xm430-w350", True)):
        bench = DynamixelBench(model=model)
        torque(bench, 1)
        bench.set_fault("sag", voltage=3.0)
        assert bench.read(1, Register.HARDWARE_ERROR) == VOLTAGE_ERROR
        assert bench.plant.torque[0] is torque_left
        bench.bus.faults.clear()
        assert (bench.read(1, Register.HARDWARE_ERROR) == 0) is torque_left


def test_factory_reset_is_guarded(bench: DynamixelBench) -> None:
    bench.write(2, Register.HOMING_OFFSET, 50, 4)
    torque(bench, 2)
    assert bench.ask(2, FACTORY_RESET, b"\x01") == status(2, error=ACCESS)
    torque(bench, 2, 0)
    assert bench.ask(2, FACTORY_RESET, b"\x07") == status(2, error=DATA_RANGE)
    assert bench.ask(BROADCAST, FACTORY_RESET, b"\xff") == b""
    assert bench.read(2, Register.HOMING_OFFSET, 4) == 50
    assert bench.ask(2, FACTORY_RESET, b"\x02") == status(2)
    bench.let_pass(0.3)
    assert bench.read(2, Register.HOMING_OFFSET, 4) == 0
    assert bench.ask(2, FACTORY_RESET, b"\xff") == status(2)
    bench.let_pass(0.3)
    request, answer = bench.request(1, Instruction.PING), status(1, (1200).to_bytes(2, "little") + b"\x34")
    for baudrate in (1_000_000, 57_600):  # two have the id 1 now, each at its own speed
        assert bench.bus.feed(request, baudrate) == [(0.0, answer)]


def test_clear_forgets_whole_turns(bench: DynamixelBench) -> None:
    bench.write(1, Register.OPERATING_MODE, 4)
    bench.plant.positions[0] = 4096 * 2 + 300.0
    assert bench.read(1, Register.PRESENT_POSITION, 4) == 8492
    assert bench.ask(1, CLEAR, b"\x01") == status(1, error=DATA_RANGE)
    assert bench.ask(1, CLEAR, bytes.fromhex("01 44 58 4c 22")) == status(1)
    assert bench.read(1, Register.PRESENT_POSITION, 4) == 300
    assert bench.plant.goals[0] == 8492
