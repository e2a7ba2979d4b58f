"""What is asked of the arm, and when it is done. Reads the world's truth; never moves anything."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import permutations

import numpy as np

from sim import so101
from sim.world import BLOCK, COLOURS, World

CONTROL_RATE = 20  # Hz
STILL_STEPS = 10  # half a second at rest, released and clear
TIME_LIMIT = 240  # control steps


class TaskError(ValueError):
    """The task cannot be understood or names what is not in the scene; one line."""


@dataclass(frozen=True)
class Task:
    """Stack the block `moved` on the block `base`."""

    text: str
    moved: str
    base: str


def _stack(moved: str, base: str) -> Task:
    return Task(f"stack the {moved} block on the {base} block", moved, base)


TASKS = tuple(_stack(moved, base) for moved, base in permutations(COLOURS, 2))

_SENTENCE = re.compile(r"stack the (\w+) block on the (\w+) block")


def parse_task(text: str) -> Task:
    """The task that `text` asks for. Raises `TaskError` naming what is wrong and what can be asked."""
    found = _SENTENCE.fullmatch(text.strip().lower())
    if found is None:
        raise TaskError(f'task "{text}" is not understood; ask for "stack the X block on the Y block"')
    for colour in found.groups():
        if colour not in COLOURS:
            raise TaskError(f'task "{text}": there is no {colour} block here; there are {", ".join(COLOURS)}')
    moved, base = found.groups()
    if moved == base:
        raise TaskError(f'task "{text}": a block cannot stand on itself; name two different colours')
    return _stack(moved, base)


class Judge:
    """Watches one episode. Call `update` once a control step; `outcome` is None while the episode runs.

    Success: the moved block rests on the base block, released, for half a second, and the gripper is clear of it.
    """

    limit = TIME_LIMIT

    def __init__(self, world: World, task: Task) -> None:
        self.world, self.task = world, task
        self.outcome: str | None = None
        self.steps = 0
        self._still = 0
        self._start = {colour: world.block_pose(colour)[0] for colour in COLOURS}

    def update(self) -> None:
        """Look at the world once, at 20 Hz."""
        if self.outcome is not None:
            return
        self.steps += 1
        self._still = self._still + 1 if self._stands_clear() else 0
        if self._still >= STILL_STEPS:
            self.outcome = "success"
        elif self.steps >= self.limit:
            self.outcome = self._failure()

    def _stands_clear(self) -> bool:
        world, task = self.world, self.task
        if not is_stacked(world, task.moved, task.base):
            return False
        if world.block_speed(task.moved) > 0.01 or world.block_touches_arm(task.moved):
            return False
        grasp_centre, _ = so101.forward(world.joint_positions())
        return bool(np.linalg.norm(grasp_centre - world.block_pose(task.moved)[0]) > 0.03)

    def _failure(self) -> str:
        world, task = self.world, self.task
        moved = world.block_pose(task.moved)[0]
        if any(is_stacked(world, a, b) for a, b in permutations(COLOURS, 2) if (a, b) != (task.moved, task.base)):
            return "wrong pair stacked"
        if is_stacked(world, task.moved, task.base):
            return "stacked but not released and clear"
        if min(world.block_pose(colour)[0][2] for colour in COLOURS) < -0.01:
            return "block off the table"
        if moved[2] > BLOCK:
            return "still in the gripper"
        others = [np.linalg.norm(world.block_pose(c)[0] - self._start[c]) for c in COLOURS if c != task.moved]
        if np.linalg.norm(moved - self._start[task.moved]) < 0.015:
            return "wrong block moved" if max(others) > 0.015 else "never moved"
        return "placed beside"


def is_stacked(world: World, moved: str, base: str) -> bool:
    """True when `moved` lies over `base`, one block's height above it, within half a block sideways."""
    offset = world.block_pose(moved)[0] - world.block_pose(base)[0]
    return bool(np.hypot(offset[0], offset[1]) < BLOCK / 2 and abs(offset[2] - BLOCK) < 0.006)
