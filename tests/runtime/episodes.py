"""Made-up control steps and episodes, the same for the same numbers."""

from __future__ import annotations

import numpy as np

from drivers.arm import JointState, frozen
from policies.policy import Action, Observation
from runtime.loop import EpisodeInfo, EpisodeResult, Step

JOINTS = ("shoulder_pan", "shoulder_lift", "elbow_flex", "wrist_flex", "wrist_roll", "gripper")
PERIOD = 50_000_000  # ns
TASK = "stack the red block on the blue block"


def make_image(index: int) -> np.ndarray:
    """A smooth picture that changes with `index`: JPEG keeps it nearly as it is."""
    ramp = np.linspace(0, 200, 64)
    return np.stack(
        [ramp + index % 40 + 0 * ramp[:, None], np.full((64, 64), 90.0), ramp[:, None] + 0 * ramp], axis=-1
    ).astype(np.uint8)


def make_step(index: int, episode: int) -> Step:
    rng = np.random.default_rng([episode, index])
    stamp = (1 + episode * 1000 + index) * PERIOD
    positions = rng.normal(size=6)
    zeros = frozen(np.zeros(6))
    state = JointState(
        stamp - 1_000_000, frozen(positions), zeros, zeros, frozen(np.full(6, 30.0)), frozen(np.full(6, 7.4))
    )
    observation = Observation(
        stamp,
        {"fixed": make_image(index), "wrist": make_image(index + 5)},
        {"joint_positions": frozen(positions), "joint_targets": frozen(positions)},
    )
    action = Action(rng.normal(size=6), rng.integers(32000, 33024, size=6))
    return Step(
        index,
        stamp,
        observation,
        action,
        state,
        frozen(positions),
        {"observe": 1.0, "decide": 15.0, "act": 0.1},
        0.2,
        index % 10 == 9,
    )


def make_start(episode: int) -> EpisodeInfo:
    return EpisodeInfo(episode, (1 + episode * 1000) * PERIOD, TASK, "test", 240)


def make_end(episode: int, outcome: str, steps: int) -> EpisodeResult:
    return EpisodeResult(
        episode,
        (1 + episode * 1000 + steps) * PERIOD,
        TASK,
        outcome,
        steps,
        steps // 10,
        steps * 0.05,
        np.full(steps, 16.1),
    )
