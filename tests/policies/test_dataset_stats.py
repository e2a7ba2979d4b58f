"""Statistics of many episodes are those of all their steps at once."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from policies.dataset_stats import NAMES, describe, describe_images, pool


@given(
    st.lists(
        arrays(np.float64, st.tuples(st.integers(1, 9), st.just(2)), elements=st.floats(-9, 9)), min_size=1, max_size=4
    )
)
def test_pool_equals_one_pass(parts: list[np.ndarray]) -> None:
    pooled = pool([describe(part) for part in parts])
    everything = np.concatenate(parts)
    assert pooled["mean"] == pytest.approx(everything.mean(axis=0), abs=1e-9)
    assert pooled["std"] == pytest.approx(everything.std(axis=0), abs=1e-6)
    assert pooled["min"] == pytest.approx(everything.min(axis=0)) and pooled["count"] == [len(everything)]


def test_quantiles_are_there_and_in_order() -> None:
    values = np.random.default_rng(0).normal(size=(500, 3))
    found = describe(values)
    assert set(found) == set(NAMES)
    assert found["q50"] == pytest.approx(np.median(values, axis=0))
    for low, high in pairwise(("min", "q01", "q10", "q50", "q90", "q99", "max")):
        assert (np.array(found[low]) <= np.array(found[high])).all()


def test_images_are_described_by_channel_in_the_shape_that_lerobot_broadcasts() -> None:
    frames = np.zeros((5, 4, 6, 3), dtype=np.uint8)
    frames[..., 1] = 255
    found = describe_images(frames)
    assert found["count"] == [5]
    assert all(np.shape(found[name]) == (3, 1, 1) for name in NAMES if name != "count")
    assert np.ravel(found["mean"]).tolist() == [0, 1, 0]
