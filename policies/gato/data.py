"""Experience on the training device, and how a batch of training sequences is cut from it.

Every step holds what the demonstrator would do there for each of the tasks, and a sequence may learn any of them: with
one task a scene, a network learns the scenes by heart and ignores the instruction.

Streams of control steps (one stream a simulated world, or one for a whole dataset) lie side by side in tensors; a
sequence is `length` consecutive steps of one stream. In a quarter of the sequences the first steps are replaced by a
stretch of another successful episode of the same task, half of them an episode's end: Gato's prompt conditioning. Some
of those that show an end have no instruction: they say what is wanted by demonstration alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from policies.gato.augment import Draw, Recolouring, Scene, jitter, mirror, patch_truth
from policies.gato.config import THING
from policies.gato.prompts import Demonstrations
from policies.gato.sequence import PADDING, PERIOD, SequenceSpec, visible_blocks

__all__ = ["Batch", "Replay", "Scene"]

RELABEL = 0.5  # share of sequences that learn another task than the one their episode was about
PROMPTED = 0.25  # share of sequences behind a demonstration
WORDLESS = 0.5  # share without an instruction, of those behind a demonstration's end
CANONICAL = 0.3  # share of sequences with their task's first phrasing; the others are drawn from all of them


@dataclass
class Batch:
    """B sequences of L blocks. Everything is on the training device."""

    text: Tensor  # (B, text) ids
    names: Tensor  # (B, 2) places of the words that name the first and second thing
    worded: Tensor  # (B,) is there an instruction
    images: list[Tensor]  # a camera: (B * L, h, w, 3) uint8
    ids: Tensor  # (B * L, block_ids)
    labels: Tensor  # (B, L, A) bins the demonstrator chose
    loss_mask: Tensor  # (B, L) which steps are learned from
    positions: Tensor  # (B, N)
    mask: Tensor  # (B, 1, N, N)
    truth: Tensor  # (B, L, 2, THING) of the first and second named thing, NaN where there is none
    patch_truth: Tensor  # (B, L, P, 2) does a patch show the first, the second named point; NaN where unknown


@dataclass
class Replay:
    """Control steps of `streams` streams; the last `capacity` of each are kept.

    The streams come in `parts` of equal size, which may be a few steps ahead of one another. `texts` are the ids of
    each task's phrasings, as many for every task.
    """

    spec: SequenceSpec
    texts: Sequence[Sequence[NDArray[np.int64]]]
    streams: int
    capacity: int
    device: torch.device
    scene: Scene = field(default_factory=Scene)
    parts: int = 1

    def __post_init__(self) -> None:
        spec, shape, device = self.spec, (self.streams, self.capacity), self.device

        def zeros(*tail: int, dtype: torch.dtype) -> Tensor:
            return torch.zeros(*shape, *tail, dtype=dtype, device=device)

        tasks = len(self.texts)
        self.images = [zeros(h, w, 3, dtype=torch.uint8) for _, h, w in spec.cameras]
        self.ids = zeros(spec.block_ids, dtype=torch.int32)
        self.labels = zeros(tasks, spec.actions, dtype=torch.int16)
        self.task = zeros(dtype=torch.int16)
        self.episode = zeros(dtype=torch.int32)
        self.first = zeros(dtype=torch.bool)
        things = 1 + max((thing for pair in self.scene.roles for thing in pair), default=1)
        self.truth = zeros(things, THING, dtype=torch.float32)
        self.pixels = zeros(len(spec.cameras), things, 2, dtype=torch.float32)
        self.counts = [0] * self.parts  # steps of each part's streams so far
        self.roles = torch.tensor(self.scene.roles or [(0, 1)] * tasks, device=device)
        padded = [[spec.pad_text(text) for text in phrasings] for phrasings in self.texts]
        self.phrasings = len(padded[0])
        self.text_ids = torch.from_numpy(np.array([[p[0] for p in row] for row in padded])).to(device)
        self.text_real = torch.from_numpy(np.array([[p[1] for p in row] for row in padded])).to(device)
        words = [[spec.pad_words(text) for text in phrasings] for phrasings in self.texts]
        self.words = torch.from_numpy(np.array(words)).to(device)
        self.names = torch.tensor(self.scene.names or [[(0, 0)] * self.phrasings] * tasks, device=device)
        self.demonstrations = Demonstrations(tasks, device)
        self._recolour = Recolouring(self.scene, device) if self.scene.colour_tasks else None
        self._no_text = torch.from_numpy(spec.pad_text(np.zeros(0, dtype=np.int64))[1]).to(device)
        self._static_masks: dict[tuple[int, int], Tensor] = {}

    @property
    def size(self) -> int:
        """Steps that every stream has, those included that were overwritten."""
        return min(self.counts)

    @property
    def oldest(self) -> int:
        """The first step that every stream still holds."""
        return max(0, max(self.counts) - self.capacity)

    def rows(self, part: int) -> slice:
        """The streams of a part."""
        each = self.streams // self.parts
        return slice(part * each, (part + 1) * each)

    def append(
        self,
        images: list[NDArray[np.uint8]],
        ids: NDArray[np.int64],
        labels: NDArray[np.int64],
        task: NDArray[np.int64],
        episode: NDArray[np.int64],
        first: NDArray[np.bool_],
        truth: NDArray[np.float64] | None = None,
        pixels: NDArray[np.float64] | None = None,
        *,
        part: int = 0,
    ) -> None:
        """One step of every stream of `part`: arrays whose first axis is the stream. The oldest step leaves when full.

        `labels` (streams, tasks, actions) are bins, -1 for tasks without a demonstrator; `truth` (streams, things,
        THING); `pixels` (streams, cameras, things, 2), [u, v] in [0, 1].
        """
        at, rows = self.counts[part] % self.capacity, self.rows(part)
        for store, image in zip(self.images, images, strict=True):
            store[rows, at] = torch.from_numpy(image).to(self.device, non_blocking=True)
        for store, array in ((self.ids, ids), (self.labels, labels), (self.task, task), (self.episode, episode)):
            store[rows, at] = torch.from_numpy(array).to(self.device, store.dtype, non_blocking=True)
        self.first[rows, at] = torch.from_numpy(first).to(self.device)
        for store, values in ((self.truth, truth), (self.pixels, pixels)):
            store[rows, at] = torch.nan if values is None else torch.from_numpy(values).to(self.device, torch.float32)
        self.counts[part] += 1

    def sample(self, batch: int, length: int, demonstration: int, generator: torch.Generator) -> Batch:
        """`batch` sequences of `length` steps, a quarter of them behind `demonstration` steps of another episode."""
        device, spec = self.device, self.spec

        def rand(*shape: int) -> Tensor:
            return torch.rand(*shape, device=device, generator=generator)

        oldest = self.oldest
        stream = (rand(batch) * self.streams).long()
        start = oldest + (rand(batch) * max(1, self.size - oldest - length + 1)).long()
        moments = start[:, None] + torch.arange(length, device=device)
        streams = stream[:, None].expand(-1, length)
        steps = moments.clamp_max(self.size - 1) % self.capacity
        begin = start % self.capacity
        learned = self.episode[streams, steps] == self.episode[stream, begin][:, None]
        learned &= moments < self.size
        shown = self.task[stream, begin].long()
        other = (rand(batch) * len(self.texts)).long()
        labelled = (self.labels[stream, begin, other] >= 0).all(-1)
        task = torch.where((rand(batch) < RELABEL) & labelled, other, shown)
        prompted, worded = torch.zeros_like(labelled), torch.ones_like(labelled)
        if demonstration:
            streams, steps, prompted, ends = self._with_prompts(streams, steps, task, demonstration, rand)
            learned[:, :demonstration] &= ~prompted[:, None]
            worded = ~(prompted & ends & (rand(batch) < WORDLESS))
        images = [store[streams, steps].flatten(0, 1) for store in self.images]
        ids = self.ids[streams, steps].long()
        each = task[:, None].expand(-1, length)
        labels = self.labels[streams, steps, each].long()
        first_thing, second_thing = self.roles[task].unbind(-1)
        named = [thing[:, None].expand(-1, length) for thing in (first_thing, second_thing)]
        truth = torch.stack([self.truth[streams, steps, thing] for thing in named], dim=-2)
        pixels = torch.stack([self.pixels[streams, steps, :, thing] for thing in named], dim=-2)
        first = self.first[streams, steps]
        if self._recolour is not None:
            images, task = self._recolour(images, task, shown, length, rand)
        mirror(self.scene, images, ids, labels, truth, pixels, rand(batch) < 0.5)
        phrase = (rand(batch) * self.phrasings).long() * (rand(batch) >= CANONICAL)
        words = torch.where(worded[:, None], self.words[task, phrase], PADDING)
        ids[:, :, spec.word_places] = words[:, None]
        real = torch.where(worded[:, None], self.text_real[task, phrase], self._no_text)
        return Batch(
            text=torch.where(worded[:, None], self.text_ids[task, phrase], PADDING),
            names=self.names[task, phrase],
            worded=worded,
            images=[jitter(image, batch, rand, generator) for image in images],
            ids=ids.flatten(0, 1),
            labels=labels,
            loss_mask=learned,
            positions=self._positions(batch, length, prompted, demonstration, rand),
            mask=self._mask(real, first, prompted, demonstration),
            truth=truth,
            patch_truth=patch_truth(spec, pixels),
        )

    def _with_prompts(
        self, streams: Tensor, steps: Tensor, task: Tensor, count: int, rand: Draw
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Put `count` steps of a demonstration of its task in front of a quarter of the sequences.

        Returns streams and steps, which sequences they are (B,), and which demonstrations are an episode's end (B,).
        """
        full = max(self.counts) > self.capacity
        there, chosen, moments, ends = self.demonstrations.draw(task, count, self.oldest, full, rand)
        prompted = there & (rand(len(task)) < PROMPTED)
        streams, steps = streams.clone(), steps.clone()
        where = prompted[:, None]
        streams[:, :count] = torch.where(where, chosen[:, None], streams[:, :count])
        steps[:, :count] = torch.where(where, moments % self.capacity, steps[:, :count])
        return streams, steps, prompted, ends

    def _positions(self, batch: int, length: int, prompted: Tensor, count: int, rand: Draw) -> Tensor:
        """(B, N): text, then blocks; an episode stands anywhere in the period, a prompt in front."""
        spec, device = self.spec, self.device
        block = torch.arange(length, device=device) * spec.block
        begin = (rand(batch) * PERIOD).long()[:, None] + block
        begin[:, :count] = torch.where(prompted[:, None], spec.text + block[:count], begin[:, :count])
        inside = begin[:, :, None] + torch.arange(spec.block, device=device)
        text = torch.arange(spec.text, device=device).expand(batch, -1)
        return torch.cat([text, inside.flatten(1)], dim=1) % PERIOD

    def _mask(self, text_real: Tensor, first: Tensor, prompted: Tensor, count: int) -> Tensor:
        """(B, 1, N, N): which token sees which; `text_real` (B, text), `first` (B, L)."""
        spec, length = self.spec, first.shape[1]
        static = torch.stack([self._static_mask(length, 0), self._static_mask(length, count)])
        executed = torch.ones(*first.shape, spec.block, dtype=torch.bool, device=self.device)
        executed[..., : spec.actions] = ~first[..., None]
        columns = torch.cat([text_real, executed.flatten(1)], dim=1)
        mask = static[prompted.long()] & columns[:, None, :]
        # A row that sees nothing would be NaN; every token may always see itself.
        mask |= torch.eye(mask.shape[-1], dtype=torch.bool, device=self.device)
        return mask[:, None]

    def _static_mask(self, length: int, demonstration: int) -> Tensor:
        key = (length, demonstration)
        if key not in self._static_masks:
            spec = self.spec
            blocks = torch.from_numpy(visible_blocks(length, spec.window, demonstration)).to(self.device)
            mask = torch.zeros(*[spec.text + length * spec.block] * 2, dtype=torch.bool, device=self.device)
            mask[:, : spec.text] = True
            mask[spec.text :, spec.text :] = blocks.repeat_interleave(spec.block, 0).repeat_interleave(spec.block, 1)
            self._static_masks[key] = mask
        return self._static_masks[key]
