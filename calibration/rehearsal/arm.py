"""An arm whose joints are known better than by its own encoders: servos mounted anyhow, stops that are not quite right.

The servos are the emulator's behind the real drivers, in lock-step (sim/lockstep_port.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self

import numpy as np

from calibration.joints import FEETECH, PER_RADIAN, TURN
from calibration.rehearsal.hand import Hand
from drivers.arm import Array
from drivers.bus import SerialPort
from drivers.config import RobotConfig, load_robot
from drivers.servo_line import ServoLine
from sim.articulated import ArticulatedWorld
from sim.lockstep_port import LockstepPort
from sim.servo_chain import make_chain

ROBOT: Final = "emulated"
STOP_PLAY: Final = np.radians(0.15)  # by which each mechanical stop is elsewhere than in the drawing, at most
UNSTEADY: Final = np.radians(4.0)  # by which a person's centre pose is off, at most


@dataclass(frozen=True)
class TrueArm:
    """How the servos are mounted: `zeros` counts of the encoders at angle 0, stops (rad), shape (n,)."""

    zeros: tuple[int, ...]
    offsets: tuple[int, ...]  # homing offsets that somebody left in the servos
    low: Array
    high: Array
    unsteady: Array  # rad, of the centre pose

    @classmethod
    def at_random(cls, robot: RobotConfig, rng: np.random.Generator) -> TrueArm:
        """Any mounting, so that most travels cross the encoder's seam."""
        spec = robot.arm.spec()
        return cls(
            zeros=tuple(rng.integers(0, TURN, spec.joints).tolist()),
            offsets=tuple(rng.integers(-FEETECH.limit, FEETECH.limit + 1, spec.joints).tolist()),
            low=spec.position_min + rng.uniform(-STOP_PLAY, STOP_PLAY, spec.joints),
            high=spec.position_max + rng.uniform(-STOP_PLAY, STOP_PLAY, spec.joints),
            unsteady=rng.uniform(-UNSTEADY, UNSTEADY, spec.joints),
        )

    @classmethod
    def as_said(cls, robot: RobotConfig) -> TrueArm:
        """Just as the robot's file has it: a calibrated one."""
        spec = robot.arm.spec()
        zeros = tuple(joint.zero for joint in robot.arm.joints)
        return cls(zeros, (0,) * spec.joints, spec.position_min, spec.position_max, np.zeros(spec.joints))


class RehearsalArm:
    """An emulated arm in lock-step, and the hand that moves it; a context manager."""

    def __init__(self, true: TrueArm, robot: RobotConfig | None = None) -> None:
        self.robot = robot or load_robot(ROBOT)  # as its owner believes it to be
        self.true = true
        mounted = [
            joint.model_copy(update={"zero": zero})
            for joint, zero in zip(self.robot.arm.joints, true.zeros, strict=True)
        ]
        arm = self.robot.arm.model_copy(update={"joints": mounted})
        self.world = ArticulatedWorld(self.robot)
        self.world.set_stops(true.low, true.high)
        self._bus, self.plant = make_chain(arm, self.world)
        self.port = LockstepPort(self._bus, self.plant)
        self._names = [joint.name for joint in self.robot.arm.joints]
        self.line = ServoLine("feetech", "rehearsal", self.robot.arm.baudrate, open_port=self.open_port)
        for joint, offset in zip(self.robot.arm.joints, true.offsets, strict=True):
            self.line.write(joint.id, "homing_offset", offset)

    def open_port(self, port: str, baudrate: int) -> SerialPort:
        """For drivers: the port that there is."""
        return self.port

    def hand(self) -> Hand:
        """A hand at the arm as it stands."""
        pose = dict(zip(self._names, self.world.joint_positions().tolist(), strict=True))
        unsteady = dict(zip(self._names, self.true.unsteady.tolist(), strict=True))
        unsteady = {name: max(0.0, off) if name == "gripper" else off for name, off in unsteady.items()}
        return Hand(self.robot.arm, self.lead, self.port.advance, pose, unsteady)

    def lead(self, joint: str, angle: float | None) -> None:
        """Take a joint to an angle; `None` lets go."""
        self.plant.lead(self._names.index(joint), angle)

    def errors(self, zeros: dict[str, int], offsets: dict[str, int]) -> Array:
        """By how much (rad) each joint's calibrated angle differs from the true one, shape (n,)."""
        off = []
        for joint, true_zero in zip(self.robot.arm.joints, self.true.zeros, strict=True):
            shown = true_zero - offsets[joint.name]  # at angle 0
            counts = (shown - zeros[joint.name] + TURN // 2) % TURN - TURN // 2
            off.append(joint.direction * counts / PER_RADIAN)
        return np.array(off)

    def close(self) -> None:
        self.line.close()
        self.world.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
