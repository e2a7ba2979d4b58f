"""Loose servos on a line, without a port: `ServoLine` on the emulator's bus, in a time of its own."""

from __future__ import annotations

from collections.abc import Sequence

from drivers.bus import POLL
from drivers.servo_line import ServoLine
from runtime.servo_scan import ServoProtocolName
from sim.dynamixel_servo import DynamixelServo
from sim.dynamixel_wire import DynamixelWire
from sim.feetech_servo import FeetechServo
from sim.feetech_wire import FeetechWire
from sim.plants import FirstOrderPlant
from sim.servo_bus import ServoBus
from sim.servo_table import TableServo

TICK = 1000  # ns that a look at the clock takes


class ServoShelf:
    """Servos of one protocol, each (id, baud rate), plugged into one line; `open_line` is what bring-up takes."""

    def __init__(self, protocol: ServoProtocolName, servos: Sequence[tuple[int, int]]) -> None:
        self.protocol = protocol
        plant = FirstOrderPlant(max(1, len(servos)))
        made: list[TableServo] = [
            FeetechServo(i, plant, id, baudrate) if protocol == "feetech" else DynamixelServo(i, plant, id, baudrate)
            for i, (id, baudrate) in enumerate(servos)
        ]
        self.servos = made
        self.bus = ServoBus(FeetechWire() if protocol == "feetech" else DynamixelWire(), made)
        self.now = 0  # ns
        self.opened: list[int] = []  # the baud rate of each time the port was opened
        self.ports_open = 0

    def open_line(self, protocol: ServoProtocolName, port: str, baudrate: int) -> ServoLine:
        assert (protocol, port) == (self.protocol, "shelf")
        return ServoLine(protocol, port, baudrate, deadline=2 * POLL, clock=self.clock, open_port=self._open)

    def clock(self) -> int:
        self.now += TICK
        return self.now

    def _open(self, port: str, baudrate: int) -> ShelfPort:
        self.opened.append(baudrate)
        self.ports_open += 1
        return ShelfPort(self, baudrate)


class ShelfPort:
    """A `drivers.bus.SerialPort` at one baud rate; a read that finds nothing takes `POLL` of the shelf's time."""

    def __init__(self, shelf: ServoShelf, baudrate: int) -> None:
        self._shelf, self._baudrate = shelf, baudrate
        self._received = bytearray()
        self._open = True

    @property
    def in_waiting(self) -> int:
        return len(self._received)

    def read(self, size: int = 1, /) -> bytes:
        if not self._received:
            self._shelf.now += round(POLL * 1e9)
        data = bytes(self._received[:size])
        del self._received[:size]
        return data

    def write(self, data: bytes, /) -> int:
        self._shelf.bus.forget()
        for _, reply in self._shelf.bus.feed(data, self._baudrate):
            self._received += reply
        return len(data)

    def close(self) -> None:
        self._shelf.ports_open -= self._open
        self._open = False
