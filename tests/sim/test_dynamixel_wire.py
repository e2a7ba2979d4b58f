"""Protocol 2.0 packets of the emulated Dynamixels: check values, stuffing, groups; against the driver's codec too."""

from __future__ import annotations

import pytest
from dynamixel_sdk import PacketHandler
from hypothesis import given
from hypothesis import strategies as st

from drivers import dynamixel_codec
from sim.dynamixel_table import Register
from sim.dynamixel_wire import BULK_READ, BULK_WRITE, FAST_SYNC_READ, STATUS, SYNC_READ, SYNC_WRITE, crc16
from sim.servo_bus import BROADCAST, Instruction
from tests.sim.servo_bench import IDS, DynamixelBench

status = DynamixelBench.status
CENTRE = (2048).to_bytes(4, "little")


@pytest.fixture
def bench() -> DynamixelBench:
    return DynamixelBench()


def field(address: int, size: int) -> bytes:
    return address.to_bytes(2, "little") + size.to_bytes(2, "little")


def test_the_makers_check_values() -> None:
    assert DynamixelBench.request(1, Instruction.PING).hex(" ").endswith("01 03 00 01 19 4e")
    assert DynamixelBench.request(1, Instruction.READ, field(132, 4)).hex(" ").endswith("1d 15")


def test_sync_read_and_sync_write(bench: DynamixelBench) -> None:
    params = field(Register.GOAL_POSITION, 4) + b"\x01" + (2100).to_bytes(4, "little") + b"\x03" + CENTRE
    assert bench.ask(BROADCAST, SYNC_WRITE, params + b"\x02\x00") == b""
    assert bench.plant.goals == [2100, 2048, 2048]
    reply = bench.ask(BROADCAST, SYNC_READ, field(Register.PRESENT_POSITION, 4) + b"\x03\x01\x09")
    assert reply == status(3, CENTRE) + status(1, CENTRE)
    assert bench.ask(BROADCAST, SYNC_READ, b"\x01") == b""


def test_bulk_read_and_bulk_write(bench: DynamixelBench) -> None:
    params = b"\x01" + field(Register.GOAL_POSITION, 4) + (2100).to_bytes(4, "little")
    params += b"\x02" + field(Register.TORQUE_ENABLE, 1) + b"\x01"
    assert bench.ask(BROADCAST, BULK_WRITE, params) == b""
    assert bench.plant.goals[0] == 2100 and bench.plant.torque == [False, True, False]
    asked = b"\x02" + field(Register.TORQUE_ENABLE, 1) + b"\x01" + field(Register.PRESENT_POSITION, 4)
    assert bench.ask(BROADCAST, BULK_READ, asked) == status(2, b"\x01") + status(1, CENTRE)


def test_fast_sync_read_is_answered_in_one_packet(bench: DynamixelBench) -> None:
    asked = field(Register.PRESENT_POSITION, 4)
    reply = bench.ask(BROADCAST, FAST_SYNC_READ, asked + b"\x03\x01")
    first = bytes.fromhex("ff ff fd 00 fe 11 00 55 00 03") + CENTRE
    second = b"\x00\x01" + CENTRE
    first += crc16(first).to_bytes(2, "little")
    assert reply == first + second + crc16(first + second).to_bytes(2, "little")
    assert len(reply) == 7 + 0x11
    cut = bench.ask(BROADCAST, FAST_SYNC_READ, asked + b"\x03\x09\x01")
    assert len(cut) == len(first)  # nobody answers after one who is not there


@given(st.lists(st.sampled_from([0xFF, 0xFD, 0x00, 0xFE]), min_size=1, max_size=24).map(bytes))
def test_stuffing_is_undone_and_is_the_makers(data: bytes) -> None:
    bench = DynamixelBench()
    taken = bench.bus.wire.take(bytearray(bench.request(1, Instruction.WRITE, data)))
    assert taken is not None and taken.params == data
    reply = bench.bus.wire.status(1, 0, data)
    plain = [*reply[:5], len(data) + 4, 0, STATUS, 0, *data, 0, 0]
    # Not their removeStuffing: it takes one FD too many out of ff ff fd ff fd fd.
    assert bytes(PacketHandler(2.0).addStuffing(plain))[:-2] == reply[:-2]


@given(
    st.lists(st.integers(0, 4095), min_size=len(IDS), max_size=len(IDS)),
    st.lists(st.floats(-1, 1), min_size=len(IDS), max_size=len(IDS)),
)
def test_the_drivers_codec_and_the_servos_understand_each_other(goals: list[int], loads: list[float]) -> None:
    bench = DynamixelBench(model="xl430-w250")
    for servo_id in IDS:
        bench.write(servo_id, Register.TORQUE_ENABLE, 1)
    codec = dynamixel_codec
    values = {id: codec.encode(codec.GOAL_POSITION, goal) for id, goal in zip(IDS, goals, strict=True)}
    bench.feed(codec.sync_write(codec.GOAL_POSITION, values))
    bench.plant.positions, bench.plant.loads = [float(goal) for goal in goals], loads
    for ask in (codec.sync_read, codec.fast_sync_read):
        reply = bytearray(bench.feed(ask(IDS, codec.PRESENT)))
        found, skipped = codec.DynamixelFraming().parse(reply, dict.fromkeys(IDS, codec.PRESENT.size))
        presents = [codec.decode_present(part.params, load_unit=0.001) for part in found]
        assert [present.position for present in presents] == goals == bench.plant.goals
        assert [present.load for present in presents] == pytest.approx(loads, abs=0.0006)
        assert skipped == 0


def test_what_servos_send_is_no_request(bench: DynamixelBench) -> None:
    assert bench.ask(1, STATUS, b"\0") == b""


def test_a_request_that_broke_off_does_not_swallow_the_next(bench: DynamixelBench) -> None:
    ping = bench.request(1, Instruction.PING)
    whole = bench.request(BROADCAST, SYNC_WRITE, field(Register.GOAL_POSITION, 4) + bytes(60))
    assert bench.feed(whole[:20] + ping) == bench.feed(ping) != b""


@given(st.binary(max_size=60))
def test_crc_is_the_makers(data: bytes) -> None:
    assert crc16(data) == PacketHandler(2.0).updateCRC(0, list(data), len(data))
    assert crc16(data[20:], crc16(data[:20])) == crc16(data)
