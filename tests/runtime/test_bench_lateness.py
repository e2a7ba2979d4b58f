"""How late ticks were, told from their times alone."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.bench.lateness import lateness, schedule_phase, shift_ms, without
from runtime.clock import MILLISECOND

PERIOD = 10 * MILLISECOND


def ticks(count: int, start: int = 123_456_789, late_ms: np.ndarray | None = None) -> np.ndarray:
    """A paced loop's ticks, some of them late."""
    stamps = start + PERIOD * np.arange(count, dtype=np.int64)
    return stamps if late_ms is None else stamps + (late_ms * MILLISECOND).astype(np.int64)


def some_late(rng: np.random.Generator, count: int, share: float) -> np.ndarray:
    """Most ticks within 0.1 ms, the others anywhere in the period."""
    late = rng.uniform(0, 0.1, count)
    chosen = rng.random(count) < share
    late[chosen] = rng.uniform(0, 9.5, chosen.sum())
    return late


@given(st.integers(0, 2**40), st.integers(0, 2**32 - 1), st.floats(0, 0.4))
def test_lateness_is_found_whatever_the_phase(start: int, seed: int, share: float) -> None:
    late = some_late(np.random.default_rng(seed), 400, share)
    found = lateness(ticks(400, start, late), PERIOD)
    assert (found.cycles, found.skipped) == (400, 0)
    np.testing.assert_allclose(found.late_ms, late, atol=0.2)


def test_skipped_cycles_are_counted_and_are_late() -> None:
    stamps = np.delete(ticks(100), [40, 41, 70])
    found = lateness(stamps, PERIOD)
    assert (found.cycles, found.skipped) == (100, 3)
    assert found.share_beyond(2.0) == pytest.approx(0.03)


def test_a_share_counts_late_and_skipped() -> None:
    late = np.zeros(100)
    late[[10, 20]] = 3.0
    found = lateness(np.delete(ticks(100, late_ms=late), 50), PERIOD)
    assert found.share_beyond(2.0) == pytest.approx(0.03)
    assert found.share_beyond(4.0) == pytest.approx(0.01)


def test_the_first_reading_of_a_cycle_is_its_tick() -> None:
    stamps = np.sort(np.concatenate([ticks(50), ticks(50)[[7, 9]] + 4 * MILLISECOND]))
    found = lateness(stamps, PERIOD)
    assert (found.cycles, found.skipped, len(found.late_ms)) == (50, 0, 50)
    assert found.late_ms.max() < 0.2


def test_one_tick_is_too_few() -> None:
    with pytest.raises(ValueError, match="two at least"):
        lateness(ticks(1), PERIOD)


@pytest.mark.parametrize("moved", [0.0, 1.5, -3.0])
def test_a_stall_that_moves_the_schedule_shows(moved: float) -> None:
    rng = np.random.default_rng(3)
    stamps = ticks(400, late_ms=some_late(rng, 400, 0.05))
    stall = (int(stamps[200]), int(stamps[220]))
    before, after = without(stamps, *stall)
    after = after + round(moved * MILLISECOND)
    assert len(before) == 200 and len(after) >= 178
    assert shift_ms(before, after, PERIOD) == pytest.approx(moved, abs=0.1)


def test_a_phase_at_the_edge_of_the_period_is_one_phase() -> None:
    rng = np.random.default_rng(5)
    stamps = ticks(500, start=5 * PERIOD - 20_000, late_ms=rng.uniform(0, 0.05, 500))
    phase = schedule_phase(stamps, PERIOD)
    assert min(abs(phase - (PERIOD - 20_000)), abs(phase + 20_000)) < 20_000
