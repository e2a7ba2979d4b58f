"""The policy at the wheel of many streams decides as it does alone, and a course of training is one for all ranks."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from policies.gato.config import ModelConfig
from policies.gato.dagger import Course, Driver, dagger
from policies.gato.data import Replay
from policies.gato.model import Gato
from policies.gato.sequence import FILLER, SequenceSpec
from policies.gato.tokens import CONTINUOUS_START, SEPARATOR
from policies.gato.train import TrainConfig, Trainer

SPEC = SequenceSpec((("a", 16, 32), ("b", 32, 16)), (("x", 3), ("y", 2)), actions=3, text=5, words=4, window=2)
CONFIG = ModelConfig(layers=2, heads=2, head_width=16, feedforward=48, patch_channels=32)
TEXTS = [[np.array([5, 9, 30]), np.array([7, 8])], [np.array([6, 9, 31]), np.array([4])]]
CPU = torch.device("cpu")


def network() -> Gato:
    torch.manual_seed(0)
    return Gato(CONFIG, SPEC, 64).eval().requires_grad_(False)


def step_of(rng: np.random.Generator, streams: int, episode: int, task: int, first: bool) -> dict[str, Any]:
    ids = rng.integers(CONTINUOUS_START, CONTINUOUS_START + 1024, (streams, SPEC.block_ids))
    ids[:, -1] = SEPARATOR
    return {
        "images": [rng.integers(0, 256, (streams, h, w, 3), dtype=np.uint8) for _, h, w in SPEC.cameras],
        "ids": ids,
        "labels": rng.integers(0, 1024, (streams, len(TEXTS), SPEC.actions)),
        "task": np.full(streams, task),
        "episode": np.full(streams, episode),
        "first": np.full(streams, first),
    }


def test_driving_many_streams_is_driving_each() -> None:
    model, rng = network(), np.random.default_rng(0)
    replay = Replay(SPEC, TEXTS, 4, 16, CPU, parts=2)
    driver = Driver(model, replay, part=1)
    cache, visible = model.new_cache(1), torch.zeros(1, SPEC.cache(), dtype=torch.bool)
    for tick in range(7):
        episode = tick // 4  # the second one is about another task in other words, and forgets the first
        step = step_of(rng, 2, episode, task=episode, first=tick in (0, 4))
        replay.append(**step, part=1)
        decided = driver.step()
        text = TEXTS[episode][episode % 2]
        padded, real = SPEC.pad_text(text)
        if step["first"][0]:
            cache.zero_()
            visible[:] = False
        visible[0, : SPEC.text] = torch.from_numpy(real)
        prompt = visible.clone()
        prompt[:, SPEC.text :] = False
        model.prefill_text(torch.from_numpy(padded)[None], cache, prompt)
        slot = SPEC.ring_slot(tick)
        visible[:, slot : slot + SPEC.block] = True
        visible[:, slot : slot + SPEC.actions] = not step["first"][0]
        ids = step["ids"][1:].copy()
        ids[:, SPEC.word_places] = SPEC.pad_words(text)
        images = [torch.from_numpy(image[1:]) for image in step["images"]]
        position = torch.tensor([SPEC.position(tick)])
        alone = model.step(images, torch.from_numpy(ids), cache, slot, position, visible)
        np.testing.assert_array_equal(decided[1], alone[0].numpy())


@dataclass
class Told:
    """Worlds that count what they are told: an episode is 6 steps long, every other one succeeds."""

    streams: int = 2
    kinds: tuple[str, ...] = ("easy", "hard")
    ticks: int = 0
    acts: list[NDArray[np.int64]] = field(default_factory=list)
    shares: list[float] = field(default_factory=list)

    def ready(self) -> bool:
        return True

    def observe(self) -> Any:
        rng = np.random.default_rng(self.ticks)
        episode = self.ticks // 6
        begins = self.ticks % 6 == 0
        arrays = step_of(rng, self.streams, episode, task=episode % 2, first=begins)
        over = 0 if not begins or self.ticks == 0 else 1 + episode % 2
        arrays |= {
            "finished": np.full(self.streams, over),
            "clean": np.full(self.streams, True),
            "kind": np.arange(self.streams),
            "actions": np.zeros((self.streams, SPEC.actions), dtype=np.int64),
            "truth": None,
            "pixels": None,
        }
        self.ticks += 1
        return type("Arrays", (), arrays)

    def act(self, actions: NDArray[np.int64], share: float) -> None:
        self.acts.append(actions)
        self.shares.append(share)


def test_the_demonstrator_drives_first_and_the_policy_after_it() -> None:
    torch.set_num_threads(1)
    worlds = [Told(), Told()]
    trainer = Trainer(Gato(CONFIG, SPEC, 64), TrainConfig(batch=4, length=3, demonstration=1))
    replay = Replay(SPEC, TEXTS, 4, 20, CPU, parts=2)
    reports: list[dict[str, float]] = []
    ticking = itertools.count()

    def clock() -> float:
        return next(ticking) / 20

    last = dagger(trainer, worlds, replay, Course(3.0, 1.0, report_every=0.5), report=reports.append, clock=clock)
    assert reports[-1] == last and len(reports) >= 3
    assert all(np.isfinite(report["loss"]) for report in reports)
    for source in worlds:
        driven = [share > 0 for share in source.shares]
        assert driven == sorted(driven) and True in driven and False in driven
        assert (source.acts[0] == FILLER).all() and (source.acts[-1] >= CONTINUOUS_START).all()
    assert replay.size > replay.capacity, "the oldest steps left"
    assert 5 < last["iterations"] <= trainer.iterations
    assert 0.3 < last["clean_easy"] < 0.7 and last["episodes_hard"] > 2
