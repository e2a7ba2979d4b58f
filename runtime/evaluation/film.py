"""A few moments of an episode, kept while it runs and laid out as one strip when it fails.

One column for each moment from the first frame to the last, one row for each camera: what an engineer needs to see
where an episode went wrong. Knows images, no policy.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from runtime.loop import Step

MOMENTS = 5
GAP = 2  # pixels between moments and between cameras
Image = NDArray[np.uint8]


class Film:
    """A subscriber that keeps references to every step's images; they are the observation's own and never change."""

    def __init__(self) -> None:
        self._frames: list[tuple[Image, ...]] = []

    def on_episode_start(self, info: object) -> None:
        self._frames = []

    def on_step(self, step: Step) -> None:
        images = step.observation.images
        self._frames.append(tuple(images[name] for name in sorted(images)))

    def on_episode_end(self, result: object) -> None:
        """Nothing ends here."""

    def strip(self, moments: int = MOMENTS) -> Image | None:
        """(rows, columns, 3): the first step, the last, and others between them; None when no step was taken."""
        if not self._frames:
            return None
        count = min(moments, len(self._frames))
        chosen = np.linspace(0, len(self._frames) - 1, count).round().astype(int)
        columns = [_stacked(self._frames[index]) for index in chosen]
        gap = np.zeros((columns[0].shape[0], GAP, 3), dtype=np.uint8)
        parts = [part for column in columns for part in (gap, column)][1:]
        return np.concatenate(parts, axis=1)


def _stacked(frames: tuple[Image, ...]) -> Image:
    """One moment: the cameras one above the other."""
    gap = np.zeros((GAP, frames[0].shape[1], 3), dtype=np.uint8)
    return np.concatenate([part for frame in frames for part in (gap, frame)][1:], axis=0)
