"""What a campaign amounts to: each fault on each robot in figures, as JSON and as a page of Markdown.

Knows verdicts, not how they came about.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from runtime.campaign.catalogue import CATALOGUE, FAMILIES
from runtime.campaign.judge import Verdict
from runtime.clock import percentiles

PLUS = " + "
# What differs from run to run and says nothing.
_PLACES = (
    (re.compile(r"/\S*/servos"), "PORT"),
    (re.compile(r"http://\S+"), "URL"),
    (re.compile(r"/\S*\.mcap"), "FILE"),
    (re.compile(r"\[[^\]]*(nan|inf)[^\]]*\]"), "[…]"),
)


def plain(text: str) -> str:
    """A message without the places of this run."""
    for pattern, word in _PLACES:
        text = pattern.sub(word, text)
    return text


def figures(verdicts: Sequence[Verdict]) -> dict[str, Any]:
    """What trials of one kind add up to; times in ms."""

    def times(name: str) -> dict[str, float] | None:
        found = [value * 1000 for verdict in verdicts if (value := getattr(verdict, name)) is not None]
        return percentiles(found) if found else None

    ticks = [verdict.told_ticks for verdict in verdicts if verdict.told_ticks is not None]
    return {
        "runs": len(verdicts),
        "in_motion": sum(verdict.speed > 0.1 for verdict in verdicts),
        "ends": dict(Counter(verdict.ends for verdict in verdicts)),
        "told": [
            text for text, _ in Counter(plain(verdict.told) for verdict in verdicts if verdict.told).most_common(3)
        ],
        "told_ticks": percentiles([float(value) for value in ticks]) if ticks else None,
        "goals_stop_ms": times("goals_stop_s"),
        "arm_stops_ms": times("arm_stops_s"),
        "recording_lost_ms": times("lost_s"),
        "violations": sum(len(verdict.violations) for verdict in verdicts),
        "violated": sum(bool(verdict.violations) for verdict in verdicts),
        "machine_late": sum(verdict.late for verdict in verdicts),
    }


def by_name(verdicts: Iterable[Verdict]) -> dict[str, list[Verdict]]:
    """The verdicts of single faults, in the catalogue's order."""
    found: dict[str, list[Verdict]] = {name: [] for name in CATALOGUE}
    for verdict in verdicts:
        if PLUS not in verdict.name:
            found[verdict.name].append(verdict)
    return {name: listed for name, listed in found.items() if listed}


def to_json(results: Mapping[str, Sequence[Verdict]], extra: Mapping[str, Any]) -> dict[str, Any]:
    """`results`: the verdicts of each robot, by its name."""
    everything = [verdict for verdicts in results.values() for verdict in verdicts]
    return {
        **extra,
        "all": figures(everything),
        "robots": {
            robot: {
                "faults": {name: figures(listed) for name, listed in by_name(verdicts).items()},
                "pairs": figures([verdict for verdict in verdicts if PLUS in verdict.name]),
                "trials": [verdict.to_json() for verdict in verdicts],
            }
            for robot, verdicts in results.items()
        },
    }


def summary(results: Mapping[str, Sequence[Verdict]]) -> str:
    """One line."""
    everything = [verdict for verdicts in results.values() for verdict in verdicts]
    found = figures(everything)
    pairs = sum(PLUS in verdict.name for verdict in everything)
    late = sum(verdict.late and bool(verdict.violations) for verdict in everything)
    noted = f" ({late} of them while the machine was late)" if late else ""
    return (
        f"{found['runs']} trials, {pairs} of them with two faults, {found['in_motion']} in motion at the moment of the "
        f"fault: {found['violated']} with violations{noted}; the machine was late in {found['machine_late']}"
    )


def markdown(results: Mapping[str, Sequence[Verdict]], command: str) -> str:
    """The page."""
    lines = [
        "# What breaks, and what happens then",
        "",
        f"Made by `{command}`; do not edit. {summary(results)}.",
        "",
        "Each trial is a run in real time on an emulated arm in motion; the fault comes at a random moment. What",
        "became of the arm is read from the emulated servos' own trace. *Told*: servo ticks of 10 ms until the fault",
        "was latched, p50 and max. *Goals at rest*, *joints at rest*: ms after the fault, p50 / p99 / max.",
        "[safety.md](safety.md) says what is promised.",
        "",
    ]
    for family, faults in FAMILIES.items():
        names = [fault.name for fault in faults]
        rows = [row for name in names for row in _rows(name, results)]
        if rows:
            lines += [f"## {family[0].upper()}{family[1:]}", "", *_HEAD, *rows, "", *_told(names, results), ""]
    pairs = {robot: [verdict for verdict in verdicts if PLUS in verdict.name] for robot, verdicts in results.items()}
    if any(pairs.values()):
        lines += ["## Two faults at once", ""]
        for robot, verdicts in pairs.items():
            kinds = len({frozenset(verdict.name.split(PLUS)) for verdict in verdicts})
            violated = sum(bool(verdict.violations) for verdict in verdicts)
            lines.append(f"- {robot}: {len(verdicts)} trials of {kinds} pairs, {violated} with violations")
        lines.append("")
    return "\n".join([*lines, *violations(results)])


def violations(results: Mapping[str, Sequence[Verdict]]) -> list[str]:
    """Every violation, a line each."""
    lines = ["## Violations", ""]
    for robot, verdicts in results.items():
        for verdict in verdicts:
            late = ", machine late" if verdict.late else ""
            lines += [
                f"- {robot}, {verdict.name} (seed {verdict.seed}{late}): {plain(str(found))}"
                for found in verdict.violations
            ]
    return [*lines, ""] if len(lines) > 2 else [*lines, "None.", ""]


_HEAD = (
    "| fault | robot | the arm | told, ticks | goals at rest, ms | joints at rest, ms | runs | violations |",
    "|---|---|---|---:|---:|---:|---:|---:|",
)


def _rows(name: str, results: Mapping[str, Sequence[Verdict]]) -> list[str]:
    rows = []
    for robot, verdicts in results.items():
        listed = by_name(verdicts).get(name)
        if listed:
            found = figures(listed)
            ends = ", ".join(
                f"{end} ({count})" if len(found["ends"]) > 1 else end for end, count in found["ends"].items()
            )
            ticks = found["told_ticks"]
            told = "" if ticks is None else f"{ticks['p50']:.0f}, {ticks['max']:.0f}"
            stops = " | ".join(_times(found[key]) for key in ("goals_stop_ms", "arm_stops_ms"))
            rows.append(f"| {name} | {robot} | {ends} | {told} | {stops} | {found['runs']} | {found['violations']} |")
    return rows


def _told(names: Sequence[str], results: Mapping[str, Sequence[Verdict]]) -> list[str]:
    """What is done, and what the operator is told: the most frequent message of all robots."""
    lines = ["| fault | what is done | what the operator is told |", "|---|---|---|"]
    for name in names:
        listed = [verdict for verdicts in results.values() for verdict in by_name(verdicts).get(name, [])]
        if listed:
            told = "; ".join(text.replace("|", "\\|") for text in figures(listed)["told"][:2])
            lines.append(f"| {name} | {CATALOGUE[name].what} | {told or 'nothing'} |")
    return lines


def _times(found: Mapping[str, float] | None) -> str:
    return "" if found is None else " / ".join(f"{found[key]:.0f}" for key in ("p50", "p99", "max"))
