"""The servos of the simulated SO-101: goals become motor commands, late and with play where there is any.

Play lies between a servo's gears and its joint, so that a joint stays where it is until the goal has crossed the play:
it lags by up to half of it after each change of direction. The encoder of an STS3215 sits on the output shaft; what is
measured is therefore the joint itself. Knows no scene but the arm's body. Angles in rad, torques in N m.
"""

from __future__ import annotations

from collections import deque
from typing import Any

import numpy as np
from numpy.typing import NDArray

from drivers.arm import Array
from sim import so101
from sim.variation import NOMINAL, Conditions

ARM_JOINTS = (0, 1, 2, 3, 4)
HAND_LINK, LEFT_JAW, RIGHT_JAW = 4, 5, 6
GRIP_FORCE = 6.0  # N, each jaw
JAW_SPEED = 0.12  # m/s
POSITION_GAIN = 0.2  # share of the position error closed in a substep: a time constant of 22 ms at 200 Hz


class Drives:
    """The motors of the body `arm` of the client `p`. Tell it with `elapse` before each substep of physics."""

    def __init__(self, p: Any, arm: int, home: Array, physics_rate: int) -> None:
        self._p, self._arm, self._rate = p, arm, physics_rate
        self.targets = np.array(home)  # the goals given last
        self._reached = np.array(home)  # where the joints are pulled to, on the far side of the play
        self.torque = np.ones(len(home))  # each joint's share of the stall torque
        self._told: dict[int, tuple[float, float]] = {}  # of each motor: goal and force
        self._waiting: deque[tuple[int, Array]] = deque()  # substeps left, and goals
        self.adopt(NOMINAL)

    def adopt(self, conditions: Conditions) -> None:
        """Work under these conditions from now on; goals under way are dropped."""
        self._gain = POSITION_GAIN * conditions.servo_gain
        self._play = np.array([*conditions.backlash, 0.0]) / 2
        self._delay = round(conditions.delay * self._rate)
        self._waiting.clear()
        self._told.clear()

    def place(self, positions: Array) -> None:
        """Goals at `positions`, where the joints stand, torque on."""
        self.torque[:] = 1
        self._waiting.clear()
        self.targets[:] = self._reached[:] = positions
        self._apply()

    def set_targets(self, positions: Array) -> None:
        """New goals; they take effect after the delay."""
        self.targets[:] = positions
        if self._delay:
            self._waiting.append((self._delay, self.targets.copy()))
        else:
            self._pull(self.targets)

    def set_torque(self, shares: NDArray[np.bool_] | Array) -> None:
        """Each joint's torque as a share of the stall torque."""
        if (self.torque != shares).any():
            self.torque[:] = shares
            self._apply()

    @property
    def waiting(self) -> bool:
        """Goals are under way: `elapse` must be called before each substep."""
        return bool(self._waiting)

    def elapse(self) -> None:
        """A substep begins."""
        self._waiting = deque((left - 1, goals) for left, goals in self._waiting)
        while self._waiting and self._waiting[0][0] < 0:
            self._pull(self._waiting.popleft()[1])

    def _pull(self, goals: Array) -> None:
        np.clip(self._reached, goals - self._play, goals + self._play, out=self._reached)
        self._apply()

    def _apply(self) -> None:
        *goals, gripper = self._reached.tolist()
        *shares, gripping = self.torque.tolist()
        for joint, goal, share in zip(ARM_JOINTS, goals, shares, strict=True):
            self._tell(joint, goal, max(so101.SERVO_TORQUE * share, 0.02), so101.SERVO_SPEED)
        for jaw in (LEFT_JAW, RIGHT_JAW):
            self._tell(jaw, gripper * so101.OPENING_PER_RADIAN / 2, GRIP_FORCE * gripping, JAW_SPEED)

    def _tell(self, joint: int, goal: float, force: float, speed: float) -> None:
        """Set a motor, which keeps what it was told last."""
        if self._told.get(joint) != (goal, force):
            self._told[joint] = goal, force
            self._p.setJointMotorControl2(
                self._arm,
                joint,
                self._p.POSITION_CONTROL,
                targetPosition=goal,
                positionGain=self._gain,
                velocityGain=1.0,
                force=force,
                maxVelocity=speed,
            )
