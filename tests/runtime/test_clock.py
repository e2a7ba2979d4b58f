from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.clock import MILLISECOND, MonotonicClock, Pacer, SimulatedClock, percentiles

PERIOD = 10 * MILLISECOND


def test_simulated_clock_moves_only_when_asked() -> None:
    clock = SimulatedClock(5)
    assert clock.now() == clock.now() == 5
    clock.advance(10)
    clock.sleep_until(12)
    assert clock.now() == 15
    clock.sleep_until(100)
    assert clock.now() == 100
    with pytest.raises(ValueError):
        clock.advance(-1)


def test_monotonic_clock_sleeps_until_the_deadline() -> None:
    clock = MonotonicClock()
    deadline = clock.now() + 2 * MILLISECOND
    clock.sleep_until(deadline)
    assert clock.now() >= deadline
    clock.sleep_until(deadline)


def test_pacer_starts_at_once_and_keeps_absolute_deadlines() -> None:
    clock = SimulatedClock(7)
    pacer = Pacer(clock, PERIOD)
    for index in range(5):
        tick = pacer.wait()
        assert (tick.index, tick.scheduled, tick.late_ns, tick.skipped) == (index, 7 + index * PERIOD, 0, 0)
        clock.advance(3 * MILLISECOND)


def test_a_late_cycle_starts_at_once_and_shifts_nothing() -> None:
    clock = SimulatedClock()
    pacer = Pacer(clock, PERIOD)
    pacer.wait()
    clock.advance(PERIOD + 4 * MILLISECOND)
    late = pacer.wait()
    assert (late.index, late.late_ns, late.skipped) == (1, 4 * MILLISECOND, 0)
    assert pacer.wait().started == 2 * PERIOD


@given(st.lists(st.integers(0, 7 * PERIOD), max_size=40))
def test_the_schedule_keeps_its_phase_whatever_the_stalls(stalls: list[int]) -> None:
    clock = SimulatedClock(3)
    pacer = Pacer(clock, PERIOD)
    last = pacer.wait()
    for stall in stalls:
        clock.advance(stall)
        tick = pacer.wait()
        assert tick.scheduled == 3 + tick.index * PERIOD
        assert tick.index == last.index + 1 + tick.skipped
        assert 0 <= tick.late_ns < PERIOD
        assert tick.late_ns == tick.started - tick.scheduled
        assert tick.skipped == max(0, stall + last.late_ns - PERIOD) // PERIOD
        last = tick


def test_reset_begins_a_new_schedule() -> None:
    clock = SimulatedClock()
    pacer = Pacer(clock, PERIOD)
    pacer.wait()
    clock.advance(PERIOD // 2)
    pacer.reset()
    assert pacer.wait().scheduled == PERIOD // 2


@pytest.mark.parametrize("period", [0, -1])
def test_a_period_is_positive(period: int) -> None:
    with pytest.raises(ValueError):
        Pacer(SimulatedClock(), period)


def test_percentiles() -> None:
    assert percentiles([]) == {"p50": 0.0, "p99": 0.0, "max": 0.0}
    assert percentiles([3.0, 1.0, 2.0])["p50"] == 2.0
    assert percentiles([3.0, 1.0, 2.0])["max"] == 3.0
