"""A servo driver on servos in memory, for the tests that both protocols share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from drivers.config import ArmConfig, load_robot
from drivers.dynamixel import DYNAMIXEL
from drivers.feetech import FEETECH
from drivers.servo_arm import ServoArm
from drivers.servo_protocol import Register, ServoProtocol
from tests.drivers.fake_servos import PORT, FakeBus, FakeDynamixel, FakeFeetech

NAMES = ("shoulder_pan", "shoulder_lift", "elbow_flex", "wrist_flex", "wrist_roll", "gripper")


def config(**changes: Any) -> ArmConfig:
    """The stacking arm's joints on the fake line."""
    return load_robot("emulated").arm.model_copy(update={"port": PORT, "deadline": 0.004, "retries": 1} | changes)


@dataclass
class Kit:
    """One protocol: its servos, and how to look at them from behind."""

    protocol: ServoProtocol
    bus: FakeBus
    goal_at: int
    overheat_error: int

    def arm(self, **changes: Any) -> ServoArm:
        return ServoArm(
            config(**changes),
            self.protocol,
            clock=self.bus.clock,
            open_port=self.bus.open,
            list_ports=self.bus.list_ports,
        )

    def torque(self) -> list[bool]:
        return [bool(servo.memory[self.bus.torque_at]) for servo in self.bus.servos.values()]

    def writes(self, register: Register) -> list[bytes]:
        """The sync writes to a register that went over the line."""
        where = bytes((0x83, register.address))
        return [packet for packet in self.bus.heard if where in (packet[4:6], packet[7:9])]


def feetech() -> Kit:
    return Kit(FEETECH, FakeFeetech(), goal_at=42, overheat_error=4)


def dynamixel(**changes: Any) -> Kit:
    return Kit(DYNAMIXEL, FakeDynamixel(**changes), goal_at=116, overheat_error=0x80)


KITS = {"feetech": feetech, "dynamixel": dynamixel, "slow": lambda: dynamixel(fast=False)}
