"""What two recordings of one rig may differ by."""

from __future__ import annotations

import numpy as np
import torch

from policies.gato.handling import GAIN, OFFSET, SHIFT, TINT, _shifted, handled
from policies.gato.validation import FEWEST, split


def test_a_shift_moves_what_is_seen_and_keeps_its_light() -> None:
    image = torch.zeros(1, 9, 9, 3)
    image[0, 4, 4] = 100.0
    for pixels in ((0.0, 0.0), (0.4, -0.25), (-0.5, 0.5)):
        moved = _shifted(image, torch.tensor([pixels]))[0, :, :, 0]
        total = float(moved.sum())
        rows, columns = torch.meshgrid(torch.arange(9.0), torch.arange(9.0), indexing="ij")
        centre = [float((moved * axis).sum()) / total for axis in (rows, columns)]
        np.testing.assert_allclose([total, *centre], [100, 4 + pixels[0], 4 + pixels[1]], atol=1e-4)


def test_a_sequence_is_handled_alike_from_step_to_step() -> None:
    generator = torch.Generator().manual_seed(0)
    one = torch.randint(60, 150, (2, 1, 16, 16, 3), dtype=torch.uint8, generator=generator)
    image = one.expand(-1, 3, -1, -1, -1).reshape(6, 16, 16, 3)
    out = handled(image, 2, generator).view(2, 3, 16, 16, 3)
    assert (out == out[:, :1]).all() and not (out[0] == out[1]).all()
    grey = torch.full((4, 8, 8, 3), 100, dtype=torch.uint8)
    spread = 100 * ((1 + GAIN) * (1 + TINT) - 1) + OFFSET + 1
    assert (handled(grey, 4, generator).float() - 100).abs().max() <= spread
    assert SHIFT < 1


def test_episodes_are_learned_from_or_held_out() -> None:
    learned, kept = split(50, 0.1, 3)
    assert len(kept) == 5 and sorted(learned + kept) == list(range(50)) and split(50, 0.1, 3) == (learned, kept)
    assert split(50, 0.1, 4)[1] != kept
    assert split(FEWEST - 1, 0.5, 0)[1] == [] and split(50, 0.0, 0)[1] == []
