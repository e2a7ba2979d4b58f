"""The tick ring: what goes in comes out once and in order, what was overwritten is counted, and halves never show."""

from __future__ import annotations

import multiprocessing
import struct
from multiprocessing.shared_memory import SharedMemory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.tick_ring import TickRing

BYTES, RECORDS = 20, 8


def make_ring(buffer: bytearray | None = None) -> TickRing:
    return TickRing(memoryview(buffer or bytearray(TickRing.size(BYTES, RECORDS))), BYTES, RECORDS)


def record(number: int) -> bytes:
    return struct.pack("<q", number) + bytes([number % 251]) * (BYTES - 8)


def numbers(records: tuple[bytes, ...]) -> list[int]:
    for each in records:
        assert each == record(struct.unpack_from("<q", each)[0])
    return [struct.unpack_from("<q", each)[0] for each in records]


@given(st.lists(st.integers(0, 20), max_size=12))
def test_every_record_comes_out_once_in_order_or_is_counted(bursts: list[int]) -> None:
    buffer = bytearray(TickRing.size(BYTES, RECORDS))
    writer, reader = make_ring(buffer), make_ring(buffer)
    written = seen = 0
    for burst in bursts:
        for _ in range(burst):
            writer.write(record(written))
            written += 1
        drained = reader.drain()
        kept = min(burst, RECORDS)
        assert numbers(drained.records) == list(range(written - kept, written))
        assert drained.dropped == burst - kept
        seen += len(drained.records) + drained.dropped
    assert seen == written
    assert reader.drain().records == ()


def test_a_late_reader_begins_with_the_oldest_that_is_left_and_a_second_writer_goes_on() -> None:
    buffer = bytearray(TickRing.size(BYTES, RECORDS))
    first = make_ring(buffer)
    for number in range(11):
        first.write(record(number))
    reader = make_ring(buffer)
    make_ring(buffer).write(record(11))
    drained = reader.drain()
    assert numbers(drained.records) == list(range(4, 12)) and drained.dropped == 1


def test_a_record_whose_writer_died_half_way_is_dropped_and_the_rest_is_not() -> None:
    buffer = bytearray(TickRing.size(BYTES, RECORDS))
    writer, reader = make_ring(buffer), make_ring(buffer)
    for number in range(3):
        writer.write(record(number))
    second = 8 + (16 + 24)
    buffer[second : second + 8] = bytes(8)  # its number: being written
    drained = reader.drain()
    assert numbers(drained.records) == [0, 2] and drained.dropped == 1
    third = 8 + 2 * (16 + 24)
    writer.write(record(3))
    buffer[third + (16 + 24) + 16] ^= 1  # torn
    assert reader.drain().dropped == 1


def test_wrong_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="the buffer has 10"):
        TickRing(memoryview(bytearray(10)), BYTES, RECORDS)
    with pytest.raises(ValueError):
        make_ring().write(b"short")


def write_many(name: str, count: int) -> None:
    memory = SharedMemory(name=name)
    assert memory.buf is not None
    ring = TickRing(memory.buf, BYTES, RECORDS)
    for number in range(count):
        ring.write(record(number))
    ring.close()
    memory.close()


def test_a_reader_beside_a_writing_process_never_sees_parts_of_two_records() -> None:
    memory = SharedMemory(create=True, size=TickRing.size(BYTES, RECORDS))
    assert memory.buf is not None
    ring = TickRing(memory.buf, BYTES, RECORDS)
    count = 20_000
    process = multiprocessing.get_context("fork").Process(target=write_many, args=(memory.name, count))
    process.start()
    seen: list[int] = []
    dropped = 0
    alive = True
    while alive:
        alive = process.is_alive()  # asked first: one more drain after its last record
        drained = ring.drain()
        seen += numbers(drained.records)
        dropped += drained.dropped
    assert process.exitcode == 0
    assert seen == sorted(set(seen)) and len(seen) + dropped == count
    ring.close()
    memory.close()
    memory.unlink()
