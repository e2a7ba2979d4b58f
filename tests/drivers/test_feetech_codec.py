"""The Feetech codec by itself: manual vectors, round trips, refusals, and a parser that noise cannot mislead."""

from __future__ import annotations

import math

import pytest
import scservo_sdk
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from drivers import feetech_codec as codec
from drivers.bus import Reply


def test_packets_of_the_communication_manual() -> None:
    assert codec.ping(1) == bytes.fromhex("ff ff 01 02 01 fb")
    assert codec.packet(1, codec.Instruction.READ, bytes((0x38, 2))) == bytes.fromhex("ff ff 01 04 02 38 02 be")
    buffer = bytearray.fromhex("ff ff 01 04 00 18 05 dd")
    assert codec.FeetechFraming().parse(buffer, {1: 2}) == ([Reply(1, 0, b"\x18\x05")], 0)
    assert not buffer


class Tape:
    """A port of the SDK that only keeps what is written."""

    is_using = False

    def __init__(self) -> None:
        self.written = b""

    def clearPort(self) -> None: ...
    def setPacketTimeout(self, length: int) -> None: ...

    def writePort(self, packet: list[int]) -> int:
        self.written = bytes(packet)
        return len(packet)


@given(st.dictionaries(st.integers(0, 253), st.integers(-32767, 32767), min_size=1, max_size=12))
def test_group_packets_are_the_sdks_byte_for_byte(goals: dict[int, int]) -> None:
    tape, sdk = Tape(), scservo_sdk.PacketHandler(0)
    values = {id: codec.encode_goal(goal) for id, goal in goals.items()}
    flat = [byte for id, value in values.items() for byte in (id, *value)]
    sdk.syncWriteTxOnly(tape, 42, 2, flat, len(flat))
    assert codec.sync_write(codec.GOAL_POSITION, values) == tape.written
    sdk.syncReadTx(tape, 56, 15, list(goals), len(goals))
    assert codec.sync_read(goals, codec.PRESENT) == tape.written


def test_packets_refuse_what_they_cannot_carry() -> None:
    for id, params in ((-1, b""), (255, b""), (1, bytes(254))):
        with pytest.raises(ValueError):
            codec.packet(id, 1, params)
    with pytest.raises(ValueError, match="2 bytes"):
        codec.sync_write(codec.GOAL_POSITION, {1: b"\0"})


@given(st.integers(1, 15), st.data())
def test_sign_magnitude_round_trip(sign_bit: int, data: st.DataObject) -> None:
    top = (1 << sign_bit) - 1
    value = data.draw(st.integers(-top, top))
    raw = codec.encode_sign_magnitude(value, sign_bit)
    assert 0 <= raw < 1 << (sign_bit + 1)
    assert codec.decode_sign_magnitude(raw, sign_bit) == value


@given(st.integers(1, 15), st.integers(0, 1 << 20))
def test_sign_magnitude_refuses_what_does_not_fit(sign_bit: int, beyond: int) -> None:
    for value in ((1 << sign_bit) + beyond, -(1 << sign_bit) - beyond):
        with pytest.raises(ValueError):
            codec.encode_sign_magnitude(value, sign_bit)
    for raw in ((1 << (sign_bit + 1)) + beyond, -1 - beyond):
        with pytest.raises(ValueError):
            codec.decode_sign_magnitude(raw, sign_bit)


def test_signed_numbers_are_not_twos_complement() -> None:
    assert codec.decode_sign_magnitude(0x8001, 15) == -1
    assert codec.decode_sign_magnitude(0x8000, 15) == 0
    assert codec.decode_sign_magnitude(0x0401, 10) == -1


@given(st.floats(-10, 10), st.integers(0, 4095), st.sampled_from([-1, 1]))
def test_angles_survive_within_half_a_count(angle: float, zero: int, direction: int) -> None:
    counts = codec.radians_to_counts(angle, zero, direction)
    back = codec.counts_to_radians(counts, zero, direction)
    assert abs(back - angle) <= math.pi / 4096 + 1e-9


@given(st.integers(-32767, 32767), st.integers(0, 4095), st.sampled_from([-1, 1]))
def test_counts_survive_exactly(counts: int, zero: int, direction: int) -> None:
    assert codec.radians_to_counts(codec.counts_to_radians(counts, zero, direction), zero, direction) == counts


def test_the_present_block_is_taken_apart() -> None:
    block = bytes.fromhex("ff 0f 05 80 0a 04 4a 1e 00 21 01 00 00 07 00")
    present = codec.decode_present(block)
    assert present == codec.Present(4095, -5, -10, 7.4, 30, 0x21)
    with pytest.raises(ValueError, match="15 bytes"):
        codec.decode_present(block[:-1])


@given(st.binary(min_size=15, max_size=15))
def test_any_present_block_decodes(block: bytes) -> None:
    present = codec.decode_present(block)
    assert abs(present.position) < 1 << 15 and abs(present.velocity) < 1 << 15 and abs(present.load) < 1 << 10


def test_every_error_bit_has_a_name() -> None:
    assert codec.error_names(0) == ()
    assert codec.error_names(0b11111) == ("voltage", "encoder", "overheat", "overcurrent", "overload")
    assert codec.error_names(0b1010_0000) == ("error bit 5", "error bit 7")


@settings(deadline=None)
@given(st.binary(max_size=40), st.integers(0, 253), st.integers(0, 255), st.binary(max_size=20), st.data())
def test_a_reply_is_found_in_noise_however_it_is_cut(
    noise: bytes, id: int, error: int, params: bytes, data: st.DataObject
) -> None:
    reply = codec.packet(id, error, params)  # a status packet has its error byte where a request has its instruction
    stream = noise + reply
    assume(stream.find(reply[:4]) == len(noise))  # noise that looks like this very header is the next test's
    buffer, found, skipped, start = bytearray(), [], 0, 0
    while start < len(stream):
        end = data.draw(st.integers(start + 1, len(stream)))
        buffer += stream[start:end]
        replies, bytes_skipped = codec.FeetechFraming().parse(buffer, {id: len(params)})
        found += replies
        skipped += bytes_skipped
        start = end
    assert found == [Reply(id, error, params)]
    assert skipped == len(noise)
    assert not buffer


def test_noise_like_a_header_does_not_swallow_the_reply() -> None:
    reply = codec.packet(1, 0, bytes(15))
    buffer = bytearray(reply[:4] + reply)
    assert codec.FeetechFraming().parse(buffer, {1: 15}) == ([Reply(1, 0, bytes(15))], 4)


@pytest.mark.parametrize("place", range(21))
def test_one_flipped_byte_is_no_reply(place: int) -> None:
    damaged = bytearray(codec.packet(1, 0, bytes(range(15))))
    damaged[place] ^= 0x5A
    replies, skipped = codec.FeetechFraming().parse(damaged, {1: 15})
    assert replies == []
    assert skipped or damaged


def test_replies_of_another_id_or_length_are_skipped() -> None:
    stream = codec.packet(2, 0, bytes(2)) + codec.packet(1, 0, bytes(3)) + codec.packet(1, 0, b"ok")
    assert codec.FeetechFraming().parse(bytearray(stream), {1: 2})[0] == [Reply(1, 0, b"ok")]
