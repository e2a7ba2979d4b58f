"""An STS3215, byte for byte, without a port and without physics."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers import feetech_codec
from sim.feetech_servo import (
    OVERHEAT,
    OVERLOAD,
    POSITION_SIGN,
    VOLTAGE_ERROR,
    Register,
    decode_signed,
    encode_signed,
)
from sim.feetech_wire import CALIBRATE_OFFSET, RESET, SYNC_READ, SYNC_WRITE
from sim.servo_bus import BROADCAST, Instruction
from tests.sim.servo_bench import IDS, FeetechBench

status = FeetechBench.status


@pytest.fixture
def bench() -> FeetechBench:
    return FeetechBench()


def little(value: int) -> tuple[int, int]:
    return value & 0xFF, value >> 8


def test_ping_is_the_manuals_example(bench: FeetechBench) -> None:
    assert bench.feed(bytes.fromhex("ff ff 01 02 01 fb")) == bytes.fromhex("ff ff 01 02 00 fc")


def test_wrong_checksum_is_ignored_and_the_next_request_is_heard(bench: FeetechBench) -> None:
    assert bench.feed(bench.request(1, Instruction.PING)[:-1] + b"\x00") == b""
    assert bench.ask(1, Instruction.PING) == status(1)


def test_factory_values(bench: FeetechBench) -> None:
    assert bench.read(2, Register.MODEL, 2) == 777
    assert bench.read(2, Register.ID) == 2
    assert bench.read(2, Register.MAX_POSITION, 2) == 4095
    assert bench.read(2, Register.TORQUE_ENABLE) == 0
    assert bench.read(2, Register.TORQUE_LIMIT, 2) == 1000
    assert bench.read(2, Register.GOAL_POSITION, 2) == 2048


def test_reading_past_the_table_gives_zeros(bench: FeetechBench) -> None:
    assert bench.ask(1, Instruction.READ, 86, 4) == status(1, 0, 0, 0, 0)


def test_write_is_acknowledged_and_moves_the_plant(bench: FeetechBench) -> None:
    assert bench.write(2, Register.TORQUE_ENABLE, 1) == status(2)
    assert bench.write(2, Register.GOAL_POSITION, *little(2500)) == status(2)
    bench.let_pass(0.3)
    assert bench.read(2, Register.PRESENT_POSITION, 2) == 2500
    assert bench.read(1, Register.PRESENT_POSITION, 2) == 2048


def test_moving_and_velocity_while_it_moves(bench: FeetechBench) -> None:
    bench.write(1, Register.TORQUE_ENABLE, 1, 0, *little(1000))
    bench.plant.step(0.5)
    assert bench.read(1, Register.MOVING) == 1
    assert decode_signed(bench.read(1, Register.PRESENT_VELOCITY, 2), POSITION_SIGN) == -1048


def test_load_and_current_are_signed(bench: FeetechBench) -> None:
    bench.plant.loads[0] = -0.5
    assert bench.read(1, Register.PRESENT_LOAD, 2) == 500 | 1 << 10
    assert decode_signed(bench.read(1, Register.PRESENT_CURRENT, 2), POSITION_SIGN) == -208


def test_torque_on_jumps_to_the_old_goal(bench: FeetechBench) -> None:
    bench.write(1, Register.GOAL_POSITION, *little(3000))
    assert not bench.plant.torque[0]
    bench.write(1, Register.TORQUE_ENABLE, 1)
    assert (bench.plant.goals[0], bench.plant.torque[0]) == (3000, True)


def test_goal_is_kept_within_the_position_limits(bench: FeetechBench) -> None:
    bench.write(1, Register.LOCK, 0)
    bench.write(1, Register.MIN_POSITION, *little(1000), *little(3000))
    bench.write(1, Register.GOAL_POSITION, *little(3500))
    assert bench.plant.goals[0] == 3000
    bench.write(1, Register.GOAL_POSITION, *little(encode_signed(-5, POSITION_SIGN)))
    assert bench.plant.goals[0] == 1000


def test_speed_and_acceleration_are_honoured(bench: FeetechBench) -> None:
    bench.write(1, Register.ACCELERATION, 20, *little(2048), 0, 0, *little(1000))
    bench.write(1, Register.TORQUE_ENABLE, 1)
    bench.write(1, Register.GOAL_POSITION, *little(3048))
    bench.let_pass(0.25)
    assert bench.plant.goals[0] == pytest.approx(2048 + 2000 * 0.25**2 / 2, abs=10)
    bench.let_pass(0.5)
    before = bench.plant.goals[0]
    bench.let_pass(0.1)
    assert bench.plant.goals[0] - before == pytest.approx(100)
    bench.let_pass(1.5)
    assert bench.plant.goals[0] == 3048


def test_the_torque_limit_reaches_the_motor(bench: FeetechBench) -> None:
    bench.write(1, Register.TORQUE_ENABLE, 1)
    assert bench.plant.strengths[0] == 1.0
    bench.write(1, Register.TORQUE_LIMIT, *little(300))
    assert bench.plant.strengths[0] == 0.3


def test_read_only_registers_keep_their_values(bench: FeetechBench) -> None:
    assert bench.write(1, Register.PRESENT_TEMPERATURE, 99) == status(1)
    assert bench.read(1, Register.PRESENT_TEMPERATURE) == 30
    bench.write(1, Register.LOCK, 0)
    bench.write(1, Register.MODEL, 1, 1)
    assert bench.read(1, Register.MODEL, 2) == 777


def test_eeprom_is_written_only_while_unlocked(bench: FeetechBench) -> None:
    bench.write(1, Register.ID, 7)
    assert bench.read(1, Register.ID) == 1
    bench.write(1, Register.LOCK, 0)
    assert bench.write(1, Register.ID, 7) == status(1)
    assert bench.ask(1, Instruction.PING) == b""
    assert bench.ask(7, Instruction.PING) == status(7)
    assert bench.bus.eeprom_changed


def test_homing_offset_shifts_reading_and_goal(bench: FeetechBench) -> None:
    bench.write(1, Register.LOCK, 0)
    bench.write(1, Register.HOMING_OFFSET, *little(encode_signed(-100, 11)))
    assert bench.read(1, Register.PRESENT_POSITION, 2) == 2148
    bench.write(1, Register.GOAL_POSITION, *little(2148))
    assert bench.plant.goals[0] == 2048


@pytest.mark.parametrize("by_torque", [True, False])
def test_calibration_makes_the_present_position_the_centre(bench: FeetechBench, by_torque: bool) -> None:
    bench.plant.positions[0] = 1000
    if by_torque:
        bench.write(1, Register.TORQUE_ENABLE, 128)
    else:
        assert bench.ask(1, CALIBRATE_OFFSET) == status(1)
    assert bench.read(1, Register.PRESENT_POSITION, 2) == 2048
    assert bench.read(1, Register.TORQUE_ENABLE) == 0


def test_register_write_waits_for_the_action(bench: FeetechBench) -> None:
    assert bench.ask(1, Instruction.REGISTER_WRITE, Register.GOAL_POSITION, *little(2222)) == status(1)
    assert bench.plant.goals[0] == 2048
    assert bench.read(1, Register.ACTION_PENDING) == 1
    assert bench.ask(BROADCAST, Instruction.ACTION) == b""
    assert bench.plant.goals[0] == 2222
    assert bench.read(1, Register.ACTION_PENDING) == 0


def test_factory_reset_keeps_the_id(bench: FeetechBench) -> None:
    bench.write(3, Register.TORQUE_ENABLE, 1)
    assert bench.ask(3, RESET) == status(3)
    assert not bench.plant.torque[2]
    assert bench.read(3, Register.ID) == 3


def test_sync_read_answers_in_the_order_asked_for(bench: FeetechBench) -> None:
    reply = bench.ask(BROADCAST, SYNC_READ, Register.PRESENT_POSITION, 2, 3, 1, 9)
    assert reply == status(3, *little(2048)) + status(1, *little(2048))


def test_sync_write_sets_each_and_nobody_answers(bench: FeetechBench) -> None:
    params = (Register.GOAL_POSITION, 2, 1, *little(2100), 3, *little(2300))
    assert bench.ask(BROADCAST, SYNC_WRITE, *params) == b""
    assert bench.plant.goals == [2100, 2048, 2300]


def test_sync_write_with_a_piece_missing_sets_the_whole_ones(bench: FeetechBench) -> None:
    bench.ask(BROADCAST, SYNC_WRITE, Register.GOAL_POSITION, 2, 1, *little(2100), 3, 0)
    assert bench.plant.goals == [2100, 2048, 2048]


def test_a_broadcast_write_is_answered_by_none(bench: FeetechBench) -> None:
    assert bench.write(BROADCAST, Register.TORQUE_ENABLE, 1) == b""
    assert bench.plant.torque == [True, True, True]


def test_status_level_0_answers_only_ping_and_read(bench: FeetechBench) -> None:
    bench.write(1, Register.LOCK, 0)
    bench.write(1, Register.STATUS_LEVEL, 0)
    assert bench.write(1, Register.TORQUE_ENABLE, 1) == b""
    assert bench.ask(1, Instruction.PING) == status(1)
    assert bench.read(1, Register.TORQUE_ENABLE) == 1


@pytest.mark.parametrize(
    ("servo_id", "instruction"), [(1, 0x42), (1, Instruction.READ), (BROADCAST, SYNC_READ), (BROADCAST, SYNC_WRITE)]
)
def test_what_cannot_be_understood_is_not_answered(bench: FeetechBench, servo_id: int, instruction: int) -> None:
    assert bench.ask(servo_id, instruction) == b""
    assert bench.ask(1, Instruction.PING) == status(1)


def test_a_hot_servo_says_so_in_every_status_packet_and_lets_go(bench: FeetechBench) -> None:
    bench.write(2, Register.TORQUE_ENABLE, 1)
    bench.set_fault("overheat", ids=[2])
    assert bench.ask(2, Instruction.PING) == status(2, error=OVERHEAT)
    assert bench.read(2, Register.PRESENT_TEMPERATURE) == 85
    assert bench.read(2, Register.STATUS) == OVERHEAT
    assert bench.read(2, Register.TORQUE_ENABLE) == 0 and not bench.plant.torque[1]
    assert bench.ask(1, Instruction.PING) == status(1)
    bench.bus.faults.clear()
    assert bench.ask(2, Instruction.PING) == status(2)


def test_voltage_that_sags_is_an_error(bench: FeetechBench) -> None:
    bench.set_fault("sag", voltage=3.5)
    assert bench.read(1, Register.PRESENT_VOLTAGE) == 35
    assert bench.ask(1, Instruction.PING) == status(1, error=VOLTAGE_ERROR)
    bench.set_fault("sag", voltage=5)
    assert bench.ask(1, Instruction.PING) == status(1)


def test_too_much_load_for_too_long_leaves_the_protective_torque(bench: FeetechBench) -> None:
    bench.write(1, Register.TORQUE_ENABLE, 1)
    bench.write(1, Register.GOAL_POSITION, *little(3000))
    bench.plant.loads[0] = 0.9
    bench.bus.advance(1.9)
    assert bench.ask(1, Instruction.PING) == status(1)
    bench.bus.advance(0.2)
    assert bench.ask(1, Instruction.PING) == status(1, error=OVERLOAD)
    assert bench.plant.strengths[0] == 0.2 and bench.read(1, Register.TORQUE_ENABLE) == 1
    bench.write(1, Register.GOAL_POSITION, *little(3100))
    assert bench.plant.strengths[0] == 0.2
    bench.plant.loads[0] = 0.0
    bench.write(1, Register.GOAL_POSITION, *little(2000))  # on the other side: relieved
    assert bench.ask(1, Instruction.PING) == status(1)
    assert bench.plant.strengths[0] == 1.0


def test_an_imposed_overload_stays_until_it_is_cleared_and_torque_was_off(bench: FeetechBench) -> None:
    bench.write(1, Register.TORQUE_ENABLE, 1)
    bench.set_fault("overload", ids=[1])
    bench.write(1, Register.TORQUE_ENABLE, 0)
    assert bench.ask(1, Instruction.PING) == status(1, error=OVERLOAD)
    bench.bus.faults.clear("overload")
    assert bench.ask(1, Instruction.PING) == status(1, error=OVERLOAD)
    bench.write(1, Register.TORQUE_ENABLE, 0)
    assert bench.ask(1, Instruction.PING) == status(1)


def test_a_reboot_forgets_ram_and_keeps_eeprom(bench: FeetechBench) -> None:
    bench.write(1, Register.LOCK, 0)
    bench.write(1, Register.MAX_TORQUE, *little(500))
    bench.write(1, Register.TORQUE_ENABLE, 1, 20)
    bench.set_fault("reboot", ids=[1])
    bench.let_pass(0.3)
    assert bench.read(1, Register.ACCELERATION) == 0
    assert bench.read(1, Register.LOCK) == 1
    assert bench.read(1, Register.MAX_TORQUE, 2) == bench.read(1, Register.TORQUE_LIMIT, 2) == 500


@given(st.integers(-32767, 32767))
def test_signed_numbers_come_back_and_agree_with_the_driver(value: int) -> None:
    raw = encode_signed(value, POSITION_SIGN)
    assert decode_signed(raw, POSITION_SIGN) == value
    assert feetech_codec.decode_sign_magnitude(raw, POSITION_SIGN) == value


@given(
    st.lists(st.integers(0, 4095), min_size=len(IDS), max_size=len(IDS)),
    st.lists(st.floats(-1, 1), min_size=len(IDS), max_size=len(IDS)),
)
def test_the_drivers_codec_and_the_servos_understand_each_other(goals: list[int], loads: list[float]) -> None:
    bench = FeetechBench()
    bench.write(BROADCAST, Register.TORQUE_ENABLE, 1)
    values = {i: feetech_codec.encode(feetech_codec.GOAL_POSITION, goal) for i, goal in zip(IDS, goals, strict=True)}
    bench.feed(feetech_codec.sync_write(feetech_codec.GOAL_POSITION, values))
    bench.plant.positions, bench.plant.loads = [float(goal) for goal in goals], loads
    reply = bytearray(bench.feed(feetech_codec.sync_read(IDS, feetech_codec.PRESENT)))
    found, skipped = feetech_codec.FeetechFraming().parse(reply, dict.fromkeys(IDS, feetech_codec.PRESENT.size))
    presents = [feetech_codec.decode_present(part.params) for part in found]
    assert [present.position for present in presents] == goals == bench.plant.goals
    assert [present.load for present in presents] == pytest.approx(loads, abs=0.0006)
    assert [present.voltage for present in presents] == pytest.approx([7.4] * len(IDS))
    assert skipped == 0
