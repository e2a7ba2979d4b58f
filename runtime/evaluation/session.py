"""An evaluation, from its trials to rows in a folder: refuses first what can be refused, then plays what is missing.

Knows no command line and no report.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any

from drivers.config import RobotConfig
from policies.artifact import check_robot
from policies.card import GRAPH
from runtime.evaluate import EXPERT, LOKY, artifact_at, image_size, session, verified
from runtime.evaluation.cluster import cluster
from runtime.evaluation.paper import GENERALIZATION, MASTERY
from runtime.evaluation.play import maker
from runtime.evaluation.run import run_trials
from runtime.evaluation.store import Store
from runtime.evaluation.suite import PARAPHRASES, PROMPT
from runtime.evaluation.trial import AS_SHIPPED, CUBES, Trial
from runtime.lockstep import simulable
from runtime.report import EpisodeOutcome
from sim.shapes import TRIPLETS

HASH = 12  # digits of the graph's sha256 that tell policies of one name apart


@dataclass(frozen=True)
class Subject:
    """Who is evaluated: the artifact in `folder`, or the demonstrator for None."""

    folder: Path | None
    name: str
    label: str  # name and graph, as rows have it
    benchmark: str | None  # which of the paper's RGB tables its training is comparable with, where its card says


def subject_of(policy: str) -> Subject:
    """The subject that a shipped policy's name, an artifact's folder or "expert" means. Raises `PolicyError`."""
    if policy == EXPERT:
        return Subject(None, EXPERT, EXPERT, None)
    folder = verified(policy)
    card = artifact_at(folder).card
    return Subject(folder, card.name, f"{card.name}@{card.files[GRAPH][:HASH]}", benchmark_of(card.training))


def benchmark_of(training: Mapping[str, Any]) -> str | None:
    """Mastery where shapes of the test triplets were trained on, generalization where other shapes were alone; None
    where a card says nothing of shapes."""
    mixture = training.get("mixture")
    objects = mixture.get("objects") if isinstance(mixture, dict) else None
    if not isinstance(objects, dict):
        return None
    trained = {name for name, share in objects.items() if isinstance(share, int | float) and share > 0}
    if trained & {"triplets", *TRIPLETS}:
        return MASTERY
    return GENERALIZATION if trained - {CUBES} else None


def check(subject: Subject, trials: Sequence[Trial]) -> None:
    """Refuse before anything starts what cannot be played with: another robot's policy, words that it does not know.

    In the parts about phrasings and prompts a refusal is a result and not a mistake. Raises `ConfigError`,
    `PolicyError`, `TaskError` and `EvaluationError`, and `ModuleNotFoundError` where an extra is missing.
    """
    for robot in dict.fromkeys(trial.setting.robot for trial in trials):
        config = simulable(robot)
        if subject.folder is not None:
            check_robot(artifact_at(subject.folder).card, _sized(config, image_size(subject.folder)))
    if any(trial.setting.weights != AS_SHIPPED for trial in trials):
        importlib.import_module("onnx")
    if subject.folder is None:
        for trial in trials:
            maker(None, trial, trial.told())
        return
    for told in dict.fromkeys(trial.told() for trial in trials if trial.part not in (PARAPHRASES, PROMPT)):
        session(subject.folder).reset(told)


def _sized(config: RobotConfig, size: tuple[int, int]) -> RobotConfig:
    """The robot with cameras of that (height, width): the simulator renders whatever a policy wants to see."""
    cameras = {name: camera.model_copy(update={"size": size}) for name, camera in config.cameras.items()}
    return config.model_copy(update={"cameras": cameras})


def play_missing(
    subject: Subject,
    trials: Sequence[Trial],
    store: Store,
    *,
    workers: int | None = None,
    backend: str = LOKY,
    minutes: float | None = None,
    on_result: Callable[[EpisodeOutcome], None] = lambda outcome: None,
) -> bool:
    """Play those `trials` that `store` lacks, and write each down; True when all are there in the end.

    No further one is begun after `minutes`. `on_result` is called in this process as episodes finish, in any order.
    """
    missing = store.missing(trials)
    until = None if minutes is None else monotonic() + 60 * minutes

    def wanted() -> bool:
        return until is None or monotonic() < until

    if missing:
        with cluster(backend):
            for played in run_trials(subject.folder, missing, workers=workers, backend=backend, wanted=wanted):
                store.add(played)
                on_result(played.outcome)
    return not store.missing(trials)
