"""Three emulated servos on first-order plants, and short names for requests, for each protocol."""

from __future__ import annotations

import numpy as np

from sim.dynamixel_servo import DynamixelServo
from sim.dynamixel_wire import DynamixelWire, crc16
from sim.feetech_servo import FeetechServo
from sim.feetech_wire import FeetechWire, checksum
from sim.plants import FirstOrderPlant
from sim.servo_bus import Instruction, ServoBus, Wire
from sim.servo_table import TableServo

IDS = (1, 2, 3)
JOINTS = ("shoulder", "elbow", "wrist")
TICK = 0.01  # s


class Bench:
    """A bus of three servos; subclasses know the protocol."""

    def __init__(
        self, wire: Wire, servos: list[TableServo], plant: FirstOrderPlant, seed: int, baud_true: bool
    ) -> None:
        self.plant = plant
        self.bus = ServoBus(
            wire,
            servos,
            joints=JOINTS,
            cameras=("fixed",),
            rng=np.random.default_rng(seed),
            baud_true=baud_true,
        )
        self.set_fault = self.bus.faults.set

    def feed(self, data: bytes) -> bytes:
        """All that is answered, whenever."""
        return b"".join(packet for _, packet in self.bus.feed(data))

    def let_pass(self, seconds: float) -> None:
        """Time, in ticks of the plant."""
        for _ in range(round(seconds / TICK)):
            self.bus.advance(TICK)
            self.plant.step(TICK)


class FeetechBench(Bench):
    def __init__(self, seed: int = 0, baud_true: bool = False) -> None:
        plant = FirstOrderPlant(len(IDS))
        servos: list[TableServo] = [FeetechServo(index, plant, id) for index, id in enumerate(IDS)]
        super().__init__(FeetechWire(), servos, plant, seed, baud_true)

    @staticmethod
    def request(servo_id: int, instruction: int, *params: int) -> bytes:
        body = bytes((servo_id, len(params) + 2, instruction, *params))
        return b"\xff\xff" + body + bytes((checksum(body),))

    @classmethod
    def status(cls, servo_id: int, *data: int, error: int = 0) -> bytes:
        return cls.request(servo_id, error, *data)

    def ask(self, servo_id: int, instruction: int, *params: int) -> bytes:
        return self.feed(self.request(servo_id, instruction, *params))

    def write(self, servo_id: int, address: int, *data: int) -> bytes:
        return self.ask(servo_id, Instruction.WRITE, address, *data)

    def read(self, servo_id: int, address: int, size: int = 1) -> int:
        reply = self.ask(servo_id, Instruction.READ, address, size)
        assert len(reply) == 6 + size
        return int.from_bytes(reply[5:-1], "little")


class DynamixelBench(Bench):
    def __init__(
        self, seed: int = 0, baud_true: bool = False, model: str = "xl330-m288", shadow_of: int | None = None
    ) -> None:
        """`shadow_of`: the third servo also obeys this id."""
        plant = FirstOrderPlant(len(IDS))
        servos: list[TableServo] = [
            DynamixelServo(index, plant, id, model=model, shadow_of=shadow_of if id == IDS[-1] else None)
            for index, id in enumerate(IDS)
        ]
        super().__init__(DynamixelWire(), servos, plant, seed, baud_true)

    @staticmethod
    def request(servo_id: int, instruction: int, params: bytes = b"") -> bytes:
        body = bytes((instruction,)) + params
        body = body.replace(b"\xff\xff\xfd", b"\xff\xff\xfd\xfd")
        packet = b"\xff\xff\xfd\x00" + bytes((servo_id,)) + (len(body) + 2).to_bytes(2, "little") + body
        return packet + crc16(packet).to_bytes(2, "little")

    @classmethod
    def status(cls, servo_id: int, data: bytes = b"", error: int = 0) -> bytes:
        return cls.request(servo_id, 0x55, bytes((error,)) + data)

    def ask(self, servo_id: int, instruction: int, params: bytes = b"") -> bytes:
        return self.feed(self.request(servo_id, instruction, params))

    def write(self, servo_id: int, address: int, value: int, size: int = 1) -> int:
        """The error byte of the answer."""
        data = address.to_bytes(2, "little") + value.to_bytes(size, "little", signed=value < 0)
        reply = self.ask(servo_id, Instruction.WRITE, data)
        assert len(reply) == 11
        return reply[8]

    def read(self, servo_id: int, address: int, size: int = 1, signed: bool = False) -> int:
        params = address.to_bytes(2, "little") + size.to_bytes(2, "little")
        reply = self.ask(servo_id, Instruction.READ, params)
        assert len(reply) == 11 + size
        return int.from_bytes(reply[9:-2], "little", signed=signed)
