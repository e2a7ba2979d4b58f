"""Does a step cost the same at tick 5,000 as at tick 50? `gato-arm bench flat`.

All have the same graph in memory, and differ in the cache alone: two graphs differ by some percent for where they lie.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from policies.artifact import Artifact
from policies.huge_pages import use_huge_pages
from policies.onnx_policy import OnnxPolicy
from policies.policy import Policy
from runtime.bench.episodes import Episode, episodes_for
from runtime.bench.figures import Contender, Figure, Floats, Section, in_turns
from runtime.priority import no_collections

TICKS = (50, 500, 5000)
ROUNDS = 80
BATCH = 5  # steps in a row


class _Advanced:
    """A policy that has really run so many steps of one long episode, and goes on."""

    def __init__(self, policy: Policy, episode: Episode, ticks: int) -> None:
        self._policy, self._observations = policy, episode.observations
        self._ticks = 0
        policy.reset(episode.task)
        while self._ticks < ticks:
            self.act()

    def act(self) -> None:
        self._policy.act(self._observations[self._ticks % len(self._observations)])
        self._ticks += 1


def measure(
    artifact: Artifact, *, threads: int, seed: int = 0, ticks: Sequence[int] = TICKS, rounds: int = ROUNDS
) -> Section:
    """The section "flat". Nothing is skipped: the ring of the cache has turned as often as in an episode that long."""
    (episode,) = episodes_for(artifact.card, seed, 1)
    opened = OnnxPolicy(artifact, threads)
    advanced = {f"step from tick {tick:,}": _Advanced(opened.another(), episode, tick) for tick in ticks}
    use_huge_pages()
    contenders = {name: Contender(policy.act, batch=BATCH) for name, policy in advanced.items()}
    with no_collections():
        samples = in_turns(contenders, rounds)
    first = next(iter(samples))
    ratios = {name: _ratio(values, samples[first]) for name, values in samples.items()}
    figures = tuple(
        Figure(name, values, note="" if name == first else f"{ratios[name]:.3f} x {first.removeprefix('step from ')}")
        for name, values in samples.items()
    )
    raw = {"ratio_to_first": dict(zip(map(str, ticks), ratios.values(), strict=True))}
    lines = (
        f"each from its tick on, {BATCH} steps in turns, over one graph in memory; the ratio is the median of {rounds} "
        "rounds' ratios",
    )
    return Section("flat", figures, lines, raw)


def _ratio(samples: Floats, first: Floats) -> float:
    """How much longer a step takes: each round's median by that of the first in the same round, the median of all."""
    mine, others = (np.median(values.reshape(-1, BATCH), axis=1) for values in (samples, first))
    return float(np.median(mine / others))
