"""The network: stepping with a cache is the same function as the training pass, and stays so for ever."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from policies.gato.config import ModelConfig
from policies.gato.data import Replay
from policies.gato.model import Gato, median_bins, rotary_table
from policies.gato.sequence import PERIOD, SequenceSpec
from policies.gato.tokens import BINS, CONTINUOUS_START, SEPARATOR

SPEC = SequenceSpec((("a", 16, 32), ("b", 32, 16)), (("x", 3), ("y", 2)), actions=3, text=5, window=2)
CONFIG = ModelConfig(layers=2, heads=2, head_width=16, feedforward=48, patch_channels=32)


@pytest.fixture
def model() -> Gato:
    torch.manual_seed(0)
    return Gato(CONFIG, SPEC, 64).eval().requires_grad_(False)


def random_block(rng: np.random.Generator) -> tuple[list[torch.Tensor], torch.Tensor]:
    images = [torch.from_numpy(rng.integers(0, 256, (1, h, w, 3), dtype=np.uint8)) for _, h, w in SPEC.cameras]
    ids = rng.integers(CONTINUOUS_START, CONTINUOUS_START + 1024, (1, SPEC.block_ids))
    ids[:, -1] = SEPARATOR
    return images, torch.from_numpy(ids)


def run_steps(
    model: Gato, blocks: list[tuple[list[torch.Tensor], torch.Tensor]], text: torch.Tensor, first_timestep: int = 0
) -> list[torch.Tensor]:
    cache = model.new_cache(1)
    visible = torch.zeros(1, SPEC.cache(), dtype=torch.bool)
    visible[:, :3] = True
    model.prefill_text(text, cache, visible)
    actions = []
    for timestep, (images, ids) in enumerate(blocks, start=first_timestep):
        slot = SPEC.ring_slot(timestep)
        visible[:, slot : slot + SPEC.block] = True
        position = torch.tensor([SPEC.position(timestep)])
        actions.append(model.step(images, ids, cache, slot, position, visible))
    return actions


def test_steps_with_a_cache_equal_the_training_pass(model: Gato) -> None:
    rng = np.random.default_rng(1)
    text = torch.tensor([[5, 9, 30, 0, 0]])
    blocks = [random_block(rng) for _ in range(5)]
    decoded = torch.stack(run_steps(model, blocks, text), dim=1)

    replay = Replay(SPEC, ((np.array([5, 9, 30]),),), 1, 1, torch.device("cpu"))
    mask = replay._mask(replay.text_real[0], torch.zeros(1, 5, dtype=torch.bool), torch.zeros(1, dtype=torch.bool), 0)
    begin = torch.tensor([SPEC.position(t) for t in range(5)])
    inside = (begin[:, None] + torch.arange(SPEC.block)).flatten()
    positions = torch.cat([torch.arange(SPEC.text), inside])[None] % PERIOD
    images = [torch.cat([b[0][c] for b in blocks]) for c in range(2)]
    embedded = model.embed_blocks(images, torch.cat([b[1] for b in blocks])).reshape(1, -1, CONFIG.width)
    hidden = model(torch.cat([model.embed_text(text), embedded], dim=1), positions, mask)
    logits = model.action_logits(hidden[:, SPEC.text :].reshape(5, SPEC.block, -1)[:, -SPEC.actions :])
    assert torch.equal(median_bins(logits) + CONTINUOUS_START, decoded[0])


def test_the_wrap_of_positions_changes_nothing(model: Gato) -> None:
    """One whole period later every rotary phase is the same, so actions are equal, not merely close."""
    rng = np.random.default_rng(2)
    text = torch.tensor([[5, 9, 30, 0, 0]])
    blocks = [random_block(rng) for _ in range(4)]
    early = run_steps(model, blocks, text)
    late = run_steps(model, blocks, text, first_timestep=PERIOD * SPEC.window)
    assert all(torch.equal(a, b) for a, b in zip(early, late, strict=True))


def test_rotary_frequencies_close_in_one_period() -> None:
    table = rotary_table(64)
    step = table[0, 1] + 1j * table[1, 1]
    assert np.abs(step**PERIOD - 1).max() < 1e-3
    assert table.shape == (2, PERIOD, 32)


def test_stochastic_depth_only_in_training() -> None:
    torch.manual_seed(0)
    model = Gato(ModelConfig(2, 2, 16, 48, 32, stochastic_depth=0.5), SPEC, 64)
    rng = np.random.default_rng(3)
    images, ids = random_block(rng)
    n = SPEC.block
    mask, positions = torch.ones(1, 1, n, n, dtype=torch.bool), torch.arange(n)[None]
    torch.manual_seed(1)
    noisy = [model.train()(model.embed_blocks(images, ids), positions, mask) for _ in range(8)]
    quiet = [model.eval()(model.embed_blocks(images, ids), positions, mask) for _ in range(2)]
    assert torch.equal(quiet[0], quiet[1])
    assert any(not torch.equal(a, noisy[0]) for a in noisy[1:])


def test_sampled_patch_positions_stay_in_their_intervals_and_fill_them(model: Gato) -> None:
    torch.manual_seed(0)
    rows, columns = model.sample_positions(2000)
    for drawn, spans, means in (
        (rows, model.patch_spans[0], model.patch_rows),
        (columns, model.patch_spans[1], model.patch_columns),
    ):
        assert drawn.shape == (2000, SPEC.patches)
        assert torch.equal(drawn.amin(0), spans[:, 0])
        assert torch.equal(drawn.amax(0), spans[:, 1] - 1)
        assert ((means >= spans[:, 0]) & (means < spans[:, 1])).all()


def test_an_action_is_the_median_of_its_distribution() -> None:
    odds = torch.full((3, BINS), 1e-9)
    odds[0, 700] = 1  # sure
    odds[1, 100:300], odds[1, 1023] = 0.6 / 200, 0.4  # the likeliest bin is an end, most of the odds are elsewhere
    odds[2, 0], odds[2, 5] = 0.51, 0.49
    assert median_bins(odds.log()).tolist() == [700, 266, 0]
    assert median_bins((odds.log() + 30).half()).tolist() == [700, 266, 0]
