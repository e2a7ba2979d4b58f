"""What may differ between two recordings of one real rig: a camera nudged by a fraction of a pixel, light, exposure.

For learning from few demonstrations. Unlike the exact augmentations of a simulated table these hold for any rig: a
shift of half a pixel of 64 is less than a camera's mount gives, and no joint angle need change with it. Knows no robot
and no scene.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

SHIFT = 0.5  # pixels, at most, along each axis
GAIN = 0.15  # brightness, up to this share up or down
TINT = 0.06  # of each channel
OFFSET = 10.0  # levels added to all


def handled(image: Tensor, sequences: int, generator: torch.Generator) -> Tensor:
    """(B * L, h, w, 3) uint8 images of `sequences` sequences, each handled alike from its first step to its last."""
    device, steps = image.device, len(image) // sequences

    def uniform(*shape: int) -> Tensor:
        drawn = 2 * torch.rand(sequences, *shape, device=device, generator=generator) - 1
        return drawn.repeat_interleave(steps, 0)

    gain = (1 + GAIN * uniform(1, 1, 1)) * (1 + TINT * uniform(1, 1, 3))
    lit = image.float() * gain + OFFSET * uniform(1, 1, 1)
    return _shifted(lit, SHIFT * uniform(2)).round().clamp(0, 255).to(torch.uint8)


def _shifted(image: Tensor, pixels: Tensor) -> Tensor:
    """Images (N, h, w, 3) moved by (N, 2) pixels down and right, less than one; the border repeats."""
    height, width = image.shape[1:3]
    padded = F.pad(image.permute(0, 3, 1, 2), (1, 1, 1, 1), mode="replicate")
    moved = torch.zeros_like(padded[:, :, 1:-1, 1:-1])
    down, right = pixels[:, 0], pixels[:, 1]
    for dy in (-1, 0, 1):
        for dx in (-1, 0, 1):
            weight = (1 - (down + dy).abs()).clamp_min(0) * (1 - (right + dx).abs()).clamp_min(0)
            moved += weight[:, None, None, None] * padded[:, :, 1 + dy : 1 + dy + height, 1 + dx : 1 + dx + width]
    return moved.permute(0, 2, 3, 1)
