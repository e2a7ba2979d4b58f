"""What the doctor found, as tables and lines for a person."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from runtime.doctor import Diagnosis


def show(diagnosis: Diagnosis, console: Console) -> None:
    """Print everything that was found, problems last."""

    def say(text: str) -> None:
        console.print(text, highlight=False, markup=False, soft_wrap=True)

    if not _table(console, "Serial ports", diagnosis.ports):
        say("no serial ports on this machine")
    if diagnosis.scan is not None and not _table(console, "Servos that answer", diagnosis.scan):
        say("no servo answers at any baud rate")
    _table(console, f"Joints of {diagnosis.robot}", diagnosis.joints)
    if (timing := diagnosis.round_trip_ms) is not None:
        say(f"reading all joints: {timing['p50']:.2f} ms p50, {timing['p99']:.2f} ms p99, {timing['max']:.2f} ms max")
    if (own := diagnosis.own_time_ms) is not None:
        say(f"driver's own time:  {own['p50']:.2f} ms p50, {own['p99']:.2f} ms p99 for one {diagnosis.own_time_of}")
    if diagnosis.counters:
        say("bus: " + ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in diagnosis.counters.items()))
    _table(console, f"Cameras of {diagnosis.robot}", diagnosis.cameras)
    for note in diagnosis.notes:
        say(f"note: {note}")
    for problem in diagnosis.problems:
        say(f"problem: {problem}")
    if not diagnosis.problems:
        say("no problems found")


def _table(console: Console, title: str, rows: list[dict[str, Any]]) -> bool:
    """Print `rows`; False when there are none."""
    if not rows:
        return False
    headings = list(dict.fromkeys(key for row in rows for key in row))
    shown = Table(title=title, title_justify="left")
    for heading in headings:
        unit = {"_c": " (C)", "_ms": " (ms)"}.get(heading[heading.rfind("_") :] if "_" in heading else "", "")
        shown.add_column((heading[: heading.rfind("_")] if unit else heading).replace("_", " ") + unit)
    for row in rows:
        shown.add_row(*("" if row.get(key) in (None, []) else escape(_text(row[key])) for key in headings))
    console.print(shown)
    return True


def _text(value: object) -> str:
    if not isinstance(value, list):
        return str(value)
    return ("x" if all(isinstance(part, int) for part in value) else ", ").join(map(str, value))
