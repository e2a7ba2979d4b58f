"""Exact augmentations of training sequences, on the training device: mirrored, recoloured, and what a stream does.

Knows arrays and a `Scene`, which says what changes place or sign; no robot.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from policies.gato.sequence import SequenceSpec
from policies.gato.tokens import BINS, CONTINUOUS_START

Draw = Callable[..., Tensor]  # uniform numbers in [0, 1) of a shape


@dataclass(frozen=True)
class Scene:
    """What the tasks are about, and the scene's exact augmentations. Indices are places in ids, actions and truth."""

    roles: tuple[tuple[int, int], ...] = ()  # of each task: the indices of the first and second named thing
    # names[task][phrasing]: which of the words name them
    names: tuple[tuple[tuple[int, int], ...], ...] = ()

    mirrored_ids: tuple[int, ...] = ()
    mirrored_actions: tuple[int, ...] = ()
    mirrored_truth: tuple[int, ...] = ()  # of one thing's THING numbers
    # colour_tasks[p][t]: the task that t becomes when colour channels are permuted by channel_orders[p]
    channel_orders: tuple[tuple[int, int, int], ...] = ((0, 1, 2),)
    colour_tasks: tuple[tuple[int, ...], ...] = ()
    kept_out: tuple[int, ...] = ()  # tasks that nothing may show, ask for or be recoloured to


class Recolouring:
    """Permutes the colour channels of a sequence's images and says what its task becomes, never a kept-out one."""

    def __init__(self, scene: Scene, device: torch.device) -> None:
        self._orders = torch.tensor(scene.channel_orders, device=device)
        self._tasks = torch.tensor(scene.colour_tasks, device=device)
        fit = ~torch.isin(self._tasks, torch.tensor(scene.kept_out, dtype=torch.long, device=device))
        # (task that is learned, task that is shown, order): neither may become one that is kept out
        self._allowed = fit.T[:, None] & fit.T[None]

    def __call__(
        self, images: list[Tensor], learned: Tensor, shown: Tensor, length: int, rand: Draw
    ) -> tuple[list[Tensor], Tensor]:
        """Recolour `images`, each (B * length, h, w, 3); `learned` and `shown` (B,) are tasks. Returns what
        is learned then.
        """
        allowed = self._allowed[learned, shown]
        chosen = (rand(*allowed.shape) * allowed).argmax(-1)
        channels = self._orders[chosen].repeat_interleave(length, 0)[:, None, None, :]
        permuted = [torch.gather(image, 3, channels.expand_as(image)) for image in images]
        return permuted, self._tasks[chosen, learned]


def mirror(
    scene: Scene,
    images: list[Tensor],
    ids: Tensor,
    labels: Tensor,
    truth: Tensor,
    pixels: Tensor,
    flip: Tensor,
) -> None:
    """Left for right, in place, in the sequences marked by `flip` (B,)."""
    if not scene.mirrored_ids:
        return
    each = flip.repeat_interleave(ids.shape[1])[:, None, None, None]
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


def jitter(image: Tensor, batch: int, rand: Draw, generator: torch.Generator) -> Tensor:
    """Brightness within 8% a sequence, and noise of 1.5 levels: what a stream's compression does."""
    gain = 1 + 0.16 * (rand(batch) - 0.5)
    each = gain.repeat_interleave(len(image) // batch)[:, None, None, None]
    noise = torch.randn(image.shape, device=image.device, generator=generator, dtype=torch.bfloat16) * 1.5
    return (image * each + noise).round().clamp(0, 255).to(torch.uint8)


def patch_truth(spec: SequenceSpec, pixels: Tensor) -> Tensor:
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
