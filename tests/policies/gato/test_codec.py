"""Joint targets to action ids and back, and what is sensed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.gato.codec import Codec
from policies.gato.tokens import BINS, CONTINUOUS_END, CONTINUOUS_START, ValueScale
from policies.policy import PolicyError

STEP, OPEN = 0.1, 1.5
RANGE = ValueScale(np.array([-2.0, -2.0]), np.array([2.0, 2.0]))
CODEC = Codec(
    {"joint_targets": RANGE, "joint_positions": RANGE},
    ValueScale(np.array([-STEP, 0.0]), np.array([STEP, OPEN])),
    np.array([True, False]),
)

steps = st.floats(-STEP, STEP)
openings = st.floats(0, OPEN)
angles = st.floats(-2, 2)


@given(steps, openings, angles, openings)
def test_an_action_comes_back_within_half_a_bin(step: float, opening: float, joint: float, gripper: float) -> None:
    previous = np.array([joint, gripper])
    wanted = np.array([joint + step, opening])
    found = CODEC.targets(CODEC.action_ids(wanted, previous), previous)
    half_bins = np.array([2 * STEP, OPEN]) / BINS / 2
    assert (np.abs(found - wanted) <= half_bins + 1e-12).all()


@given(st.integers(0, BINS - 1), st.integers(0, BINS - 1), angles)
def test_ids_come_back_as_they_were(first: int, second: int, joint: float) -> None:
    bins = np.array([first, second])
    previous = np.array([joint, 0.3])
    targets = CODEC.targets_of_bins(bins, previous)
    assert CODEC.action_bins(targets, previous).tolist() == bins.tolist()
    assert (CODEC.action_ids(targets, previous) == bins + CONTINUOUS_START).all()


def test_what_is_out_of_reach_is_clipped() -> None:
    ids = CODEC.action_ids(np.array([5.0, -1.0]), np.array([0.0, 0.0]))
    assert ids.tolist() == [CONTINUOUS_END - 1, CONTINUOUS_START]


def test_tensors_are_sensed_in_lexicographic_order() -> None:
    ids = CODEC.sense({"joint_targets": np.array([2.0, 2.0]), "joint_positions": np.array([-2.0, -2.0])})
    assert [i.tolist() for i in ids] == [[CONTINUOUS_START] * 2, [CONTINUOUS_END - 1] * 2]


def test_what_cannot_be_sensed_is_refused() -> None:
    with pytest.raises(PolicyError, match="lacks joint_positions"):
        CODEC.sense({"joint_targets": np.zeros(2)})
    with pytest.raises(ValueError, match="not finite"):
        CODEC.sense({"joint_targets": np.zeros(2), "joint_positions": np.array([0, np.nan])})
    with pytest.raises(ValueError, match="do not fit"):
        CODEC.sense({"joint_targets": np.zeros(2), "joint_positions": np.zeros(3)})
