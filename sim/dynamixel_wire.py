"""Dynamixel Protocol 2.0 packets, as the servos take and send them. Written from the maker's protocol pages, and on
purpose not from `drivers.dynamixel_codec`, so that each checks the other.

`FF FF FD 00 id lenL lenH instruction params crcL crcH`, length from instruction to CRC. Where FF FF FD stands between
length and CRC, one more FD follows it (stuffing); length and CRC count it. A status packet has the instruction 55 and
its error byte before the parameters. A fast sync read is answered in one packet, to which each servo adds error, id,
data and the CRC of all bytes so far; it is not stuffed.
"""

from __future__ import annotations

from collections.abc import Sequence

from sim.servo_bus import BROADCAST, Reads, Request, Writes

HEADER = b"\xff\xff\xfd"
FACTORY_RESET, REBOOT, CLEAR = 0x06, 0x08, 0x10  # instructions beside those of `servo_bus.Instruction`
STATUS = 0x55
SYNC_READ, SYNC_WRITE, FAST_SYNC_READ, BULK_READ, BULK_WRITE = 0x82, 0x83, 0x8A, 0x92, 0x93
BROKEN = -1  # stands for the instruction of a request whose CRC is wrong
LENGTH_MAX = 2048  # of a request; what says more is noise


def _crc_table() -> tuple[int, ...]:
    """CRC-16 with the polynomial 8005, most significant bit first."""
    table = []
    for byte in range(256):
        crc = byte << 8
        for _ in range(8):
            crc = (crc << 1 ^ 0x8005 if crc & 0x8000 else crc << 1) & 0xFFFF
        table.append(crc)
    return tuple(table)


_CRC = _crc_table()


def crc16(data: bytes | bytearray, crc: int = 0) -> int:
    """The check value of `data`, after bytes whose value is `crc`."""
    for byte in data:
        crc = (crc << 8 & 0xFFFF) ^ _CRC[crc >> 8 ^ byte]
    return crc


def _little(value: int) -> bytes:
    return value.to_bytes(2, "little")


class DynamixelWire:
    """`servo_bus.Wire` of Protocol 2.0."""

    name = "dynamixel"
    address_size = 2

    def take(self, buffer: bytearray) -> Request | None:
        while True:
            start = buffer.find(HEADER)
            if start < 0:
                kept = 2 if buffer.endswith(b"\xff\xff") else int(buffer.endswith(b"\xff"))
                del buffer[: len(buffer) - kept]
                return None
            del buffer[:start]
            if len(buffer) < 7:
                return None
            length = buffer[5] | buffer[6] << 8
            if buffer[3] != 0 or buffer[4] in (0xFD, 0xFF) or not 3 <= length <= LENGTH_MAX:
                del buffer[:3]
                continue
            if len(buffer) < 7 + length:
                # A new header inside what should be one packet: the rest of this one never came.
                again = buffer.find(HEADER + b"\0", 7)
                if again > 0:
                    del buffer[:again]
                    continue
                return None
            end = 5 + length
            body = bytes(buffer[7:end])
            sound = crc16(buffer[:end]) == buffer[end] | buffer[end + 1] << 8
            request = Request(buffer[4], BROKEN, b"")
            if sound:
                body = body.replace(HEADER + b"\xfd", HEADER)
                request = Request(buffer[4], body[0], body[1:])
            del buffer[: 7 + length if sound else 3]
            if request.instruction != STATUS:
                return request

    def group(self, request: Request) -> Reads | Writes | None:
        _, instruction, params = request
        if instruction in (SYNC_READ, FAST_SYNC_READ, SYNC_WRITE):
            if len(params) < 4:
                return Writes([])
            address, length = int.from_bytes(params[:2], "little"), int.from_bytes(params[2:4], "little")
            if instruction != SYNC_WRITE:
                ids = [id for id in params[4:] if id != BROADCAST]
                return Reads([(id, address, length) for id in ids], joined=instruction == FAST_SYNC_READ)
            places = range(4, len(params) - length, length + 1) if length else ()  # whole pieces alone
            return Writes([(params[at], address, params[at + 1 : at + 1 + length]) for at in places])
        if instruction in (BULK_READ, BULK_WRITE):
            return _bulk(instruction, params)
        return None

    def status(self, servo_id: int, error: int, data: bytes = b"") -> bytes:
        body = bytes((STATUS, error)) + data
        if HEADER in body:
            body = body.replace(HEADER, HEADER + b"\xfd")
        packet = HEADER + b"\0%c%b%b" % (servo_id, _little(len(body) + 2), body)
        return packet + _little(crc16(packet))

    def joined(self, answers: Sequence[tuple[int, int, bytes]], servos: int, length: int) -> list[bytes]:
        pieces = []
        piece = HEADER + b"\0%c%b%c" % (BROADCAST, _little(1 + servos * (length + 4)), STATUS)
        crc = 0
        for servo_id, error, data in answers:
            piece += bytes((error, servo_id)) + data.ljust(length, b"\0")
            crc = crc16(piece, crc)
            pieces.append(piece + _little(crc))
            crc, piece = crc16(_little(crc), crc), b""
        return pieces


def _bulk(instruction: int, params: bytes) -> Reads | Writes:
    """Pieces of id, address, length and, for a write, that many bytes."""
    reads, writes = [], []
    at = 0
    while at + 5 <= len(params):
        servo_id, address = params[at], int.from_bytes(params[at + 1 : at + 3], "little")
        length = int.from_bytes(params[at + 3 : at + 5], "little")
        at += 5
        if instruction == BULK_READ:
            reads.append((servo_id, address, length))
        elif at + length <= len(params):
            writes.append((servo_id, address, params[at : at + length]))
            at += length
    return Reads(reads) if instruction == BULK_READ else Writes(writes)
