"""`gato-arm train` in simulation: a few seconds of it, resumed, and what happens when the simulation dies."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from policies.gato.train import load_checkpoint
from policies.policy import PolicyError
from runtime.learn import LearnSettings, learn
from runtime.mixture import KINDS, Mixture
from runtime.rollouts import RolloutError, Rollouts
from runtime.so101_policy import SEQUENCE
from runtime.training_log import peak_of
from sim.tasks import TASKS

KEPT_OUT = 2


def ticking() -> Callable[[], float]:
    """A clock that goes on by 50 ms whenever it is looked at: so much is done, however fast the machine."""
    ticks = itertools.count()
    return lambda: next(ticks) / 20


def test_it_learns_leaves_a_checkpoint_and_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.set_num_threads(1)
    monkeypatch.setattr("policies.gato.dagger.REFILLED", 20)
    mixture = Mixture.load().without(["triplets"], [KEPT_OUT])
    settings = LearnSettings(
        seconds=6, demonstrate=2, size="tiny", workers=1, worlds=2, device="cpu", batch=4, mixture=mixture
    )
    reports: list[dict[str, float]] = []
    said = learn(tmp_path, settings, report=reports.append, clock=ticking())
    model, details = load_checkpoint(tmp_path / "checkpoint.pt")
    assert details == said and model.spec == SEQUENCE
    assert said["mixture"]["kept_out_tasks"] == [TASKS[KEPT_OUT].text]
    assert TASKS[KEPT_OUT].text not in said["tasks"] and TASKS[0].text in said["tasks"]
    lines = [json.loads(line) for line in (tmp_path / "training.jsonl").read_text().splitlines()]
    assert lines == reports and all(np.isfinite(line["loss"]) and line["tokens_per_s"] > 0 for line in lines)
    more = LearnSettings(
        seconds=9, demonstrate=2, size="tiny", workers=1, worlds=2, device="cpu", batch=4, mixture=mixture, resume=True
    )
    further = learn(tmp_path, more, clock=ticking())
    assert further["iterations"] > said["iterations"] and further["control_steps"] >= said["control_steps"]
    assert len((tmp_path / "training.jsonl").read_text().splitlines()) > len(lines)
    with pytest.raises(PolicyError, match="was trained with mixture"):
        learn(tmp_path, LearnSettings(seconds=9, demonstrate=2, size="tiny", device="cpu", resume=True))


def test_worlds_tell_what_happens_and_a_dead_worker_is_one_line() -> None:
    mixture = Mixture.load().without(["cubes"], [KEPT_OUT])
    with Rollouts(1, 2, (1, 2), mixture) as rollouts:
        for step in range(3):
            arrays = rollouts.observe()
            assert arrays.first.all() == (step == 0)
            assert (arrays.labels[:, KEPT_OUT] == -1).all()
            asked = [task for task in range(len(TASKS)) if task != KEPT_OUT]
            assert (arrays.labels[:, asked] >= 0).all() and KEPT_OUT not in arrays.task
            assert np.isfinite(arrays.truth).all() and arrays.truth[..., 5:].any(), "deformed: gripped one way"
            assert arrays.images.std(axis=(2, 3)).min() > 1, "there is something to be seen"
            rollouts.act(arrays.actions, 0.0)
        assert len(rollouts.kinds) == len(KINDS)
        rollouts._processes[0].kill()
        with pytest.raises(RolloutError, match="a simulation worker died"):
            stepped(rollouts, 3)


def stepped(rollouts: Rollouts, steps: int) -> None:
    for _ in range(steps):
        rollouts.act(rollouts.observe().actions, 0.0)


def test_peaks_go_by_the_name_of_a_gpu() -> None:
    assert peak_of("NVIDIA H100 80GB HBM3") == peak_of("NVIDIA H200") == 989e12
    assert peak_of("cpu") is None
