"""What a bench finds: samples, and figures that stand beside a floor and alternatives. Knows nothing that is measured.

Durations are in ms everywhere, because people read them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from time import perf_counter, sleep
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
QUANTILES = {"p50": 50.0, "p99": 99.0, "p99.9": 99.9, "max": 100.0}


class BenchError(Exception):
    """A part cannot be measured here; the message says which, why and what to do."""


@dataclass(frozen=True)
class Figure:
    """Samples (ms) of one thing, what it could cost at best, and what others cost."""

    name: str
    samples: Floats
    floor: float | None = None  # ms
    alternatives: Mapping[str, Floats] = field(default_factory=dict)  # ms
    note: str = ""

    @property
    def quantiles(self) -> dict[str, float]:
        """p50, p99, p99.9 and max, ms."""
        return quantiles(self.samples)

    @property
    def ratio(self) -> float | None:
        """Median by floor."""
        return self.quantiles["p50"] / self.floor if self.floor else None

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "n": len(self.samples),
            "ms": self.quantiles,
            "floor_ms": self.floor,
            "ratio_to_floor": self.ratio,
            "alternatives": {
                name: {
                    "n": len(samples),
                    "ms": quantiles(samples),
                    "times_slower": quantiles(samples)["p50"] / self.quantiles["p50"],
                }
                for name, samples in self.alternatives.items()
            },
            "note": self.note,
        }


@dataclass(frozen=True)
class Section:
    """One part of a bench."""

    part: str
    figures: tuple[Figure, ...]
    notes: tuple[str, ...] = ()  # a line each: how it was measured, what was left out
    raw: Mapping[str, Any] = field(default_factory=dict)  # JSON-ready

    def to_json(self) -> dict[str, Any]:
        return {
            "figures": [figure.to_json() for figure in self.figures],
            "notes": list(self.notes),
            **self.raw,
        }


def quantiles(samples: Floats) -> dict[str, float]:
    """`QUANTILES` of samples."""
    return dict(zip(QUANTILES, np.percentile(samples, list(QUANTILES.values())).tolist(), strict=True))


@dataclass(frozen=True)
class Contender:
    """Something to be timed in turns with others: `run` is called `batch` times in each `every`th round, after
    `prepare`, which is not timed."""

    run: Callable[[], object]
    batch: int = 1
    every: int = 1
    prepare: Callable[[], object] = lambda: None


def in_turns(
    contenders: Mapping[str, Contender],
    rounds: int,
    *,
    pause: float = 0.0,
    clock: Callable[[], float] = perf_counter,
    wait: Callable[[float], None] = sleep,
) -> dict[str, Floats]:
    """Time every contender, round after round, so that whatever disturbs the machine disturbs all of them alike.

    Each round begins with another one. Before each batch `pause` s pass: threads that wait actively for more work have
    gone to sleep then, and the caches have seen something else, as they have between two control steps. Returns ms for
    each call.
    """
    names = list(contenders)
    taken: dict[str, list[float]] = {name: [] for name in names}
    for index in range(rounds):
        first = index % len(names)
        for name in names[first:] + names[:first]:
            contender = contenders[name]
            if index % contender.every:
                continue
            contender.prepare()
            if pause:
                wait(pause)
            for _ in range(contender.batch):
                started = clock()
                contender.run()
                taken[name].append((clock() - started) * 1000)
    return {name: np.array(durations) for name, durations in taken.items()}
