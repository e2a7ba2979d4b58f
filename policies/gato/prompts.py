"""Demonstrations to prompt with: which stretches of the replay are successful episodes of which task.

Half of the prompts are an episode's end, which acts as a goal, the others are drawn from all of it, as Gato's are.
"""

from __future__ import annotations

import torch
from torch import Tensor

from policies.gato.augment import Draw

REFRESHED = 64  # draws between two looks at what has come and gone
MARGIN = 512  # steps: an episode that is about to be overwritten is left alone


class Demonstrations:
    """Episodes by task, as (stream, first step, step after the last); steps count from the beginning of time."""

    def __init__(self, tasks: int, device: torch.device) -> None:
        self._device = device
        self._episodes: list[list[tuple[int, int, int]]] = [[] for _ in range(tasks)]
        self._flat = torch.zeros(0, 3, dtype=torch.long, device=device)
        self._sizes = torch.zeros(tasks, dtype=torch.long, device=device)
        self._draws = 0

    def add(self, task: int, stream: int, start: int, end: int) -> None:
        """Steps [start, end) of `stream` are a successful episode of `task`."""
        self._episodes[task].append((stream, start, end))

    def draw(
        self, task: Tensor, count: int, oldest: int, full: bool, rand: Draw
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """For each of `task` (B,): is there one (B,), its stream (B,), the steps of `count` of it (B, count), and
        whether they are its end (B,). `oldest` is the first step that the replay holds; `full`: it overwrites them.
        """
        if self._draws % REFRESHED == 0:
            self._refresh(oldest + MARGIN if full else 0)
        self._draws += 1
        batch, sizes = len(task), self._sizes
        if len(self._flat) == 0:
            none = torch.zeros(batch, dtype=torch.long, device=self._device)
            return none.bool(), none, none[:, None].expand(-1, count), none.bool()
        offsets = torch.cumsum(sizes, 0) - sizes
        place = offsets[task] + (rand(batch) * sizes[task]).long()
        chosen = self._flat[place.clamp_max(len(self._flat) - 1)]
        span = (chosen[:, 2] - chosen[:, 1] - count).clamp_min(0)
        ends = rand(batch) < 0.5
        begin = chosen[:, 1] + torch.where(ends, span, (rand(batch) * (span + 1)).long())
        steps = begin[:, None] + torch.arange(count, device=self._device)
        return sizes[task] > 0, chosen[:, 0], steps, ends

    def _refresh(self, oldest: int) -> None:
        self._episodes = [[row for row in rows if row[1] >= oldest] for rows in self._episodes]
        rows = [row for rows in self._episodes for row in rows]
        self._flat = torch.tensor(rows, dtype=torch.long).view(-1, 3).to(self._device)
        self._sizes = torch.tensor([len(rows) for rows in self._episodes], device=self._device)
