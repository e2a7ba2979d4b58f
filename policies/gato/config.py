"""The sizes of the model, the names of Gato's own, and of what the simulator tells the learner."""

from __future__ import annotations

from dataclasses import dataclass

from policies.card import Card
from policies.policy import PolicyError

# What the simulator knows of one thing: where it is (3,), m; how the jaws would be turned to grip it, as 0.2 cos and
# 0.2 sin of four times that angle; and of twice, since only a cube can be gripped as well after a quarter turn: 0 then.
THING = 7


@dataclass(frozen=True)
class ModelConfig:
    """Sizes of the transformer. `feedforward` is the width of each half of the GEGLU."""

    layers: int = 4
    heads: int = 6
    head_width: int = 64
    feedforward: int = 1024
    patch_channels: int = 64
    stochastic_depth: float = 0.0
    init: float = 0.5  # std of embeddings and positions; smaller ones learn to bind words to pixels far later

    @property
    def width(self) -> int:
        """Width of the residual stream."""
        return self.heads * self.head_width


# Reed et al. 2022, table 5. Its feed-forward width is taken as both halves of the GEGLU together, which with a table of
# 33,024 rows comes nearest to the counts that give the sizes their names: 72M, 334M and 1.07B. Ours stores 2,049 rows.
SIZES = {
    "9M": ModelConfig(),
    "13M": ModelConfig(layers=6),
    "tiny": ModelConfig(layers=2, heads=2, head_width=32, feedforward=128, patch_channels=32),
    "79M": ModelConfig(layers=8, heads=24, head_width=32, feedforward=1536, stochastic_depth=0.1),
    "364M": ModelConfig(layers=12, heads=12, head_width=128, feedforward=3072, stochastic_depth=0.1),
    "1.18B": ModelConfig(layers=24, heads=16, head_width=128, feedforward=4096, stochastic_depth=0.1),
}

_FURTHER = ("kind", "weights", "arithmetic")  # what a card's architecture says besides the sizes


def config_of(card: Card) -> ModelConfig:
    """The sizes of a card's network. Raises `PolicyError` for another kind of network."""
    said = card.architecture
    if said.get("kind") != "gato":
        raise PolicyError(f"policy {card.name} is no Gato but {said.get('kind')!r}")
    return ModelConfig(**{key: value for key, value in said.items() if key not in _FURTHER})
