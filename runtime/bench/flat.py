"""Does a step cost the same at tick 5,000 as at tick 50? `gato-arm bench flat`."""

from __future__ import annotations

from collections.abc import Sequence

from policies.artifact import Artifact
from policies.onnx_policy import OnnxPolicy
from policies.policy import Policy
from runtime.bench.episodes import Episode, episodes_for
from runtime.bench.figures import Contender, Figure, Section, in_turns, relative

TICKS = (50, 500, 5000)
ROUNDS = 40
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
    advanced = {}
    for tick in ticks:
        policy = OnnxPolicy(artifact, threads)
        policy.warm_up()
        advanced[f"step from tick {tick:,}"] = _Advanced(policy, episode, tick)
    contenders = {name: Contender(policy.act, batch=BATCH) for name, policy in advanced.items()}
    samples = in_turns(contenders, rounds)
    first = next(iter(samples))
    ratios = relative(samples, first)
    figures = tuple(
        Figure(name, values, note="" if name == first else f"{ratios[name]:.3f} x {first.removeprefix('step from ')}")
        for name, values in samples.items()
    )
    raw = {"ratio_to_first": dict(zip(map(str, ticks), ratios.values(), strict=True))}
    return Section("flat", figures, (f"each from its tick on, {BATCH} steps in turns",), raw)
