"""The emulated servos, byte for byte, without a port and without physics."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers import feetech_codec
from sim.faults import EmulatorError, Faults, parse_faults
from sim.plants import FirstOrderPlant
from sim.servo_bus import (
    OVERHEAT,
    POSITION_SIGN,
    Instruction,
    Register,
    ServoBus,
    checksum,
    decode_signed,
    encode_signed,
)

IDS = (1, 2, 3)


def request(servo_id: int, instruction: int, *params: int) -> bytes:
    body = bytes((servo_id, len(params) + 2, instruction, *params))
    return b"\xff\xff" + body + bytes((checksum(body),))


def status(servo_id: int, *data: int, error: int = 0) -> bytes:
    return request(servo_id, error, *data)


def little(value: int) -> tuple[int, int]:
    return value & 0xFF, value >> 8


class Bench:
    """A bus with three servos on first-order plants, and short names for requests."""

    def __init__(self, faults: Faults | None = None) -> None:
        self.plant = FirstOrderPlant(len(IDS))
        self.bus = ServoBus(IDS, self.plant, faults)

    def write(self, servo_id: int, address: int, *data: int) -> bytes:
        return self.bus.feed(request(servo_id, Instruction.WRITE, address, *data))

    def read(self, servo_id: int, address: int, size: int = 1) -> int:
        reply = self.bus.feed(request(servo_id, Instruction.READ, address, size))
        return int.from_bytes(reply[5:-1], "little")


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_ping_is_the_manuals_example(bench: Bench) -> None:
    assert bench.bus.feed(bytes.fromhex("ff ff 01 02 01 fb")) == bytes.fromhex("ff ff 01 02 00 fc")


def test_nobody_answers_for_an_absent_id(bench: Bench) -> None:
    assert bench.bus.feed(request(9, Instruction.PING)) == b""


def test_model_number_and_factory_values(bench: Bench) -> None:
    assert bench.read(2, Register.MODEL, 2) == 777
    assert bench.read(2, Register.ID) == 2
    assert bench.read(2, Register.MAX_POSITION, 2) == 4095
    assert bench.read(2, Register.TORQUE_ENABLE) == 0


def test_reading_past_the_table_gives_zeros(bench: Bench) -> None:
    assert bench.bus.feed(request(1, Instruction.READ, 86, 4)) == status(1, 0, 0, 0, 0)


def test_wrong_checksum_is_ignored_and_the_next_request_is_heard(bench: Bench) -> None:
    broken = request(1, Instruction.PING)[:-1] + b"\x00"
    assert bench.bus.feed(broken) == b""
    assert bench.bus.feed(request(1, Instruction.PING)) == status(1)


def test_write_is_acknowledged_and_moves_the_plant(bench: Bench) -> None:
    assert bench.write(2, Register.TORQUE_ENABLE, 1) == status(2)
    assert bench.write(2, Register.GOAL_POSITION, *little(2500)) == status(2)
    for _ in range(30):
        bench.plant.step()
    assert bench.read(2, Register.PRESENT_POSITION, 2) == 2500
    assert bench.read(1, Register.PRESENT_POSITION, 2) == 2048


def test_moving_and_velocity_while_it_moves(bench: Bench) -> None:
    bench.write(1, Register.TORQUE_ENABLE, 1, 0, *little(1000))
    bench.plant.step(0.5)
    assert bench.read(1, Register.MOVING) == 1
    assert decode_signed(bench.read(1, Register.PRESENT_VELOCITY, 2), POSITION_SIGN) == -1048


def test_torque_on_jumps_to_the_old_goal(bench: Bench) -> None:
    bench.write(1, Register.GOAL_POSITION, *little(3000))
    assert not bench.plant.torque[0]
    bench.write(1, Register.TORQUE_ENABLE, 1)
    assert (bench.plant.goals[0], bench.plant.torque[0]) == (3000, True)


def test_goal_is_kept_within_the_position_limits(bench: Bench) -> None:
    bench.write(1, Register.LOCK, 0)
    bench.write(1, Register.MIN_POSITION, *little(1000), *little(3000))
    bench.write(1, Register.GOAL_POSITION, *little(3500))
    assert bench.plant.goals[0] == 3000
    bench.write(1, Register.GOAL_POSITION, *little(encode_signed(-5, POSITION_SIGN)))
    assert bench.plant.goals[0] == 1000


def test_read_only_registers_keep_their_values(bench: Bench) -> None:
    assert bench.write(1, Register.PRESENT_TEMPERATURE, 99) == status(1)
    assert bench.read(1, Register.PRESENT_TEMPERATURE) == 30


def test_eeprom_is_written_only_while_unlocked(bench: Bench) -> None:
    bench.write(1, Register.ID, 7)
    assert bench.read(1, Register.ID) == 1
    bench.write(1, Register.LOCK, 0)
    assert bench.write(1, Register.ID, 7) == status(1)
    assert bench.bus.feed(request(1, Instruction.PING)) == b""
    assert bench.bus.feed(request(7, Instruction.PING)) == status(7)


def test_homing_offset_shifts_reading_and_goal(bench: Bench) -> None:
    bench.write(1, Register.LOCK, 0)
    bench.write(1, Register.HOMING_OFFSET, *little(encode_signed(-100, 11)))
    assert bench.read(1, Register.PRESENT_POSITION, 2) == 2148
    bench.write(1, Register.GOAL_POSITION, *little(2148))
    assert bench.plant.goals[0] == 2048


@pytest.mark.parametrize("by_torque", [True, False])
def test_calibration_makes_the_present_position_the_centre(bench: Bench, by_torque: bool) -> None:
    bench.plant.positions[0] = 1000
    if by_torque:
        bench.write(1, Register.TORQUE_ENABLE, 128)
    else:
        assert bench.bus.feed(request(1, Instruction.CALIBRATE_OFFSET)) == status(1)
    assert bench.read(1, Register.PRESENT_POSITION, 2) == 2048
    assert bench.read(1, Register.TORQUE_ENABLE) == 0


def test_register_write_waits_for_the_action(bench: Bench) -> None:
    goal = (Register.GOAL_POSITION, *little(2222))
    assert bench.bus.feed(request(1, Instruction.REGISTER_WRITE, *goal)) == status(1)
    assert bench.plant.goals[0] == 2048
    assert bench.read(1, Register.ACTION_PENDING) == 1
    assert bench.bus.feed(request(0xFE, Instruction.ACTION)) == b""
    assert bench.plant.goals[0] == 2222
    assert bench.read(1, Register.ACTION_PENDING) == 0


def test_factory_reset_keeps_the_id(bench: Bench) -> None:
    bench.write(3, Register.TORQUE_ENABLE, 1)
    assert bench.bus.feed(request(3, Instruction.RESET)) == status(3)
    assert not bench.plant.torque[2]
    assert bench.read(3, Register.ID) == 3


def test_sync_read_answers_in_the_order_asked_for(bench: Bench) -> None:
    reply = bench.bus.feed(request(0xFE, Instruction.SYNC_READ, Register.PRESENT_POSITION, 2, 3, 1, 9))
    assert reply == status(3, *little(2048)) + status(1, *little(2048))


def test_sync_write_sets_each_and_nobody_answers(bench: Bench) -> None:
    params = (Register.GOAL_POSITION, 2, 1, *little(2100), 3, *little(2300))
    assert bench.bus.feed(request(0xFE, Instruction.SYNC_WRITE, *params)) == b""
    assert bench.plant.goals == [2100, 2048, 2300]


def test_sync_write_with_a_piece_missing_sets_the_whole_ones(bench: Bench) -> None:
    params = (Register.GOAL_POSITION, 2, 1, *little(2100), 3, 0)
    bench.bus.feed(request(0xFE, Instruction.SYNC_WRITE, *params))
    assert bench.plant.goals == [2100, 2048, 2048]


def test_broadcast_ping_is_answered_by_all_and_a_broadcast_write_by_none(bench: Bench) -> None:
    assert bench.bus.feed(request(0xFE, Instruction.PING)) == status(1) + status(2) + status(3)
    assert bench.write(0xFE, Register.TORQUE_ENABLE, 1) == b""
    assert bench.plant.torque == [True, True, True]


def test_status_level_0_answers_only_ping_and_read(bench: Bench) -> None:
    bench.write(1, Register.LOCK, 0)
    bench.write(1, Register.STATUS_LEVEL, 0)
    assert bench.write(1, Register.TORQUE_ENABLE, 1) == b""
    assert bench.bus.feed(request(1, Instruction.PING)) == status(1)
    assert bench.read(1, Register.TORQUE_ENABLE) == 1


def test_unknown_instructions_are_not_answered(bench: Bench) -> None:
    assert bench.bus.feed(request(1, 0x42)) == b""
    assert bench.bus.feed(request(1, Instruction.READ)) == b""
    assert bench.bus.feed(request(0xFE, Instruction.SYNC_READ)) == b""
    assert bench.bus.feed(request(0xFE, Instruction.SYNC_WRITE)) == b""


def test_a_hot_servo_says_so_in_every_status_packet() -> None:
    bench = Bench(Faults(hot=frozenset({2})))
    assert bench.bus.feed(request(2, Instruction.PING)) == status(2, error=OVERHEAT)
    assert bench.read(2, Register.PRESENT_TEMPERATURE) == 80
    assert bench.read(2, Register.STATUS) == OVERHEAT
    assert bench.bus.feed(request(1, Instruction.PING)) == status(1)


def test_a_silent_servo_neither_hears_nor_answers() -> None:
    bench = Bench(Faults(silent=frozenset({2})))
    bench.write(0xFE, Register.TORQUE_ENABLE, 1)
    assert bench.plant.torque == [True, False, True]
    reply = bench.bus.feed(request(0xFE, Instruction.SYNC_READ, Register.MODEL, 2, 1, 2, 3))
    assert reply == status(1, *little(777)) + status(3, *little(777))


def test_dropped_replies_were_carried_out() -> None:
    bench = Bench(Faults(drop=1.0))
    assert bench.write(1, Register.TORQUE_ENABLE, 1) == b""
    assert bench.plant.torque[0]


def test_corrupt_replies_differ_in_one_byte() -> None:
    reply, sound = Bench(Faults(corrupt=1.0)).bus.feed(request(1, Instruction.PING)), status(1)
    assert len(reply) == len(sound)
    assert sum(a != b for a, b in zip(reply, sound, strict=True)) == 1


def test_delay_is_told_once() -> None:
    bench = Bench(Faults(delay=1.0, delay_ms=30))
    bench.bus.feed(request(1, Instruction.PING))
    assert bench.bus.faults.take_delay() == pytest.approx(0.03)
    assert bench.bus.faults.take_delay() == 0


def test_the_same_seed_spoils_the_same_packets() -> None:
    def replies(seed: int) -> list[bytes]:
        bench = Bench(Faults(drop=0.3, corrupt=0.3, seed=seed))
        return [bench.bus.feed(request(1, Instruction.PING)) for _ in range(50)]

    assert replies(1) == replies(1)
    assert replies(1) != replies(2)


def test_goals_to_present_holds_where_the_plant_is(bench: Bench) -> None:
    bench.plant.positions[1] = 1234.0
    bench.bus.goals_to_present()
    assert bench.plant.goals == [2048, 1234, 2048]


def test_faults_are_parsed() -> None:
    faults = parse_faults("drop=0.01, corrupt=0.5,delay=1,delay_ms=7,silent=3+4,hot=2", seed=3)
    assert (faults.drop, faults.corrupt, faults.delay, faults.delay_ms) == (0.01, 0.5, 1.0, 7.0)
    assert (faults.silent, faults.hot, faults.seed) == ({3, 4}, {2}, 3)
    assert parse_faults("") == Faults()


@pytest.mark.parametrize("text", ["drop=2", "drop=x", "drop", "smoke=1", "silent=a", "delay_ms=-1", "drop=nan"])
def test_faults_that_make_no_sense_are_named(text: str) -> None:
    with pytest.raises(EmulatorError, match=f'fault "{text}" is not understood') as caught:
        parse_faults(f"corrupt=0.1,{text}")
    assert "\n" not in str(caught.value)


@given(st.integers(-32767, 32767))
def test_signed_numbers_come_back_and_agree_with_the_driver(value: int) -> None:
    raw = encode_signed(value, POSITION_SIGN)
    assert decode_signed(raw, POSITION_SIGN) == value
    assert feetech_codec.decode_sign_magnitude(raw, POSITION_SIGN) == value


@given(st.binary(max_size=200))
def test_noise_never_raises_and_is_forgotten(noise: bytes) -> None:
    bench = Bench()
    bench.bus.feed(noise)
    bench.bus.forget()
    assert bench.bus.feed(request(0xFE, Instruction.SYNC_READ, Register.MODEL, 1, *IDS)).count(b"\xff\xff") <= len(IDS)


@given(st.lists(st.integers(1, 5), min_size=40, max_size=40))
def test_requests_may_come_in_any_pieces(sizes: list[int]) -> None:
    bench = Bench()
    stream = b"\x00\xff" + b"".join(
        request(*packet)
        for packet in (
            (1, Instruction.PING),
            (2, Instruction.WRITE, Register.TORQUE_ENABLE, 1),
            (0xFE, Instruction.SYNC_READ, Register.MODEL, 2, 1, 2),
        )
    )
    replies, at = b"", 0
    for size in sizes:
        replies += bench.bus.feed(stream[at : at + size])
        at += size
    replies += bench.bus.feed(stream[at:])
    assert replies == status(1) + status(2) + status(1, *little(777)) + status(2, *little(777))


@given(st.lists(st.integers(0, 4095), min_size=len(IDS), max_size=len(IDS)))
def test_the_drivers_codec_and_the_servos_understand_each_other(goals: list[int]) -> None:
    bench = Bench()
    bench.write(0xFE, Register.TORQUE_ENABLE, 1)
    values = {i: feetech_codec.encode_goal(goal) for i, goal in zip(IDS, goals, strict=True)}
    bench.bus.feed(feetech_codec.sync_write(feetech_codec.GOAL_POSITION, values))
    bench.plant.positions = [float(goal) for goal in goals]
    reply = bytearray(bench.bus.feed(feetech_codec.sync_read(IDS, feetech_codec.PRESENT)))
    found, skipped = feetech_codec.FeetechFraming().parse(reply, dict.fromkeys(IDS, feetech_codec.PRESENT.size))
    presents = [feetech_codec.decode_present(part.params) for part in found]
    assert [present.position for present in presents] == goals == bench.plant.goals
    np.testing.assert_allclose([present.voltage for present in presents], 7.4)
    assert skipped == 0
