"""The line between servos, whatever they speak: addressing, silence, noise, speed and time."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.dynamixel_table import Register as Dxl
from sim.feetech_servo import Register
from sim.servo_bus import BROADCAST, Instruction
from tests.sim.servo_bench import IDS, Bench, DynamixelBench, FeetechBench

status = FeetechBench.status


@pytest.fixture
def bench() -> FeetechBench:
    return FeetechBench()


@pytest.fixture(params=[FeetechBench, DynamixelBench])
def either(request: pytest.FixtureRequest) -> Bench:
    made: Bench = request.param()
    return made


def ping(bench: Bench, servo_id: int) -> bytes:
    assert isinstance(bench, FeetechBench | DynamixelBench)
    return bench.ask(servo_id, Instruction.PING)


def test_nobody_answers_for_an_absent_id(either: Bench) -> None:
    assert ping(either, 9) == b""


def test_everybody_answers_a_broadcast_ping_in_order(either: Bench) -> None:
    assert ping(either, BROADCAST) == b"".join(ping(either, servo_id) for servo_id in IDS) != b""


def test_a_silent_servo_neither_hears_nor_answers(bench: FeetechBench) -> None:
    bench.set_fault("silent", ids=[2])
    bench.write(BROADCAST, Register.TORQUE_ENABLE, 1)
    assert bench.plant.torque == [True, False, True]
    assert ping(bench, BROADCAST) == status(1) + status(3)
    bench.bus.faults.clear("silent")
    assert ping(bench, 2) == status(2)


def test_a_servo_of_another_speed_is_deaf(either: Bench) -> None:
    assert isinstance(either, FeetechBench | DynamixelBench)
    request = either.request(1, Instruction.PING)
    assert either.bus.feed(request, 57_600) == []
    assert either.bus.feed(request, 1_000_000) != []
    assert either.bus.feed(request, None) != []


def test_a_change_of_speed_is_answered_at_the_old_one(bench: FeetechBench) -> None:
    bench.write(1, Register.LOCK, 0)
    assert bench.write(1, Register.BAUD_RATE, 1) == status(1)
    request = bench.request(BROADCAST, Instruction.PING)
    assert bench.bus.feed(request, 1_000_000) == [(0.0, status(2) + status(3))]
    assert bench.bus.feed(request, 500_000) == [(0.0, status(1))]


def test_a_rebooting_servo_is_away_for_a_moment_and_comes_back_without_torque(either: Bench) -> None:
    assert isinstance(either, FeetechBench | DynamixelBench)
    either.write(2, Register.TORQUE_ENABLE if isinstance(either, FeetechBench) else Dxl.TORQUE_ENABLE, 1)
    assert either.plant.torque[1]
    either.set_fault("reboot", ids=[2])
    assert ping(either, 2) == b"" and not either.plant.torque[1]
    assert ping(either, 1) != b""
    either.let_pass(0.3)
    assert ping(either, 2) != b"" and not either.plant.torque[1]


def test_dropped_replies_were_carried_out(bench: FeetechBench) -> None:
    bench.set_fault("drop", p=1)
    assert bench.write(1, Register.TORQUE_ENABLE, 1) == b""
    assert bench.plant.torque[0]


def test_noise_reaches_replies_of_the_servos_it_is_for(bench: FeetechBench) -> None:
    bench.set_fault("duplicate", p=1, ids=[2])
    assert ping(bench, 1) == status(1)
    assert ping(bench, 2) == status(2) + status(2)
    bench.set_fault("corrupt", p=1, ids=[1])
    assert ping(bench, 1) != status(1)
    assert bench.ask(BROADCAST, 0x82, Register.MODEL, 2, 3) == status(3, 9, 3)


def test_a_late_reply_says_how_late(bench: FeetechBench) -> None:
    bench.set_fault("delay", p=1, ms=30, ids=[2])
    replies = bench.bus.feed(bench.request(BROADCAST, Instruction.PING))
    assert replies == [(0.0, status(1)), (0.03, status(2)), (0.0, status(3))]


def test_the_same_seed_spoils_the_same_packets() -> None:
    def replies(seed: int) -> list[bytes]:
        bench = FeetechBench(seed)
        for name in ("drop", "corrupt", "extra"):
            bench.set_fault(name, p=0.3)
        return [ping(bench, 1) for _ in range(50)]

    assert replies(1) == replies(1) != replies(2)


def test_baud_true_replies_take_their_time_on_the_wire() -> None:
    bench = FeetechBench(baud_true=True)
    bench.write(2, Register.LOCK, 0)
    bench.write(2, Register.RETURN_DELAY, 250)
    request = bench.request(BROADCAST, Instruction.PING)
    byte = 10 / 1_000_000
    times = [seconds for seconds, _ in bench.bus.feed(request, 1_000_000)]
    assert times == pytest.approx([12 * byte, 18 * byte + 500e-6, 24 * byte + 500e-6])


def test_a_stuck_joint_stalls_warms_up_and_trips(bench: FeetechBench) -> None:
    bench.set_fault("stuck", joint="elbow")
    bench.write(2, Register.TORQUE_ENABLE, 1)
    bench.write(2, Register.GOAL_POSITION, 0, 12)
    bench.let_pass(1.0)
    assert bench.read(2, Register.PRESENT_POSITION, 2) == 2048
    assert bench.read(2, Register.PRESENT_LOAD, 2) == 1000
    assert bench.read(2, Register.STATUS) == 0
    warm = bench.read(2, Register.PRESENT_TEMPERATURE)
    bench.let_pass(1.5)
    assert bench.read(2, Register.PRESENT_TEMPERATURE) > warm
    assert bench.read(2, Register.STATUS) == 1 << 5
    assert bench.read(1, Register.STATUS) == 0
    bench.bus.faults.clear()
    bench.write(2, Register.TORQUE_ENABLE, 0)
    bench.write(2, Register.TORQUE_ENABLE, 1)
    bench.let_pass(1.0)
    assert bench.read(2, Register.PRESENT_POSITION, 2) == 3072


def test_goals_to_present_holds_where_the_plant_is(either: Bench) -> None:
    either.plant.positions[1] = 1234.0
    either.bus.goals_to_present()
    assert either.plant.goals == [2048, 1234, 2048]


def test_every_servo_is_sampled(either: Bench) -> None:
    lines: list[tuple[int, int, bool, int]] = []
    either.bus.sample(lambda *line: lines.append(line))
    assert lines == [(0, 2048, False, 2048), (1, 2048, False, 2048), (2, 2048, False, 2048)]


def test_a_half_request_is_forgotten_when_told(bench: FeetechBench) -> None:
    request = bench.request(1, Instruction.PING)
    bench.feed(request[:3])
    bench.bus.forget()
    assert bench.feed(request[3:]) == b""
    assert ping(bench, 1) == status(1)


@given(st.binary(max_size=200), st.sampled_from([FeetechBench, DynamixelBench]))
def test_noise_never_raises_and_is_forgotten(noise: bytes, kind: type[FeetechBench] | type[DynamixelBench]) -> None:
    bench = kind()
    bench.feed(noise)
    bench.bus.forget()
    assert ping(bench, 1) == ping(kind(), 1)


@given(st.lists(st.integers(1, 7), min_size=60, max_size=60), st.sampled_from([FeetechBench, DynamixelBench]))
def test_requests_may_come_in_any_pieces(sizes: list[int], kind: type[FeetechBench] | type[DynamixelBench]) -> None:
    whole, pieces = kind(), kind()
    requests = [whole.request(servo_id, Instruction.PING) for servo_id in (1, 2, 9, BROADCAST, 3)]
    stream = b"\x00\xff" + b"".join(requests)
    replies, at = b"", 0
    for size in sizes:
        replies += pieces.feed(stream[at : at + size])
        at += size
    replies += pieces.feed(stream[at:])
    assert replies == b"".join(whole.feed(request) for request in requests)
    assert pieces.bus.requests == len(requests)
