"""The makers' own clients on a port of the emulator, and what its tests wait for and read."""

from __future__ import annotations

import time
from collections.abc import Callable
from http.client import HTTPResponse
from pathlib import Path

import dynamixel_sdk as dxl
import numpy as np
import scservo_sdk as sdk

TASK = "stack the red block on the blue block"
ID, TORQUE, GOAL, LOCK, PRESENT, LOAD = 5, 40, 42, 55, 56, 60  # Feetech registers
ALL = range(1, 7)


def counts(angle: float) -> int:
    return 2048 + round(angle * 4096 / (2 * np.pi))


def wait_for(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    """Returns when `condition` holds; fails when it never does."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.01)


class FeetechClient:
    """Feetech's client on a port."""

    def __init__(self, port: Path) -> None:
        self.port = sdk.PortHandler(str(port))
        self.port.openPort()
        self.packets = sdk.protocol_packet_handler()

    def read(self, servo: int, address: int) -> int:
        value, result, _ = self.packets.read2ByteTxRx(self.port, servo, address)
        assert result == sdk.COMM_SUCCESS
        return int(value)

    def read_byte(self, servo: int, address: int) -> int:
        value, result, _ = self.packets.read1ByteTxRx(self.port, servo, address)
        assert result == sdk.COMM_SUCCESS
        return int(value)

    def write(self, servo: int, address: int, value: int) -> int:
        return int(self.packets.write1ByteTxRx(self.port, servo, address, value)[0])

    def positions(self) -> list[int]:
        group = sdk.GroupSyncRead(self.port, self.packets, PRESENT, 2)
        for servo in ALL:
            assert group.addParam(servo)
        assert group.txRxPacket() == sdk.COMM_SUCCESS
        return [group.getData(servo, PRESENT, 2) for servo in ALL]

    def set_goals(self, goals: list[int]) -> None:
        group = sdk.GroupSyncWrite(self.port, self.packets, GOAL, 2)
        for servo, goal in zip(ALL, goals, strict=True):
            assert group.addParam(servo, [sdk.SCS_LOBYTE(goal), sdk.SCS_HIBYTE(goal)])
        assert group.txPacket() == sdk.COMM_SUCCESS

    def hold(self) -> list[int]:
        positions = self.positions()
        self.set_goals(positions)
        for servo in ALL:
            assert self.write(servo, TORQUE, 1) == sdk.COMM_SUCCESS
        return positions

    def close(self) -> None:
        self.port.closePort()


class DynamixelClient:
    """The maker's client on a port."""

    def __init__(self, port: Path, baudrate: int = 1_000_000) -> None:
        self.port = dxl.PortHandler(str(port))
        assert self.port.openPort() and self.port.setBaudRate(baudrate)
        self.packets = dxl.PacketHandler(2.0)

    def write(self, servo: int, address: int, value: int, size: int = 1) -> tuple[int, int]:
        write = {1: self.packets.write1ByteTxRx, 4: self.packets.write4ByteTxRx}[size]
        result, error = write(self.port, servo, address, value)
        return int(result), int(error)

    def positions(self, fast: bool) -> list[int]:
        group = dxl.GroupSyncRead(self.port, self.packets, 132, 4)
        for servo in ALL:
            assert group.addParam(servo)
        assert (group.fastSyncRead() if fast else group.txRxPacket()) == dxl.COMM_SUCCESS
        return [group.getData(servo, 132, 4) for servo in ALL]

    def set_goals(self, goals: list[int]) -> None:
        group = dxl.GroupSyncWrite(self.port, self.packets, 116, 4)
        for servo, goal in zip(ALL, goals, strict=True):
            assert group.addParam(servo, goal.to_bytes(4, "little"))
        assert group.txPacket() == dxl.COMM_SUCCESS


def next_frame(response: HTTPResponse) -> bytes:
    """The next picture of a stream; raises `EOFError` when it has ended."""
    head = {}
    if not response.readline().startswith(b"--"):
        raise EOFError
    while line := response.readline().decode().strip():
        name, _, value = line.partition(": ")
        head[name] = value
    data = response.read(int(head["Content-Length"]))
    if response.readline() != b"\r\n":
        raise EOFError
    return data
