"""Which token stands where: in a timestep, in an episode, and in the cache that a control step keeps.

Knows modalities and counts only, no robot and no model; numpy only. An episode, flattened as in Gato:

    prompt:    instruction text, padded to a fixed length, then (optionally) timesteps of a demonstration
    timestep:  instruction words, image patches (cameras in lexicographic order), proprioception (likewise), separator,
               action

The instruction stands in the prompt and again in every observation, as Gato's order [text, images, tensors] allows:
words in front see no image, and a policy trained with them alone ignored them; words beside the patches look for what
they name, and find it within a few hundred iterations.

A timestep's action is known only after it was executed, and the executed action may differ from the decoded one. So
the model takes an episode in blocks: what was executed at t - 1, then the observation of t, its separator, and a blank
for each action token but the first. The tokens stand in Gato's order; only the cut differs. The separator decodes the
first token of the action and each blank decodes the next, all in one pass: decoded one after another, as Gato does,
the weights are read once for each token, which was half of the control step (docs/training.md has the comparison).
Attention: a block sees the prompt, the `window` - 1 blocks before it, and all of itself; the prompt sees itself.

Positions are counted in tokens from the start of the sequence and taken modulo `PERIOD`. The rotary frequencies are
whole multiples of 2 pi / PERIOD, so the wrap is exact and tick 10,000 is no different from tick 10.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from policies.gato.tokens import BINS, CONTINUOUS_START, SEPARATOR, patch_grid, patch_intervals, patch_positions

Bools = NDArray[np.bool_]
Ids = NDArray[np.int64]

PERIOD = 4096  # tokens
ALIGNED_SLOTS = 8
PADDING = 0  # text id in unused prompt places; the mask hides them
FILLER = CONTINUOUS_START + BINS // 2


@dataclass(frozen=True)
class SequenceSpec:
    """The shape of an episode. Cameras and tensors must be in lexicographic order (ValueError)."""

    cameras: tuple[tuple[str, int, int], ...]  # name, height, width
    tensors: tuple[tuple[str, int], ...]  # name, components
    actions: int  # tokens in an action
    text: int = 16  # prompt places for the instruction
    words: int = 10  # places for the instruction in an observation
    window: int = 2  # timesteps in view, the present one included

    def __post_init__(self) -> None:
        for kind, names in (("cameras", [c[0] for c in self.cameras]), ("tensors", [t[0] for t in self.tensors])):
            if names != sorted(names):
                raise ValueError(f"{kind} {names} must be in lexicographic order: {sorted(names)}")
        if min(self.actions, self.text, self.words, self.window) < 1:
            raise ValueError("actions, text, words and window must be at least 1")

    @cached_property
    def patches(self) -> int:
        """Image patches in a timestep, all cameras."""
        return sum(math.prod(patch_grid(height, width)) for _, height, width in self.cameras)

    @cached_property
    def components(self) -> int:
        """Proprioception tokens in a timestep."""
        return sum(size for _, size in self.tensors)

    @cached_property
    def observation(self) -> int:
        """Tokens from the first word to the separator."""
        return self.words + self.patches + self.components + 1

    @property
    def blanks(self) -> int:
        """Places behind the separator, each of which decodes an action token; the separator decodes the first."""
        return self.actions - 1

    @cached_property
    def block(self) -> int:
        """Tokens in a block: executed action, observation, blanks."""
        return self.actions + self.observation + self.blanks

    @cached_property
    def block_ids(self) -> int:
        """Tokens of a block that have ids: executed action, words, proprioception, separator."""
        return self.actions + self.words + self.components + 1

    def prompt(self, demonstration: int = 0) -> int:
        """Tokens of a prompt with `demonstration` timesteps."""
        return self.text + demonstration * self.block

    def cache(self, demonstration: int = 0) -> int:
        """Cache slots: the prompt, a ring of `window` blocks, and up to 7 more, because kernels like aligned rows."""
        slots = self.prompt(demonstration) + self.window * self.block
        return slots + -slots % ALIGNED_SLOTS

    def ring_slot(self, timestep: int, demonstration: int = 0) -> int:
        """First cache slot of the block of `timestep`: the oldest block leaves, the prompt stays."""
        return self.prompt(demonstration) + timestep % self.window * self.block

    def position(self, timestep: int, demonstration: int = 0) -> int:
        """Position of the first token of the block of `timestep`."""
        return (self.prompt(demonstration) + timestep * self.block) % PERIOD

    def pad_text(self, ids: Ids) -> tuple[Ids, Bools]:
        """(text,) ids of the prompt and which of them are real. ValueError when the instruction is too long.

        No instruction is a single padding id that counts as real: attention needs something to look at.
        """
        if len(ids) > min(self.text, self.words):
            room = min(self.text, self.words)
            raise ValueError(f"the instruction has {len(ids)} tokens; this policy has room for {room}")
        padded = np.full(self.text, PADDING, dtype=np.int64)
        padded[: len(ids)] = ids
        return padded, np.arange(self.text) < max(1, len(ids))

    def pad_words(self, ids: Ids) -> Ids:
        """(words,) ids of the instruction in an observation; its padding is seen, and means nothing."""
        return self.pad_text(ids)[0][: self.words]

    @property
    def word_places(self) -> slice:
        """Where the words stand in a block's ids."""
        return slice(self.actions, self.actions + self.words)

    def write_block(self, out: Ids, executed: Ids | None, words: Ids, tensors: Sequence[Ids]) -> None:
        """Fill `out` (block_ids,) in place; without an executed action its places are filler that the mask hides."""
        out[: self.actions] = FILLER if executed is None else executed
        out[self.word_places] = words
        start = self.actions + self.words
        for ids in tensors:
            out[start : start + len(ids)] = ids
            start += len(ids)
        if start != self.block_ids - 1:
            found = start - self.actions - self.words
            raise ValueError(f"{found} proprioception tokens, this sequence has {self.components}")
        out[-1] = SEPARATOR

    def patch_positions(self) -> tuple[Ids, Ids]:
        """Row and column bins (patches,) of all cameras' patches: the rounded means of their intervals."""
        grids = [patch_positions(*patch_grid(height, width)) for _, height, width in self.cameras]
        return np.concatenate([g[0] for g in grids]), np.concatenate([g[1] for g in grids])

    def patch_spans(self) -> Ids:
        """(2, patches, 2) first bin and end of each patch's interval, rows and then columns, to sample from."""
        spans = []
        for _, height, width in self.cameras:
            rows, columns = patch_grid(height, width)
            row, column = (np.stack(patch_intervals(count), axis=-1) for count in (rows, columns))
            spans.append(np.stack([np.repeat(row, columns, axis=0), np.tile(column, (rows, 1))]))
        return np.concatenate(spans, axis=1)


def rotary_multiples(head_width: int) -> Ids:
    """(head_width / 2,) rotary frequencies in 2 pi / PERIOD: geometric from 1 rad a token on, each a whole number."""
    exponents = np.arange(head_width // 2) / max(head_width // 2 - 1, 1)
    return np.round((PERIOD / (2 * math.pi)) ** (1 - exponents)).astype(np.int64)


def visible_blocks(blocks: int, window: int, demonstration: int) -> Bools:
    """(blocks, blocks): may a token of block i (row) see block j; the first `demonstration` blocks are prompt."""
    i, j = np.arange(blocks)[:, None], np.arange(blocks)[None, :]
    inside: Bools = (j <= i) & ((j > i - window) | (j < demonstration))
    return inside
