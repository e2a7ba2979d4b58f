"""The Dynamixel codec by itself: manual vectors, the SDK's bytes, stuffing, round trips, a parser noise cannot fool."""

from __future__ import annotations

import struct
from collections.abc import Sequence

import dynamixel_sdk
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from drivers import dynamixel_codec as codec
from drivers.bus import Reply
from drivers.servo_protocol import Register

IDS = st.integers(0, 252)
NASTY = st.lists(st.sampled_from([b"\xff", b"\xff\xff\xfd", b"\xfd", b"\x00", b"\x55"]), max_size=12).map(b"".join)


def status(id: int, params: bytes, error: int = 0) -> bytes:
    """A status packet: it has its error byte as the first parameter."""
    return codec.packet(id, codec.STATUS, bytes((error,)) + params)


def chain(blocks: Sequence[tuple[int, int, bytes]], size: int) -> bytes:
    """The answer to a fast sync read: (id, error, data) each, with the CRC over all before it."""
    whole = codec.HEADER + struct.pack("<BHB", codec.BROADCAST, 1 + len(blocks) * (size + 4), codec.STATUS)
    for id, error, data in blocks:
        whole += bytes((error, id)) + data
        whole += codec.crc16(whole).to_bytes(2, "little")
    return whole


def parse(stream: bytes, expected: dict[int, int]) -> tuple[list[Reply], int, bytes]:
    buffer = bytearray(stream)
    replies, skipped = codec.DynamixelFraming().parse(buffer, expected)
    return replies, skipped, bytes(buffer)


def test_packets_of_the_manual() -> None:
    assert codec.ping(1) == bytes.fromhex("ff ff fd 00 01 03 00 01 19 4e")
    assert codec.read(1, Register(132, 4)) == bytes.fromhex("ff ff fd 00 01 07 00 02 84 00 04 00 1d 15")
    goals = {1: codec.encode(codec.GOAL_POSITION, 150), 2: codec.encode(codec.GOAL_POSITION, 170)}
    assert codec.sync_write(codec.GOAL_POSITION, goals) == bytes.fromhex(
        "ff ff fd 00 fe 11 00 83 74 00 04 00 01 96 00 00 00 02 aa 00 00 00 82 87"
    )
    position = Register(132, 4)
    assert codec.fast_sync_read((3, 7, 4), position) == bytes.fromhex(
        "ff ff fd 00 fe 0a 00 8a 84 00 04 00 03 07 04 20 f2"
    )


def test_status_packets_of_the_manual() -> None:
    stream = bytes.fromhex("ff ff fd 00 01 08 00 55 00 a6 00 00 00 8c c0 ff ff fd 00 02 08 00 55 00 1f 08 00 00 ba be")
    assert parse(stream, {1: 4, 2: 4}) == ([Reply(1, 0, b"\xa6\0\0\0"), Reply(2, 0, b"\x1f\x08\0\0")], 0, b"")


def test_the_fast_sync_read_of_the_manual() -> None:
    assert codec.fast_sync_read((1, 2), Register(580, 4)) == bytes.fromhex(
        "ff ff fd 00 fe 09 00 8a 44 02 04 00 01 02 72 f2"
    )
    stream = bytes.fromhex("ff ff fd 00 fe 11 00 55 00 01 d0 07 00 00 0c 83 00 02 09 00 00 00 11 40")
    assert parse(stream, {1: 4, 2: 4}) == ([Reply(1, 0, b"\xd0\x07\0\0"), Reply(2, 0, b"\x09\0\0\0")], 0, b"")


class Tape:
    """A port of the SDK that only keeps what is written, and answers nothing."""

    def __init__(self) -> None:
        self.is_using = False
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


def without_header(value: bytes) -> bytes:
    """The SDK (4.1.0) computes the stuffed packet and then sends the unstuffed one: it is asked without any."""
    assume(b"\xff\xff\xfd" not in value)
    return value


@given(IDS, st.integers(0, 250), st.binary(min_size=1, max_size=8).map(without_header))
def test_single_packets_are_the_sdks_byte_for_byte(id: int, address: int, value: bytes) -> None:
    tape, sdk = Tape(), dynamixel_sdk.Protocol2PacketHandler()
    register = Register(address, len(value))
    sdk.ping(tape, id)
    assert codec.ping(id) == tape.written
    sdk.reboot(tape, id)
    assert codec.reboot(id) == tape.written
    sdk.readTx(tape, id, address, len(value))
    tape.is_using = False
    assert codec.read(id, register) == tape.written
    sdk.writeTxRx(tape, id, address, len(value), list(value))
    assert codec.write(id, register, value) == tape.written


@given(st.dictionaries(IDS, st.integers(-(2**31), 2**31 - 1), min_size=1, max_size=12))
def test_group_packets_are_the_sdks_byte_for_byte(goals: dict[int, int]) -> None:
    tape, sdk = Tape(), dynamixel_sdk.Protocol2PacketHandler()
    values = {id: codec.encode(codec.GOAL_POSITION, goal) for id, goal in goals.items()}
    ours = codec.sync_write(codec.GOAL_POSITION, values)
    assume(b"\xff\xff\xfd\xfd" not in ours)
    writer = dynamixel_sdk.GroupSyncWrite(tape, sdk, 116, 4)
    reader = dynamixel_sdk.GroupSyncRead(tape, sdk, 126, 21)
    for id, value in values.items():
        writer.addParam(id, list(value))
        reader.addParam(id)
    writer.txPacket()
    assert ours == tape.written
    tape.is_using = False
    reader.txPacket()
    assert codec.sync_read(goals, codec.PRESENT) == tape.written
    tape.is_using = False
    reader.fastSyncReadTxPacket()
    assert codec.fast_sync_read(goals, codec.PRESENT) == tape.written


@given(st.binary(max_size=60) | NASTY)
def test_stuffing_and_crc_are_the_sdks(params: bytes) -> None:
    sdk = dynamixel_sdk.Protocol2PacketHandler()
    ours = codec.packet(7, codec.Instruction.WRITE, params)
    plain = [0, 0, 0, 0, 7, (len(params) + 3) & 0xFF, (len(params) + 3) >> 8, 3, *params, 0, 0]
    stuffed = list(sdk.addStuffing(plain))
    stuffed[:4] = codec.HEADER
    stuffed[-2:] = struct.pack("<H", sdk.updateCRC(0, stuffed, len(stuffed) - 2))
    assert ours == bytes(stuffed)


@given(st.binary(max_size=60) | NASTY)
@example(b"\xff\xff\xfd")
@example(b"\xff\xff\xfd\xfd\xff\xff\xfd")
def test_stuffing_hides_every_header_and_can_be_undone(body: bytes) -> None:
    stuffed = codec.stuff(body)
    assert codec.HEADER not in stuffed
    assert codec.unstuff(stuffed) == body


@given(st.binary(max_size=40), st.binary(max_size=40))
def test_a_crc_can_be_continued(head: bytes, tail: bytes) -> None:
    assert codec.crc16(tail, codec.crc16(head)) == codec.crc16(head + tail)


def test_packets_refuse_what_they_cannot_carry() -> None:
    for id, params in ((-1, b""), (255, b""), (1, bytes(1001))):
        with pytest.raises(ValueError):
            codec.packet(id, 1, params)
    for build in (
        lambda: codec.sync_write(codec.GOAL_POSITION, {1: b"\0"}),
        lambda: codec.write(1, codec.PROFILE, b""),
    ):
        with pytest.raises(ValueError, match="bytes"):
            build()


@given(st.sampled_from(sorted(codec.REGISTERS)), st.data())
def test_every_register_holds_its_numbers(name: str, data: st.DataObject) -> None:
    register = codec.REGISTERS[name]
    bits = 8 * register.size
    low, high = (-(1 << bits - 1), (1 << bits - 1) - 1) if register.sign else (0, (1 << bits) - 1)
    value = data.draw(st.integers(low, high))
    assert codec.decode(register, codec.encode(register, value)) == value
    for beyond in (low - 1, high + 1):
        with pytest.raises(ValueError):
            codec.encode(register, beyond)


def test_goals_are_in_twos_complement() -> None:
    assert codec.encode(codec.GOAL_POSITION, -1) == b"\xff\xff\xff\xff"
    assert codec.decode(codec.REGISTERS["bus_watchdog"], b"\xff") == -1


def test_the_present_block_is_taken_apart() -> None:
    block = struct.pack("<hiiiiHB", -500, -10, -4097, 1, 2, 121, 44)
    present = codec.decode_present(block, 0.001)
    assert present == codec.Present(-4097, pytest.approx(-10 * 0.229 / 60 * 4096), -0.5, 12.1, 44)
    with pytest.raises(ValueError, match="21 bytes"):
        codec.decode_present(block[:-1], 0.001)


@given(st.binary(min_size=21, max_size=21))
def test_any_present_block_decodes(block: bytes) -> None:
    assert abs(codec.decode_present(block, 0.001).load) <= 1


def test_the_health_block_is_taken_apart() -> None:
    block = bytearray(35)
    assert codec.decode_health(bytes(block)) == codec.Health(torque=False)
    block[0], block[6], block[34] = 1, 0b0011_1101, 0xFF
    errors = ("voltage", "overheat", "encoder", "electrical shock", "overload")
    assert codec.decode_health(bytes(block)) == codec.Health(torque=True, errors=errors, tripped=True)
    block[6], block[34] = 0b0100_0000, 5
    assert codec.decode_health(bytes(block)) == codec.Health(torque=True, errors=("hardware error bit 6",))


def test_every_error_number_has_a_name_and_the_alert_bit_is_none() -> None:
    assert codec.error_names(0) == codec.error_names(0x80) == ()
    assert codec.error_names(0x84) == ("value out of range",)
    assert codec.error_names(9) == ("error number 9",)
    assert len({codec.error_names(number) for number in range(1, 8)}) == 7


@settings(deadline=None)
@given(st.binary(max_size=40), IDS, st.integers(0, 255), st.binary(max_size=20) | NASTY, st.data())
def test_a_reply_is_found_in_noise_however_it_is_cut(
    noise: bytes, id: int, error: int, params: bytes, data: st.DataObject
) -> None:
    reply = status(id, params, error)
    stream = noise + reply
    assume(stream.find(codec.HEADER) == len(noise))
    buffer, found, skipped, start = bytearray(), [], 0, 0
    while start < len(stream):
        end = data.draw(st.integers(start + 1, len(stream)))
        buffer += stream[start:end]
        replies, bytes_skipped = codec.DynamixelFraming().parse(buffer, {id: len(params)})
        found += replies
        skipped += bytes_skipped
        start = end
    assert found == [Reply(id, error, params)]
    assert skipped == len(noise)
    assert not buffer


@given(
    st.binary(max_size=40), st.dictionaries(IDS, st.binary(min_size=6, max_size=6), min_size=1, max_size=6), st.data()
)
def test_a_fast_reply_is_found_however_it_is_cut(noise: bytes, values: dict[int, bytes], data: st.DataObject) -> None:
    stream = noise + chain([(id, 0, value) for id, value in values.items()], 6)
    assume(stream.find(codec.HEADER) == len(noise))
    missing, buffer, found, start = dict.fromkeys(values, 6), bytearray(), {}, 0
    while start < len(stream):
        end = data.draw(st.integers(start + 1, len(stream)))
        buffer += stream[start:end]
        for reply in codec.DynamixelFraming().parse(buffer, missing)[0]:
            found[reply.id] = reply.params
            del missing[reply.id]
        start = end
        if not missing:
            break
    assert found == values


def test_a_fast_reply_counts_as_far_as_it_is_whole() -> None:
    whole = chain([(1, 0, b"abcd"), (2, 128, b"efgh"), (3, 0, b"ijkl")], 4)
    expected = {1: 4, 2: 4, 3: 4}
    first_two = [Reply(1, 0, b"abcd"), Reply(2, 128, b"efgh")]
    assert parse(whole[:-8], expected)[0] == first_two
    damaged = bytearray(whole)
    damaged[-6] ^= 1
    assert parse(bytes(damaged), expected)[0] == first_two
    damaged = bytearray(whole)
    damaged[9] ^= 1  # the first one's id, and so every CRC
    assert parse(bytes(damaged), expected)[0] == []


def test_a_fast_reply_of_another_request_is_skipped() -> None:
    stream = chain([(1, 0, b"abcd")], 4)
    assert parse(stream, {1: 5})[0] == []
    assert parse(stream, {1: 4, 2: 4})[0] == []
    assert parse(stream, {1: 4, 2: 5})[0] == []
    assert parse(stream + status(1, b"xyz"), {1: 3})[0] == [Reply(1, 0, b"xyz")]


def test_noise_like_a_header_does_not_swallow_the_reply() -> None:
    reply = status(1, bytes(15))
    assert parse(reply[:8] + reply, {1: 15}) == ([Reply(1, 0, bytes(15))], 8, b"")


@pytest.mark.parametrize("place", range(26))
def test_one_flipped_byte_is_no_reply(place: int) -> None:
    damaged = bytearray(status(1, bytes(range(15))))
    damaged[place] ^= 0x5A
    replies, skipped, left = parse(bytes(damaged), {1: 15})
    assert replies == []
    assert skipped or left


def test_what_is_no_awaited_status_packet_is_skipped() -> None:
    stream = status(2, b"ab") + status(1, b"abc") + codec.packet(1, codec.Instruction.READ, b"\0ok") + status(1, b"ok")
    assert parse(stream, {1: 2})[0] == [Reply(1, 0, b"ok")]


def test_a_packet_that_holds_a_bare_header_is_none() -> None:
    body = b"\x55\x00\xff\xff\xfd\xfd\x01\x02"  # as long as four bytes need, but one of them is stuffing
    whole = codec.HEADER + struct.pack("<BH", 1, len(body) + 2) + body
    whole += codec.crc16(whole).to_bytes(2, "little")
    assert parse(whole, {1: 6})[0] == []
    assert parse(whole, {1: 5})[0] == [Reply(1, 0, b"\xff\xff\xfd\x01\x02")]
