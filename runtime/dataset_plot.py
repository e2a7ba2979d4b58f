"""One picture of a dataset: each episode as a bar of its frames, coloured by its task, and where something is wrong.

Matplotlib is loaded when a picture is made.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from policies.dataset import Dataset
from runtime.dataset_check import Finding
from runtime.log_plot import DPI, FAINT, INK, JOINTS, STYLE

if TYPE_CHECKING:
    from matplotlib.artist import Artist

WIDTH, ROW, MARGIN = 12.0, 0.11, 2.6  # inches
MARKS = {
    "dropped frames": ("|", "#c8463c"),
    "frozen camera": ("s", "#2f6fb5"),
    "stale image": ("v", "#2f6fb5"),
    "joint jump": ("^", "#8a5fbf"),
    "clipped action": ("x", "#e07b39"),
    "mixed calibrations": ("D", "#23262b"),
}
OTHER = ("o", "#8a919c")


def plot(dataset: Dataset, findings: Sequence[Finding], path: Path) -> None:
    """Write the picture as a PNG. Raises OSError."""
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    tasks = sorted(dataset.tasks)
    lengths = np.array([row["length"] for row in dataset.rows])
    shown = [tasks.index(row["tasks"][0]) for row in dataset.rows]
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, MARGIN + ROW * max(8, len(lengths))), dpi=DPI)
        FigureCanvasAgg(figure)
        axes = figure.add_subplot()
        colours = [JOINTS[task % len(JOINTS)] for task in shown]
        axes.barh(np.arange(len(lengths)), lengths / dataset.fps, color=colours, alpha=0.35, height=0.8)
        used: set[str] = set()
        for each in findings:
            if each.episode is None:
                continue
            marker, colour = MARKS.get(each.kind, OTHER)
            at = (each.frame or 0) / dataset.fps
            axes.plot(at, each.episode, marker, color=colour, markersize=7 if each.spoils else 4)
            used.add(each.kind)
        axes.invert_yaxis()
        axes.set_xlabel("s from the episode's beginning")
        axes.set_ylabel("episode")
        spoilt = len({each.episode for each in findings if each.spoils and each.episode is not None})
        axes.set_title(f"{dataset.folder.name}: {len(lengths)} episodes, {lengths.sum()} frames, {spoilt} spoilt")
        handles: list[Artist] = [
            Patch(color=JOINTS[i % len(JOINTS)], alpha=0.35, label=task) for i, task in enumerate(tasks)
        ]
        for kind in sorted(used):
            marker, colour = MARKS.get(kind, OTHER)
            handles.append(Line2D([], [], marker=marker, color=colour, linestyle="", label=kind))
        legend = axes.legend(handles=handles, loc="upper left", bbox_to_anchor=(1.01, 1.0), fontsize=8)
        for text in legend.get_texts():
            text.set_color(INK)
        if not findings:
            axes.text(0.99, 0.01, "nothing found", transform=axes.transAxes, ha="right", color=FAINT)
        figure.savefig(path, bbox_inches="tight")
