"""The network that is read back from the graph decides as the graph does, with a cache and without one."""

from __future__ import annotations

import numpy as np
import pytest

from policies.artifact import Artifact
from policies.gato.weights import network_of
from policies.onnx_policy import OnnxPolicy, sequence_of
from policies.policy import Observation
from runtime.bench import flat, step
from runtime.bench.episodes import Episode, episodes_for
from runtime.bench.show import Show, alone
from runtime.bench.step import AS_GATO, CACHED, LONG, ONE_BY_ONE, RECOMPUTED
from runtime.bench.torch_steps import Recomputing, with_cache
from runtime.clock import MILLISECOND, SimulatedClock
from runtime.so101_policy import SEQUENCE


def test_a_cache_decides_as_the_graph_does(tiny_artifact: Artifact) -> None:
    episodes = episodes_for(tiny_artifact.card, 3)
    policy, cached = OnnxPolicy(tiny_artifact), with_cache(tiny_artifact, network_of(tiny_artifact))
    shows = [
        Show(policy, lambda observation: policy.act(observation).tokens, episodes),
        Show(cached, cached.act, episodes),
    ]
    for show in shows:
        for _ in range(70):  # into the second episode
            show.prepare()
            show()
    np.testing.assert_array_equal(shows[0].ids, shows[1].ids)
    assert len(np.unique(np.array(shows[0].ids), axis=0)) > 10


def test_recomputing_decides_as_a_cache_does_until_the_window_is_full(tiny_artifact: Artifact) -> None:
    (episode,) = episodes_for(tiny_artifact.card, 4, 1)
    model = network_of(tiny_artifact)
    cached, recomputing = with_cache(tiny_artifact, model), Recomputing(tiny_artifact, model)
    for actor in (cached, recomputing):
        actor.reset(episode.task)
    for observation in episode.observations[: sequence_of(tiny_artifact.card).window]:
        np.testing.assert_array_equal(recomputing.act(observation), cached.act(observation))


def test_what_is_recomputed_hangs_on_the_window_and_on_nothing_before_it(tiny_artifact: Artifact) -> None:
    one, other = (episode.observations for episode in episodes_for(tiny_artifact.card, 5, 2))
    model = network_of(tiny_artifact)
    window = sequence_of(tiny_artifact.card).window

    def last(begin: tuple[Observation, ...], end: tuple[Observation, ...]) -> list[int]:
        actor = Recomputing(tiny_artifact, model)
        actor.reset(tiny_artifact.card.tasks[0])
        for observation in begin + end:
            ids = actor.act(observation)
        return ids.tolist()

    shown = window + 1  # the action executed before the window's first block is part of that
    assert last(one[:4], one[4 : 4 + shown]) == last(other[:4], one[4 : 4 + shown])
    assert last(one[:4], one[4 : 4 + window]) != last(one[:4], other[4 : 4 + window])


def test_one_token_after_the_other_takes_a_pass_each_and_ends_with_the_same_one(
    tiny_artifact: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    (episode,) = episodes_for(tiny_artifact.card, 6, 1)
    model = network_of(tiny_artifact)
    ends: list[int] = []
    embed = model.embed_blocks
    monkeypatch.setattr(model, "embed_blocks", lambda *inputs: (ends.append(1), embed(*inputs))[1])
    whole, each = (Recomputing(tiny_artifact, model, one_by_one=by_token) for by_token in (False, True))
    for actor, passes in ((whole, 1), (each, 3)):
        ends.clear()
        actor.reset(episode.task)
        chosen = [actor.act(observation) for observation in episode.observations[:2]]
        assert len(ends) == 2 * passes
        assert [ids.shape for ids in chosen] == [(3,), (3,)]
    # The last pass is over everything, like the only one.
    whole.reset(episode.task)
    assert whole.act(episode.observations[0])[-1] == _first(each, episode)[-1]


def _first(actor: Recomputing, episode: Episode) -> np.ndarray:
    actor.reset(episode.task)
    return actor.act(episode.observations[0])


class Counting:
    """Something that acts, and says when it was reset."""

    def __init__(self) -> None:
        self.log: list[str] = []

    def reset(self, task: str) -> None:
        self.log.append(task)

    def act(self, observation: object) -> np.ndarray:
        self.log.append(str(observation))
        return np.zeros(1, dtype=np.int64)


def test_episodes_are_shown_in_turn_and_begin_with_a_reset() -> None:
    actor = Counting()
    show = Show(actor, actor.act, [Episode("x", ("1", "2")), Episode("y", ("3",))])
    for _ in range(4):
        show.prepare()
        show()
    assert actor.log == ["x", "1", "2", "y", "3", "x", "1"]


def test_alone_a_step_is_timed_without_the_beginning_of_an_episode() -> None:
    clock = SimulatedClock()

    class Slow(Counting):
        def reset(self, task: str) -> None:
            clock.advance(70 * MILLISECOND)

        def act(self, observation: object) -> np.ndarray:
            begun.append(clock.now() % (50 * MILLISECOND))
            clock.advance(9 * MILLISECOND)
            return super().act(observation)

    for rate in (20.0, None):
        begun: list[int] = []
        actor = Slow()
        taken = alone(Show(actor, actor.act, [Episode("x", ("1", "2")), Episode("y", ("3",))]), 6, clock, rate)
        np.testing.assert_allclose(taken, 9.0)
        assert len(begun) == 6
        paced = len(set(begun)) <= 3  # a cycle that is missed is skipped, and the phase is kept but for resets
        assert paced == (rate is not None)


def test_a_step_is_measured_by_part_beside_torch_and_floor(tiny_artifact: Artifact) -> None:
    section = step.measure(tiny_artifact, threads=1, steps=4, rounds=16, pause=0.0, rate=1000.0)
    paced, hurried, whole, tokenize, run, decode = section.figures
    assert {name: len(samples) for name, samples in whole.alternatives.items()} == {
        CACHED: 16,
        RECOMPUTED: 4,
        ONE_BY_ONE: 2,
        LONG: 2,
        AS_GATO: 1,
    }
    assert [len(figure.samples) for figure in (paced, hurried, whole)] == [4, 4, 16]
    parts = sum(float(np.median(figure.samples)) for figure in (tokenize, run, decode))
    assert parts == pytest.approx(float(np.median(whole.samples)), rel=1e-6)
    content = section.to_json()
    assert content["tokens_equal_to_torch"] == content["tokens"] == 16 * 3
    assert content["ties"] == 0
    assert content["floor"]["ms"] == whole.floor


def test_without_torch_its_rows_are_left_out_and_a_note_says_so(
    tiny_artifact: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(step, "find_spec", lambda name: None)
    section = step.measure(tiny_artifact, threads=1, steps=2, rounds=8, pause=0.0, rate=1000.0)
    assert all(figure.alternatives == {} for figure in section.figures)
    assert "gato-arm[train]" in section.notes[0]


def test_a_longer_window_than_the_networks_is_recomputed_in_full(tiny_artifact: Artifact) -> None:
    (episode,) = episodes_for(tiny_artifact.card, 6, 1)
    model = network_of(tiny_artifact)
    seen: list[tuple[int, ...]] = []
    forward = model.forward
    model.forward = lambda x, *rest: (seen.append(tuple(x.shape)), forward(x, *rest))[1]
    actor = Recomputing(tiny_artifact, model, timesteps=5)
    spec = sequence_of(tiny_artifact.card)
    actor.reset(episode.task)
    for observation in episode.observations[:7]:
        actor.act(observation)
    assert {shape[1] for shape in seen} == {spec.text + 5 * spec.block}


def test_flat_really_runs_up_to_each_tick(tiny_artifact: Artifact, monkeypatch: pytest.MonkeyPatch) -> None:
    acts: dict[int, int] = {}
    act = OnnxPolicy.act

    def counted(self, observation):
        acts[id(self)] = acts.get(id(self), 0) + 1
        return act(self, observation)

    monkeypatch.setattr(OnnxPolicy, "act", counted)
    section = flat.measure(tiny_artifact, threads=1, ticks=(2, 70), rounds=2)
    assert sorted(acts.values()) == [2 + 2 * flat.BATCH, 70 + 2 * flat.BATCH]
    assert [figure.name for figure in section.figures] == ["step from tick 2", "step from tick 70"]
    assert section.raw["ratio_to_first"]["2"] == 1.0


def test_a_card_of_the_simulated_arm_is_shown_demonstrations(tiny_artifact: Artifact) -> None:
    made_up = episodes_for(tiny_artifact.card, 0)
    assert [len(episode.observations) for episode in made_up] == [60, 60]
    assert made_up[0].observations[0].images["left"].shape == (32, 32, 3)
    assert {name for name, _, _ in SEQUENCE.cameras} == {"fixed", "wrist"}
