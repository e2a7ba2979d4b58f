"""Thinned-out steps: what was wanted by the next kept step is the kept step's action."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from runtime.loop import EpisodeInfo, EpisodeResult, Step
from runtime.sampled import Sampled
from tests.runtime.episodes import make_end, make_start, make_step


class Told:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.infos: list[EpisodeInfo] = []
        self.steps: list[Step] = []
        self.results: list[EpisodeResult] = []
        self.on_episode_start = self.infos.append
        self.on_step = self.steps.append
        self.on_episode_end = self.results.append


def test_one_step_in_five_with_the_action_of_the_last() -> None:
    told = Told()
    sampled = Sampled(told, 5)
    for episode in range(2):
        sampled.on_episode_start(make_start(episode))
        for index in range(13):
            sampled.on_step(make_step(index, episode))
        sampled.on_episode_end(make_end(episode, "success", 13))
    assert [info.max_steps for info in told.infos] == [48, 48] and len(told.results) == 2
    assert [step.index for step in told.steps] == [0, 1, 0, 1]
    second = told.steps[1]
    assert second.stamp == make_step(5, 0).stamp and second.missed
    np.testing.assert_array_equal(second.action.targets, make_step(9, 0).action.targets)


def test_every_step_is_every_step() -> None:
    told = Told()
    sampled = Sampled(told, 1)
    sampled.on_episode_start(make_start(0))
    step = replace(make_step(3, 0), index=0)
    sampled.on_step(step)
    assert told.steps == [step]
    with pytest.raises(ValueError):
        Sampled(told, 0)
