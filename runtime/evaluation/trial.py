"""One episode of an evaluation, before it is played: its seed, what is asked, and what differs from the plain case.

A trial holds everything that its outcome depends on beside the policy, so that it comes out the same on any worker,
whatever ran before. Knows tasks, names of objects and of shifts; plays nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np

from sim.shapes import GROUPS, TRIPLETS, Shape, sample_shapes
from sim.tasks import TASKS, parse_task, phrasings
from sim.variation import VARIATIONS, Conditions, sample_conditions

CUBES = "cubes"
RGB_TASK = "stack the red block on the blue block"  # the one task of the RGB-stacking benchmark
ROBOT = "simulated"
RIGHT, PARAPHRASED, WRONG, NONE = PROMPTS = ("right", "paraphrased", "wrong", "none")
NOMINAL, ALL, EACH = "nominal", "all", "each"
AS_SHIPPED = "as shipped"

# Second words of the seeds of what is drawn beside the block layout, whose generator is default_rng(seed).
_SHAPES, _CONDITIONS, _OTHER_TASK = 2, 3, 4


class EvaluationError(Exception):
    """An evaluation that cannot be made; the message says what, where and what to do."""


@dataclass(frozen=True)
class Setting:
    """How an episode differs from six tasks on cubes in the nominal world, told in the canonical words."""

    objects: str = CUBES  # a group of sim/shapes.py
    shifts: tuple[str, ...] = ()  # variations of sim/variation.py at full range
    prompt: str = RIGHT
    phrasing: int | None = None  # which of a task's phrasings; None: drawn from all but the canonical one
    demonstration: bool = False  # the prompt shows the end of a demonstration
    robot: str = ROBOT
    weights: str = AS_SHIPPED  # or how they are rounded (runtime/evaluation/precision.py)

    def to_json(self) -> dict[str, Any]:
        """What differs from the plain case."""
        plain = Setting()
        return {f.name: getattr(self, f.name) for f in fields(self) if getattr(self, f.name) != getattr(plain, f.name)}


@dataclass(frozen=True)
class Trial:
    """One episode. `part` and `cell` say where it is counted; `index` counts within the cell."""

    part: str
    cell: str
    index: int
    seed: int
    task: str  # what the episode is judged by
    setting: Setting = Setting()

    @property
    def key(self) -> str:
        """Equal for trials that come out alike; whatever is counted twice has it twice."""
        differs = ",".join(f"{name}={value}" for name, value in self.setting.to_json().items())
        return f"{self.part}|{self.cell}|{self.seed}|{self.task}|{differs}"

    def told(self) -> str | None:
        """What the policy is told: a sentence, or None for no words at all."""
        task = parse_task(self.task)
        match self.setting.prompt:
            case "right":
                return task.text
            case "paraphrased":
                sentences = phrasings(task.moved, task.base)
                if self.setting.phrasing is not None:
                    return sentences[self.setting.phrasing]
                return sentences[1 + int(self._rng(_OTHER_TASK).integers(len(sentences) - 1))]
            case "wrong":
                others = [other.text for other in TASKS if other.text != task.text]
                return others[int(self._rng(_OTHER_TASK).integers(len(others)))]
            case "none":
                return None
        raise EvaluationError(f"no prompt {self.setting.prompt!r}; there are {', '.join(PROMPTS)}")

    def shapes(self) -> dict[str, Shape] | None:
        """The objects by colour; None: those of the robot's world, which are cubes unless its file says else."""
        objects = self.setting.objects
        return None if objects == CUBES else sample_shapes(objects, self._rng(_SHAPES))

    def conditions(self) -> Conditions:
        """What varies, drawn at full range; the rest is nominal, or the robot's own."""
        return sample_conditions(self._rng(_CONDITIONS), self.setting.shifts)

    def _rng(self, what: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, what])


def cell_of(
    part: str, cell: str, episodes: int, seed: int, setting: Setting, tasks: Sequence[str] | None = None
) -> Iterator[Trial]:
    """`episodes` trials of one setting, seeds from `seed` on, tasks in turn.

    Without `tasks`: all six on cubes, and red on blue with other objects, as in the benchmark.
    """
    asked = tasks or ([task.text for task in TASKS] if setting.objects == CUBES else [RGB_TASK])
    for index in range(episodes):
        yield Trial(part, cell, index, seed + index, asked[index % len(asked)], setting)


def objects_of(name: str) -> tuple[str, ...]:
    """The groups that `--objects NAME` means. Raises `EvaluationError`."""
    if name == "triplets":
        return TRIPLETS
    return (_known("objects", name, (*GROUPS, "triplets"), GROUPS),)


def shifts_of(names: Collection[str]) -> dict[str, tuple[str, ...]]:
    """Cell to variations, for what `--shift` was given: one cell of all the names together, or with "each" the suite:
    nominal, each alone, all. Raises `EvaluationError`."""
    suite = {NOMINAL: (), **{name: (name,) for name in VARIATIONS}, ALL: tuple(VARIATIONS)}
    if EACH in names:
        if len(names) > 1:
            raise EvaluationError("--shift each is the whole suite: leave the other names out")
        return suite
    for name in names:
        _known("shift", name, (*VARIATIONS, ALL, EACH), VARIATIONS)
    chosen = tuple(VARIATIONS) if ALL in names else tuple(name for name in VARIATIONS if name in names)
    return {("+".join(chosen) if chosen != tuple(VARIATIONS) else ALL) or NOMINAL: chosen}


def _known(what: str, name: str, known: Sequence[str], suggested: Sequence[str]) -> str:
    from drivers.config import suggest

    if name not in known:
        raise EvaluationError(f"no {what} {name!r}{suggest(name, suggested)}; there are {', '.join(known)}")
    return name


def setting_from(content: dict[str, Any]) -> Setting:
    """The setting that `to_json` wrote."""
    return Setting(**{**asdict(Setting()), **content, "shifts": tuple(content.get("shifts", ()))})
