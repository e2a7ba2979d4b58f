"""The figures of a flight recording, as JSON and as tables for the console.

Knows `runtime.log`, no file and no plot. Words from a recording are shown as they are, never as markup.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

from runtime.clock import SECOND
from runtime.log import STEP_PARTS, TICK_PARTS, Fault, Floats, Log
from runtime.report import SUCCESS, UNJUDGED

QUANTILES = {"p50": 50.0, "p99": 99.0, "p99.9": 99.9, "max": 100.0}
NOT_RUN = ("joints", "dropped", "ticks_dropped", "error")  # metadata that is said elsewhere
BEFORE_CLOCKS = 10**17  # ns: a recording in lock-step begins at 0, one in real time in this century


def spread(values: Floats) -> dict[str, float] | None:
    """`QUANTILES` of the finite values; None without any."""
    finite = values[np.isfinite(values)]
    if not finite.size:
        return None
    found = np.percentile(finite, list(QUANTILES.values()))
    return {name: round(float(value), 3) for name, value in zip(QUANTILES, found, strict=True)}


def figures(log: Log) -> dict[str, Any]:
    """The content of `gato-arm log --json`."""
    steps, ticks = log.step_ms(), log.tick("time")
    return {
        "file": str(log.path),
        "complete": log.complete,
        "damaged_chunks": log.damaged,
        "ended_by": log.metadata.get("error"),
        "bytes": log.size,
        "began": datetime.fromtimestamp(log.began / SECOND, UTC).isoformat() if log.began > BEFORE_CLOCKS else None,
        "seconds": round(log.duration, 3),
        "run": {key: value for key, value in log.metadata.items() if key not in NOT_RUN},
        "joints": list(log.joints),
        "messages": dict(log.messages),
        "dropped": {"records": log.dropped, "ticks": log.ticks_dropped},
        "episodes": [
            {
                "index": episode.index,
                "task": episode.task,
                "policy": episode.policy,
                "outcome": episode.outcome,
                "start": _rounded(episode.start),
                "seconds": _rounded(episode.end - episode.start),
                "steps": episode.steps,
                "missed": episode.missed,
            }
            for episode in log.episodes
        ],
        "steps": {
            "count": len(steps),
            "missed": int(log.step("missed").sum()),
            "step_ms": spread(steps),
            "split_ms": {part: spread(log.step(part)) for part in STEP_PARTS},
            "late_ms": spread(log.step("late")),
        },
        "ticks": {
            "count": len(ticks),
            "interval_ms": spread(np.diff(ticks) * 1000.0),
            "split_ms": {part: spread(log.tick(part)) for part in TICK_PARTS},
            "reasons": {reason: len(times) for reason, times in log.reasons.items()},
        },
        "cameras": {
            camera: {
                "frames": len(rows),
                "age_ms": spread(rows[:, 1]),
                "repeated": int((np.diff(rows[:, 0] - rows[:, 1] / 1000.0) < 1e-6).sum()),
            }
            for camera, rows in log.frames.items()
        },
        "arm": _arm(log),
        "counters": dict(log.counters),
        "events": [{"time": round(event.time, 3), "kind": event.kind, "text": event.text} for event in log.events],
        "faults": [
            {"time": round(fault.time, 3), "text": fault.text, "pairs": list(fault.pairs)} for fault in log.faults
        ],
    }


def _arm(log: Log) -> dict[str, dict[str, float | None]]:
    """Of each joint: the extremes of what was measured."""
    if not len(log.ticks):
        return {}
    error = np.abs(log.tick("command") - log.tick("positions"))
    columns = {
        "position_min": (np.min, log.tick("positions")),
        "position_max": (np.max, log.tick("positions")),
        "speed_max": (np.max, np.abs(log.tick("velocities"))),
        "tracking_error_max": (np.max, error),
        "load_max": (np.max, np.abs(log.tick("loads"))),
        "temperature_c_max": (np.max, log.tick("temperatures_c")),
        "voltage_min": (np.min, log.tick("voltages")),
    }
    return {
        joint: {name: _extreme(pick, values[:, index]) for name, (pick, values) in columns.items()}
        for index, joint in enumerate(log.joints)
    }


def _extreme(pick: Any, values: Floats) -> float | None:
    finite = values[np.isfinite(values)]
    return round(float(pick(finite)), 4) if finite.size else None


def _rounded(seconds: float) -> float | None:
    return round(seconds, 3) if math.isfinite(seconds) else None


def show(log: Log, console: Console) -> None:
    """Print the summary."""
    found = figures(log)
    console.print(_head(log, found), soft_wrap=True)
    if log.episodes:
        console.print(_episodes(log))
    console.print(_timing(found))
    if found["arm"]:
        console.print(_joints(found))
    console.print(_lines(log, found), soft_wrap=True)


def _head(log: Log, found: dict[str, Any]) -> Text:
    state = Text("complete", "green") if log.complete else Text("broken off: read up to the last whole chunk", "yellow")
    if found["ended_by"]:
        state = Text(f"ended early: {found['ended_by']}", "red")
    began = f", {found['began'][:19].replace('T', ' ')} UTC" if found["began"] else ""
    run = ", ".join(f"{key} {value}" for key, value in found["run"].items())
    head = Text.assemble(
        (str(log.path), "bold"), "\n", f"{log.duration:.1f} s, {log.size / 1e6:.1f} MB{began}, ", state
    )
    if log.damaged:
        head.append(f", {log.damaged} damaged chunks skipped", "red")
    return head.append(f"\n{run}\n") if run else head.append("\n")


def _table(title: str, *headings: str, left: Sequence[str] = ()) -> Table:
    table = Table(title=Text(title), title_justify="left", title_style="bold")
    for heading in headings:
        table.add_column(Text(heading), justify="left" if heading in (headings[0], *left) else "right")
    return table


def _episodes(log: Log) -> Table:
    table = _table("Episodes", "#", "task", "outcome", "seconds", "steps", "missed", left=("task", "outcome"))
    for episode in log.episodes:
        outcome = episode.outcome or "cut off"
        style = {SUCCESS: "green", UNJUDGED: "yellow"}.get(outcome, "red")
        seconds = episode.end - episode.start
        table.add_row(
            str(episode.index + 1),
            Text(episode.task),
            Text(outcome, style),
            f"{seconds:.1f}" if math.isfinite(seconds) else "",
            str(episode.steps),
            str(episode.missed),
        )
    return table


def _timing(found: dict[str, Any]) -> Table:
    table = _table("Timing, ms", "what", "count", *QUANTILES)
    steps, ticks = found["steps"], found["ticks"]
    rows = [("control step", steps["count"], steps["step_ms"])]
    rows += [(f"  {part}", "", values) for part, values in steps["split_ms"].items()]
    rows += [
        ("started late", "", steps["late_ms"]),
        ("servo tick, from one to the next", ticks["count"], ticks["interval_ms"]),
    ]
    rows += [(f"  {part}", "", values) for part, values in ticks["split_ms"].items()]
    rows += [
        (f"camera {name}, age of its frame", each["frames"], each["age_ms"]) for name, each in found["cameras"].items()
    ]
    for what, count, values in rows:
        if values is not None:
            table.add_row(Text(what), str(count), *(f"{values[name]:.2f}" for name in QUANTILES))
    return table


def _joints(found: dict[str, Any]) -> Table:
    headings = ("joint", "from, rad", "to, rad", "rad/s", "error, rad", "load, %", "C", "V")
    table = _table("Joints: extremes", *headings)
    scales = [("position_min", 1, 2), ("position_max", 1, 2), ("speed_max", 1, 2), ("tracking_error_max", 1, 3)]
    scales += [("load_max", 100, 0), ("temperature_c_max", 1, 0), ("voltage_min", 1, 1)]
    for joint, values in found["arm"].items():
        cells = ["" if values[key] is None else f"{values[key] * scale:.{digits}f}" for key, scale, digits in scales]
        table.add_row(Text(joint), *cells)
    return table


def _lines(log: Log, found: dict[str, Any]) -> Text:
    steps, counters = found["steps"], found["counters"]
    lines = Text(f"\ndeadlines  {steps['missed']} of {steps['count']} control steps missed theirs")
    lines.append(f", {counters.get('skipped', 0)} servo cycles skipped\n")
    bus = [f"{name.removeprefix('bus_').replace('_', ' ')} {counters[name]}" for name in counters if "bus_" in name]
    lines.append(f"bus        {', '.join(bus) or 'no counters'}\n")
    reasons = [f"{name} {count}" for name, count in found["ticks"]["reasons"].items()]
    lines.append(f"filter     {', '.join(reasons) or 'let every command through unchanged'}\n")
    repeated = [f"{each['repeated']} from {name}" for name, each in found["cameras"].items() if each["repeated"]]
    if repeated:
        lines.append(f"repeated   frames: {', '.join(repeated)}\n")
    dropped = found["dropped"]
    style = "red" if any(dropped.values()) else ""
    lines.append(f"dropped    {dropped['records']} records, {dropped['ticks']} servo ticks\n", style)
    for event in log.events:
        if event.kind != "state":
            lines.append(f"{event.time:9.2f} s  {event.kind}: {event.text}\n")
    for fault in log.faults:
        lines.append(f"{fault.time:9.2f} s  fault: {fault.text}\n", "red")
    lines.append(f"faults     {len(log.faults)}" + ("; --faults shows the ticks before each" if log.faults else ""))
    return lines


def fault_table(fault: Fault, joints: Sequence[str]) -> Table:
    """The ticks before one fault: for each joint what was sent and, after it, where it was, rad."""
    table = _table(f"{fault.time:.2f} s: {fault.text}", "ms", "state", *joints, "reasons", left=("state", "reasons"))
    table.title_style = "bold red"
    table.columns[1].no_wrap = True
    for pair in fault.pairs:
        cells = [
            f"{_angle(sent)} {_angle(found)}" for sent, found in zip(pair["command"], pair["positions"], strict=True)
        ]
        reasons = ", ".join(map(str, pair["reasons"]))
        table.add_row(f"{pair['time'] * 1000:.0f}", Text(str(pair["state"])), *cells, Text(reasons))
    table.caption = "each joint: sent, measured (rad)"
    table.caption_justify = "left"
    return table


def _angle(value: float | None) -> str:
    return "  --- " if value is None else f"{value:6.3f}"
