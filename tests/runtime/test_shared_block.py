from __future__ import annotations

import threading
from collections.abc import Iterator

import numpy as np
import pytest

from drivers.arm import JointState, frozen
from runtime.safety import REASONS
from runtime.servo import ServoCounters, ServoState, Split, Target
from runtime.shared_block import ENDED, LATEST, TEXT_BYTES, SharedBlock
from runtime.supervisor import State, Stop
from runtime.tick_ring import TickRing


@pytest.fixture
def block() -> Iterator[SharedBlock]:
    block = SharedBlock(3)
    yield block
    block.close()
    block.unlink()


def make_state(fault: str | None) -> ServoState:
    rows = [frozen(np.arange(3) + 10 * row) for row in range(6)]
    return ServoState(
        stamp=123,
        joints=JointState(122, rows[0], rows[1], rows[2], rows[3], rows[4]),
        command=rows[5],
        state=State.RUNNING,
        fault=fault,
        reasons=(REASONS[0], REASONS[3]),
        counters=ServoCounters(*range(1, 11)),
        split=Split(5, 6, 7),
    )


def test_nothing_is_read_before_the_first_write(block: SharedBlock) -> None:
    assert block.read_target() is None
    assert block.read_state() is None


def test_targets_come_out_numbered_as_they_went_in(block: SharedBlock) -> None:
    for number in (1, 2, 3):
        block.write_target(Target(number * 100, np.array([0.1, np.nan, -np.inf]) * number))
        found = block.read_target()
        assert found is not None
        assert found[0] == number
        assert found[1].stamp == number * 100
        np.testing.assert_array_equal(found[1].positions, np.array([0.1, np.nan, -np.inf]) * number)


@pytest.mark.parametrize("fault", [None, "", "bus: 10 reads in a row failed", "µ" * TEXT_BYTES])
def test_states_come_out_as_they_went_in(block: SharedBlock, fault: str | None) -> None:
    state = make_state(fault)
    block.write_state(state)
    other = SharedBlock(3, block.name)
    found = other.read_state()
    other.close()
    assert found is not None
    assert found.fault == (fault if fault is None else fault[: TEXT_BYTES // 2] if "µ" in fault else fault)
    for name in ("stamp", "state", "reasons", "counters", "split"):
        assert getattr(found, name) == getattr(state, name)
    np.testing.assert_array_equal(found.command, state.command)
    for name in ("positions", "velocities", "loads", "temperatures_c", "voltages"):
        np.testing.assert_array_equal(getattr(found.joints, name), getattr(state.joints, name))


def test_a_record_whose_writer_dies_half_way_leaves_the_one_before() -> None:
    memory = memoryview(bytearray(TickRing.size(4, LATEST)))
    ring = TickRing(memory, 4, LATEST)
    assert ring.latest() is None
    ring.write(b"abcd")
    second = 8 + 16 + 8  # behind the count and the first slot
    memory[second + 16 : second + 20] = b"efgh"
    assert ring.latest() == (1, b"abcd")
    ring.write(b"efgh")
    assert ring.latest() == (2, b"efgh")


def test_a_torn_record_is_not_read() -> None:
    memory = memoryview(bytearray(TickRing.size(4, LATEST)))
    ring = TickRing(memory, 4, LATEST)
    ring.write(b"abcd")
    memory[8 + 16] = 0
    assert ring.latest() is None


def test_stops_and_signs_of_life_come_out_as_they_went_in(block: SharedBlock) -> None:
    other = SharedBlock(3, block.name)
    assert other.read_stop() is None
    assert other.read_promise() is None
    for number, category in enumerate((Stop.HOLD, Stop.POWER_OFF, Stop.HOLD), start=1):
        block.write_stop(category)
        assert other.read_stop() == (number, category)
    for until in (17, 10**18, ENDED):
        block.write_promise(until)
        assert other.read_promise() == until
    other.close()


def test_who_opens_the_block_goes_on_after_the_last_state(block: SharedBlock) -> None:
    block.write_state(make_state(None))
    heir = SharedBlock(3, block.name)
    heir.write_state(make_state("it smokes"))
    heir.close()
    found = block.read_state()
    assert found is not None and found.fault == "it smokes"
    assert [state.fault for state in block.drain()[0]] == [None, "it smokes"]


def test_a_reader_never_sees_parts_of_two_records(block: SharedBlock) -> None:
    done = threading.Event()

    def write() -> None:
        for value in range(3000):
            block.write_target(Target(value, np.full(3, float(value))))
        done.set()

    writer = threading.Thread(target=write)
    writer.start()
    while not done.is_set():
        found = block.read_target()
        if found is not None:
            assert found[1].positions.tolist() == [float(found[1].stamp)] * 3
            assert found[0] == found[1].stamp + 1
    writer.join()


def test_unlink_by_both_sides_in_any_order() -> None:
    ours = SharedBlock(3)
    theirs = SharedBlock(3, ours.name)
    theirs.unlink()
    theirs.close()
    ours.write_target(Target(1, np.zeros(3)))
    ours.close()
    ours.unlink()
