"""The artifact's control step: as the loop runs it, by part, beside PyTorch and the floor: `gato-arm bench step`.

First the policy is alone: paced at its rate, as `gato-arm run` calls it, then back to back. After that all contenders
are fed the same observations and timed in turns. The parts are tokenizing (numbers to ids, a block filled), running
(images and ids copied into the graph's memory, the graph) and decoding (ids to joint targets).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.util import find_spec

import numpy as np
from numpy.typing import NDArray

from policies.artifact import Artifact
from policies.gato.config import config_of
from policies.huge_pages import use_huge_pages
from policies.onnx_policy import OnnxPolicy, codec_of, sequence_of
from policies.policy import Observation
from runtime.bench.episodes import Episode, episodes_for
from runtime.bench.figures import Contender, Figure, Floats, Section, in_turns
from runtime.bench.floor import Floor
from runtime.bench.products import bytes_read, describe, step_products
from runtime.bench.show import Show, alone
from runtime.clock import MonotonicClock

ALONE = 600  # steps paced, and as many back to back
ROUNDS = 240
PAUSE = 0.004  # s before each measurement: at 20 Hz there are 30 ms between two steps
LOOK_EVERY = 8  # rounds between two looks at the floor
CONTEXT = 1024  # tokens: what Gato is shown at each token that it decodes
ORT, CACHED = "artifact", "torch, cache"
RECOMPUTED, ONE_BY_ONE = "torch, window recomputed", "torch, window recomputed for each token"
LONG, AS_GATO = "torch, 1,024 tokens recomputed", "torch, 1,024 tokens recomputed for each token"
EVERY = {RECOMPUTED: 4, ONE_BY_ONE: 12, LONG: 12, AS_GATO: 40}  # rounds between two measurements of what is slow

Ids = NDArray[np.int64]
Logits = NDArray[np.float32]


def measure(
    artifact: Artifact,
    *,
    threads: int,
    seed: int = 0,
    steps: int = ALONE,
    rounds: int = ROUNDS,
    pause: float = PAUSE,
    rate: float | None = None,
) -> Section:
    """The section "step". `rate` None is the policy's own. Raises `PolicyError` and `BenchError`."""
    card = artifact.card
    episodes = episodes_for(card, seed)
    policy = OnnxPolicy(artifact, threads)
    policy.warm_up()
    ours = Show(policy, lambda observation: policy.act(observation).tokens, episodes)
    rate, clock = rate or card.rate, MonotonicClock()
    paced, hurried = alone(ours, steps, clock, rate), alone(ours, steps, clock)
    config, spec = config_of(card), sequence_of(card)
    products = step_products(config, spec)
    floor = Floor.of(products, bytes_read(products, config, spec.cache(), 4), threads)
    shows, logits, notes = {ORT: Show(policy, lambda o: policy.act(o).tokens, episodes)}, list[Logits](), list[str]()
    if find_spec("torch") is not None and find_spec("onnx") is not None:
        shows |= _in_torch(artifact, episodes, threads, logits)
    else:
        notes.append("torch or onnx is not installed: no comparison with PyTorch (pip install 'gato-arm[train]')")
    use_huge_pages()  # all contenders alike
    samples = _in_turns(artifact, episodes, shows, floor, rounds, pause)
    equal: dict[str, int] = {}
    if CACHED in shows:
        equal = _compared(shows[ORT].ids, shows[CACHED].ids, logits)
        notes.append(
            f"{equal['tokens_equal_to_torch']} of {equal['tokens']} tokens equal to torch's; {equal['ties']} of the "
            "others are ties, half of the odds reached at the border of two bins but for the last bits"
        )
    notes.append(
        f"floor: products {floor.matrix_ms:.2f} ms ({floor.kernels}, {floor.threads} threads, each shape at its best), "
        f"memory {floor.memory_ms:.2f} ms at {floor.bandwidth / 1e9:.1f} GB/s; the larger one, since they overlap"
    )
    figures = _figures(paced, hurried, samples, floor, rate, f"{describe(products)}; {floor.bytes / 1e6:.0f} MB read")
    return Section("step", figures, tuple(notes), {"floor": floor.to_json(), **equal, "threads": threads})


def _in_turns(
    artifact: Artifact,
    episodes: Sequence[Episode],
    shows: Mapping[str, Show],
    floor: Floor,
    rounds: int,
    pause: float,
) -> dict[str, Floats]:
    ends = _Ends(artifact, episodes)
    contenders = {n: Contender(show, every=EVERY.get(n, 1), prepare=show.prepare) for n, show in shows.items()}
    contenders |= {"tokenize": Contender(ends.tokenize), "decode": Contender(ends.decode)}
    contenders["floor"] = Contender(floor.look, every=LOOK_EVERY)
    return in_turns(contenders, rounds, pause=pause)


def _figures(
    paced: Floats, hurried: Floats, samples: Mapping[str, Floats], floor: Floor, rate: float, note: str
) -> tuple[Figure, ...]:
    whole, tokenize, decode = samples[ORT], samples["tokenize"], samples["decode"]
    run = whole - np.median(tokenize) - np.median(decode)
    torch = (CACHED, RECOMPUTED, ONE_BY_ONE, LONG, AS_GATO)
    others = {name: samples[name] for name in torch if name in samples}
    return (
        Figure(f"control step, at {rate:g} Hz", paced, floor.ms, note="alone, as the control loop calls it"),
        Figure("control step, back to back", hurried, floor.ms, note="alone"),
        Figure("control step, in turns", whole, floor.ms, others, note),
        Figure("  tokenize", tokenize),
        Figure("  run", run, floor.ms),
        Figure("  decode", decode),
    )


def _compared(ours: Sequence[Ids], theirs: Sequence[Ids], logits: Sequence[Logits]) -> dict[str, int]:
    """How many tokens there are, how many are equal, and how many of the others are as good."""
    from policies.gato.export import ties

    same = np.array(ours) == np.array(theirs)
    tied = np.array([ties(ids, seen) for ids, seen in zip(ours, logits, strict=True)])
    return {"tokens": same.size, "tokens_equal_to_torch": int(same.sum()), "ties": int((tied & ~same).sum())}


def _in_torch(artifact: Artifact, episodes: Sequence[Episode], threads: int, logits: list[Logits]) -> dict[str, Show]:
    """The alternatives; those of the one with a cache go into `logits`, step by step."""
    import torch

    from policies.gato.weights import network_of
    from runtime.bench.torch_steps import Recomputing, with_cache

    torch.set_num_threads(threads)
    model, spec = network_of(artifact), sequence_of(artifact.card)
    cached = with_cache(artifact, model)
    timesteps = max(1, (CONTEXT - spec.text) // spec.block)

    def act(observation: Observation) -> Ids:
        ids = cached.act(observation)
        logits.append(cached.logits)
        return ids

    recomputing = {
        RECOMPUTED: Recomputing(artifact, model),
        ONE_BY_ONE: Recomputing(artifact, model, one_by_one=True),
        LONG: Recomputing(artifact, model, timesteps=timesteps),
        AS_GATO: Recomputing(artifact, model, timesteps=timesteps, one_by_one=True),
    }
    shows = {name: Show(actor, actor.act, episodes) for name, actor in recomputing.items()}
    return {CACHED: Show(cached, act, episodes), **shows}


class _Ends:
    """What surrounds the graph, as `OnnxPolicy` does it."""

    def __init__(self, artifact: Artifact, episodes: Sequence[Episode]) -> None:
        self._codec, self._spec = codec_of(artifact.card), sequence_of(artifact.card)
        self._sensed = [observation.proprioception for episode in episodes for observation in episode.observations]
        self._block: Ids = np.zeros(self._spec.block_ids, dtype=np.int64)
        self._words: Ids = np.zeros(self._spec.words, dtype=np.int64)
        self._index = 0

    def tokenize(self) -> None:
        before, sensed = self._sensed[self._index - 1], self._sensed[self._index]
        executed = self._codec.action_ids(sensed["joint_targets"], before["joint_targets"])
        self._spec.write_block(self._block, executed, self._words, self._codec.sense(sensed))
        self._index = (self._index + 1) % len(self._sensed)

    def decode(self) -> Floats:
        targets: Floats = self._codec.targets(self._block[: self._spec.actions], self._sensed[0]["joint_targets"])
        return targets
