"""Which episodes a whole evaluation consists of: its parts, their cells, how many episodes each.

Every part begins at the same seed, so that two cells of a part differ in what the cell is about and not in their
layouts. Plays nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from runtime.evaluation.play import SENSITIVITY
from runtime.evaluation.precision import ROUNDINGS
from runtime.evaluation.trial import (
    AS_SHIPPED,
    CUBES,
    EACH,
    NONE,
    PARAPHRASED,
    PROMPTS,
    RIGHT,
    ROBOT,
    EvaluationError,
    Setting,
    Trial,
    cell_of,
    shifts_of,
)
from sim.shapes import TRIPLETS
from sim.tasks import phrasings

TASKS_PART, SHIFTS, RGB, SHAPES, PARAPHRASES, PROMPT, PRECISION = (
    "tasks",
    "shifts",
    "rgb",
    "shapes",
    "paraphrases",
    "prompt",
    "precision",
)


@dataclass(frozen=True)
class Budget:
    """Episodes of each cell of each part."""

    tasks: int
    shifts: int
    rgb: int
    shapes: int
    paraphrases: int
    prompt: int
    sensitivity: int
    precision: int


SUITES = {
    "full": Budget(2000, 300, 200, 200, 60, 120, 30, 60),
    "small": Budget(120, 30, 20, 20, 6, 24, 6, 12),
    "smoke": Budget(2, 1, 1, 1, 1, 1, 1, 1),  # does everything run?
}


def _tasks(budget: Budget, seed: int, robot: str) -> Iterator[Trial]:
    yield from cell_of(TASKS_PART, CUBES, budget.tasks, seed, Setting(robot=robot))


def _shifts(budget: Budget, seed: int, robot: str) -> Iterator[Trial]:
    for cell, shifts in shifts_of([EACH]).items():
        yield from cell_of(SHIFTS, cell, budget.shifts, seed, Setting(shifts=shifts, robot=robot))


def _rgb(budget: Budget, seed: int, robot: str) -> Iterator[Trial]:
    for triplet in TRIPLETS:
        yield from cell_of(RGB, triplet, budget.rgb, seed, Setting(objects=triplet, robot=robot))


def _shapes(budget: Budget, seed: int, robot: str) -> Iterator[Trial]:
    for group in ("training", "held_out"):
        yield from cell_of(SHAPES, group, budget.shapes, seed, Setting(objects=group, robot=robot))


def _paraphrases(budget: Budget, seed: int, robot: str) -> Iterator[Trial]:
    for index, pattern in enumerate(patterns()):
        setting = Setting(prompt=PARAPHRASED, phrasing=index, robot=robot)
        yield from cell_of(PARAPHRASES, pattern, budget.paraphrases, seed, setting)


def _prompt(budget: Budget, seed: int, robot: str) -> Iterator[Trial]:
    for demonstration in (False, True):
        for prompt in PROMPTS:
            cell = f"{prompt}{', with a demonstration' if demonstration else ''}"
            setting = Setting(prompt=prompt, demonstration=demonstration, robot=robot)
            yield from cell_of(PROMPT, cell, budget.prompt, seed, setting)


def _sensitivity(budget: Budget, seed: int, robot: str) -> Iterator[Trial]:
    yield from cell_of(SENSITIVITY, CUBES, budget.sensitivity, seed, Setting(robot=robot))


def _precision(budget: Budget, seed: int, robot: str) -> Iterator[Trial]:
    yield from cell_of(PRECISION, AS_SHIPPED, budget.precision, seed, Setting(robot=robot))
    for weights in ROUNDINGS:
        yield from cell_of(PRECISION, weights, budget.precision, seed, Setting(weights=weights, robot=robot))


PARTS: dict[str, Callable[[Budget, int, str], Iterator[Trial]]] = {
    TASKS_PART: _tasks,
    SHIFTS: _shifts,
    RGB: _rgb,
    SHAPES: _shapes,
    PARAPHRASES: _paraphrases,
    PROMPT: _prompt,
    SENSITIVITY: _sensitivity,
    PRECISION: _precision,
}
OF_A_NETWORK = (SENSITIVITY, PRECISION)  # parts that the demonstrator cannot take


def patterns() -> tuple[str, ...]:
    """The phrasings of a task, with X and Y for the colours; the canonical one first."""
    return phrasings("X", "Y")


def suite_trials(
    suite: str, seed: int, *, only: tuple[str, ...] = (), robot: str = ROBOT, expert: bool = False
) -> list[Trial]:
    """The trials of a suite, of the parts `only` or of all. The demonstrator (`expert`) gets those that it can do: it
    has neither weights nor a prompt that could be left out. Raises `EvaluationError` for a name that is not known."""
    if suite not in SUITES:
        raise EvaluationError(f"no suite {suite!r}; there are {', '.join(SUITES)}")
    for part in only:
        if part not in PARTS:
            raise EvaluationError(f"no part {part!r} in a suite; there are {', '.join(PARTS)}")
    trials = [trial for part in only or PARTS for trial in PARTS[part](SUITES[suite], seed, robot)]
    if expert:
        return [trial for trial in trials if trial.part not in OF_A_NETWORK and _has_words(trial.setting)]
    return trials


def _has_words(setting: Setting) -> bool:
    return setting.prompt != NONE and not setting.demonstration


def right(trial: Trial) -> bool:
    """The policy as it is shipped was told the canonical words, and nothing else: what its success is counted by."""
    setting = trial.setting
    return setting.prompt == RIGHT and not setting.demonstration and setting.weights == AS_SHIPPED
