"""How late a loop that should run once a period did run, told from the times at which it ran. Pure functions.

The schedule itself is not known: its phase is that of the earliest ticks, so that lateness is what was lost against the
loop's own best. Times in ns, lateness in ms.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from runtime.clock import MILLISECOND

Stamps = NDArray[np.int64]
Floats = NDArray[np.float64]

BINS = 100  # of a period, in which the usual phase is looked for
NEAR = 0.05  # of a period around it: what is further off was late, and by a period nearly looks early
EARLIEST = 0.01  # quantile of the ticks near it that are taken to be on time
ROUNDING = 0.02  # of a period: a tick that is earlier than its cycle by less still belongs to it


@dataclass(frozen=True)
class Lateness:
    """What became of every cycle of the schedule from the first tick to the last."""

    stamps: Stamps  # (n,) of the ticks, the first of each cycle
    late_ms: Floats  # (n,) in [0, period)
    cycles: int  # due
    skipped: int  # of them, never run

    def share_beyond(self, limit_ms: float) -> float:
        """Share of the cycles that began later than this, or never."""
        return float(((self.late_ms > limit_ms).sum() + self.skipped) / max(1, self.cycles))


def phase_ms(stamps: Stamps, period: int) -> Floats:
    """(n,) where in the period, counted from a zero of the clock, each tick was: ms in [0, period)."""
    return np.asarray(stamps % period) / MILLISECOND


def schedule_phase(stamps: Stamps, period: int) -> float:
    """Phase (ns) of the schedule behind ticks that more often come when they are due than at any other time."""
    phases = stamps % period
    counts, edges = np.histogram(phases, bins=BINS, range=(0, period))
    usual = edges[int((counts + np.roll(counts, -1)).argmax())] + period / BINS  # of two bins, lest it falls in between
    offsets = (phases - usual + period / 2) % period - period / 2
    near = offsets[np.abs(offsets) < NEAR * period]
    return float((usual + np.quantile(near, EARLIEST)) % period)


def lateness(stamps: Stamps, period: int) -> Lateness:
    """Lateness of ticks at `stamps` (n,), n >= 2, increasing. Raises ValueError for fewer."""
    if len(stamps) < 2:
        raise ValueError(f"{len(stamps)} ticks: lateness needs two at least")
    phase = schedule_phase(stamps, period)
    since = stamps - phase
    cycles = np.floor(since / period + ROUNDING).astype(np.int64)
    first = np.concatenate([[True], np.diff(cycles) > 0])  # more readings than one in a cycle: the first counts
    cycles, since = cycles[first], since[first]
    late = np.maximum(0.0, (since - cycles * period) / MILLISECOND)
    due = int(cycles[-1] - cycles[0]) + 1
    return Lateness(stamps[first], late, due, due - len(cycles))


def without(stamps: Stamps, begin: int, end: int) -> tuple[Stamps, Stamps]:
    """The ticks before `begin` and those after `end` (ns)."""
    return stamps[stamps < begin], stamps[stamps > end]


def shift_ms(before: Stamps, after: Stamps, period: int) -> float:
    """By how much the schedule moved from one stretch of ticks to the other, ms in [-period / 2, period / 2)."""
    moved = schedule_phase(after, period) - schedule_phase(before, period)
    return float(((moved + period / 2) % period - period / 2) / MILLISECOND)
