"""The transformer: Gato's embeddings, pre-norm blocks with GEGLU and rotary positions, in PyTorch.

Knows sequences (sequence.py), not robots. Two ways through the same weights: `forward` takes whole training sequences
with a mask; `step` takes one block with a cache and decodes an action, as the exported graph does.

Shapes: B sequences, N tokens, D width, H heads, C head width, S cache slots, A action tokens, P patches of a block.
"""

from __future__ import annotations

import math
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from policies.gato.config import ModelConfig
from policies.gato.sequence import FILLER, PERIOD, SequenceSpec, rotary_multiples
from policies.gato.tokens import BINS, CONTINUOUS_START, PATCH, POSITION_BINS, RowMap


def rotary_table(head_width: int) -> np.ndarray:
    """(2, PERIOD, head_width / 2) cosines and sines; whole multiples, so that positions may be taken modulo PERIOD."""
    angles = np.arange(PERIOD)[:, None] * rotary_multiples(head_width) * (2 * math.pi / PERIOD)
    return np.stack([np.cos(angles), np.sin(angles)]).astype(np.float32)


def rotate(x: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
    """Rotary positions: x (B, H, N, C), cosines and sines (B or 1, 1, N, C / 2); halves are the pairs."""
    a, b = x.chunk(2, dim=-1)
    return torch.cat([a * cosines - b * sines, b * cosines + a * sines], dim=-1)


def median_bins(logits: Tensor) -> Tensor:
    """The bin in which half of the probability is reached: logits (..., BINS) to (...).

    The bins of a continuous value are ordered. Where the network is sure this is the likeliest bin; where it is not,
    the likeliest is often an end of the range, since all labels beyond it share that one bin, and an arm that is driven
    by ends overshoots. The median is the guess with the least expected distance.
    """
    below: Tensor = torch.softmax(logits.float(), dim=-1).cumsum(-1) < 0.5
    return below.sum(-1)


class PatchEmbedding(nn.Module):
    """One ResNet v2 block a patch. [?] Channels and stem are unpublished: a 4x4 stride-4 stem keeps all 48 values."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        channels = config.patch_channels
        self.stem = nn.Conv2d(3, channels, 4, stride=4)
        self.norm1 = nn.GroupNorm(32, channels)
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.norm2 = nn.GroupNorm(32, channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        self.out = nn.Linear(channels * (PATCH // 4) ** 2, config.width)

    def forward(self, patches: Tensor) -> Tensor:
        """(M, 3, 16, 16), scaled as in tokens.patchify, to (M, D)."""
        x = self.stem(patches)
        x = x + self.conv2(F.gelu(self.norm2(self.conv1(F.gelu(self.norm1(x))))))
        embedded: Tensor = self.out(x.flatten(1))
        return embedded


class Layer(nn.Module):
    """Pre-norm attention and GEGLU."""

    def __init__(self, config: ModelConfig, drop: float) -> None:
        super().__init__()
        width = config.width
        self.heads, self.head_width, self.drop = config.heads, config.head_width, drop
        self.norm1 = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.project = nn.Linear(width, width, bias=False)
        self.norm2 = nn.LayerNorm(width)
        self.up = nn.Linear(width, 2 * config.feedforward, bias=False)
        self.down = nn.Linear(config.feedforward, width, bias=False)

    def heads_of(self, x: Tensor, cosines: Tensor, sines: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values (B, H, N, C), the first two rotated."""
        b, n, _ = x.shape
        q, k, v = self.qkv(self.norm1(x)).view(b, n, 3, self.heads, self.head_width).permute(2, 0, 3, 1, 4)
        return rotate(q, cosines, sines), rotate(k, cosines, sines), v

    def finish(self, x: Tensor, attended: Tensor) -> Tensor:
        """Residual stream after attention (B, H, N, C) and feed-forward."""
        b, n, _ = x.shape
        x = x + self._kept(self.project(attended.transpose(1, 2).reshape(b, n, -1)))
        gate, value = self.up(self.norm2(x)).chunk(2, dim=-1)
        return x + self._kept(self.down(F.gelu(gate) * value))

    def _kept(self, branch: Tensor) -> Tensor:
        if not self.training or self.drop == 0:
            return branch
        keep = torch.rand(len(branch), 1, 1, device=branch.device) >= self.drop
        return branch * keep / (1 - self.drop)

    def forward(self, x: Tensor, cosines: Tensor, sines: Tensor, mask: Tensor) -> Tensor:
        q, k, v = self.heads_of(x, cosines, sines)
        return self.finish(x, F.scaled_dot_product_attention(q, k, v, attn_mask=mask))


class Gato(nn.Module):
    """The policy network; `vocabulary` is the number of text ids in use."""

    rotary: Tensor
    patch_rows: Tensor
    patch_columns: Tensor
    patch_spans: Tensor

    def __init__(self, config: ModelConfig, spec: SequenceSpec, vocabulary: int) -> None:
        super().__init__()
        self.config, self.spec, self.vocabulary = config, spec, vocabulary
        self.row_map = RowMap(vocabulary)
        width = config.width
        self.table = nn.Embedding(self.row_map.size, width)
        self.patch = PatchEmbedding(config)
        self.row_positions = nn.Embedding(POSITION_BINS, width)
        self.column_positions = nn.Embedding(POSITION_BINS, width)
        self.text_positions = nn.Embedding(spec.text, width)
        # [?] The paper gives all action tokens one embedding or none; a row each tells joints apart from the start. The
        # blanks take those of the action's first tokens.
        self.local_positions = nn.Embedding(spec.observation + spec.actions, width)
        drops = np.linspace(0, config.stochastic_depth, config.layers)
        self.layers = nn.ModuleList(Layer(config, float(drop)) for drop in drops)
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, self.row_map.size, bias=False)
        rows, columns = spec.patch_positions()
        self.register_buffer("patch_spans", torch.from_numpy(spec.patch_spans()), persistent=False)
        self.register_buffer("rotary", torch.from_numpy(rotary_table(config.head_width)), persistent=False)
        self.register_buffer("patch_rows", torch.from_numpy(rows), persistent=False)
        self.register_buffer("patch_columns", torch.from_numpy(columns), persistent=False)
        self._initialise()

    def _initialise(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Embedding):
                nn.init.normal_(module.weight, std=self.config.init)
            elif isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=1 / math.sqrt(module.in_features))
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        for name, parameter in self.layers.named_parameters():
            if name.endswith(("project.weight", "down.weight")):
                parameter.data /= math.sqrt(2 * self.config.layers)
        self.head.weight.data /= 4

    def rows(self, ids: Tensor) -> Tensor:
        """Table rows of token ids, any shape."""
        return torch.where(ids < CONTINUOUS_START, ids, ids - (CONTINUOUS_START - self.row_map.continuous_row))

    def embed_ids(self, ids: Tensor) -> Tensor:
        """Embedding of ids alone, no positions: (...) to (..., D)."""
        embedded: Tensor = self.table(self.rows(ids))
        return embedded

    def embed_text(self, ids: Tensor) -> Tensor:
        """Instructions with their places: (B, text) ids to (B, text, D)."""
        return self.embed_ids(ids) + self.text_positions.weight

    def sample_positions(self, count: int) -> tuple[Tensor, Tensor]:
        """Row and column bins (count, P), each drawn uniformly from its patch's interval, as Gato trains."""
        start, end = self.patch_spans[..., 0], self.patch_spans[..., 1]
        drawn = torch.rand(2, count, start.shape[1], device=start.device)
        bins = start[:, None] + (drawn * (end - start)[:, None]).long()
        return bins[0], bins[1]

    def embed_images(self, images: list[Tensor], positions: tuple[Tensor, Tensor] | None = None) -> Tensor:
        """(M, P, D) of one uint8 tensor (M, h, w, 3) a camera; `positions` (M, P) rows and columns when sampled."""
        patches = []
        for image in images:
            m, h, w, _ = image.shape
            tiles = image.view(m, h // PATCH, PATCH, w // PATCH, PATCH, 3).permute(0, 1, 3, 5, 2, 4)
            patches.append(tiles.reshape(m, -1, 3, PATCH, PATCH))
        stacked = torch.cat(patches, dim=1)
        m, p = stacked.shape[:2]
        scaled = (stacked.flatten(0, 1).to(self.head.weight.dtype) / 127.5 - 1) / math.sqrt(PATCH)
        rows, columns = positions if positions is not None else (self.patch_rows, self.patch_columns)
        embedded: Tensor = self.patch(scaled).view(m, p, -1) + self.row_positions(rows) + self.column_positions(columns)
        return embedded

    def embed_blocks(self, images: list[Tensor], ids: Tensor, positions: tuple[Tensor, Tensor] | None = None) -> Tensor:
        """(M, block, D) of images and ids (M, block_ids)."""
        spec = self.spec
        embedded = self.embed_ids(ids)
        executed = embedded[:, : spec.actions] + self.local_positions.weight[spec.observation :]
        split = spec.actions + spec.words
        words, tensors = embedded[:, spec.actions : split], embedded[:, split:]
        observed = torch.cat([words, self.embed_images(images, positions), tensors], dim=1)
        observed = observed + self.local_positions.weight[: spec.observation]
        return torch.cat([executed, observed, self.blanks().expand(len(ids), -1, -1)], dim=1)

    def blanks(self) -> Tensor:
        """(blanks, D): what stands behind the separator, whatever was observed."""
        start = self.spec.observation
        filler = self.table.weight[self.row_map.continuous_row + FILLER - CONTINUOUS_START]
        return filler + self.local_positions.weight[start : start + self.spec.blanks]

    def angles(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Cosines and sines (B, 1, N, C / 2) of positions (B, N)."""
        return self.rotary[0][positions].unsqueeze(1), self.rotary[1][positions].unsqueeze(1)

    def forward(self, x: Tensor, positions: Tensor, mask: Tensor) -> Tensor:
        """Hidden states (B, N, D) of embedded tokens; positions (B, N), mask (B, 1, N, N), true where row may see."""
        cosines, sines = (t.to(x.dtype) for t in self.angles(positions))
        for layer in self.layers:
            x = layer(x, cosines, sines, mask)
        hidden: Tensor = self.norm(x)
        return hidden

    def action_logits(self, hidden: Tensor) -> Tensor:
        """Logits over the continuous bins alone: (..., D) to (..., 1024)."""
        start = self.row_map.continuous_row
        return F.linear(hidden, self.head.weight[start : start + BINS])

    def new_cache(self, batch: int, demonstration: int = 0) -> Tensor:
        """Zeros, (layers, 2, B, H, S, C): keys and values."""
        slots = self.spec.cache(demonstration)
        shape = (self.config.layers, 2, batch, self.config.heads, slots, self.config.head_width)
        weight = self.head.weight
        return torch.zeros(shape, device=weight.device, dtype=weight.dtype)

    def extend(self, x: Tensor, cache: Tensor, slots: slice, position: Tensor, visible: Tensor) -> Tensor:
        """Write tokens x (B, N, D) into cache `slots`, attend to `visible` (B, S) of it; hidden states (B, N, D)."""
        n = x.shape[1]
        places = (position[:, None] + torch.arange(n, device=x.device)) % PERIOD
        cosines, sines = (t.to(x.dtype) for t in self.angles(places))
        mask = visible[:, None, None, :]
        for module, (keys, values) in zip(self.layers, cache, strict=True):
            layer = cast(Layer, module)
            q, k, v = layer.heads_of(x, cosines, sines)
            keys[:, :, slots], values[:, :, slots] = k, v
            x = layer.finish(x, F.scaled_dot_product_attention(q, keys, values, attn_mask=mask))
        hidden: Tensor = self.norm(x)
        return hidden

    def prefill_text(self, text: Tensor, cache: Tensor, visible: Tensor) -> None:
        """Put instructions (B, text) into the cache; `visible` (B, S) marks their real places."""
        position = torch.zeros(len(text), dtype=torch.long, device=text.device)
        self.extend(self.embed_text(text), cache, slice(0, self.spec.text), position, visible)

    def step(
        self, images: list[Tensor], ids: Tensor, cache: Tensor, slot: int, position: Tensor, visible: Tensor
    ) -> Tensor:
        """One control step: append a block at `slot`, decode its action; token ids (B, A).

        `visible` (B, S) marks prompt, earlier blocks and this block.
        """
        place = slice(slot, slot + self.spec.block)
        hidden = self.extend(self.embed_blocks(images, ids), cache, place, position, visible)
        return median_bins(self.action_logits(hidden[:, -self.spec.actions :])) + CONTINUOUS_START
