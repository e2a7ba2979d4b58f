"""Cutting training sequences: the ring, phrasings, prompts without words, recolouring, tasks that are kept out."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
import torch

from policies.gato.augment import Scene
from policies.gato.data import Replay
from policies.gato.prompts import Demonstrations
from policies.gato.sequence import PADDING, SequenceSpec
from policies.gato.tokens import CONTINUOUS_START

CPU = torch.device("cpu")
SPEC = SequenceSpec((("eye", 16, 16),), (("joint_positions", 1),), actions=1, text=3, words=3)
PAIRS = tuple(permutations(range(3), 2))  # of colours: which is moved, and onto which
ORDERS = tuple(permutations(range(3)))
BECOMES = tuple(tuple(PAIRS.index((order.index(a), order.index(b))) for a, b in PAIRS) for order in ORDERS)
LEVELS = (20, 100, 220)  # of an image's channels as it was recorded
KEPT_OUT = PAIRS.index((2, 1))


def texts(phrasings: int = 2) -> list[list[np.ndarray]]:
    """Two tokens a phrasing: the task's, and the phrasing's."""
    return [[np.array([10 + task, 50 + phrase]) for phrase in range(phrasings)] for task in range(len(PAIRS))]


def scene(*kept_out: int) -> Scene:
    names = tuple(((0, 1),) * 2 for _ in PAIRS)
    return Scene(roles=PAIRS, names=names, channel_orders=ORDERS, colour_tasks=BECOMES, kept_out=kept_out)


def replay(capacity: int = 8, streams: int = 2, parts: int = 1, *kept_out: int) -> Replay:
    return Replay(SPEC, texts(), streams, capacity, CPU, scene(*kept_out), parts=parts)


def append(into: Replay, task: int, episode: int, number: int, *, first: bool = False, part: int = 0) -> None:
    """One step of every stream of a part; its labels say the task (and -1 what is kept out), its ids the number."""
    streams = into.streams // into.parts
    ids = np.full((streams, SPEC.block_ids), CONTINUOUS_START + number)
    labels = np.tile(np.arange(len(PAIRS))[None, :, None], (streams, 1, 1))
    labels[:, list(into.scene.kept_out)] = -1
    image = np.broadcast_to(np.array(LEVELS, dtype=np.uint8), (streams, 16, 16, 3))
    columns = (np.full(streams, value) for value in (task, episode))
    into.append([np.array(image)], ids, labels, *columns, np.full(streams, first), part=part)


def sampled(into: Replay, batch: int = 512, length: int = 2, demonstration: int = 0, seed: int = 0):
    return into.sample(batch, length, demonstration, torch.Generator().manual_seed(seed))


def test_the_oldest_steps_leave_and_no_sequence_crosses_an_episode() -> None:
    into = replay(capacity=8)
    for number in range(21):
        append(into, 0, number // 5, number, first=number % 5 == 0)
    assert (into.size, into.oldest) == (21, 13)
    batch = sampled(into, length=3)
    numbers = batch.ids.view(512, 3, -1)[..., -2] - CONTINUOUS_START
    assert set(numbers[:, 0].tolist()) == set(range(13, 19))
    assert torch.equal(numbers[:, 1], numbers[:, 0] + 1)
    assert torch.equal(batch.loss_mask, numbers // 5 == (numbers // 5)[:, :1])


def test_parts_may_be_ahead_of_one_another() -> None:
    into = replay(capacity=6, parts=2)
    for number in range(9):
        append(into, 0, 0, number)
        if number < 7:
            append(into, 1, 1, number, part=1)
    assert into.counts == [9, 7] and (into.size, into.oldest) == (7, 3)
    numbers = sampled(into).ids.view(512, 2, -1)[..., -2] - CONTINUOUS_START
    assert set(numbers[:, 0].tolist()) == {3, 4, 5}, "steps that every stream has"
    assert into.rows(1) == slice(1, 2) and into.task[1, 0] == 1


def test_recolouring_keeps_what_is_moved_and_what_is_below() -> None:
    into = replay()
    for number in range(8):
        append(into, 3, 0, number)
    batch = sampled(into)
    recorded = batch.labels[:, 0, 0]  # the task before it was recoloured: which channels it was about
    levels = torch.tensor(LEVELS)
    shown = batch.images[0].view(512, 2, 16, 16, 3)[:, 0].float().mean((1, 2))
    asked = batch.text[:, 0] - 10
    pairs = torch.tensor(PAIRS)
    for role in (0, 1):
        channel = shown.gather(1, pairs[asked][:, role : role + 1])[:, 0]
        expected = levels[pairs[recorded][:, role]]
        assert (channel - expected).abs().max() < 0.09 * 220 and (channel / expected - 1).abs().max() < 0.2
    assert set(asked.tolist()) == set(recorded.tolist()) == set(range(6))


def test_a_task_that_is_kept_out_is_never_asked_learned_or_recoloured_to() -> None:
    into = replay(8, 2, 1, KEPT_OUT)
    for number in range(8):
        append(into, 0, 0, number)
    asked, learned = set(), set()
    for seed in range(4):
        batch = sampled(into, seed=seed)
        asked |= set((batch.text[:, 0] - 10).tolist())
        learned |= set(batch.labels[:, 0, 0].tolist())
        words = batch.ids.view(512, 2, -1)[:, :, SPEC.word_places]
        assert (words[..., 0] - 10 != KEPT_OUT).all()
    assert asked == learned == set(range(6)) - {KEPT_OUT}


def test_phrasings_are_mixed_and_each_has_its_own_words() -> None:
    into = replay()
    append(into, 0, 0, 0)
    append(into, 0, 0, 1)
    batch = sampled(into)
    assert 0.5 < (batch.text[:, 1] == 50).float().mean() < 0.8, "the first one more often"
    assert torch.equal(batch.ids.view(512, 2, -1)[:, 0, SPEC.word_places][:, :2], batch.text[:, :2])
    assert batch.worded.all()


def test_a_quarter_is_prompted_and_some_of_them_without_words() -> None:
    into = replay(capacity=40)
    for number in range(20):
        append(into, 0, number // 10, number)
    for task in range(6):
        into.demonstrations.add(task, 0, 0, 10)
    batch = sampled(into, batch=4000, length=4, demonstration=2)
    prompted = ~batch.loss_mask[:, :2].any(1)
    assert 0.2 < prompted.float().mean() < 0.3
    wordless = ~batch.worded
    assert (prompted | ~wordless).all() and 0.03 < wordless.float().mean() < 0.1
    numbers = batch.ids.view(4000, 4, -1)[..., -2] - CONTINUOUS_START
    assert (numbers[wordless, :2] == torch.tensor([8, 9])).all(), "an episode's end"
    assert (batch.text[wordless] == PADDING).all()
    assert (batch.ids.view(4000, 4, -1)[wordless][..., SPEC.word_places] == PADDING).all()
    sees = batch.mask[wordless][:, 0, -1, : SPEC.text]
    assert sees[:, 0].all() and not sees[:, 1:].any(), "what the policy is told when it is told nothing"


def test_demonstrations_that_are_being_overwritten_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("policies.gato.prompts.MARGIN", 5)
    monkeypatch.setattr("policies.gato.prompts.REFRESHED", 1)
    known = Demonstrations(2, CPU)
    generator = torch.Generator().manual_seed(0)

    def rand(*shape: int) -> torch.Tensor:
        return torch.rand(*shape, generator=generator)

    tasks = torch.tensor([0, 1] * 1000)
    assert not known.draw(tasks, 2, 0, False, rand)[0].any()
    known.add(0, 3, 10, 20)
    known.add(0, 4, 40, 44)
    there, stream, steps, ends = known.draw(tasks, 2, 0, False, rand)
    assert there[::2].all() and not there[1::2].any()
    assert {(s, b) for s, b in zip(stream[::2].tolist(), steps[::2, 0].tolist(), strict=True)} == {
        *((3, begin) for begin in range(10, 19)),
        *((4, begin) for begin in range(40, 43)),
    }
    last = torch.where(stream == 3, 18, 42)
    assert (steps[ends & there, 0] == last[ends & there]).all()
    there, stream, _, _ = known.draw(tasks, 2, 6, True, rand)
    assert there[::2].all() and set(stream[::2].tolist()) == {4}
