"""The scripted demonstrator: stacks from any state, without memory, on nothing that the cameras cannot show.

Instead of phases with hard thresholds it follows funnels: the height asked for falls with the sideways error, so a
policy that sees slightly different errors than the truth does slightly different things, not another thing.
"""

from __future__ import annotations

import math

import numpy as np

from drivers.arm import Array
from sim import so101
from sim.tasks import Task
from sim.world import BLOCK, HOME, World

STEP = 0.1  # rad, the most a joint is asked to move in a control step
OPEN = 1.5  # rad of the gripper servo: 56 mm
CLOSED = 0.5  # rad: 19 mm, so that the jaws press on a 28 mm block
HELD = BLOCK / so101.OPENING_PER_RADIAN + 0.1  # rad, at or below this the jaws touch a block between them
TRAVEL = 0.068  # m, grasp centre while nothing is near


class Expert:
    """Demonstrates one task in one world. `act` looks at the world's truth and returns the next joint targets."""

    def __init__(self, world: World, task: Task) -> None:
        self.world, self.task = world, task

    def act(self, command: Array) -> Array:
        """Next joint targets (6,), rad, at most `STEP` from `command`, the targets now in force."""
        positions = self.world.joint_positions()
        grasp, _ = so101.forward(positions)
        goal, gripper, roll = self._decide(grasp, positions)
        return step_towards(command, goal, gripper, roll)

    def _decide(self, grasp: Array, positions: Array) -> tuple[Array, float, float]:
        """Where the grasp centre should go (3,), the gripper's angle, the wrist's roll."""
        moved, orientation = self.world.block_pose(self.task.moved)
        base, _ = self.world.block_pose(self.task.base)
        roll = positions[4]
        place = base + np.array([0, 0, BLOCK])
        aside = moved - place
        sideways = math.hypot(aside[0], aside[1])
        around = math.hypot(*(grasp - moved)[:2]) < 0.014 and abs(grasp[2] - moved[2]) < 0.016
        if sideways < 0.010 and abs(aside[2]) < 0.004:
            if around and positions[5] < OPEN - 0.35:
                return grasp, OPEN, roll
            return self._retreat(grasp, moved), OPEN, roll
        if around and positions[5] < HELD:
            return self._carry(grasp, moved, place, sideways), CLOSED, roll
        return self._approach(grasp, moved, orientation, positions)

    def _retreat(self, grasp: Array, moved: Array) -> Array:
        up = grasp[2] - moved[2]
        if up < 0.045 and math.hypot(*(grasp - moved)[:2]) < 0.03:
            return np.array([moved[0], moved[1], grasp[2] + 0.03])
        home, _ = so101.forward(HOME)
        return home

    def _carry(self, grasp: Array, moved: Array, place: Array, sideways: float) -> Array:
        ceiling = min(TRAVEL, place[2] + 0.026)
        height = place[2] + min(max(0.0, 2.0 * (sideways - 0.004)), ceiling - place[2])
        low = max(0.0, height - 0.008 - moved[2])
        share = max(0.0, 1 - low / 0.012) if sideways > 0.006 else 1.0
        target = moved + share * (place - moved)
        target[2] = height - (0.001 if sideways < 0.006 else 0.0)
        return grasp + (target - moved)

    def _approach(self, grasp: Array, moved: Array, orientation: Array, positions: Array) -> tuple[Array, float, float]:
        error = moved - grasp
        sideways = math.hypot(error[0], error[1])
        roll = self._roll_for(moved, orientation, positions)
        twist = abs(roll - positions[4])
        if sideways < 0.008 and abs(error[2]) < 0.009 and twist < 0.35:
            return np.array([moved[0], moved[1], moved[2]]), CLOSED, roll
        height = max(0.0, 2.5 * (sideways - 0.005)) + 0.05 * max(0.0, twist - 0.3)
        if positions[5] < OPEN - 0.3:
            height = max(height, 0.04)
        height = min(height, TRAVEL - BLOCK / 2)
        target = np.array([moved[0], moved[1], moved[2] + height])
        low = target[2] - grasp[2] - 0.01
        if low > 0 and sideways > 0.012:
            share = max(0.0, 1 - low / 0.02)
            target[:2] = grasp[:2] + share * error[:2]
        return target, OPEN, roll

    def _roll_for(self, moved: Array, orientation: Array, positions: Array) -> float:
        """The wrist roll, nearest to the present one, that lays the jaws along the block's faces."""
        pan = math.atan2(moved[1], moved[0])
        turn = pan - yaw_of(orientation)  # a hand that points down turns the jaws by pan - roll
        quarter = math.pi / 2
        turn += quarter * round((positions[4] - turn) / quarter)
        if abs(turn) > math.pi / 2 + 0.3:
            turn -= math.copysign(quarter, turn)
        return turn


def yaw_of(orientation: Array) -> float:
    """Rotation about the vertical, rad, of a quaternion (x, y, z, w)."""
    x, y, z, w = orientation
    return math.atan2(2 * (w * z + x * y), 1 - 2 * (y * y + z * z))


def step_towards(command: Array, goal: Array, gripper: float, roll: float) -> Array:
    """Joint targets one control step from `command` towards a grasp centre `goal` (m), gripper and roll (rad).

    When a joint would move more than `STEP`, all arm joints are scaled alike, so that the path stays straight.
    """
    chain = so101.inverse(goal)
    if chain is None:
        radius = math.hypot(goal[0], goal[1])
        goal = np.array([*(goal[:2] * min(1.0, 0.27 / max(radius, 1e-6))), min(max(goal[2], 0.0), 0.12)])
        chain = so101.inverse(goal)
    target = command.copy()
    if chain is not None:
        target[:4] = chain
    target[4] = roll
    delta = target - command
    largest = np.abs(delta[:5]).max()
    if largest > STEP:
        delta[:5] *= STEP / largest
    delta[5] = gripper - command[5]
    return np.clip(command + delta, so101.SPEC.position_min, so101.SPEC.position_max)
