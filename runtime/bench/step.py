"""The artifact's control step by part, beside PyTorch and beside the floor: `gato-arm bench step`.

All of it is fed the same observations and timed in turns. The parts are tokenizing (numbers to ids, a block filled),
running (images and ids copied into the graph's memory, the graph) and decoding (ids to joint targets).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.util import find_spec
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from policies.artifact import Artifact
from policies.gato.config import config_of
from policies.onnx_policy import OnnxPolicy, codec_of, sequence_of
from policies.policy import Observation
from runtime.bench.episodes import Episode, episodes_for
from runtime.bench.figures import Contender, Figure, Floats, Section, in_turns
from runtime.bench.floor import Floor
from runtime.bench.products import bytes_read, describe, step_products

ROUNDS = 240
PAUSE = 0.004  # s before each measurement: at 20 Hz there are 30 ms between two steps
LOOK_EVERY = 8  # rounds between two looks at the floor
ORT, CACHED = "artifact", "torch, cache"
RECOMPUTED, ONE_BY_ONE = "torch, window recomputed", "torch, window recomputed for each token"
EVERY = {RECOMPUTED: 4, ONE_BY_ONE: 12}  # rounds between two measurements of what is slow

Ids = NDArray[np.int64]


class Steps(Protocol):
    """What acts: a policy or PyTorch."""

    def reset(self, task: str) -> None: ...


class Show:
    """Shows one episode after the other to something that acts, a step at each call; keeps the ids that came."""

    def __init__(self, actor: Steps, act: Callable[[Observation], Ids], episodes: Sequence[Episode]) -> None:
        self._actor, self._act = actor, act
        self._moments = [(episode.task, o) for episode in episodes for o in episode.observations]
        self._begins = {0}
        for episode in episodes[:-1]:
            self._begins.add(max(self._begins) + len(episode.observations))
        self._next = 0
        self.ids: list[Ids] = []

    def prepare(self) -> None:
        """Begin an episode where one begins; not to be timed."""
        if self._next in self._begins:
            self._actor.reset(self._moments[self._next][0])

    def __call__(self) -> None:
        self.ids.append(self._act(self._moments[self._next][1]))
        self._next = (self._next + 1) % len(self._moments)
        self.prepare()


def measure(artifact: Artifact, *, threads: int, seed: int = 0, rounds: int = ROUNDS, pause: float = PAUSE) -> Section:
    """The section "step". Raises `PolicyError` and `BenchError`."""
    card, spec = artifact.card, sequence_of(artifact.card)
    episodes = episodes_for(card, seed)
    policy = OnnxPolicy(artifact, threads)
    policy.warm_up()
    shows = {ORT: Show(policy, lambda observation: policy.act(observation).tokens, episodes)}
    notes = []
    if find_spec("torch") is not None and find_spec("onnx") is not None:
        shows |= _in_torch(artifact, episodes, threads)
    else:
        notes.append("torch or onnx is not installed: no comparison with PyTorch (pip install 'gato-arm[train]')")
    config = config_of(card)
    products = step_products(config, spec)
    floor = Floor.of(products, bytes_read(products, config, spec.cache(), 4), threads)
    contenders = {name: Contender(show, every=EVERY.get(name, 1)) for name, show in shows.items()}
    ends = _Ends(artifact, episodes)
    contenders |= {"tokenize": Contender(ends.tokenize), "decode": Contender(ends.decode)}
    contenders["floor"] = Contender(floor.look, every=LOOK_EVERY)
    for show in shows.values():
        show.prepare()
    samples = in_turns(contenders, rounds, pause=pause)
    equal: dict[str, Any] = {}
    if CACHED in shows:
        pairs = list(zip(shows[ORT].ids, shows[CACHED].ids, strict=True))
        equal = {
            "tokens": sum(len(ours) for ours, _ in pairs),
            "tokens_equal_to_torch": sum(int((ours == theirs).sum()) for ours, theirs in pairs),
        }
        notes.append(f"{equal['tokens_equal_to_torch']} of {equal['tokens']} tokens equal to torch's")
    whole, tokenize, decode = samples[ORT], samples["tokenize"], samples["decode"]
    run = whole - np.median(tokenize) - np.median(decode)
    others = {name: samples[name] for name in (CACHED, RECOMPUTED, ONE_BY_ONE) if name in samples}
    note = f"{describe(products)}; {floor.bytes / 1e6:.0f} MB read"
    notes.append(
        f"floor: products {floor.matrix_ms:.2f} ms ({floor.kernels}, {floor.threads} threads, each shape at its best), "
        f"memory {floor.memory_ms:.2f} ms at {floor.bandwidth / 1e9:.1f} GB/s; the larger one, since they overlap"
    )
    figures = (
        Figure("control step", whole, floor.ms, others, note),
        Figure("  tokenize", tokenize),
        Figure("  run", run, floor.ms),
        Figure("  decode", decode),
    )
    return Section("step", figures, tuple(notes), {"floor": floor.to_json(), **equal, "threads": threads})


def _in_torch(artifact: Artifact, episodes: Sequence[Episode], threads: int) -> dict[str, Show]:
    import torch

    from policies.gato.weights import network_of
    from runtime.bench.torch_steps import Recomputing, with_cache

    torch.set_num_threads(threads)
    model = network_of(artifact)
    cached = with_cache(artifact, model)
    whole, by_token = (Recomputing(artifact, model, one_by_one=each) for each in (False, True))
    return {
        CACHED: Show(cached, cached.act, episodes),
        RECOMPUTED: Show(whole, whole.act, episodes),
        ONE_BY_ONE: Show(by_token, by_token.act, episodes),
    }


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
