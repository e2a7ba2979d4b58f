"""What is asked of the arm, and when it is done. Reads the world's truth; never moves anything."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import permutations

import numpy as np

from sim import so101
from sim.grips import lowest, top
from sim.shapes import COLOURS
from sim.world import BLOCK, World

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


_PHRASES = (
    "stack the {moved} block on the {base} block",
    "put the {moved} block on the {base} block",
    "place the {moved} block on top of the {base} block",
    "set the {moved} block down on the {base} block",
    "move the {moved} block onto the {base} block",
    "pick up the {moved} block and put it on the {base} block",
    "take the {moved} block and stack it on the {base} block",
    "lift the {moved} block and set it on top of the {base} block",
    "the {moved} block goes on top of the {base} block",
    "on the {base} block, stack the {moved} block",
)
_NOUNS = ("block", "cube", "object")
_SENTENCES = tuple(
    re.compile(phrase.format(moved=r"(?P<moved>\w+)", base=r"(?P<base>\w+)").replace(" block", r" (\w+)"))
    for phrase in _PHRASES
)


def phrasings(moved: str, base: str) -> tuple[str, ...]:
    """Every way in which this stack can be asked for; the first is a task's own text."""
    sentences = [phrase.format(moved=moved, base=base) for phrase in _PHRASES]
    return tuple(sentence.replace(" block", f" {noun}") for noun in _NOUNS for sentence in sentences)


def _stack(moved: str, base: str) -> Task:
    return Task(phrasings(moved, base)[0], moved, base)


TASKS = tuple(_stack(moved, base) for moved, base in permutations(COLOURS, 2))


def parse_task(text: str) -> Task:
    """The task that `text` asks for, in any of its `phrasings`, politely or not.

    Raises `TaskError` naming what is wrong and what can be asked.
    """
    sentence = " ".join(text.lower().split()).removeprefix("please ").rstrip(".!")
    found = next((match for pattern in _SENTENCES if (match := pattern.fullmatch(sentence))), None)
    if found is None:
        raise TaskError(f'task "{text}" is not understood; ask for "stack the X block on the Y block"')
    words = found.groups()
    for colour, noun in zip(words[::2], words[1::2], strict=True):
        if colour not in COLOURS or noun not in _NOUNS:
            raise TaskError(f'task "{text}": there is no {colour} {noun} here; there are {", ".join(COLOURS)} blocks')
    moved, base = found["moved"], found["base"]
    if moved == base:
        raise TaskError(f'task "{text}": a block cannot stand on itself; name two different colours')
    return _stack(moved, base)


class Judge:
    """Watches one episode. Call `update` once a control step; `outcome` is None while the episode runs.

    Success: the moved block rests on the base block, released, for half a second, and the gripper is clear of it.
    `sparse` is the success that Gato's authors count (gato paper, RGB-stacking), seen at any step: the moved block less
    than 5 cm aside of the base, 2 cm or more above it, touching it, and touching neither ground nor robot.
    """

    limit = TIME_LIMIT

    def __init__(self, world: World, task: Task) -> None:
        self.world, self.task = world, task
        self.outcome: str | None = None
        self.sparse = False
        self.steps = 0
        self._still = 0
        self._start = {colour: world.block_pose(colour)[0] for colour in COLOURS}

    def update(self) -> None:
        """Look at the world once, at 20 Hz."""
        if self.outcome is not None:
            return
        self.steps += 1
        self.sparse = self.sparse or self._counts_for_gato()
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

    def _counts_for_gato(self) -> bool:
        world, (moved, base) = self.world, (self.task.moved, self.task.base)
        aside_x, aside_y, above = world.block_pose(moved)[0] - world.block_pose(base)[0]
        if np.hypot(aside_x, aside_y) >= 0.05 or above < 0.02 or not world.blocks_touch(moved, base):
            return False
        return not world.block_touches_table(moved) and not world.block_touches_arm(moved)

    def _failure(self) -> str:
        world, task = self.world, self.task
        moved = world.block_pose(task.moved)[0]
        if any(is_stacked(world, a, b) for a, b in permutations(COLOURS, 2) if (a, b) != (task.moved, task.base)):
            return "wrong pair stacked"
        if is_stacked(world, task.moved, task.base):
            return "stacked but not released and clear"
        table = world.conditions.table_height
        if min(world.block_pose(colour)[0][2] for colour in COLOURS) < table - 0.01:
            return "block off the table"
        if moved[2] > table + BLOCK:
            return "still in the gripper"
        others = [np.linalg.norm(world.block_pose(c)[0] - self._start[c]) for c in COLOURS if c != task.moved]
        if np.linalg.norm(moved - self._start[task.moved]) < 0.015:
            return "wrong block moved" if max(others) > 0.015 else "never moved"
        return "placed beside"


def is_stacked(world: World, moved: str, base: str) -> bool:
    """True when `moved` stands on the height of `base`, its centre within half a block of the middle of that top."""
    (place, turn), (foot, base_turn) = world.object_truth(moved), world.object_truth(base)
    aside_x, aside_y, above = place - foot - top(world.solids[base], base_turn)
    if abs(above) > 2 * BLOCK or np.hypot(aside_x, aside_y) >= BLOCK / 2:
        return False
    return abs(above - lowest(world.solids[moved], turn)) < 0.006
