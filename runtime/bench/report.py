"""What a bench says: a table for people, JSON with everything. Measures nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from runtime.bench.figures import Figure, Section

if TYPE_CHECKING:
    from rich.table import Table

FORMAT = 1  # of the JSON


def to_json(sections: Sequence[Section], machine: Mapping[str, Any], seconds: float) -> dict[str, Any]:
    """The content of `--json FILE`; all durations in ms."""
    return {
        "format": FORMAT,
        "machine": dict(machine),
        "seconds": seconds,
        "parts": {section.part: section.to_json() for section in sections},
    }


def table(section: Section) -> Table:
    """A section for the console: figure, p50, p99, floor, ratio, alternatives."""
    from rich.table import Table

    shown = Table(title=f"{section.part} (ms)", title_justify="left")
    for heading in ("figure", "p50", "p99", "floor", "ratio", "n", "alternatives"):
        shown.add_column(heading, justify="left" if heading in ("figure", "alternatives") else "right")
    for figure in section.figures:
        q = figure.quantiles
        shown.add_row(
            figure.name,
            number(q["p50"]),
            number(q["p99"]),
            "" if figure.floor is None else number(figure.floor),
            "" if figure.ratio is None else f"{figure.ratio:.2f}",
            str(len(figure.samples)),
            "\n".join(alternatives(figure)),
        )
    return shown


def alternatives(figure: Figure) -> Iterator[str]:
    """What stands in the last column: tails beyond p99, alternatives and how many times slower they are, the note."""
    q = figure.quantiles
    if len(figure.samples) >= 100:
        yield f"p99.9 {number(q['p99.9'])}, max {number(q['max'])}"
    for name, samples in figure.alternatives.items():
        median = float(np.median(samples))
        yield f"{name}: {number(median)}, {median / q['p50']:.1f} x (n {len(samples)})"
    if figure.note:
        yield figure.note


def number(value: float) -> str:
    """Three figures, no exponent."""
    if value >= 100:
        return f"{value:.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}" if value >= 0.1 else f"{value:.3f}"
