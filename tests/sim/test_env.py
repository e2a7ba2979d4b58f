"""The Gymnasium environment: the checker's contract, and ours on tasks, actions and ends."""

from __future__ import annotations

from collections.abc import Iterator

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from sim.env import StackEnv
from sim.expert import STEP, Expert
from sim.tasks import TASKS, TaskError
from sim.world import World


@pytest.fixture
def env() -> Iterator[StackEnv]:
    env = StackEnv()
    yield env
    env.close()


@pytest.mark.filterwarnings("error")
def test_gymnasium_s_own_checker_is_content() -> None:
    check_env(gymnasium.make("gato-arm/Stack-v0", render_mode="rgb_array").unwrapped)


def test_the_same_seed_is_the_same_episode(env: StackEnv) -> None:
    def episode() -> list[np.ndarray]:
        first, info = env.reset(seed=7)
        actions = np.random.default_rng(0).uniform(-1, 1, size=(3, 6)).astype(np.float32)
        steps = [env.step(action)[0] for action in actions]
        return [np.array([info["task"]]), *(o[key] for o in [first, *steps] for key in sorted(o))]

    assert all(np.array_equal(a, b) for a, b in zip(episode(), episode(), strict=True))


def test_tasks_are_drawn_fixed_or_named(env: StackEnv) -> None:
    assert len({env.reset(seed=seed)[1]["task"] for seed in range(30)}) == len(TASKS)
    assert env.reset(options={"task": TASKS[4].text})[1]["task"] == TASKS[4].text
    with pytest.raises(TaskError, match="purple"):
        env.reset(options={"task": "stack the purple block on the red block"})
    with pytest.raises(TaskError, match="purple"):
        StackEnv(task="stack the purple block on the red block")
    fixed = StackEnv(task=TASKS[2].text)
    assert {fixed.reset(seed=seed)[1]["task"] for seed in range(5)} == {TASKS[2].text}
    fixed.close()


def test_actions_are_steps_from_the_last_target(env: StackEnv) -> None:
    before = env.reset(seed=0)[0]["joint_targets"]
    after = env.step(np.array([1, -1, 0.5, 0, 0, -1], dtype=np.float32))[0]["joint_targets"]
    np.testing.assert_allclose(after[:5] - before[:5], [STEP, -STEP, STEP / 2, 0, 0], atol=1e-6)
    assert after[5] == World.spec.position_min[5]


def test_targets_stay_within_the_limits(env: StackEnv) -> None:
    env.reset(seed=0)
    for _ in range(25):
        observation = env.step(np.array([3, 3, 3, -3, 3, 3], dtype=np.float32))[0]
    assert env.observation_space.contains(observation)
    assert observation["joint_targets"][0] == np.float32(World.spec.position_max[0])


def test_doing_nothing_is_truncated_and_named(env: StackEnv) -> None:
    env.reset(seed=0)
    still = np.array([0, 0, 0, 0, 0, 0.7], dtype=np.float32)
    ends = [env.step(still)[1:] for _ in range(240)]
    assert [end[1:3] for end in ends[:-1]] == [(False, False)] * 239
    reward, terminated, truncated, info = ends[-1]
    assert (reward, terminated, truncated, info["outcome"]) == (0.0, False, True, "never moved")


def test_the_demonstrator_is_rewarded(env: StackEnv) -> None:
    _, info = env.reset(seed=3)
    expert = Expert(env.world, next(task for task in TASKS if task.text == info["task"]))
    targets = env.world.joint_targets()
    spec = World.spec
    for _ in range(240):
        goal = expert.act(targets)
        action = (goal - targets) / STEP
        action[5] = 2 * (goal[5] - spec.position_min[5]) / (spec.position_max[5] - spec.position_min[5]) - 1
        observation, reward, terminated, truncated, info = env.step(action.astype(np.float32))
        targets = observation["joint_targets"].astype(float)
        if terminated or truncated:
            break
    assert (reward, terminated, truncated, info["outcome"]) == (1.0, True, False, "success")


def test_a_step_needs_a_reset(env: StackEnv) -> None:
    with pytest.raises(gymnasium.error.ResetNeeded):
        env.step(np.zeros(6, dtype=np.float32))
