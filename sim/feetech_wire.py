"""Feetech packets, as the servos take and send them. Written from the maker's communication manual, and on purpose not
from `drivers.feetech_codec`, so that each checks the other.

`FF FF id length instruction params checksum`, length = params + 2, checksum = the inverted low byte of the sum from id
on; a status packet carries its error bits where a request carries the instruction.
"""

from __future__ import annotations

from collections.abc import Sequence

from sim.servo_bus import BROADCAST, Reads, Request, Writes

RESET, CALIBRATE_OFFSET = 0x0A, 0x0B  # instructions beside those of `servo_bus.Instruction`
SYNC_READ, SYNC_WRITE = 0x82, 0x83


def checksum(body: bytes | bytearray) -> int:
    """Over id to last parameter."""
    return ~sum(body) & 0xFF


class FeetechWire:
    """`servo_bus.Wire` of the STS and SCS series."""

    name = "feetech"
    address_size = 1

    def take(self, buffer: bytearray) -> Request | None:
        while True:
            start = buffer.find(b"\xff\xff")
            if start < 0:
                del buffer[: -1 if buffer.endswith(b"\xff") else len(buffer)]
                return None
            del buffer[:start]
            if len(buffer) < 4:
                return None
            length = buffer[3]
            if buffer[2] == 0xFF or length < 2:
                del buffer[0]
                continue
            if len(buffer) < 4 + length:
                return None
            if checksum(buffer[2 : 3 + length]) != buffer[3 + length]:
                del buffer[0]
                continue
            request = Request(buffer[2], buffer[4], bytes(buffer[5 : 3 + length]))
            del buffer[: 4 + length]
            return request

    def group(self, request: Request) -> Reads | Writes | None:
        _, instruction, params = request
        if instruction == SYNC_READ:
            return Reads([(id, params[0], params[1]) for id in params[2:] if id != BROADCAST])
        if instruction == SYNC_WRITE:
            if len(params) < 2 or params[1] == 0:
                return Writes([])
            address, length = params[:2]
            places = range(2, len(params) - length, length + 1)  # whole pieces alone
            return Writes([(params[at], address, params[at + 1 : at + 1 + length]) for at in places])
        return None

    def status(self, servo_id: int, error: int, data: bytes = b"") -> bytes:
        body = bytes((servo_id, len(data) + 2, error)) + data
        return b"\xff\xff%b%c" % (body, checksum(body))

    def joined(self, answers: Sequence[tuple[int, int, bytes]], servos: int, length: int) -> list[bytes]:
        """Not part of this protocol: each answers by itself."""
        return [self.status(*answer) for answer in answers]
