"""Episodes that are not learned from: which, and how well a network does on them. Knows no file and no robot."""

from __future__ import annotations

import numpy as np
import torch

from policies.gato.data import Replay
from policies.gato.model import Gato
from policies.gato.train import Objective, TrainConfig

FEWEST = 8  # episodes, below which none is held out
BATCHES = 4  # that a network is judged by, the same ones every time


def split(episodes: int, share: float, seed: int) -> tuple[list[int], list[int]]:
    """Which of so many episodes to learn from and which to hold out, about `share` of them; in order."""
    held_out = max(1, round(episodes * share)) if share > 0 and episodes >= FEWEST else 0
    drawn = np.random.default_rng([seed, 7]).permutation(episodes)
    return sorted(drawn[held_out:].tolist()), sorted(drawn[:held_out].tolist())


class Validation:
    """Judges networks by the same batches of held-out episodes."""

    def __init__(self, replay: Replay, config: TrainConfig, seed: int) -> None:
        generator = torch.Generator(device=replay.device).manual_seed(seed)
        size = min(config.batch, 256)
        self._config = config
        self._batches = [replay.sample(size, config.length, 0, generator) for _ in range(BATCHES)]

    @torch.no_grad()
    def __call__(self, model: Gato) -> dict[str, float]:
        """`action`, the loss, and `bins`, how far off the likeliest action is on average, in bins."""
        device = next(model.parameters()).device
        objective = Objective(model, self._config).to(device).eval()
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=device.type == "cuda"):
            found = [objective(batch)[1] for batch in self._batches]
        return {name: float(torch.stack([measures[name] for measures in found]).mean()) for name in ("action", "bins")}
