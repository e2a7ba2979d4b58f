"""Plays one trial in this process and says what came of it, as a row that can be written down.

The policy is opened and the world is built once in each process, not once an episode; whatever a trial's outcome
depends on is in the trial. Knows no workers and no files of results.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from policies.policy import Policy, PolicyError
from runtime.evaluate import artifact_at, image_size, session
from runtime.evaluation.film import Film
from runtime.evaluation.precision import Shadow, rounded_session
from runtime.evaluation.prompted import Told, demonstration_of
from runtime.evaluation.sensitivity import Probes
from runtime.evaluation.trial import AS_SHIPPED, PARAPHRASED, WRONG, EvaluationError, Trial
from runtime.lockstep import ExpertPolicy, run_lockstep
from runtime.loop import FAULT
from runtime.report import EpisodeOutcome

if TYPE_CHECKING:
    from sim.world import World

REFUSED = "prompt refused by the policy"
TRAINED_ON = "trained_on"  # measured of a paraphrase: the card lists this very sentence
SENSITIVITY = "sensitivity"  # the part whose episodes are probed


@dataclass(frozen=True)
class Played:
    """One trial, played."""

    trial: Trial
    told: str | None
    outcome: EpisodeOutcome
    strip: NDArray[np.uint8] | None = None  # of a failure: its moments
    measured: dict[str, Any] = field(default_factory=dict)  # of the policy, beside the outcome


def play(folder: Path | None, trial: Trial) -> Played:
    """Play `trial` with the artifact in `folder`, or with the demonstrator for None.

    Raises `PolicyError`, `ConfigError` and `TaskError` for what no episode can be played with.
    """
    setting, told = trial.setting, trial.told()
    film, meters = Film(), _meters(folder, trial, told)
    try:
        episode = run_lockstep(
            maker(folder, trial, told),
            trial.task,
            trial.seed,
            robot=setting.robot,
            image_size=image_size(folder),
            conditions=trial.conditions(),
            shapes=trial.shapes(),
            other=told if setting.prompt == WRONG else None,
            subscribers=[film, *meters],
            index=trial.index,
        )
    except PolicyError as error:
        if setting.prompt != PARAPHRASED:
            raise
        refused = EpisodeOutcome(trial.index, trial.seed, trial.task, REFUSED, 0, 0.0, cell=trial.cell, sparse=False)
        return Played(trial, told, refused, None, {"refusal": str(error), TRAINED_ON: False})
    result = episode.result
    outcome = EpisodeOutcome(
        trial.index,
        trial.seed,
        trial.task,
        kind_of(result.outcome),
        result.steps,
        result.seconds,
        tuple(round(float(ms), 2) for ms in result.step_ms),
        result.missed,
        trial.cell,
        episode.sparse,
    )
    measured = {name: value for meter in meters for name, value in meter.measured().items()}
    if result.outcome.startswith(FAULT):
        measured["fault"] = result.outcome.removeprefix(FAULT)
    if folder is not None and setting.prompt == PARAPHRASED:
        measured[TRAINED_ON] = told in artifact_at(folder).card.tasks
    return Played(trial, told, outcome, None if outcome.success else film.strip(), measured)


def kind_of(outcome: str) -> str:
    """A fault by what noticed it, without the figures that differ from one to the next; any other outcome as it is."""
    return ": ".join(outcome.split(": ")[:2]) if outcome.startswith(FAULT) else outcome


def _meters(folder: Path | None, trial: Trial, told: str | None) -> list[Shadow | Probes]:
    """What measures the policy while it drives."""
    if folder is None:
        return []
    probed = [Probes(folder, told, trial.seed)] if trial.part == SENSITIVITY else []
    rounded = [Shadow(folder, told)] if trial.setting.weights != AS_SHIPPED else []
    return [*probed, *rounded]


def maker(folder: Path | None, trial: Trial, told: str | None) -> Callable[[World], Policy]:
    """Makes the trial's policy, given a world. What plays other episodes does so now, before that world is set."""
    setting = trial.setting
    if folder is None:
        if told is None or setting.demonstration or setting.weights != AS_SHIPPED:
            raise EvaluationError("the expert has neither prompt nor weights: evaluate a policy for these")
        return lambda world: _expert(world, told)
    policy = session(folder) if setting.weights == AS_SHIPPED else rounded_session(folder, setting.weights)
    shown = demonstration_of(trial, folder) if setting.demonstration else []
    return lambda world: Told(policy, partial(policy.reset, told, shown))


def _expert(world: World, told: str) -> Told:
    expert = ExpertPolicy(world)
    return Told(expert, partial(expert.reset, told))
