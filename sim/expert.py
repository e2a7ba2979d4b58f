"""The scripted demonstrator: stacks from any state, without memory, on nothing that the cameras cannot show.

Instead of phases with hard thresholds it follows funnels: the height asked for falls with the sideways error, so a
policy that sees slightly different errors than the truth does slightly different things, not another thing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from drivers.arm import Array
from sim import so101
from sim.grips import WIDEST, Grip, grips, lowest, span, top
from sim.tasks import Task
from sim.world import HOME, World

STEP = 0.1  # rad, the most a joint is asked to move in a control step
OPEN = 1.5  # rad of the gripper servo: 56 mm; for what is wider, more
CLEARANCE = 0.012  # m that the open jaws have on either side of a block
SQUEEZE = 0.254  # rad below the block's width that the jaws are asked for, so that they press on it
HELD = 0.1  # rad above it, up to which the jaws touch a block between them
TRAVEL = 0.068  # m, grasp centre while nothing is near
GRIP_HEIGHT = 0.014  # m above the block's lowest point: the fingertips end 12 mm below the grasp centre
WIDE = 0.040  # m, from which a grip is taken only when a narrower one is far
SLANTED = 0.3  # of its sides, likewise
HALF_TURN = math.pi


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

    def grasp_turn(self, colour: str) -> float:
        """The direction along which the jaws would close on a block now, rad from the x axis, in [0, pi)."""
        return self._sight(colour, self.world.joint_positions()[4]).grip.angle

    def _sight(self, colour: str, roll: float) -> _Sight:
        centre, axes = self.world.object_truth(colour)
        solid = self.world.solids[colour]
        depth = lowest(solid, axes)
        # Lying so that nothing can be gripped, it is pushed at along its own axis.
        own_axis = math.atan2(axes[1, 0], axes[0, 0]) % HALF_TURN
        choice = grips(solid, axes) or [Grip(own_axis, WIDEST, np.zeros(2), 0.0)]
        rolls = [_roll_for(centre, grip, roll) for grip in choice]
        costs = [
            abs(turn - roll) + 100 * max(0.0, grip.width - WIDE) + 10 * max(0.0, grip.slope - SLANTED)
            for grip, turn in zip(choice, rolls, strict=True)
        ]
        best = int(np.argmin(costs))
        point = np.array([*(centre[:2] + choice[best].middle), centre[2] - depth + GRIP_HEIGHT])
        jaws = math.atan2(centre[1], centre[0]) - roll + math.pi / 2
        return _Sight(centre, depth, choice[best], rolls[best], point, span(solid, axes, jaws))

    def _decide(self, grasp: Array, positions: Array) -> tuple[Array, float, float]:
        """Where the grasp centre should go (3,), the gripper's angle, the wrist's roll."""
        roll = positions[4]
        moved = self._sight(self.task.moved, roll)
        base, base_axes = self.world.object_truth(self.task.base)
        place = base + top(self.world.solids[self.task.base], base_axes) + np.array([0, 0, moved.depth])
        aside = moved.centre - place
        sideways = math.hypot(aside[0], aside[1])
        away = grasp - moved.point
        around = math.hypot(away[0], away[1]) < 0.014 and abs(away[2]) < 0.016
        if sideways < 0.010 and abs(aside[2]) < 0.004:
            if around and positions[5] < moved.open - 0.35:
                return grasp, moved.open, roll
            return self._retreat(grasp, moved.centre), moved.open, roll
        if around and positions[5] < moved.held:
            lift = moved.point[2] - GRIP_HEIGHT - (base[2] - lowest(self.world.solids[self.task.base], base_axes))
            # The jaws are closing still: at first slowly, or they climb slanted sides that they do not press on yet.
            rise = max(0.001, 0.006 + 2.0 * max(lift, 0.0) - max(away[2], 0.0))
            return self._carry(grasp, moved.centre, place, sideways, rise), moved.closed, roll
        return self._approach(grasp, moved, positions)

    def _retreat(self, grasp: Array, moved: Array) -> Array:
        up = grasp[2] - moved[2]
        if up < 0.045 and math.hypot(*(grasp - moved)[:2]) < 0.03:
            return np.array([grasp[0], grasp[1], grasp[2] + 0.03])
        home, _ = so101.forward(HOME)
        return home

    def _carry(self, grasp: Array, moved: Array, place: Array, sideways: float, rise: float) -> Array:
        ceiling = max(place[2], min(TRAVEL, place[2] + 0.026))
        height = place[2] + min(max(0.0, 2.0 * (sideways - 0.004)), ceiling - place[2])
        low = max(0.0, height - 0.008 - moved[2])
        share = max(0.0, 1 - low / 0.012) if sideways > 0.006 else 1.0
        target = moved + share * (place - moved)
        target[2] = min(height - (0.001 if sideways < 0.006 else 0.0), moved[2] + rise)
        return grasp + (target - moved)

    def _approach(self, grasp: Array, moved: _Sight, positions: Array) -> tuple[Array, float, float]:
        error = moved.point - grasp
        sideways = math.hypot(error[0], error[1])
        twist = abs(moved.roll - positions[4])
        if sideways < 0.008 and abs(error[2]) < 0.009 and twist < 0.35:
            return moved.point, moved.closed, moved.roll
        height = max(0.0, 2.5 * (sideways - 0.005)) + 0.05 * max(0.0, twist - 0.3)
        if positions[5] < moved.open - 0.3:
            height = max(height, 0.04)
        height = min(height, TRAVEL - GRIP_HEIGHT)
        target = moved.point + np.array([0, 0, height])
        low = target[2] - grasp[2] - 0.01
        if low > 0 and sideways > 0.012:
            share = max(0.0, 1 - low / 0.02)
            target[:2] = grasp[:2] + share * error[:2]
        return target, moved.open, moved.roll


@dataclass(frozen=True)
class _Sight:
    """What the demonstrator sees of the block that it moves."""

    centre: Array  # (3,) m
    depth: float  # m from the centre down to its lowest point
    grip: Grip
    roll: float  # rad, of the wrist
    point: Array  # (3,) m, where the grasp centre belongs
    between: float  # m, its width along the jaws as they are turned now

    @property
    def open(self) -> float:
        """The gripper's angle that leaves room on both sides, rad."""
        widest = float(so101.SPEC.position_max[5])
        return min(max(OPEN, (self.grip.width + 2 * CLEARANCE) / so101.OPENING_PER_RADIAN), widest)

    @property
    def closed(self) -> float:
        """That presses the jaws on the block."""
        return max(self.between / so101.OPENING_PER_RADIAN - SQUEEZE, 0.0)

    @property
    def held(self) -> float:
        """At or below which the block is between the jaws."""
        return self.between / so101.OPENING_PER_RADIAN + HELD


def _roll_for(centre: Array, grip: Grip, roll: float) -> float:
    """The wrist roll, nearest to the present one, that lays the jaws across the grip."""
    x, y = centre[:2] + grip.middle
    turn = math.atan2(y, x) - grip.angle + math.pi / 2  # a hand that points down turns the jaws by pan - roll
    turn += HALF_TURN * round((roll - turn) / HALF_TURN)
    if abs(turn) > math.pi / 2 + 0.3:
        turn -= math.copysign(HALF_TURN, turn)
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
        # Too far out, or too close to the base: that way, as far as it goes.
        radius = max(math.hypot(goal[0], goal[1]), 1e-6)
        goal = np.array([*(goal[:2] * min(max(0.125, radius), 0.27) / radius), min(max(goal[2], 0.0), 0.12)])
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
