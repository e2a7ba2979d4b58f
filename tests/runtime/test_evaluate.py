"""Evaluation: the same figures whatever the workers and whatever ran before, failures on a sheet."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from policies.policy import Action, Observation, PolicyError
from runtime.evaluate import Evaluated, default_workers, evaluate, failure_sheet, spread
from runtime.lockstep import ExpertPolicy, run_lockstep, task_of
from runtime.loop import EpisodeInfo, Step
from runtime.picture import decode
from runtime.report import EpisodeOutcome
from sim.tasks import TASKS, TaskError


def test_the_expert_succeeds_and_a_seed_gives_the_same_figures_on_any_number_of_workers() -> None:
    seen: list[int] = []
    alone, failures = evaluate("expert", 4, 100_000, workers=1, on_result=lambda outcome: seen.append(outcome.index))
    together, _ = evaluate("expert", 4, 100_000, workers=2)
    assert seen == [0, 1, 2, 3] and failures == []
    assert [(o.index, o.seed, o.task, o.outcome, o.steps) for o in alone.outcomes] == [
        (o.index, o.seed, o.task, o.outcome, o.steps) for o in together.outcomes
    ]
    assert alone.success_rate == 1.0 and alone.policy == "expert"
    assert [outcome.task for outcome in alone.outcomes] == [task.text for task in TASKS[:4]]
    timing = alone.step_ms()
    assert timing is not None and timing["p50"] > 0.0


def test_what_ran_before_does_not_matter() -> None:
    first = run_lockstep(ExpertPolicy, task_of(0), 7)
    run_lockstep(ExpertPolicy, task_of(1), 8)
    again = run_lockstep(ExpertPolicy, task_of(0), 7)
    assert first.result.steps == again.result.steps
    assert all(np.array_equal(a, b) for a, b in zip(first.frames, again.frames, strict=True))


class _Idle:
    name, rate = "idle", 20.0

    def reset(self, task: str) -> None:
        pass

    def act(self, observation: Observation) -> Action:
        return Action(observation.proprioception["joint_targets"], np.zeros(0, dtype=np.int64))


class _Heard:
    def __init__(self) -> None:
        self.infos: list[EpisodeInfo] = []
        self.steps: list[Step] = []

    def on_episode_start(self, info: EpisodeInfo) -> None:
        self.infos.append(info)

    def on_step(self, step: Step) -> None:
        self.steps.append(step)

    def on_episode_end(self, result: object) -> None:
        pass


def test_an_idle_policy_fails_by_kind_and_subscribers_hear_the_episode_number() -> None:
    heard = _Heard()
    episode = run_lockstep(lambda world: _Idle(), TASKS[2].text, 5, subscribers=[heard], index=4)
    assert episode.result.outcome == "never moved" and episode.result.steps == 240 and episode.result.index == 4
    assert heard.infos[0].index == 4 and len(heard.steps) == 240
    stamps = np.diff([step.stamp for step in heard.steps])
    assert np.all(stamps == 50_000_000)  # ns, 20 Hz of simulated time
    assert len(episode.frames) == 2 and episode.frames[0].shape == (64, 64, 3)


def test_a_task_is_checked_and_tasks_come_in_turn() -> None:
    assert task_of(7) == TASKS[1].text and task_of(3, TASKS[5].text) == TASKS[5].text
    with pytest.raises(TaskError, match="pink"):
        task_of(0, "stack the pink block on the blue block")


def test_a_policy_that_is_not_there_is_refused_before_anything_runs() -> None:
    with pytest.raises(PolicyError, match="no policy 'nowhere'"):
        evaluate("nowhere", 2, 0)


def test_failure_sheet(tmp_path: Path) -> None:
    frame = np.full((64, 64, 3), 90, dtype=np.uint8)
    failed = Evaluated(EpisodeOutcome(0, 3, "stack", "never moved", 240, 12.0), (frame, frame))
    assert failure_sheet([failed] * 30, tmp_path / "f.png")
    assert decode((tmp_path / "f.png").read_bytes()).shape[0] > 6 * 192  # 24 of them in rows of 4
    assert not failure_sheet([], tmp_path / "none.png")
    assert not (tmp_path / "none.png").exists()


@pytest.mark.parametrize("workers", [1, 2])
def test_spread_keeps_order_when_asked(workers: int) -> None:
    assert list(spread(abs, [-3, -1, -2], workers, ordered=True)) == [3, 1, 2]


def test_there_is_at_least_one_worker() -> None:
    assert default_workers() >= 1
