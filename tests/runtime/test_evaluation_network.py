"""What is measured of the network itself: tokens moved by one bin, weights rounded."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from policies.gato.tokens import ids_to_bins
from runtime.evaluate import artifact_at, session, verified
from runtime.evaluation.play import play
from runtime.evaluation.precision import ROUNDINGS, histogram, rounded_session, to_bf16, to_int8
from runtime.evaluation.prompted import demonstration_of
from runtime.evaluation.sensitivity import EVERY, EXECUTED, ProbedPolicy
from runtime.evaluation.trial import EvaluationError, Trial
from sim.tasks import TASKS

TRIAL = Trial("sensitivity", "cubes", 0, 100_000, TASKS[0].text)
WEIGHTS = arrays(np.float32, (7, 5), elements=st.floats(-4, 4, width=32))


@pytest.fixture(scope="module")
def shipped() -> Path:
    return verified("stack")


@given(WEIGHTS)
def test_bf16_keeps_eight_bits(weights: np.ndarray) -> None:
    rounded = to_bf16(weights)
    assert np.all(np.abs(rounded - weights) <= np.abs(weights) / 256 + 1e-38)
    assert np.array_equal(to_bf16(rounded), rounded)
    assert np.all(rounded.view(np.uint32) & 0xFFFF == 0)


@given(WEIGHTS)
def test_int8_keeps_255_steps_of_each_column(weights: np.ndarray) -> None:
    rounded = to_int8(weights)
    step = np.abs(weights).max(axis=0) / 127
    assert np.all(np.abs(rounded - weights) <= step / 2 + 1e-6)
    assert all(len(np.unique(column)) <= 255 for column in rounded.T)


@pytest.mark.parametrize("weights", list(ROUNDINGS))
def test_a_rounded_policy_does_nearly_the_same(shipped: Path, weights: str) -> None:
    shown = demonstration_of(TRIAL, shipped)
    rounded, exact = rounded_session(shipped, weights), session(shipped)
    apart: Counter[int] = Counter()
    for policy in (rounded, exact):
        policy.reset(TRIAL.task)
    for step in shown:
        ours, theirs = (ids_to_bins(policy.act(step.observation).tokens) for policy in (rounded, exact))
        apart.update(np.abs(ours - theirs).tolist())
    assert sorted(apart)[len(apart) // 2] < 20  # median of a thousand and twenty-four bins
    assert sum(histogram(apart).values()) == len(shown) * 6


def test_a_rounding_that_nobody_knows_is_refused(shipped: Path) -> None:
    with pytest.raises(EvaluationError, match="no rounding 'int3'; there are bf16, int8, int8 dynamic"):
        rounded_session(shipped, "int3")


def test_asking_again_leaves_no_trace(shipped: Path) -> None:
    """A probe is written over the step's own block; after the true one, the episode goes on as if nothing had been."""
    shown = demonstration_of(TRIAL, shipped)
    probed, plain = ProbedPolicy(artifact_at(shipped), threads=1), session(shipped)
    for policy in (probed, plain):
        policy.reset(TRIAL.task)
    first = [policy.act(shown[0].observation).tokens for policy in (probed, plain)]
    assert np.array_equal(*first)
    images = {name: 255 - image for name, image in shown[0].observation.images.items()}
    other = type(shown[0].observation)(0, images, shown[0].observation.proprioception)
    assert not np.array_equal(probed.again(other, None), first[0])
    assert np.array_equal(probed.again(shown[0].observation, None), first[0])
    assert np.array_equal(*(policy.act(shown[1].observation).tokens for policy in (probed, plain)))


def test_every_token_is_moved_once_at_every_fifth_step(shipped: Path) -> None:
    played = play(shipped, TRIAL)
    assert played.outcome.success
    farthest = played.measured["farthest"]
    assert list(farthest) == [EXECUTED, "joint_positions", "joint_targets"]
    probed = (played.outcome.steps - 1) // EVERY
    assert all(sum(counts.values()) == 6 * probed for counts in farthest.values())
    assert any(int(bins) > 0 for counts in farthest.values() for bins in counts)
