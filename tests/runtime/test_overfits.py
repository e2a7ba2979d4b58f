"""The whole chain at the size of a test: demonstrations of one scene are learned by heart, and it stacks there."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from policies.gato.codec import Codec
from policies.gato.config import SIZES
from policies.gato.data import Replay
from policies.gato.export import Reference
from policies.gato.imitate import fill, fit
from policies.gato.model import Gato
from policies.gato.sequence import SequenceSpec
from policies.gato.text import Text
from policies.gato.train import TrainConfig, Trainer
from policies.policy import Action, Observation
from runtime.few_shot import Demonstration, Watched
from runtime.lockstep import run_lockstep
from runtime.report import SUCCESS
from runtime.so101_policy import CODEC
from sim.world import World

TASK = "stack the red block on the blue block"
SEEDS = (12, 13, 14)
SIZE = (32, 32)
SPEC = SequenceSpec(
    (("fixed", *SIZE), ("wrist", *SIZE)), (("joint_positions", 6), ("joint_targets", 6)), actions=6, words=8, window=1
)


pytestmark = pytest.mark.usefixtures("one_thread")


class Learned:
    """The network as a policy."""

    name, rate = "tiny", 20.0

    def __init__(self, model: Gato, codec: Codec, text: Text) -> None:
        self._network, self._codec = Reference(model, codec, text), codec

    def reset(self, task: str) -> None:
        self._network.reset(task)

    def act(self, observation: Observation) -> Action:
        ids = self._network.act(observation)
        return Action(self._codec.targets(ids, observation.proprioception["joint_targets"]), ids)


class InTokens(Watched):
    """The demonstrator, its targets as the tokens of an action can say them: what the network can repeat exactly."""

    def act(self, observation: Observation) -> Action:
        command = observation.proprioception["joint_targets"]
        action = super().act(observation)
        return Action(CODEC.targets(CODEC.action_ids(action.targets, command), command), action.tokens)


def demonstrated(seed: int) -> Demonstration:
    watched: list[Watched] = []

    def make(world: World) -> Watched:
        watched.append(InTokens(world, np.random.default_rng(seed), noise=0.0))
        return watched[0]

    assert run_lockstep(make, TASK, seed, image_size=SIZE).result.outcome == SUCCESS
    return watched[0].demonstration(TASK)


def test_a_tiny_network_overfits_a_few_episodes_and_stacks_one() -> None:
    torch.manual_seed(0)
    text = Text()
    shown = [demonstrated(seed) for seed in SEEDS]
    steps = sum(len(one.actions) for one in shown)
    replay = Replay(SPEC, [[text.encode(TASK)]], 1, steps, torch.device("cpu"))
    fill(replay, shown, CODEC, [TASK])
    config = TrainConfig(batch=24, length=1, demonstration=0, learning_rate=3e-3, warmup=20, average=0.98, softness=1.0)
    trainer = Trainer(Gato(SIZES["tiny"], SPEC, text.vocab_size), config)
    off: list[float] = []
    for measures in fit(trainer, replay, 900, seed=0):
        off.append(float(measures["bins"]))
        if np.mean(off[-40:]) < 0.003:
            break  # by heart: hardly a token of the last 40 batches is a bin off
    assert np.mean(off[-40:]) < 0.01 < 100 < np.mean(off[:5])
    episode = run_lockstep(lambda world: Learned(trainer.averaged(), CODEC, text), TASK, SEEDS[0], image_size=SIZE)
    assert episode.result.outcome == SUCCESS
