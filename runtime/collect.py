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

from policies.dataset import DatasetWriter, Episode, encode_png
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
    from sim.so101 import SPEC
    from sim.world import COLOURS

    driver = None if settings.driver == EXPERT else verified(settings.driver)
    size = image_size(driver)
    kept = 0
    with DatasetWriter(
        folder,
        fps=RATE,
        images=dict.fromkeys(CAMERAS, size),
        joint_names=SPEC.joint_names,
        robot_type="so101",
        extra={BLOCK_POSITIONS: [f"{colour}.{axis}" for colour in COLOURS for axis in "xyz"]},
    ) as writer:
        run = partial(_drive, settings, driver, size)
        for collected in spread(run, range(episodes), workers, ordered=True):
            if collected.episode is not None:
                writer.add(collected.episode)
                kept += 1
            on_result(collected.outcome)
    return kept


class _Labelled:
    """A policy that lets `driver` act and keeps what it saw and what the demonstrator would have done."""

    rate = float(RATE)

    def __init__(self, world: World, driver: Policy, noise: float, rng: np.random.Generator) -> None:
        from runtime.lockstep import ExpertPolicy

        self.name = driver.name
        self._world, self._driver, self._noise, self._rng = world, driver, noise, rng
        self._expert = ExpertPolicy(world)
        self._images: dict[str, list[bytes]] = {}
        self._positions: list[NDArray[np.float64]] = []
        self._targets: list[NDArray[np.float64]] = []
        self._labels: list[NDArray[np.float64]] = []
        self._blocks: list[NDArray[np.float64]] = []

    def reset(self, task: str) -> None:
        self._driver.reset(task)
        self._expert.reset(task)

    def act(self, observation: Observation) -> Action:
        from sim.world import COLOURS

        for camera, image in observation.images.items():
            self._images.setdefault(camera, []).append(encode_png(image))
        self._positions.append(np.asarray(observation.proprioception["joint_positions"]))
        self._targets.append(np.asarray(observation.proprioception["joint_targets"]))
        label = self._expert.act(observation).targets
        self._labels.append(label)
        self._blocks.append(np.concatenate([self._world.block_pose(colour)[0] for colour in COLOURS]))
        action = self._driver.act(observation)
        if self._noise > 0.0:
            noisy = action.targets + self._rng.normal(0.0, self._noise, size=action.targets.shape)
            action = replace(action, targets=noisy)
        return action

    def episode(self, task: str) -> Episode:
        def matrix(rows: list[NDArray[np.float64]]) -> NDArray[np.float32]:
            return np.stack(rows).astype(np.float32)

        return Episode(
            task,
            self._images,
            matrix(self._positions),
            matrix(self._targets),
            matrix(self._labels),
            {BLOCK_POSITIONS: matrix(self._blocks)},
        )


def _drive(settings: CollectSettings, driver: Path | None, size: tuple[int, int], index: int) -> Collected:
    from runtime.lockstep import run_lockstep, task_of

    seed = settings.seed + index
    asked = task_of(index, settings.task)
    labelled: list[_Labelled] = []

    def make(world: World) -> Policy:
        rng = np.random.default_rng([seed, 1])  # the layout's generator is default_rng(seed): keep clear of it
        labelled.append(_Labelled(world, make_policy(driver, world), settings.noise, rng))
        return labelled[0]

    episode = run_lockstep(make, asked, seed, image_size=size)
    result = episode.result
    outcome = EpisodeOutcome(index, seed, asked, result.outcome, result.steps, result.seconds)
    keep = result.steps > 0 and (result.outcome == SUCCESS or settings.keep_failures)
    return Collected(outcome, labelled[0].episode(asked) if keep else None)
