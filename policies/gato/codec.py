"""One robot's numbers to Gato's ids and back: which quantities are sensed, how they scale, what an action stands for.

Built from a card; used by training, rollouts and the ONNX policy alike. Numpy only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from policies.gato.tokens import ValueScale, bins_to_ids, ids_to_bins
from policies.policy import PolicyError

Floats = NDArray[np.float64]
Ids = NDArray[np.int64]


@dataclass(frozen=True)
class Codec:
    """`tensors` in lexicographic order; `delta` (n,) says which joints' actions are steps from the last target."""

    tensors: Mapping[str, ValueScale]
    action: ValueScale
    delta: NDArray[np.bool_]

    def __post_init__(self) -> None:
        object.__setattr__(self, "tensors", dict(sorted(self.tensors.items())))

    def sense(self, proprioception: Mapping[str, Floats]) -> list[Ids]:
        """Ids of each tensor, in order. Raises `PolicyError` naming what is missing, ValueError for NaN."""
        missing = self.tensors.keys() - proprioception.keys()
        if missing:
            raise PolicyError(f"the observation lacks {', '.join(sorted(missing))}; this policy senses it")
        return [scale.encode(proprioception[name]) for name, scale in self.tensors.items()]

    def action_bins(self, targets: Floats, previous: Floats) -> Ids:
        """Bins of the action that leads from the `previous` joint targets to `targets`, (n,), rad."""
        return ids_to_bins(self.action_ids(targets, previous))

    def action_ids(self, targets: Floats, previous: Floats) -> Ids:
        """Ids of the action that leads from the `previous` joint targets to `targets`, (n,), rad."""
        return self.action.encode(np.where(self.delta, targets - previous, targets))

    def targets(self, ids: Ids, previous: Floats) -> Floats:
        """Joint targets (n,), rad, that an action's ids ask for."""
        values = self.action.decode(ids)
        return np.where(self.delta, previous + values, values)

    def targets_of_bins(self, bins: Ids, previous: Floats) -> Floats:
        """The same for bins."""
        return self.targets(bins_to_ids(bins), previous)
