"""What a policy is shown while it is timed: demonstrations of the simulated arm, or made-up steps for another one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from policies.card import Card
from policies.policy import Observation
from runtime.lockstep import CAMERAS, IMAGE_SIZE, ExpertPolicy, run_lockstep, task_of
from runtime.loop import Step
from sim.so101 import SPEC

STEPS = 60  # of a made-up episode
WANDER = 0.02  # of a joint's range, each step


@dataclass(frozen=True)
class Episode:
    """What is asked, and what is sensed at each step."""

    task: str
    observations: tuple[Observation, ...]


def episodes_for(card: Card, seed: int, count: int = 2) -> list[Episode]:
    """`count` episodes that a policy with this card can be shown."""
    cameras = {name: (camera.height, camera.width) for name, camera in card.cameras.items()}
    if tuple(card.actions.joint_names) == SPEC.joint_names and cameras == dict.fromkeys(CAMERAS, IMAGE_SIZE):
        return [_demonstrated(seed + index, index) for index in range(count)]
    return [_made_up(card, np.random.default_rng([seed, index]), index) for index in range(count)]


def _demonstrated(seed: int, index: int) -> Episode:
    seen = _Observations()
    run_lockstep(ExpertPolicy, task_of(index), seed, subscribers=[seen])
    return Episode(task_of(index), tuple(seen.observations))


class _Observations:
    """A subscriber that keeps what was sensed."""

    def __init__(self) -> None:
        self.observations: list[Observation] = []

    def on_episode_start(self, info: object) -> None:
        self.observations.clear()

    def on_step(self, step: Step) -> None:
        self.observations.append(step.observation)

    def on_episode_end(self, result: object) -> None:
        """Nothing ends here."""


def _made_up(card: Card, rng: np.random.Generator, index: int) -> Episode:
    """Noise before the cameras, joints that wander."""
    observations = []
    joints = len(card.actions.joint_names)
    ranges = {name: (np.array(q.low), np.array(q.high)) for name, q in card.proprioception.items()}
    middle = {name: (low + high) / 2 for name, (low, high) in ranges.items()} or {"joint_targets": np.zeros(joints)}
    for step in range(STEPS):
        for name, (low, high) in ranges.items():
            moved = middle[name] + WANDER * (high - low) * rng.uniform(-1, 1, len(low))
            middle[name] = np.clip(moved, low, high)
        images = {
            name: rng.integers(0, 256, (camera.height, camera.width, 3), dtype=np.uint8)
            for name, camera in card.cameras.items()
        }
        sensed = {name: values.copy() for name, values in middle.items()}
        sensed.setdefault("joint_targets", np.zeros(joints))
        observations.append(Observation(step, images, sensed))
    return Episode(card.tasks[index % len(card.tasks)] if card.tasks else "go", tuple(observations))
