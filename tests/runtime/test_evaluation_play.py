"""One trial at a time, with the demonstrator and with the shipped policy: what comes of it, whatever the workers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from policies.policy import PolicyError
from runtime.evaluate import session, verified
from runtime.evaluation.film import Film
from runtime.evaluation.play import REFUSED, TRAINED_ON, Played, kind_of, play
from runtime.evaluation.prompted import SHOWN, demonstration_of
from runtime.evaluation.run import run_trials
from runtime.evaluation.trial import EvaluationError, Setting, Trial, cell_of
from runtime.lockstep import AS_TOLD
from sim.tasks import TASKS
from tests.runtime.episodes import make_step

TRIAL = Trial("episodes", "cubes", 0, 100_000, TASKS[0].text)


@pytest.fixture(scope="module")
def shipped() -> Path:
    return verified("stack")


def gist(played: Played) -> tuple[object, ...]:
    outcome = played.outcome
    return outcome.index, outcome.seed, outcome.task, outcome.outcome, outcome.steps, outcome.sparse, played.told


def test_a_seed_gives_the_same_figures_on_any_number_of_workers() -> None:
    trials = [
        *cell_of("episodes", "cubes", 2, 100_000, Setting()),
        *cell_of("episodes", "held_out", 2, 100_000, Setting(objects="held_out", shifts=("light", "friction"))),
    ]
    alone = [gist(played) for played in run_trials(None, trials, workers=1)]
    together = [gist(played) for played in run_trials(None, list(reversed(trials)), workers=2)]
    assert sorted(alone) == sorted(together)
    assert [outcome for *_, outcome, _, _, _ in alone[:2]] == ["success", "success"]


def test_the_shipped_policy_stacks_and_what_it_is_told_decides(shipped: Path) -> None:
    right = play(shipped, TRIAL)
    assert right.outcome.success and right.outcome.sparse and right.strip is None
    assert len(right.outcome.step_ms) == right.outcome.steps
    wrong = play(shipped, replace(TRIAL, setting=Setting(prompt="wrong")))
    assert wrong.outcome.outcome == AS_TOLD and wrong.told != TRIAL.task
    assert wrong.strip is not None and wrong.strip.shape[0] == 2 * 64 + 2 and wrong.strip.shape[1] > 5 * 64


def test_a_demonstration_is_the_end_of_one_that_succeeded(shipped: Path) -> None:
    shown = demonstration_of(TRIAL, shipped)
    assert len(shown) == SHOWN and all(step.executed is not None for step in shown)
    assert set(shown[0].observation.images) == {"fixed", "wrist"}
    again = demonstration_of(TRIAL, shipped)
    assert all(np.array_equal(a.observation.images["fixed"], b.observation.images["fixed"])
               for a, b in zip(shown, again, strict=True))  # fmt: skip
    policy = session(shipped)
    policy.reset(None, shown)  # Gato's own prompt: no words at all
    first = policy.act(shown[0].observation).tokens
    policy.reset(TRIAL.task, shown)
    assert not np.array_equal(first, policy.act(shown[0].observation).tokens)


@pytest.mark.parametrize("setting", [Setting(prompt="none"), Setting(demonstration=True), Setting(weights="bf16")])
def test_the_demonstrator_has_neither_prompt_nor_weights(setting: Setting) -> None:
    with pytest.raises(EvaluationError, match="the expert has neither prompt nor weights"):
        play(None, replace(TRIAL, setting=setting))


def test_a_policy_that_refuses_a_phrasing_has_an_outcome_and_one_that_refuses_its_task_is_an_error(
    shipped: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*words: object) -> None:
        raise PolicyError("not trained on this")

    monkeypatch.setattr(type(session(shipped)), "reset", refuse)
    refused = play(shipped, replace(TRIAL, setting=Setting(prompt="paraphrased", phrasing=6)))
    assert refused.outcome.outcome == REFUSED and refused.outcome.steps == 0
    assert refused.measured == {"refusal": "not trained on this", TRAINED_ON: False}
    with pytest.raises(PolicyError, match="not trained on this"):
        play(shipped, TRIAL)


@pytest.mark.parametrize(
    ("outcome", "kind"),
    [
        ("placed beside", "placed beside"),
        ("fault: guard: table for 1 s: the policy asks for a pose that the arm must not take", "fault: guard"),
        ("fault: shoulder_lift is 0.41 rad behind", "fault: shoulder_lift is 0.41 rad behind"),
    ],
)
def test_faults_are_of_a_kind(outcome: str, kind: str) -> None:
    assert kind_of(outcome) == kind


def test_a_film_goes_from_the_first_frame_to_the_last() -> None:
    film = Film()
    film.on_episode_start(None)
    assert film.strip() is None
    steps = [make_step(index, 0) for index in range(11)]
    for step in steps:
        film.on_step(step)
    strip = film.strip(3)
    assert strip is not None and strip.shape == (130, 3 * 64 + 2 * 2, 3)
    for column, step in zip((0, 66, 132), (steps[0], steps[5], steps[10]), strict=True):
        assert np.array_equal(strip[:64, column : column + 64], step.observation.images["fixed"])
        assert np.array_equal(strip[66:, column : column + 64], step.observation.images["wrist"])
