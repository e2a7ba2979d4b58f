"""One token moved by one bin: how far do the bins move that the policy decodes?

All action tokens come out of one pass, so that none of them sees another of the same step. What an action can do is
to be executed and stand in front of the next observation; what the joints sense stands in it. Each of these tokens is
moved by one bin, alone, up or down, and the step is decoded again in the very context in which the policy stood.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from policies.gato.tokens import BINS, ids_to_bins
from policies.onnx_policy import OnnxPolicy, codec_of
from policies.policy import Observation
from runtime.evaluate import artifact_at
from runtime.evaluation.precision import histogram

if TYPE_CHECKING:
    from runtime.loop import EpisodeInfo, EpisodeResult, Step

EVERY = 5  # control steps between two that are probed
EXECUTED = "executed action"
_SIGNS = 5  # second word of the seed of the directions
Ids = NDArray[np.int64]


class ProbedPolicy(OnnxPolicy):
    """A policy that can be asked again what it would do, had its last step sensed something else."""

    def again(self, observation: Observation, executed: Ids | None) -> Ids:
        """The action ids of the last step for this observation behind this executed action.

        The block is written over the one of that step: ask with the true ones last, and the episode goes on unharmed.
        """
        assert self._timestep is not None and self._timestep > 0  # there was a step
        last = self._timestep - 1
        slot = self._spec.ring_slot(last, self._demonstration)
        return self._put(observation, executed, slot, self._spec.position(last, self._demonstration))


class Probes:
    """A subscriber that follows an episode with a policy of its own and probes every `EVERY`th step."""

    def __init__(self, folder: Path, told: str | None, seed: int = 0) -> None:
        artifact = artifact_at(folder)
        self._policy, self._told = ProbedPolicy(artifact, threads=1), told
        self._codec = codec_of(artifact.card)
        self._before: Observation | None = None
        self._rng = np.random.default_rng([seed, _SIGNS])
        self._farthest: dict[str, Counter[int]] = {}

    def on_episode_start(self, info: EpisodeInfo) -> None:
        self._policy.reset(self._told)
        self._before = None

    def on_step(self, step: Step) -> None:
        observation, before = step.observation, self._before
        decoded = ids_to_bins(self._policy.act(observation).tokens)
        if before is not None and step.index % EVERY == 0:
            executed = self._codec.action_ids(
                observation.proprioception["joint_targets"], before.proprioception["joint_targets"]
            )
            for kind, sensed, done in self._moved(observation, executed):
                apart = np.abs(ids_to_bins(self._policy.again(sensed, done)) - decoded)
                self._farthest.setdefault(kind, Counter())[int(apart.max())] += 1
            self._policy.again(observation, executed)
        self._before = observation

    def on_episode_end(self, result: EpisodeResult) -> None:
        """Nothing ends here."""

    def measured(self) -> dict[str, Any]:
        """For each kind of token: by how many bins the action token that moved farthest did, and how often."""
        return {"farthest": {kind: histogram(counts) for kind, counts in self._farthest.items()}}

    def _moved(self, observation: Observation, executed: Ids) -> Iterator[tuple[str, Observation, Ids]]:
        """Observation and executed action with one token moved by one bin: every token once."""
        bins = ids_to_bins(executed)
        for index, bin_ in enumerate(bins):
            moved = executed.copy()
            moved[index] += self._step(int(bin_))
            yield EXECUTED, observation, moved
        for name, scale in self._codec.tensors.items():
            values = observation.proprioception[name]
            ids = scale.encode(values)
            for index, bin_ in enumerate(ids_to_bins(ids)):
                moved = ids.copy()
                moved[index] += self._step(int(bin_))
                changed = np.array(values)
                changed[index] = scale.decode(moved)[index]
                yield name, replace(observation, proprioception={**observation.proprioception, name: changed}), executed

    def _step(self, bin_: int) -> int:
        """Up or down, and never out of the range."""
        if bin_ in (0, BINS - 1):
            return 1 if bin_ == 0 else -1
        return int(self._rng.choice((-1, 1)))
