"""Pictures of an evaluation: success with its intervals, triplets beside what others reported, failures by kind, how
far tokens move. Knows tallies and numbers, not how they came about. Matplotlib is imported when a picture is made.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runtime.report import Tally, wilson

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

STRICT, SPARSE = "#2a6f97", "#e9a03b"
OTHERS = {"Gato": ("#d1495b", "D"), "BC-IMP": ("#7a6f9b", "s")}
ROW = 0.27  # inches
WIDTH = 9.0  # inches


def draw_success(parts: Mapping[str, Mapping[str, Tally]], path: Path) -> None:
    """One panel for each part, one row for each cell: success and its 95% interval. Raises OSError."""
    heights = [ROW * len(cells) + 0.5 for cells in parts.values()]
    canvas, axes = _canvas(heights)
    for ax, (part, cells) in zip(axes, parts.items(), strict=True):
        for row, tally in enumerate(cells.values()):
            _whisker(ax, row - 0.12, tally.successes, tally.judged, STRICT)
            if tally.sparse not in (None, tally.successes):
                _whisker(ax, row + 0.18, tally.sparse or 0, tally.judged, SPARSE)
        _rows(ax, [f"{cell}  ({tally.judged})" for cell, tally in cells.items()])
        lowest = min(min(_low(tally.successes, tally), _low(tally.sparse, tally)) for tally in cells.values())
        ax.set_xlim(100 * max(0.0, lowest - 0.03), 100.6)
        _tidy(ax, f"{part}: success, %, with its 95% interval (orange: Gato's sparse form where it differs)")
    _save(canvas, path)


def draw_triplets(ours: Mapping[str, Tally], reported: Mapping[str, Sequence[float]], title: str, path: Path) -> None:
    """The five triplets beside what others reported for theirs, `reported` in per cent. Raises OSError."""
    canvas, (ax,) = _canvas([3.2])
    for place, tally in enumerate(ours.values()):
        for offset, count, colour in ((-0.08, tally.successes, STRICT), (0.08, tally.sparse, SPARSE)):
            if count is not None and tally.judged:
                low, high = wilson(count, tally.judged)
                ax.plot([place + offset] * 2, [100 * low, 100 * high], color=colour, linewidth=2)
                ax.plot(place + offset, 100 * count / tally.judged, "o", color=colour, markersize=7)
    for name, values in reported.items():
        colour, marker = OTHERS[name]
        ax.plot(range(len(values)), values, marker, color=colour, label=f"{name}, real robot, its own triplets")
    ax.plot([], [], "o", color=STRICT, label="ours, strict")
    ax.plot([], [], "o", color=SPARSE, label="ours, Gato's sparse form")
    ax.set_xticks(range(len(ours)), list(ours))
    ax.set_ylim(0, 104)
    ax.set_ylabel("success, %", fontsize=8)
    canvas.legend(fontsize=7, frameon=False, loc="outside lower center", ncols=4)
    _tidy(ax, title)
    _save(canvas, path)


def draw_failures(parts: Mapping[str, Mapping[str, Tally]], path: Path) -> bool:
    """How often each kind of failure came, a row for each cell that has any. False, and no file, without failures."""
    cells = {f"{part}: {cell}": tally for part, of in parts.items() for cell, tally in of.items() if tally.failures}
    if not cells:
        return False
    kinds = list(dict.fromkeys(kind for tally in cells.values() for kind in tally.failures))
    canvas, (ax,) = _canvas([ROW * len(cells) + 0.7 + 0.06 * len(kinds)])
    for row, tally in enumerate(cells.values()):
        left = 0.0
        for kind, count in tally.failures.items():
            width = 100 * count / tally.judged
            index = kinds.index(kind)
            ax.barh(row, width, left=left, height=0.7, color=f"C{index % 10}", label=kind)
            left += width
    labels = dict(zip(*reversed(ax.get_legend_handles_labels()), strict=True))
    canvas.legend(labels.values(), labels.keys(), fontsize=7, frameon=False, loc="outside lower center", ncols=3)
    _rows(ax, list(cells))
    _tidy(ax, "failures by kind, % of a cell's episodes")
    _save(canvas, path)
    return True


def draw_moved(curves: Mapping[str, Mapping[int, int]], path: Path) -> None:
    """Of each curve (bins to how often): the share that moved by more than so many bins. Raises OSError."""
    canvas, (ax,) = _canvas([3.0])
    for index, (name, counts) in enumerate(curves.items()):
        total = sum(counts.values())
        edges = sorted({0, *counts})
        beyond = [sum(count for bins, count in counts.items() if bins > edge) / total for edge in edges]
        ax.step([edge + 0.5 for edge in edges], beyond, where="post", label=name, color=f"C{index}", linewidth=1.5)
    ax.set_xscale("log")
    ax.set_xlabel("bins (one is 0.2 mrad of a joint's step)", fontsize=8)
    ax.set_ylim(0, 1.02)
    ax.legend(fontsize=7, frameon=False)
    ax.grid(visible=True, alpha=0.25)
    _tidy(ax, "share of decoded action tokens (sensitivity: of steps' farthest ones) that moved by more than this")
    _save(canvas, path)


def _canvas(heights: Sequence[float]) -> tuple[Figure, Sequence[Axes]]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure as Canvas

    canvas = Canvas(figsize=(WIDTH, sum(heights) + 0.2), layout="constrained")
    FigureCanvasAgg(canvas)
    axes = canvas.subplots(len(heights), 1, squeeze=False, height_ratios=list(heights))[:, 0]
    return canvas, list(axes)


def _whisker(ax: Axes, row: float, count: int, judged: int, colour: str) -> None:
    if judged:
        low, high = wilson(count, judged)
        ax.plot([100 * low, 100 * high], [row, row], color=colour, linewidth=2.2, solid_capstyle="butt")
        ax.plot(100 * count / judged, row, "o", color=colour, markersize=5)


def _low(count: int | None, tally: Tally) -> float:
    return 1.0 if count is None else wilson(count, tally.judged)[0]


def _rows(ax: Axes, labels: Sequence[str]) -> None:
    ax.set_yticks(range(len(labels)), labels, fontsize=8)
    ax.set_ylim(len(labels) - 0.4, -0.6)
    ax.grid(visible=True, axis="x", alpha=0.25)


def _tidy(ax: Any, title: str) -> None:
    ax.set_title(title, fontsize=9, loc="left", fontweight="bold")
    ax.tick_params(labelsize=8)
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)


def _save(canvas: Figure, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    canvas.savefig(path, dpi=130)
