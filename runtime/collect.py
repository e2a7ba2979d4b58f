"""Demonstrations as a dataset: the scripted demonstrator's episodes, or a policy's with the demonstrator's labels.

Lock-step, the same loops as everywhere. The label of a step is what the demonstrator wants in that state; what was
executed may differ (noise, or a policy that drives), which is how a learner sees states off the demonstrator's path.
Knows no command line.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from drivers.config import load_robot
from policies.dataset import Episode, Facts
from policies.dataset_writer import DatasetWriter
from runtime.demonstration import EpisodeBuilder, describe_robot
from runtime.evaluate import EXPERT, image_size, make_policy, spread, verified
from runtime.report import SUCCESS, EpisodeOutcome

if TYPE_CHECKING:
    from policies.policy import Action, Observation, Policy
    from sim.world import World

RATE = 20  # Hz
BLOCK_POSITIONS = "environment_state"  # LeRobot's name for what the cameras only imply


@dataclass(frozen=True)
class Collected:
    """One episode that was driven; `episode` is None when it was not worth keeping."""

    outcome: EpisodeOutcome
    episode: Episode | None


@dataclass(frozen=True)
class CollectSettings:
    """What to collect. `noise` is the standard deviation (rad) of what is added to every executed joint target."""

    seed: int = 0
    task: str | None = None  # default: the tasks in turn
    driver: str = EXPERT  # or a policy whose states the demonstrator labels
    noise: float = 0.0
    keep_failures: bool = False
    robot: str = "simulated"  # or the name or file of one whose world is its own


def collect(
    folder: Path,
    episodes: int,
    settings: CollectSettings,
    *,
    workers: int | None = None,
    on_result: Callable[[EpisodeOutcome], None] = lambda outcome: None,
) -> int:
    """Drive `episodes` and append those that succeeded to the dataset in `folder`; returns how many were kept.

    Episode i has seed `settings.seed` + i; the order in the dataset is that of the seeds. Whatever ends this early,
    finished episodes are in the dataset. Raises `DatasetError`, `PolicyError` and `TaskError`.
    """
    from runtime.lockstep import CAMERAS
    from sim.world import COLOURS

    config = load_robot(settings.robot)
    # Of a world that is like no other, the symmetries do not hold for which the learner wants to know the blocks.
    own_world = config.simulation is not None
    blocks = [f"{colour}.{axis}" for colour in COLOURS for axis in "xyz"]
    driver = None if settings.driver == EXPERT else verified(settings.driver)
    size = image_size(driver)
    kept = 0
    with DatasetWriter(
        folder,
        fps=RATE,
        images=dict.fromkeys(CAMERAS, size),
        joint_names=config.arm.spec().joint_names,
        robot_type=config.name,
        extra={} if own_world else {BLOCK_POSITIONS: blocks},
    ) as writer:
        run = partial(_drive, settings, driver, size, writer.add_robot(describe_robot(config)), not own_world)
        for collected in spread(run, range(episodes), workers, ordered=True):
            if collected.episode is not None:
                writer.add(collected.episode)
                kept += 1
            on_result(collected.outcome)
    return kept


class _Labelled:
    """A policy that lets `driver` act and keeps what the demonstrator would have done, and where the blocks are."""

    rate = float(RATE)

    def __init__(self, world: World, driver: Policy, noise: float, rng: np.random.Generator) -> None:
        from runtime.lockstep import ExpertPolicy

        self.name = driver.name
        self._world, self._driver, self._noise, self._rng = world, driver, noise, rng
        self._expert = ExpertPolicy(world)
        self.labels: list[NDArray[np.float64]] = []
        self.blocks: list[NDArray[np.float64]] = []

    def reset(self, task: str) -> None:
        self._driver.reset(task)
        self._expert.reset(task)

    def act(self, observation: Observation) -> Action:
        from sim.world import COLOURS

        self.labels.append(self._expert.act(observation).targets)
        self.blocks.append(np.concatenate([self._world.block_pose(colour)[0] for colour in COLOURS]))
        action = self._driver.act(observation)
        if self._noise > 0.0:
            noisy = action.targets + self._rng.normal(0.0, self._noise, size=action.targets.shape)
            action = replace(action, targets=noisy)
        return action


def _drive(
    settings: CollectSettings, driver: Path | None, size: tuple[int, int], robot: str, privileged: bool, index: int
) -> Collected:
    """Episode `index` on the robot of that fingerprint; `privileged`: with where the blocks are."""
    from runtime.lockstep import run_lockstep, task_of

    seed = settings.seed + index
    asked = task_of(index, settings.task)
    labelled: list[_Labelled] = []

    def make(world: World) -> Policy:
        rng = np.random.default_rng([seed, 1])  # the layout's generator is default_rng(seed): keep clear of it
        labelled.append(_Labelled(world, make_policy(driver, world), settings.noise, rng))
        return labelled[0]

    with EpisodeBuilder() as builder:
        result = run_lockstep(make, asked, seed, robot=settings.robot, image_size=size, subscribers=[builder]).result
        outcome = EpisodeOutcome(index, seed, asked, result.outcome, result.steps, result.seconds)
        if result.steps == 0 or not (result.outcome == SUCCESS or settings.keep_failures):
            return Collected(outcome, None)
        episode = builder.episode(Facts(seed, result.outcome, robot, labelled[0].name))
    labels, blocks = (np.stack(rows).astype(np.float32) for rows in (labelled[0].labels, labelled[0].blocks))
    extra = {BLOCK_POSITIONS: blocks} if privileged else {}
    return Collected(outcome, replace(episode, actions=labels, extra=extra))
