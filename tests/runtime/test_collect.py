"""Collecting demonstrations: only successes, labels of the demonstrator, what was executed in the next targets."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from policies.dataset import Dataset, DatasetError
from runtime.collect import CollectSettings, collect
from runtime.report import EpisodeOutcome
from sim.tasks import TASKS


def test_demonstrations_come_back_and_more_can_be_added(tmp_path: Path) -> None:
    outcomes: list[EpisodeOutcome] = []
    assert collect(tmp_path, 2, CollectSettings(seed=20), workers=1, on_result=outcomes.append) == 2
    assert collect(tmp_path, 1, CollectSettings(seed=22, task=TASKS[5].text), workers=1) == 1
    dataset = Dataset(tmp_path)
    assert [episode.task for episode in dataset] == [TASKS[0].text, TASKS[1].text, TASKS[5].text]
    episode = dataset[0]
    assert len(episode) == outcomes[0].steps and dataset.fps == 20
    assert episode.frames("fixed").shape == (len(episode), 64, 64, 3)
    # Without noise what was executed is the label, in the command of the next step.
    assert np.abs(episode.joint_targets[1:] - episode.actions[:-1]).max() < 1e-6
    assert [facts.seed for facts in map(dataset.facts, range(3))] == [20, 21, 22]
    assert episode.facts.outcome == "success" and episode.facts.demonstrator == "expert"
    assert (np.diff(episode.stamps[:, 1:], axis=0) == 50_000_000).all()  # ns, by the simulated clock
    blocks = episode.extra["environment_state"].reshape(-1, 3, 3)
    assert np.abs(blocks[0, :, 2] - 0.014).max() < 0.002  # m: three cubes of 28 mm on the table
    red, green = blocks[-1, 0], blocks[-1, 1]
    assert np.hypot(*(red - green)[:2]) < 0.014 and abs(red[2] - green[2] - 0.028) < 0.006


def test_workers_do_not_change_the_dataset(tmp_path: Path) -> None:
    settings = CollectSettings(seed=3, noise=0.01)
    assert collect(tmp_path / "one", 3, settings, workers=1) == collect(tmp_path / "two", 3, settings, workers=2)
    for left, right in zip(Dataset(tmp_path / "one"), Dataset(tmp_path / "two"), strict=True):
        assert np.array_equal(left.actions, right.actions)
        assert list(left.images["wrist"]) == list(right.images["wrist"])


def test_noise_disturbs_what_is_executed_not_the_label(tmp_path: Path) -> None:
    collect(tmp_path, 1, CollectSettings(seed=3, noise=0.02, keep_failures=True), workers=1)
    episode = Dataset(tmp_path)[0]
    executed = episode.joint_targets[1:] - episode.actions[:-1]
    assert 0.005 < executed[:, 0].std() < 0.03


def test_a_folder_of_another_shape_is_refused(tmp_path: Path) -> None:
    (tmp_path / "meta").mkdir()
    (tmp_path / "meta" / "info.json").write_text('{"codebase_version": "v2.1"}')
    with pytest.raises(DatasetError, match=r"version v2.1"):
        collect(tmp_path, 1, CollectSettings())
