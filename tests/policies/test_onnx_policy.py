"""The policy at work: the network's decisions, at the same cost for ever, and every refusal one line."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from policies.artifact import Artifact, load_artifact, write_card
from policies.card import SequenceCard
from policies.gato.export import Reference
from policies.gato.sequence import PERIOD
from policies.gato.text import Text
from policies.gato.tokens import CONTINUOUS_END, CONTINUOUS_START
from policies.onnx_policy import OnnxPolicy, Shown, sequence_of
from policies.policy import Observation, PolicyError
from tests.policies.gato.tiny import CODEC, SPEC, TASKS, exported, network, observations


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return exported(tmp_path_factory.mktemp("artifact"))


@pytest.fixture(scope="module")
def opened(artifact: Artifact) -> OnnxPolicy:
    return OnnxPolicy(artifact, threads=1)


@pytest.fixture
def policy(opened: OnnxPolicy) -> OnnxPolicy:
    opened.reset(TASKS[0])
    return opened


def tokens_of(policy: OnnxPolicy, episode: list[Observation]) -> list[list[int]]:
    return [policy.act(observation).tokens.tolist() for observation in episode]


def test_it_decides_as_the_network_does(policy: OnnxPolicy) -> None:
    reference = Reference(network(), CODEC, Text())
    reference.reset(TASKS[0])
    for observation in observations(8, seed=5):
        action = policy.act(observation)
        assert action.tokens.tolist() == reference.act(observation).tolist()
        assert ((action.tokens >= CONTINUOUS_START) & (action.tokens < CONTINUOUS_END)).all()
        in_force = observation.proprioception["joint_targets"]
        np.testing.assert_array_equal(action.targets, CODEC.targets(action.tokens, in_force))


def test_another_policy_over_the_same_graph_has_an_episode_of_its_own(policy: OnnxPolicy) -> None:
    mine, others = observations(6, seed=5), observations(6, seed=6)
    alone = tokens_of(policy, mine)
    policy.reset(TASKS[0])
    other = policy.another()
    with pytest.raises(PolicyError, match="call reset before act"):
        other.act(others[0])
    other.reset(TASKS[1])
    both = []
    for one, two in zip(mine, others, strict=True):
        both.append(policy.act(one).tokens.tolist())
        other.act(two)
    assert both == alone


def test_what_was_executed_is_told_to_the_next_step(policy: OnnxPolicy) -> None:
    first, second = observations(2)
    policy.act(first)
    policy.act(second)
    before, now = (o.proprioception["joint_targets"] for o in (first, second))
    assert policy._binding.ids[: SPEC.actions].tolist() == CODEC.action_ids(now, before).tolist()


def test_an_episode_knows_nothing_of_the_one_before(policy: OnnxPolicy) -> None:
    episode = observations(5)
    first = tokens_of(policy, episode)
    policy.reset(TASKS[1])
    other = tokens_of(policy, observations(4, seed=9))
    policy.reset(TASKS[0])
    assert tokens_of(policy, episode) == first
    assert other != first[:4]


def test_ten_thousand_ticks_later_nothing_is_different_or_larger(policy: OnnxPolicy) -> None:
    episode = observations(10)
    arrays = {name: id(array) for name, array in policy._binding._inputs.items()}
    early = tokens_of(policy, episode)
    policy.reset(TASKS[0])
    policy._timestep = PERIOD * SPEC.window * 3  # whole periods, whole rounds of the ring
    assert tokens_of(policy, episode) == early
    assert {name: id(array) for name, array in policy._binding._inputs.items()} == arrays
    assert policy._binding._visible.shape == (SPEC.cache(),)


def test_old_timesteps_leave_the_ring(policy: OnnxPolicy) -> None:
    """Each of the two layers looks one timestep back, so the third last has no part in a decision, the others have."""
    episode = observations(6, seed=3)
    last = tokens_of(policy, episode)[-1]
    for index, same in ((2, True), (3, False), (4, False), (5, False)):
        negative = {name: 255 - image for name, image in episode[index].images.items()}
        changed = [*episode[:index], replace(episode[index], images=negative), *episode[index + 1 :]]
        policy.reset(TASKS[0])
        assert (tokens_of(policy, changed)[-1] == last) == same


def test_a_demonstration_stands_behind_the_text(policy: OnnxPolicy) -> None:
    """Shown timesteps are blocks of the prompt: each sees the text, those before it and itself."""
    demonstration, episode = observations(3, seed=7), observations(4)
    executed = [
        None,
        *(CODEC.action_ids(*_targets(b, a)) for a, b in pairwise(demonstration)),
    ]
    policy.reset(TASKS[0], [Shown(o, e) for o, e in zip(demonstration, executed, strict=True)])
    prompted = tokens_of(policy, episode)

    model, text = network(), Text().encode(TASKS[0])
    cache, padded = model.new_cache(1, 3), SPEC.pad_text(text)
    visible = torch.zeros(1, SPEC.cache(3), dtype=torch.bool)
    visible[0, : SPEC.text] = torch.from_numpy(padded[1])
    model.prefill_text(torch.from_numpy(padded[0])[None], cache, visible)
    expected, previous = [], None
    blocks = [
        (o, e, SPEC.prompt(i), SPEC.prompt(i)) for i, (o, e) in enumerate(zip(demonstration, executed, strict=True))
    ]
    for timestep, observation in enumerate(episode):
        e = None if previous is None else CODEC.action_ids(*_targets(observation, previous))
        blocks.append((observation, e, SPEC.ring_slot(timestep, 3), SPEC.position(timestep, 3)))
        previous = observation
    for observation, e, slot, position in blocks:
        ids = np.zeros(SPEC.block_ids, dtype=np.int64)
        SPEC.write_block(ids, e, SPEC.pad_words(text), CODEC.sense(observation.proprioception))
        visible[:, slot : slot + SPEC.block] = True
        visible[:, slot : slot + SPEC.actions] = e is not None
        images = [torch.from_numpy(observation.images[name])[None] for name, _, _ in SPEC.cameras]
        step = model.step(images, torch.from_numpy(ids)[None], cache, slot, torch.tensor([position]), visible)
        expected.append(step[0].tolist())
    assert prompted == expected[3:]
    policy.reset(TASKS[0])
    assert tokens_of(policy, episode) != prompted


def _targets(now: Observation, before: Observation) -> tuple[np.ndarray, np.ndarray]:
    return now.proprioception["joint_targets"], before.proprioception["joint_targets"]


def test_words_that_were_never_trained_are_refused(policy: OnnxPolicy) -> None:
    with pytest.raises(PolicyError) as raised:
        policy.reset("stack the pink block on the mauve block")
    assert str(raised.value) == (
        'task "stack the pink block on the mauve block" names "pink", "mauve", which this policy was not trained on; '
        "it knows: block, blue, on, red, stack, the"
    )
    with pytest.raises(PolicyError, match='task " " names nothing; ask for example for "stack the red'):
        policy.reset(" ")
    with pytest.raises(PolicyError, match="policy has room for 10"):
        policy.reset("stack the red block on the blue block on the red block")


def test_capitals_and_full_stops_change_nothing(policy: OnnxPolicy) -> None:
    episode = observations(3)
    plain = tokens_of(policy, episode)
    policy.reset("Stack the red block on the blue block.")
    assert tokens_of(policy, episode) == plain


def test_it_must_be_told_its_task_first(artifact: Artifact) -> None:
    policy = OnnxPolicy(artifact, threads=1)
    with pytest.raises(PolicyError, match="call reset before act"):
        policy.act(observations(1)[0])
    policy.warm_up()
    with pytest.raises(PolicyError, match="call reset before act"):
        policy.act(observations(1)[0])
    assert (policy.name, policy.rate) == ("tiny", 20.0)


def test_observations_that_lack_something_are_refused(policy: OnnxPolicy) -> None:
    good = observations(1)[0]
    right = good.images["right"]
    for images, message in (
        ({"right": right}, "lacks camera 'left'; it has right"),
        ({"left": right, "right": right}, r"camera 'left' gives uint8 \(16, 32, 3\), this policy sees uint8 \(32, 32"),
    ):
        with pytest.raises(PolicyError, match=message):
            policy.act(replace(good, images=images))
    positions = good.proprioception["joint_positions"]
    for proprioception, message in (
        ({"joint_positions": positions}, "needs joint_targets, 3 finite numbers"),
        ({"joint_targets": positions}, "lacks joint_positions"),
        ({"joint_targets": positions, "joint_positions": np.full(3, np.nan)}, "cannot be encoded: .* not finite"),
        ({"joint_targets": np.full(3, np.nan), "joint_positions": positions}, "3 finite numbers"),
    ):
        with pytest.raises(PolicyError, match=message):
            policy.act(replace(good, proprioception=proprioception))


def test_a_graph_that_is_not_what_the_card_says_is_refused(artifact: Artifact, tmp_path: Path) -> None:
    said = artifact.card.sequence
    for sequence, message in (
        (said.model_copy(update={"timestep_tokens": said.timestep_tokens + 1}), "its card says .*; export"),
        (said.model_copy(update={"timestep_tokens": 11}), "sequence: .* at least 1"),
    ):
        with pytest.raises(PolicyError, match=message):
            OnnxPolicy(_changed(artifact, tmp_path, sequence))
    (tmp_path / "policy.onnx").write_bytes(b"\x08\x0b garbage")
    write_card(tmp_path, artifact.card)
    with pytest.raises(PolicyError, match="no ONNX graph") as raised:
        OnnxPolicy(load_artifact(tmp_path))
    assert "\n" not in str(raised.value)


def _changed(artifact: Artifact, folder: Path, sequence: SequenceCard) -> Artifact:
    for file in artifact.card.files:
        (folder / file).write_bytes((artifact.folder / file).read_bytes())
    write_card(folder, artifact.card.model_copy(update={"sequence": sequence}))
    return load_artifact(folder)


def test_the_card_is_enough_to_know_the_sequence(artifact: Artifact) -> None:
    assert sequence_of(artifact.card) == SPEC
