"""Many episodes in lock-step: nothing of what ran before matters, workers and their order, what ends an episode."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from drivers.config import ConfigError
from policies.policy import Action, Observation, PolicyError
from runtime.evaluate import default_workers, spread, verified
from runtime.lockstep import AS_TOLD, ExpertPolicy, run_lockstep, task_of
from runtime.loop import EpisodeInfo, Step
from sim.tasks import TASKS, TaskError
from sim.variation import NOMINAL, Conditions
from sim.world import World


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


def test_an_emulated_robot_is_played_as_its_file_says_and_what_is_shifted_takes_the_place_of_its_own() -> None:
    """The same layout; other cameras and servos. A shift leaves what it is not about as the robot has it."""
    plain, rig, again = (
        run_lockstep(ExpertPolicy, task_of(0), 7, robot=robot)
        for robot in ("simulated", "emulated_rig", "emulated_rig")
    )
    assert rig.result.outcome == plain.result.outcome == "success"
    assert not np.array_equal(rig.frames[0], plain.frames[0]) and rig.result.steps == again.result.steps
    seen: list[Conditions] = []

    def make(world: World) -> ExpertPolicy:
        seen.append(world.conditions)
        return ExpertPolicy(world)

    run_lockstep(make, task_of(0), 7, robot="emulated_rig", conditions=replace(NOMINAL, delay=0.05))
    assert seen[0].delay == 0.05 and seen[0].servo_gain == 0.8


@pytest.mark.parametrize(("robot", "said"), [("so101", "is a real one"), ("so10", "did you mean 'so101'")])
def test_a_robot_that_cannot_be_simulated_is_refused(robot: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        run_lockstep(ExpertPolicy, task_of(0), 7, robot=robot)


def test_a_task_is_checked_and_tasks_come_in_turn() -> None:
    assert task_of(7) == TASKS[1].text and task_of(3, TASKS[5].text) == TASKS[5].text
    with pytest.raises(TaskError, match="pink"):
        task_of(0, "stack the pink block on the blue block")


def test_a_policy_that_is_not_there_is_refused() -> None:
    with pytest.raises(PolicyError, match="no policy 'nowhere'"):
        verified("nowhere")


def test_an_episode_also_ends_when_another_task_is_done() -> None:
    """Judged by one task, told another: the demonstrator does what it is told."""
    told = TASKS[3].text

    class Told(ExpertPolicy):
        def reset(self, task: str) -> None:
            super().reset(told)

    episode = run_lockstep(Told, TASKS[0].text, 3, other=told)
    assert episode.result.outcome == AS_TOLD and not episode.sparse
    plain = run_lockstep(ExpertPolicy, TASKS[3].text, 3)
    assert plain.result.steps == episode.result.steps and plain.sparse


@pytest.mark.parametrize("workers", [1, 2])
def test_spread_keeps_order_when_asked(workers: int) -> None:
    assert list(spread(abs, [-3, -1, -2], workers, ordered=True)) == [3, 1, 2]


def test_there_is_at_least_one_worker() -> None:
    assert default_workers() >= 1


def test_nothing_is_begun_any_more_when_nobody_wants_it() -> None:
    begun: list[int] = []
    done = list(spread(lambda i: begun.append(i) or i, [1, 2, 3], 1, wanted=lambda: len(begun) < 2))
    assert begun == [1, 2] == done
    assert list(spread(abs, [-1, -2, -3], 2, wanted=lambda: False)) == []
