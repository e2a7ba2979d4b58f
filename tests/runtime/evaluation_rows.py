"""Made-up rows of an evaluation, the same for the same numbers."""

from __future__ import annotations

from collections.abc import Iterable

from runtime.evaluation.play import TRAINED_ON
from runtime.evaluation.store import Row
from runtime.evaluation.suite import PARAPHRASES, PRECISION, SENSITIVITY, suite_trials
from runtime.evaluation.trial import Trial
from runtime.report import SUCCESS, EpisodeOutcome

KINDS = ("placed beside", "wrong pair stacked", "never moved")
POLICY = "stack@0123456789ab"


def make_row(trial: Trial, outcome: str, strip: str | None = None) -> Row:
    measured = {}
    if trial.part == SENSITIVITY:
        measured = {"farthest": {"executed action": {"0": 3, "30": 1}, "joint_positions": {"1": 4}}}
    if trial.part == PRECISION and trial.cell != "as shipped":
        measured = {"bins_apart": {"0": 90, "2": 10}}
    if trial.part == PARAPHRASES:
        measured = {TRAINED_ON: trial.setting.phrasing in (0, 1)}
    told = EpisodeOutcome(
        trial.index, trial.seed, trial.task, outcome, 50, 2.5, (15.0, 16.0), 0, trial.cell, outcome == SUCCESS
    )
    return Row(trial, trial.told(), told, strip, measured, POLICY)


def suite_rows(every: int = 4) -> list[Row]:
    """One row for each cell of a suite and two of the first; every so-manieth failed."""
    trials: Iterable[Trial] = suite_trials("smoke", 100)
    return [
        make_row(trial, SUCCESS if place % every else KINDS[place // every % len(KINDS)])
        for place, trial in enumerate(trials)
    ]
