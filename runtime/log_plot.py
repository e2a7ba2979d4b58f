"""One picture of a flight recording: what was asked, sent and measured, what it cost in time, and what happened.

Knows `runtime.log` and Matplotlib, which is loaded when a picture is made.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.log import STEP_PARTS, TICK_PARTS, Floats, Log
from runtime.recording import RecordingError
from runtime.report import SUCCESS, UNJUDGED

WIDTH, DPI = 13.0, 110  # inches, dots per inch
JOINT_HEIGHT, PANEL_HEIGHT, LANE_HEIGHT = 0.95, 1.2, 0.2  # inches
LEFT, RIGHT, TOP, BOTTOM, GAP = 1.35, 0.2, 0.45, 0.5, 0.36  # inches around and between the panels
POINTS = 3000  # of one line, at most: two for each of half as many spans, its lowest and its highest value
MAX_LABELS = 24  # episodes and events that are named in the picture; all are marked
STEP_DUE_MS, TICK_DUE_MS = 50.0, 10.0

INK, FAINT, GRID = "#23262b", "#8a919c", "#e4e7eb"
ASKED, SENT, MEASURED = "#c9a227", "#2f6fb5", "#23262b"
GOOD, BAD, OPEN = "#3c9d5d", "#c8463c", "#c9a227"
PARTS = ("#8fb8de", "#2f6fb5", "#f0b66b")
JOINTS = ("#2f6fb5", "#e07b39", "#3c9d5d", "#8a5fbf", "#c8463c", "#5b8c99", "#b59a2f", "#d06fa5")
STYLE: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.edgecolor": GRID,
    "axes.formatter.useoffset": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.labelcolor": INK,
    "axes.titlesize": 9,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlecolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": GRID,
    "text.color": INK,
    "xtick.color": FAINT,
    "ytick.color": FAINT,
    "text.parse_math": False,  # a dollar sign in a recording is a dollar sign
    "legend.frameon": False,
    "lines.linewidth": 1.0,
}


def plot(log: Log, path: Path) -> None:
    """Write the picture as a PNG. Raises `RecordingError` when the recording has no servo ticks, and OSError."""
    if len(log.ticks) < 2:
        raise RecordingError(f"{log.path}: no servo ticks in it, hence nothing to plot")
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    lanes = _lanes(log)
    heights = [0.3 + LANE_HEIGHT * len(lanes), *[JOINT_HEIGHT] * len(log.joints), *[PANEL_HEIGHT] * 4]
    with matplotlib.rc_context(STYLE):
        height = sum(heights) + GAP * (len(heights) - 1) + TOP + BOTTOM
        figure = Figure(figsize=(WIDTH, height), dpi=DPI)
        FigureCanvasAgg(figure)
        places = {
            "left": LEFT / WIDTH,
            "right": 1.0 - RIGHT / WIDTH,
            "top": 1.0 - TOP / height,
            "bottom": BOTTOM / height,
            "hspace": GAP * len(heights) / sum(heights),
        }
        panels = figure.subplots(len(heights), 1, sharex=True, height_ratios=heights, gridspec_kw=places)
        head, joints, rest = panels[0], panels[1 : 1 + len(log.joints)], panels[1 + len(log.joints) :]
        run = ", ".join(f"{key} {log.metadata[key]}" for key in ("robot", "policy", "seed") if key in log.metadata)
        title_at = {"x": LEFT / WIDTH, "y": 1.0 - 0.12 / height, "ha": "left", "va": "top"}
        figure.suptitle(f"{log.path.name}   {run}", fontsize=11, fontweight="bold", **title_at)
        _draw_lanes(head, log, lanes)
        for index, panel in enumerate(joints):
            _draw_joint(panel, log, index)
        joints[0].legend(loc="lower right", ncols=3, bbox_to_anchor=(1.0, 0.98), borderaxespad=0.1)
        _draw_split(rest[0], log.step("time"), [log.step(part) for part in STEP_PARTS], STEP_PARTS, STEP_DUE_MS)
        rest[0].set_title("control step, ms")
        missed = log.step("time")[log.step("missed") > 0]
        rest[0].plot(missed, np.full(len(missed), STEP_DUE_MS), "v", color=BAD, markersize=4, clip_on=False)
        _draw_split(rest[1], log.tick("time"), [log.tick(part) for part in TICK_PARTS], TICK_PARTS, TICK_DUE_MS)
        rest[1].set_title("servo tick, ms")
        _draw_joints_of(rest[2], log, np.abs(log.tick("loads")) * 100.0, "load, % of stall torque", 20.0)
        _draw_joints_of(rest[3], log, log.tick("temperatures_c"), "temperature, °C", 5.0)
        rest[2].legend(log.joints, loc="lower right", ncols=6, bbox_to_anchor=(1.0, 0.98), borderaxespad=0.1)
        for panel in panels[1:]:
            _mark(panel, log)
        panels[-1].set_xlabel("seconds since the recording began")
        panels[-1].set_xlim(0.0, max(log.duration, 1e-3))
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, format="png")


def thinned(times: Floats, values: Floats, points: int = POINTS) -> tuple[Floats, Floats]:
    """A line of at most `points` that shows every extreme: the lowest and the highest value of each span of time."""
    if len(times) <= points:
        return times, values
    span = -(-len(times) // (points // 2))
    starts = np.arange(0, len(times), span)
    low = np.fmin.reduceat(values, starts)
    high = np.fmax.reduceat(values, starts)
    return np.repeat(times[starts], 2), np.stack([low, high], axis=1).ravel()


def _lanes(log: Log) -> list[tuple[str, Floats, str]]:
    """What happened, a lane each: its name, its times, its colour."""
    lanes = [(reason, times, OPEN) for reason, times in log.reasons.items()]
    kinds = sorted({event.kind for event in log.events})
    lanes += [(kind, np.array([e.time for e in log.events if e.kind == kind]), SENT) for kind in kinds]
    if log.faults:
        lanes.append(("fault", np.array([fault.time for fault in log.faults]), BAD))
    return lanes


def _draw_lanes(panel: Any, log: Log, lanes: Sequence[tuple[str, Floats, str]]) -> None:
    for row, (_, times, colour) in enumerate(lanes):
        panel.vlines(times, row - 0.35, row + 0.35, color=colour, linewidth=1.2)
    panel.set_yticks(range(len(lanes)), [name for name, _, _ in lanes])
    top = len(lanes) - 0.4
    panel.set_ylim(-0.6, top + 1.2)
    panel.grid(visible=False, axis="y")
    panel.tick_params(axis="y", colors=INK, length=0)
    for number, episode in enumerate(log.episodes):
        start = episode.start if np.isfinite(episode.start) else 0.0
        end = episode.end if np.isfinite(episode.end) else log.duration
        colour = {SUCCESS: GOOD, UNJUDGED: OPEN, None: OPEN}.get(episode.outcome, BAD)
        panel.axvspan(start, end, ymin=0.0, ymax=1.0, color=colour, alpha=0.12, linewidth=0)
        if number < MAX_LABELS:
            words = f"{episode.index + 1}. {episode.outcome or 'cut off'}: {episode.task}"
            room = max(8, int((end - start) / max(log.duration, 1e-3) * 150))
            label = words if len(words) <= room else words[: room - 1] + "…"
            panel.text(start, top + 0.5, f" {label}", va="center", fontsize=8, color=colour, clip_on=True)


def _draw_joint(panel: Any, log: Log, index: int) -> None:
    times = log.tick("time")
    for name, label, colour, width in (
        ("asked", "asked", ASKED, 2.2),
        ("command", "sent", SENT, 1.1),
        ("positions", "measured", MEASURED, 0.8),
    ):
        panel.plot(*thinned(times, log.tick(name)[:, index]), color=colour, linewidth=width, label=label)
    panel.set_title(f"{log.joints[index]}, rad")
    _spread_out(panel, 0.1)


def _draw_split(panel: Any, times: Floats, parts: Sequence[Floats], names: Sequence[str], due: float) -> None:
    """Parts stacked on each other, and the line that they must stay below. Long recordings show the worst of spans."""
    if len(times):
        span = -(-len(times) // POINTS)
        starts = np.arange(0, len(times), span)
        worst = _worst(np.stack(parts), span)
        panel.stackplot(*_with_gaps(times[starts], worst), labels=names, colors=PARTS, linewidth=0, step="post")
        highest = float(worst.sum(axis=0).max())
        panel.set_ylim(0.0, max(due * 1.15, min(highest * 1.05, due * 3)))
    panel.axhline(due, color=BAD, linewidth=0.8, linestyle=(0, (4, 3)))
    panel.legend(loc="lower right", ncols=3, bbox_to_anchor=(1.0, 0.98), borderaxespad=0.1)


def _worst(parts: Floats, span: int) -> Floats:
    """Of every `span` columns of `parts` (k, n) the one with the highest sum."""
    columns: NDArray[np.intp] = np.array(
        [start + int(parts[:, start : start + span].sum(axis=0).argmax()) for start in range(0, parts.shape[1], span)]
    )
    return np.asarray(parts[:, columns])


def _with_gaps(times: Floats, parts: Floats) -> tuple[Floats, Floats]:
    """Nothing where nothing was measured: a zero behind each of `parts` (k, n) whose next one is long in coming."""
    steps = np.diff(times)
    if not len(steps):
        return times, parts
    usual = float(np.median(steps))
    before = np.flatnonzero(steps > 3 * usual) + 1
    return np.insert(times, before, times[before - 1] + usual), np.insert(parts, before, 0.0, axis=1)


def _draw_joints_of(panel: Any, log: Log, values: Floats, title: str, span: float) -> None:
    for index in range(len(log.joints)):
        times, line = thinned(log.tick("time"), values[:, index])
        panel.plot(times, line, color=JOINTS[index % len(JOINTS)], linewidth=0.9)
    panel.set_title(title)
    _spread_out(panel, span)


def _spread_out(panel: Any, span: float) -> None:
    """Some air above and below, and at least `span` in all: a joint that rests is a straight line."""
    panel.margins(y=0.12)
    low, high = panel.get_ylim()
    if high - low < span:
        panel.set_ylim((low + high - span) / 2, (low + high + span) / 2)


def _mark(panel: Any, log: Log) -> None:
    for episode in log.episodes:
        for edge in (episode.start, episode.end):
            if np.isfinite(edge):
                panel.axvline(edge, color=FAINT, linewidth=0.6, alpha=0.6)
    for fault in log.faults:
        panel.axvline(fault.time, color=BAD, linewidth=1.0)
