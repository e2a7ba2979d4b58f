"""Experience on the training device, and how a batch of training sequences is cut from it.

Every step holds what the demonstrator would do there for each of the tasks, and a sequence may learn any of them: with
one task a scene, a network learns the scenes by heart and ignores the instruction.

Streams of control steps (one stream a simulated world, or one for a whole dataset) lie side by side in tensors; a
sequence is `length` consecutive steps of one stream. In a quarter of the sequences the first steps are replaced by a
stretch of another successful episode of the same task, half of them an episode's end: Gato's prompt conditioning.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from policies.gato.config import THING
from policies.gato.sequence import PERIOD, SequenceSpec, visible_blocks
from policies.gato.tokens import BINS, CONTINUOUS_START

RELABEL = 0.5  # share of sequences that learn another task than the one their episode was about


Draw = Callable[..., Tensor]  # uniform numbers in [0, 1) of a shape


@dataclass(frozen=True)
class Scene:
    """What the tasks are about, and the scene's exact augmentations. Indices are places in ids, actions and truth."""

    roles: tuple[tuple[int, int], ...] = ()  # of each task: the indices of the first and second named thing
    names: tuple[tuple[int, int], ...] = ()  # of each task: which of its words name them

    mirrored_ids: tuple[int, ...] = ()
    mirrored_actions: tuple[int, ...] = ()
    mirrored_truth: tuple[int, ...] = ()  # of one thing's THING numbers
    # colour_tasks[p][t]: the task that t becomes when colour channels are permuted by channel_orders[p]
    channel_orders: tuple[tuple[int, int, int], ...] = ((0, 1, 2),)
    colour_tasks: tuple[tuple[int, ...], ...] = ()


@dataclass
class Batch:
    """B sequences of L blocks. Everything is on the training device."""

    text: Tensor  # (B, text) ids
    names: Tensor  # (B, 2) places of the words that name the first and second thing
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
    """Control steps of `streams` streams, `capacity` steps each."""

    spec: SequenceSpec
    texts: tuple[NDArray[np.int64], ...]  # instruction ids of each task
    streams: int
    capacity: int
    device: torch.device
    scene: Scene = field(default_factory=Scene)

    def __post_init__(self) -> None:
        spec, shape, device = self.spec, (self.streams, self.capacity), self.device

        def zeros(*tail: int, dtype: torch.dtype) -> Tensor:
            return torch.zeros(*shape, *tail, dtype=dtype, device=device)

        self.images = [zeros(h, w, 3, dtype=torch.uint8) for _, h, w in spec.cameras]
        self.ids = zeros(spec.block_ids, dtype=torch.int32)
        self.labels = zeros(len(self.texts), spec.actions, dtype=torch.int16)
        self.task = zeros(dtype=torch.int16)
        self.episode = zeros(dtype=torch.int32)
        self.first = zeros(dtype=torch.bool)
        things = 1 + max((thing for pair in self.scene.roles for thing in pair), default=1)
        self.truth = zeros(things, THING, dtype=torch.float32)
        self.pixels = zeros(len(spec.cameras), things, 2, dtype=torch.float32)
        self.roles = torch.tensor(self.scene.roles or [(0, 1)] * len(self.texts), device=device)
        self.size = 0
        padded = [spec.pad_text(text) for text in self.texts]
        self.text_ids = torch.from_numpy(np.stack([p[0] for p in padded])).to(device)
        self.text_real = torch.from_numpy(np.stack([p[1] for p in padded])).to(device)
        self.words = torch.from_numpy(np.stack([spec.pad_words(text) for text in self.texts])).to(device)
        self.names = torch.tensor(self.scene.names or [(0, 0)] * len(self.texts), device=device)
        self._demonstrations: list[list[tuple[int, int, int]]] = [[] for _ in self.texts]

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
    ) -> None:
        """One step of every stream: arrays whose first axis is the stream. Raises IndexError when full.

        `labels` (streams, tasks, actions) are bins, -1 for tasks without a demonstrator; `truth` (streams, things,
        THING); `pixels` (streams, cameras, things, 2), [u, v] in [0, 1].
        """
        if self.size >= self.capacity:
            raise IndexError(f"the replay holds {self.capacity} steps a stream and is full")
        at = self.size
        for store, image in zip(self.images, images, strict=True):
            store[:, at] = torch.from_numpy(image).to(self.device, non_blocking=True)
        for store, array in ((self.ids, ids), (self.labels, labels), (self.task, task), (self.episode, episode)):
            store[:, at] = torch.from_numpy(array).to(self.device, store.dtype, non_blocking=True)
        self.first[:, at] = torch.from_numpy(first).to(self.device)
        for store, values in ((self.truth, truth), (self.pixels, pixels)):
            store[:, at] = torch.nan if values is None else torch.from_numpy(values).to(self.device, torch.float32)
        self.size += 1

    def add_demonstration(self, stream: int, start: int, end: int, task: int) -> None:
        """Steps [start, end) of `stream` are a successful episode of `task`, fit to prompt with."""
        self._demonstrations[task].append((stream, start, end))

    def sample(self, batch: int, length: int, demonstration: int, generator: torch.Generator) -> Batch:
        """`batch` sequences of `length` steps, a quarter of them behind `demonstration` steps of another episode."""
        device, spec = self.device, self.spec

        def rand(*shape: int) -> Tensor:
            return torch.rand(*shape, device=device, generator=generator)

        stream = (rand(batch) * self.streams).long()
        start = (rand(batch) * max(1, self.size - length + 1)).long()
        steps = start[:, None] + torch.arange(length, device=device)
        steps = steps.clamp_max(self.size - 1)
        streams = stream[:, None].expand(-1, length)
        learned = self.episode[streams, steps] == self.episode[stream, start][:, None]
        learned &= torch.arange(length, device=device) < self.size - start[:, None]
        task = self.task[stream, start].long()
        other = (rand(batch) * len(self.texts)).long()
        labelled = (self.labels[stream, start, other] >= 0).all(-1)
        task = torch.where((rand(batch) < RELABEL) & labelled, other, task)
        prompted = torch.zeros(batch, dtype=torch.bool, device=device)
        if demonstration and all(self._demonstrations):
            prompted = rand(batch) < 0.25
            streams, steps = self._with_prompts(streams, steps, task, prompted, demonstration, rand)
            learned[:, :demonstration] &= ~prompted[:, None]
        images = [store[streams, steps].flatten(0, 1) for store in self.images]
        ids = self.ids[streams, steps].long()
        each = task[:, None].expand(-1, length)
        labels = self.labels[streams, steps, each].long()
        first_thing, second_thing = self.roles[task].unbind(-1)
        named = [thing[:, None].expand(-1, length) for thing in (first_thing, second_thing)]
        truth = torch.stack([self.truth[streams, steps, thing] for thing in named], dim=-2)
        pixels = torch.stack([self.pixels[streams, steps, :, thing] for thing in named], dim=-2)
        first = self.first[streams, steps]
        images, task = self._permute_colours(images, task, length, rand)
        self._mirror(images, ids, labels, truth, pixels, rand(batch) < 0.5)
        ids[:, :, spec.word_places] = self.words[task][:, None]
        images = [_jitter(image, batch, rand, generator) for image in images]
        return Batch(
            text=self.text_ids[task],
            names=self.names[task],
            images=images,
            ids=ids.flatten(0, 1),
            labels=labels,
            loss_mask=learned,
            positions=self._positions(batch, length, prompted, demonstration, rand),
            mask=self._mask(task, first, prompted, demonstration),
            truth=truth,
            patch_truth=_patch_truth(spec, pixels),
        )

    def _with_prompts(
        self, streams: Tensor, steps: Tensor, task: Tensor, prompted: Tensor, count: int, rand: Draw
    ) -> tuple[Tensor, Tensor]:
        """Replace the first `count` steps of prompted sequences by a stretch of a demonstration of their task."""
        batch = len(task)
        table = [torch.tensor(d, device=self.device) for d in self._demonstrations]
        sizes = torch.tensor([len(d) for d in table], device=self.device)
        offsets = torch.cumsum(sizes, 0) - sizes
        flat = torch.cat(table)
        chosen = flat[offsets[task] + (rand(batch) * sizes[task]).long()]
        span = (chosen[:, 2] - chosen[:, 1] - count).clamp_min(0)
        uniform = (rand(batch) * (span + 1)).long()
        begin = chosen[:, 1] + torch.where(rand(batch) < 0.5, span, uniform)
        prompt_steps = begin[:, None] + torch.arange(count, device=self.device)
        streams, steps = streams.clone(), steps.clone()
        where = prompted[:, None]
        streams[:, :count] = torch.where(where, chosen[:, :1].expand(-1, count), streams[:, :count])
        steps[:, :count] = torch.where(where, prompt_steps, steps[:, :count])
        return streams, steps

    def _permute_colours(
        self, images: list[Tensor], task: Tensor, length: int, rand: Draw
    ) -> tuple[list[Tensor], Tensor]:
        scene = self.scene
        if not scene.colour_tasks:
            return images, task
        orders = torch.tensor(scene.channel_orders, device=self.device)
        tasks = torch.tensor(scene.colour_tasks, device=self.device)
        chosen = (rand(len(task)) * len(orders)).long()
        channels = orders[chosen].repeat_interleave(length, 0)[:, None, None, :]
        permuted = [torch.gather(image, 3, channels.expand_as(image)) for image in images]
        return permuted, tasks[chosen, task]

    def _mirror(
        self, images: list[Tensor], ids: Tensor, labels: Tensor, truth: Tensor, pixels: Tensor, flip: Tensor
    ) -> None:
        """Left for right, in place, in the sequences marked by `flip` (B,)."""
        scene = self.scene
        if not scene.mirrored_ids:
            return
        length = ids.shape[1]
        each = flip.repeat_interleave(length)[:, None, None, None]
        for index, image in enumerate(images):
            # The renderer samples pixels at their corners: the optical axis is column w / 2, and a mirror keeps it.
            images[index] = torch.where(each, image.flip(2).roll(1, 2), image)
        where = flip[:, None, None]
        for places, array, total in (
            (scene.mirrored_ids, ids, 2 * CONTINUOUS_START + BINS - 1),
            (scene.mirrored_actions, labels, BINS - 1),
            (scene.mirrored_truth, truth, 0),
        ):
            part = array[..., places]
            array[..., places] = torch.where(where if array.ndim == 3 else where[..., None], total - part, part)
        pixels[..., 0] = torch.where(flip[:, None, None, None], 1 - pixels[..., 0], pixels[..., 0])

    def _positions(self, batch: int, length: int, prompted: Tensor, count: int, rand: Draw) -> Tensor:
        """(B, N): text, then blocks; an episode stands anywhere in the period, a prompt in front."""
        spec, device = self.spec, self.device
        block = torch.arange(length, device=device) * spec.block
        begin = (rand(batch) * PERIOD).long()[:, None] + block
        begin[:, :count] = torch.where(prompted[:, None], spec.text + block[:count], begin[:, :count])
        inside = begin[:, :, None] + torch.arange(spec.block, device=device)
        text = torch.arange(spec.text, device=device).expand(batch, -1)
        return torch.cat([text, inside.flatten(1)], dim=1) % PERIOD

    def _mask(self, task: Tensor, first: Tensor, prompted: Tensor, count: int) -> Tensor:
        spec, length = self.spec, first.shape[1]
        static = torch.stack([self._static_mask(length, 0), self._static_mask(length, count)])
        executed = torch.ones(*first.shape, spec.block, dtype=torch.bool, device=self.device)
        executed[..., : spec.actions] = ~first[..., None]
        columns = torch.cat([self.text_real[task], executed.flatten(1)], dim=1)
        mask = static[prompted.long()] & columns[:, None, :]
        # A row that sees nothing would be NaN; every token may always see itself.
        mask |= torch.eye(mask.shape[-1], dtype=torch.bool, device=self.device)
        return mask[:, None]

    def _static_mask(self, length: int, demonstration: int) -> Tensor:
        spec = self.spec
        blocks = torch.from_numpy(visible_blocks(length, spec.window, demonstration)).to(self.device)
        mask = torch.zeros(*[spec.text + length * spec.block] * 2, dtype=torch.bool, device=self.device)
        mask[:, : spec.text] = True
        mask[spec.text :, spec.text :] = blocks.repeat_interleave(spec.block, 0).repeat_interleave(spec.block, 1)
        return mask


def _jitter(image: Tensor, batch: int, rand: Draw, generator: torch.Generator) -> Tensor:
    """Brightness within 8% a sequence, and noise of 1.5 levels: what a stream's compression does."""
    gain = 1 + 0.16 * (rand(batch) - 0.5)
    each = gain.repeat_interleave(len(image) // batch)[:, None, None, None]
    noise = torch.randn(image.shape, device=image.device, generator=generator, dtype=torch.bfloat16) * 1.5
    return (image * each + noise).round().clamp(0, 255).to(torch.uint8)


def _patch_truth(spec: SequenceSpec, pixels: Tensor) -> Tensor:
    """Which patch shows which named point: pixels (B, L, cameras, 2, [u, v] in [0, 1]) to (B, L, P, 2)."""
    parts = []
    for camera, (_, height, width) in enumerate(spec.cameras):
        rows, columns = height // 16, width // 16
        u, v = pixels[:, :, camera, :, 0], pixels[:, :, camera, :, 1]
        index = (v * rows).floor() * columns + (u * columns).floor()
        inside = (u >= 0) & (u < 1) & (v >= 0) & (v < 1)
        index = torch.where(inside, index, torch.full_like(index, -1.0))
        patches = torch.arange(rows * columns, device=pixels.device)[:, None]
        shown = (index[:, :, None, :] == patches).to(pixels.dtype)
        parts.append(torch.where(torch.isnan(u)[:, :, None, :], torch.nan, shown))
    return torch.cat(parts, dim=2)
