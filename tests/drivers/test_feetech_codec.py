"""The Feetech codec by itself: manual vectors, the SDK's bytes, round trips, a parser that noise cannot fool."""

from __future__ import annotations

import pytest
import scservo_sdk
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from drivers import feetech_codec as codec
from drivers.bus import Reply
from drivers.servo_protocol import ByteOrder, Register

IDS = st.integers(0, 252)


def test_packets_of_the_communication_manual() -> None:
    assert codec.ping(1) == bytes.fromhex("ff ff 01 02 01 fb")
    assert codec.read(1, Register(0x38, 2)) == bytes.fromhex("ff ff 01 04 02 38 02 be")
    buffer = bytearray.fromhex("ff ff 01 04 00 18 05 dd")
    assert codec.FeetechFraming().parse(buffer, {1: 2}) == ([Reply(1, 0, b"\x18\x05")], 0)
    assert not buffer


class Tape:
    """A port of the SDK that only keeps what is written, and answers nothing."""

    is_using = False

    def __init__(self) -> None:
        self.written = b""

    def clearPort(self) -> None: ...
    def setPacketTimeout(self, length: int) -> None: ...

    def isPacketTimeout(self) -> bool:
        return True

    def readPort(self, length: int) -> list[int]:
        return []

    def writePort(self, packet: list[int]) -> int:
        self.written = bytes(packet)
        return len(packet)


@given(IDS, st.integers(0, 84), st.binary(min_size=1, max_size=8))
def test_single_packets_are_the_sdks_byte_for_byte(id: int, address: int, value: bytes) -> None:
    tape, sdk = Tape(), scservo_sdk.PacketHandler(0)
    register = Register(address, len(value))
    sdk.ping(tape, id)
    assert codec.ping(id) == tape.written
    sdk.readTx(tape, id, address, len(value))
    tape.is_using = False
    assert codec.read(id, register) == tape.written
    sdk.writeTxRx(tape, id, address, len(value), list(value))
    assert codec.write(id, register, value) == tape.written


@given(st.dictionaries(IDS, st.integers(-32767, 32767), min_size=1, max_size=12))
def test_group_packets_are_the_sdks_byte_for_byte(goals: dict[int, int]) -> None:
    tape, sdk = Tape(), scservo_sdk.PacketHandler(0)
    values = {id: codec.encode_goal(goal) for id, goal in goals.items()}
    writer = scservo_sdk.GroupSyncWrite(tape, sdk, 42, 2)
    reader = scservo_sdk.GroupSyncRead(tape, sdk, 56, 15)
    for id, value in values.items():
        writer.addParam(id, list(value))
        reader.addParam(id)
    writer.txPacket()
    assert codec.sync_write(codec.GOAL_POSITION, values) == tape.written
    tape.is_using = False
    reader.txPacket()
    assert codec.sync_read(goals, codec.PRESENT) == tape.written


@given(st.integers(0, 65535), st.sampled_from(["little", "big"]))
def test_words_are_the_sdks_in_both_byte_orders(value: int, order: ByteOrder) -> None:
    scservo_sdk.PacketHandler(0 if order == "little" else 1)
    low_first = [scservo_sdk.SCS_LOBYTE(value), scservo_sdk.SCS_HIBYTE(value)]
    assert list(codec.encode(Register(0, 2), value, order)) == low_first


def test_packets_refuse_what_they_cannot_carry() -> None:
    for id, params in ((-1, b""), (255, b""), (1, bytes(254))):
        with pytest.raises(ValueError):
            codec.packet(id, 1, params)
    for build in (
        lambda: codec.sync_write(codec.GOAL_POSITION, {1: b"\0"}),
        lambda: codec.write(1, codec.FIRMWARE, b""),
    ):
        with pytest.raises(ValueError, match="2 bytes"):
            build()


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


@given(st.sampled_from(sorted(codec.REGISTERS)), st.sampled_from(["little", "big"]), st.data())
def test_every_register_holds_its_numbers(name: str, order: ByteOrder, data: st.DataObject) -> None:
    register = codec.REGISTERS[name]
    top = (1 << (register.sign or 8 * register.size)) - 1
    value = data.draw(st.integers(-top if register.sign else 0, top))
    raw = codec.encode(register, value, order)
    assert len(raw) == register.size
    assert codec.decode(register, raw, order) == value
    for beyond in (top + 1, -top - 1):
        with pytest.raises(ValueError):
            codec.encode(register, beyond, order)


def test_the_present_block_is_taken_apart() -> None:
    block = bytes.fromhex("ff 0f 05 80 0a 04 4a 1e 00 21 01 00 00 07 00")
    present = codec.Present(4095, -5, -0.01, 7.4, 30, ("voltage", "overload"))
    assert codec.decode_present(block) == present
    swapped = block[1::-1] + block[3:1:-1] + block[5:3:-1] + block[6:]
    assert codec.decode_present(swapped, "big") == present
    with pytest.raises(ValueError, match="15 bytes"):
        codec.decode_present(block[:-1])


@given(st.binary(min_size=15, max_size=15))
def test_any_present_block_decodes(block: bytes) -> None:
    present = codec.decode_present(block)
    assert abs(present.position) < 1 << 15 and abs(present.velocity) < 1 << 15 and abs(present.load) <= 1


def test_every_error_bit_has_a_name() -> None:
    assert codec.error_names(0) == ()
    assert codec.error_names(0b0010_1111) == ("voltage", "encoder", "overheat", "overcurrent", "overload")
    assert codec.error_names(0b1101_0000) == ("error bit 4", "error bit 6", "error bit 7")


def test_error_bits_are_the_sdks() -> None:
    sdk = scservo_sdk
    named = {sdk.ERRBIT_VOLTAGE: "voltage", sdk.ERRBIT_ANGLE: "encoder", sdk.ERRBIT_OVERHEAT: "overheat"}
    named |= {sdk.ERRBIT_OVERELE: "overcurrent", sdk.ERRBIT_OVERLOAD: "overload"}
    for bits, name in named.items():
        assert codec.error_names(bits) == (name,)


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


def test_a_length_that_no_packet_has_is_no_reply() -> None:
    stream = bytearray((0xFF, 0xFF, 9, 1, ~(9 + 1) & 0xFF))  # of an id that was not asked; its checksum holds
    assert codec.FeetechFraming().parse(stream, {1: 2})[0] == []
