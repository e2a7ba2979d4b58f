"""A picture of a bench: each measured thing as a bar against its floor and its alternatives, and how late ticks were.

Knows figures, not how they came about. Matplotlib is imported when a picture is made.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from runtime.bench.figures import Figure, Section
from runtime.bench.report import number

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WHOLE, PART, OTHER, FLOOR, TAIL = "#2a6f97", "#89b8d4", "#c3ccd4", "#d1495b", "#14213d"
COLOURS = (WHOLE, "#e08e45", "#6a994e")  # of the conditions: a servo tick's line is drawn through, a step's dotted
LATE = "late"  # in the name of a figure: drawn as a distribution, not as a bar
BAR = 0.32  # inches
WIDTH = 10.0  # inches
WIDE = 20.0  # times: where whole things differ more, parts left out, the scale is logarithmic
HEAD = 0.35  # inches, for what it ran on


def draw(sections: Sequence[Section], path: Path, subtitle: str) -> None:
    """Write a PNG. Raises OSError."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure as Canvas

    barred = [section for section in sections if any(not is_late(figure) for figure in section.figures)]
    late = [figure for section in sections for figure in section.figures if is_late(figure)]
    rows = [sum(1 + len(f.alternatives) for f in section.figures if not is_late(f)) for section in barred]
    heights = [BAR * count + 0.75 for count in rows] + ([2.8] if late else [])
    height = sum(heights) + HEAD
    canvas = Canvas(figsize=(WIDTH, height))
    canvas.set_layout_engine("constrained", rect=(0.0, 0.0, 1.0, 1 - HEAD / height))
    FigureCanvasAgg(canvas)
    axes = canvas.subplots(len(heights), 1, squeeze=False, height_ratios=heights)[:, 0]
    for section, ax in zip(barred, axes, strict=False):
        _bars(ax, section)
    if late:
        _lateness(axes[-1], late)
    canvas.text(0.01, 1 - 0.6 * HEAD / height, f"gato-arm bench    {subtitle}", fontsize=9, color="0.3", va="center")
    path.parent.mkdir(parents=True, exist_ok=True)
    canvas.savefig(path, dpi=130)


def is_late(figure: Figure) -> bool:
    """Whether a figure says how late something was."""
    return f" {LATE}" in figure.name


def _bars(ax: Axes, section: Section) -> None:
    """p50 as a bar, p99 as a tick beyond it, the floor as a red line across it; alternatives below, in grey."""
    labels: list[str] = []
    texts: list[tuple[float, str]] = []
    for figure in section.figures:
        if is_late(figure):
            continue
        q, row = figure.quantiles, len(labels)
        ax.barh(row, q["p50"], height=0.62, color=PART if figure.name.startswith(" ") else WHOLE)
        ax.plot([q["p99"]] * 2, [row - 0.22, row + 0.22], color=TAIL, linewidth=1.5)
        text = f"{number(q['p50'])}   p99 {number(q['p99'])}"
        if figure.floor is not None:
            ax.plot([figure.floor] * 2, [row - 0.42, row + 0.42], color=FLOOR, linewidth=2.2)
            text += f"   {figure.ratio:.2f} x floor"
        labels.append(figure.name)
        texts.append((max(q["p50"], q["p99"], figure.floor or 0.0), text))
        for name, samples in figure.alternatives.items():
            median = float(np.median(samples))
            ax.barh(len(labels), median, height=0.62, color=OTHER)
            labels.append(name)
            texts.append((median, f"{number(median)}   {median / q['p50']:.1f} x ours"))
    ends = [end for end, _ in texts]
    wholes = [end for end, label in zip(ends, labels, strict=True) if not label.startswith(" ")]
    wide = max(wholes) > WIDE * min(wholes)
    if wide:
        ax.set_xscale("log")
        ax.set_xlim(0.5 * min(ends), 2 * max(ends) * (max(ends) / min(ends)) ** 0.25)  # room for the words
        ax.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    else:
        ax.set_xlim(0, 1.35 * max(ends))
    for row, (end, text) in enumerate(texts):
        ax.annotate(text, (end, row), (4, 0), textcoords="offset points", va="center", fontsize=8)
    ax.set_ylim(len(labels) - 0.4, -0.6)
    ax.set_yticks(range(len(labels)), labels, fontsize=8)
    floors = any(figure.floor is not None for figure in section.figures)
    scale = "logarithmic" if wide else "from 0"
    _tidy(ax, f"{section.part}: ms, {scale}; bar p50, dark tick p99{', red line floor' if floors else ''}")


def _lateness(ax: Axes, figures: Sequence[Figure]) -> None:
    """Share of ticks that were later than so many ms."""
    for index, figure in enumerate(figures):
        late = np.sort(figure.samples)
        beyond = 1 - np.arange(len(late)) / len(late)
        color, dash = COLOURS[index // 2 % len(COLOURS)], "-" if index % 2 == 0 else ":"
        ax.step(np.maximum(late, 1e-2), 100 * beyond, dash, where="post", label=figure.name, color=color, linewidth=1.4)
    ax.axvline(2.0, color=FLOOR, linewidth=1.0, linestyle="--")
    ax.set_xscale("log")
    ax.set_yscale("log")
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_formatter(lambda value, _: f"{value:g}")
    ax.set_xlabel("ms late", fontsize=8)
    ax.set_ylabel("%", fontsize=8)
    ax.legend(fontsize=8, frameon=False, loc="lower left")
    ax.grid(visible=True, alpha=0.25)
    _tidy(ax, "jitter: share of ticks that began later than so many ms (dashed line: 2 ms)")


def _tidy(ax: Any, title: str) -> None:
    ax.set_title(title, fontsize=9, loc="left", fontweight="bold")
    ax.tick_params(labelsize=8)
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)
