"""What an evaluation's rows add up to: one JSON that the report, the console and the card are made from.

Knows rows, not how they are shown.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from runtime.evaluation.play import REFUSED, TRAINED_ON
from runtime.evaluation.store import Row
from runtime.evaluation.suite import PARAPHRASES, right, suite_trials
from runtime.report import Report, Tally, tallies, wilson

WRONG_PAIR = "wrong pair stacked"


def by_part(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """Rows of each part, in the order of the suite: parts, cells, and seeds; what no suite has comes last, by name."""
    places = {(trial.part, trial.cell): place for place, trial in enumerate(suite_trials("smoke", 0))}

    def place(row: Row) -> tuple[int, str, str, int]:
        trial = row.trial
        return places.get((trial.part, trial.cell), len(places)), trial.part, trial.cell, trial.index

    found: dict[str, list[Row]] = {}
    for row in sorted(rows, key=place):
        found.setdefault(row.trial.part, []).append(row)
    return found


def tallies_of(rows: Sequence[Row]) -> dict[str, Tally]:
    """A tally for each cell of one part."""
    return tallies([row.outcome for row in rows], lambda outcome: outcome.cell)


def wrong_pairs(rows: Sequence[Row]) -> dict[str, Any]:
    """How often a rightly told policy stacked the wrong pair, and the interval; altogether and for each part."""
    told = [row for row in rows if right(row.trial)]
    return _wrong(told) | {"parts": {part: _wrong(of_part) for part, of_part in by_part(told).items()}}


def _wrong(rows: Sequence[Row]) -> dict[str, Any]:
    count = sum(row.outcome.outcome == WRONG_PAIR for row in rows)
    return {
        "episodes": len(rows),
        "wrong_pairs": count,
        "rate": count / len(rows) if rows else None,
        "interval_95": list(wilson(count, len(rows))),
    }


def phrasing_groups(rows: Sequence[Row]) -> dict[str, Tally]:
    """Of the paraphrases' rows: the canonical sentence, others that the card lists as trained on, new ones that the
    policy accepts, and those that it refuses."""
    groups: dict[str, list[Row]] = {"canonical": [], "others of the card": [], "new": [], "refused": []}
    for row in rows:
        if row.trial.setting.phrasing == 0:
            group = "canonical"
        elif row.outcome.outcome == REFUSED:
            group = "refused"
        else:
            group = "others of the card" if row.measured.get(TRAINED_ON) else "new"
        groups[group].append(row)
    return {name: Tally.of(row.outcome for row in group) for name, group in groups.items() if group}


def spread_of(histograms: Sequence[Mapping[str, int]]) -> dict[str, Any]:
    """What histograms of bins add up to: how many, the share that did not move at all, p50, p99 and the largest."""
    counts: Counter[int] = Counter()
    for histogram in histograms:
        counts.update({int(bins): count for bins, count in histogram.items()})
    total = counts.total()
    return {
        "count": total,
        "unmoved": counts[0] / total if total else None,
        "over_4": sum(count for bins, count in counts.items() if bins > 4) / total if total else None,
        "over_20": sum(count for bins, count in counts.items() if bins > 20) / total if total else None,
        "p50": _quantile(counts, 0.50),
        "p99": _quantile(counts, 0.99),
        "max": max(counts, default=None),
    }


def _quantile(counts: Counter[int], share: float) -> int | None:
    """The fewest bins that at least `share` of all do not exceed."""
    left = share * counts.total()
    for bins in sorted(counts):
        left -= counts[bins]
        if left <= 0:
            return bins
    return None


def moved_bins(rows: Sequence[Row]) -> dict[str, dict[str, Any]]:
    """Of sensitivity's rows: kind of token to how far the farthest action token moved."""
    kinds = dict.fromkeys(kind for row in rows for kind in row.measured.get("farthest", {}))
    return {
        kind: spread_of([row.measured["farthest"][kind] for row in rows if kind in row.measured.get("farthest", {})])
        for kind in kinds
    }


def bins_apart(rows: Sequence[Row]) -> dict[str, dict[str, Any]]:
    """Of precision's rows: rounding to how many bins its action tokens were from those of the weights as shipped."""
    cells = dict.fromkeys(row.trial.cell for row in rows if "bins_apart" in row.measured)
    return {cell: spread_of([row.measured["bins_apart"] for row in rows if row.trial.cell == cell]) for cell in cells}


def summarise(rows: Sequence[Row], label: str) -> dict[str, Any]:
    """The content of `--json`, which `gato-arm card` reads too: figures of the first part on top, then all parts.

    `label` is the policy's, as rows have it.
    """
    name, _, graph = label.partition("@")
    parts = by_part(rows)
    first = next(iter(parts.values()), [])
    seed = min((row.trial.seed for row in rows), default=0)
    content = Report(name, seed, tuple(row.outcome for row in first)).to_json()
    content["graph"] = graph or None
    content["parts"] = {
        part: {
            **Tally.of(row.outcome for row in of_part).to_json(),
            "cells": {cell: tally.to_json() for cell, tally in tallies_of(of_part).items()},
        }
        for part, of_part in parts.items()
    }
    content["wrong_pair"] = wrong_pairs(rows)
    if PARAPHRASES in parts:
        groups = phrasing_groups(parts[PARAPHRASES])
        content["phrasings"] = {group: tally.to_json() for group, tally in groups.items()}
    if moved := moved_bins(rows):
        content["sensitivity"] = moved
    if apart := bins_apart(rows):
        content["precision"] = apart
    return content
