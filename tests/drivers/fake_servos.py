"""Servos of both protocols on a line in memory, under a clock that moves only when somebody waits.

Small on purpose, and written without the drivers' codecs: `FakeBus` hears one whole request at a time and answers at
once. Faults are plain attributes. It is a port and a plant in one; `sim/` has the servos that are emulated in earnest.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

from drivers.bus import POLL, BusError
from drivers.servo_protocol import ByteOrder

PORT = "/dev/fake0"
USB_SERIAL = "A7X"
SPEED = 2000.0  # counts/s, how fast a servo goes to its goal


@dataclass
class FakeServo:
    """One servo: its memory, and a shaft that goes to the goal while there is torque."""

    id: int
    memory: bytearray = field(default_factory=lambda: bytearray(300))
    position: float = 2048.0
    silent: bool = False
    error: int = 0  # of its status packets
    boot: bytes = b""

    def number(self, address: int, size: int, order: ByteOrder = "little", signed: bool = False) -> int:
        return int.from_bytes(self.memory[address : address + size], order, signed=signed)

    def put(self, address: int, value: int, size: int, order: ByteOrder = "little") -> None:
        self.memory[address : address + size] = value.to_bytes(size, order, signed=value < 0)

    def restart(self) -> None:
        """Power lost and back: RAM as after switching on."""
        self.memory[:] = self.boot


@dataclass(frozen=True)
class PortInfo:
    device: str
    serial_number: str | None


class FakeBus:
    """The servos and the cable. Derive for a protocol: `answer` and the four addresses."""

    torque_at: int

    def __init__(self, servos: list[FakeServo]) -> None:
        self.servos = {servo.id: servo for servo in servos}
        for servo in servos:
            self.refresh(servo)
            servo.boot = bytes(servo.memory)
        self.now = 0
        self.heard: list[bytes] = []
        self.hears: Callable[[bytes], bool] = lambda request: True
        self.spoil: Callable[[bytes], bytes] = lambda replies: replies
        self.chained = False  # behind a silent servo nobody answers a sync read
        self.device: str | None = PORT  # where the adapter is; None: unplugged
        self.opened: list[tuple[str, int]] = []

    def clock(self) -> int:
        return self.now

    def open(self, port: str, baudrate: int) -> FakePort:
        if port != self.device:
            raise BusError(f"{port}: no such serial port")
        self.opened.append((port, baudrate))
        return FakePort(self, port)

    def list_ports(self) -> list[PortInfo]:
        there = [PortInfo("/dev/other", None)]
        return there if self.device is None else [*there, PortInfo(self.device, USB_SERIAL)]

    def advance(self, seconds: float) -> None:
        self.now += round(seconds * 1e9)
        for servo in self.servos.values():
            if servo.memory[self.torque_at]:
                away = self.goal(servo) - servo.position
                servo.position += math.copysign(min(abs(away), SPEED * seconds), away)

    def present(self) -> list[FakeServo]:
        return [servo for servo in self.servos.values() if not servo.silent]

    def feed(self, request: bytes) -> bytes:
        self.heard.append(request)
        if not self.hears(request):
            return b""
        for servo in self.servos.values():
            self.refresh(servo)
        return self.spoil(self.answer(request))

    def in_turn(self, ids: bytes) -> list[FakeServo]:
        """Who answers a sync read."""
        servos: list[FakeServo] = []
        for id in ids:
            servo = self.servos.get(id)
            if servo is None or servo.silent:
                if self.chained:
                    break
                continue
            servos.append(servo)
        return servos

    def goal(self, servo: FakeServo) -> int:
        raise NotImplementedError

    def refresh(self, servo: FakeServo) -> None:
        raise NotImplementedError

    def answer(self, request: bytes) -> bytes:
        raise NotImplementedError


class FakePort:
    """The host's end of the line, until the adapter is unplugged."""

    def __init__(self, bus: FakeBus, port: str) -> None:
        self.port = port
        self._bus = bus
        self._line = bytearray()
        self._closed = False

    def _check(self) -> None:
        if self._closed or self._bus.device != self.port:
            raise OSError(5, "Input/output error")

    @property
    def in_waiting(self) -> int:
        self._check()
        return len(self._line)

    def read(self, size: int = 1, /) -> bytes:
        self._check()
        if size and not self._line:
            self._bus.now += round(POLL * 1e9)
        taken = bytes(self._line[:size])
        del self._line[:size]
        return taken

    def write(self, data: bytes, /) -> int:
        self._check()
        self._bus.now += 300_000  # about what a transaction takes on a wire
        self._line += self._bus.feed(data)
        return len(data)

    def close(self) -> None:
        self._closed = True


class FakeFeetech(FakeBus):
    """STS3215 servos; `big` for SCS0009."""

    torque_at = 40

    def __init__(self, ids: tuple[int, ...] = (1, 2, 3, 4, 5, 6), *, big: bool = False) -> None:
        self.order = "big" if big else "little"
        servos = []
        for id in ids:
            servo = FakeServo(id, position=512.0 if big else 2048.0)
            servo.memory[0:2] = bytes((3, 10))
            servo.put(3, 1284 if big else 777, 2, self.order)
            servo.memory[5] = id
            servo.memory[48 if big else 55] = 1
            servo.memory[62:64] = bytes((74, 30))
            servos.append(servo)
        super().__init__(servos)
        self.big = big

    def goal(self, servo: FakeServo) -> int:
        raw = servo.number(42, 2, self.order)
        return -(raw & 0x7FFF) if raw & 0x8000 else raw

    def refresh(self, servo: FakeServo) -> None:
        here = round(servo.position)
        servo.put(56, abs(here) | (0x8000 if here < 0 else 0), 2, self.order)

    def answer(self, request: bytes) -> bytes:
        assert request[:2] == b"\xff\xff" and request[3] == len(request) - 4
        assert sum(request[2:]) & 0xFF == 0xFF
        id, instruction, params = request[2], request[4], request[5:-1]
        if instruction == 0x82:
            if self.big:
                return b""  # SCS servos have no sync read
            return b"".join(self._status(s, s.memory[params[0] :][: params[1]]) for s in self.in_turn(params[2:]))
        if instruction == 0x83:
            stride = params[1] + 1
            for at in range(2, len(params), stride):
                self._write(params[at], params[0], params[at + 1 : at + stride])
            return b""
        servo = self.servos.get(id)
        if servo is None or servo.silent:
            return b""
        if instruction == 0x01:
            return self._status(servo)
        if instruction == 0x02:
            return self._status(servo, servo.memory[params[0] :][: params[1]])
        assert instruction == 0x03
        self._write(id, params[0], params[1:])
        return self._status(servo, id=id)

    def _write(self, id: int, address: int, data: bytes) -> None:
        servo = self.servos.get(id)
        if servo is None or servo.silent:
            return
        if address < 40 and servo.memory[48 if self.big else 55]:
            return
        servo.memory[address : address + len(data)] = data
        if address == 5:
            del self.servos[id]
            servo.id = data[0]
            self.servos[servo.id] = servo

    def _status(self, servo: FakeServo, data: bytes = b"", id: int | None = None) -> bytes:
        body = bytes((servo.id if id is None else id, len(data) + 2, servo.error)) + data
        return b"\xff\xff" + body + bytes((~sum(body) & 0xFF,))


def crc16(data: bytes) -> int:
    """Bit by bit, from the polynomial x^16 + x^15 + x^2 + 1."""
    crc = 0
    for byte in data:
        crc ^= byte << 8
        for _ in range(8):
            crc = (crc << 1) ^ 0x8005 if crc & 0x8000 else crc << 1
        crc &= 0xFFFF
    return crc


class FakeDynamixel(FakeBus):
    """X servos: `numbers` are their models', one for all or one each. `fast`: they answer fast sync reads."""

    torque_at = 64

    def __init__(
        self, ids: tuple[int, ...] = (1, 2, 3, 4, 5, 6), *, number: int = 1200, firmware: int = 46, fast: bool = True
    ) -> None:
        servos = []
        for id in ids:
            servo = FakeServo(id)
            servo.put(0, number, 2)
            servo.memory[6] = firmware
            servo.memory[7] = id
            servo.memory[8] = 3
            servo.memory[11] = 3
            servo.memory[12] = 255
            servo.put(144, 50, 2)
            servo.memory[146] = 30
            servos.append(servo)
        super().__init__(servos)
        self.fast = fast
        self._last_heard = 0

    def goal(self, servo: FakeServo) -> int:
        return servo.number(116, 4, signed=True)

    def refresh(self, servo: FakeServo) -> None:
        servo.put(132, round(servo.position), 4)

    def advance(self, seconds: float) -> None:
        super().advance(seconds)
        self._watch()

    def _watch(self) -> None:
        for servo in self.servos.values():
            armed = servo.memory[98]
            if servo.memory[64] and 0 < armed < 128 and self.now - self._last_heard > armed * 20_000_000:
                servo.memory[98] = 0xFF

    def answer(self, request: bytes) -> bytes:
        assert request[:4] == b"\xff\xff\xfd\x00" and request[5] + 256 * request[6] == len(request) - 7
        assert crc16(request[:-2]) == request[-2] + 256 * request[-1]
        self._watch()
        self._last_heard = self.now
        id, instruction = request[4], request[7]
        params = request[8:-2].replace(b"\xff\xff\xfd\xfd", b"\xff\xff\xfd")
        place, size = (int.from_bytes(params[i : i + 2], "little") for i in (0, 2))
        if instruction in (0x82, 0x8A):
            servos = self.in_turn(params[4:])
            datas = [servo.memory[place : place + size] for servo in servos]
            if instruction == 0x82:
                return b"".join(self._status(s, data) for s, data in zip(servos, datas, strict=True))
            return self._chain(params[4:], servos, datas, size) if self.fast else b""
        if instruction == 0x83:
            for at in range(4, len(params), size + 1):
                self._write(params[at], place, params[at + 1 : at + 1 + size])
            return b""
        servo = self.servos.get(id)
        if servo is None or servo.silent:
            return b""
        if instruction == 0x01:
            return self._status(servo, servo.memory[0:2] + servo.memory[6:7])
        if instruction == 0x02:
            return self._status(servo, servo.memory[place : place + size])
        if instruction == 0x08:
            servo.restart()
            return self._status(servo)
        assert instruction == 0x03
        return self._status(servo, id=id, number=self._write(id, place, params[2:]))

    def _write(self, id: int, address: int, data: bytes) -> int:
        servo = self.servos.get(id)
        if servo is None or servo.silent:
            return 0
        if address < 64 and servo.memory[64]:
            return 7
        if address == 116 and servo.memory[98] == 0xFF:
            return 4
        servo.memory[address : address + len(data)] = data
        if address == 7:
            del self.servos[id]
            servo.id = data[0]
            self.servos[servo.id] = servo
        return 0

    def _status(self, servo: FakeServo, data: bytes = b"", id: int | None = None, number: int = 0) -> bytes:
        body = bytes((0x55, servo.error | number)) + data
        body = body.replace(b"\xff\xff\xfd", b"\xff\xff\xfd\xfd")
        whole = b"\xff\xff\xfd\x00" + bytes((servo.id if id is None else id,))
        whole += (len(body) + 2).to_bytes(2, "little") + body
        return whole + crc16(whole).to_bytes(2, "little")

    def _chain(self, ids: bytes, servos: list[FakeServo], datas: list[bytearray], size: int) -> bytes:
        """The packet to which each servo appends its part, as far as the first that is silent."""
        whole = b"\xff\xff\xfd\x00\xfe" + (1 + len(ids) * (size + 4)).to_bytes(2, "little") + b"\x55"
        for id, servo, data in zip(ids, servos, datas, strict=False):
            if servo.id != id:
                break
            whole += bytes((servo.error, servo.id)) + data
            whole += crc16(whole).to_bytes(2, "little")
        return whole if servos and servos[0].id == ids[0] else b""
