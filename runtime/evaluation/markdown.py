"""The sections of report.md. Turns tallies and numbers into Markdown; reads nothing and draws nothing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from runtime.evaluation.paper import BENCHMARKS, DIFFERENCES, MEANING, REPORTED
from runtime.evaluation.play import SENSITIVITY
from runtime.evaluation.store import Row
from runtime.evaluation.suite import PARAPHRASES, PRECISION, PROMPT, RGB, SHAPES, SHIFTS, TASKS_PART
from runtime.evaluation.summary import phrasing_groups
from runtime.report import Report, Tally, share, tallies

HEADINGS = {
    TASKS_PART: "Six tasks on cubes",
    SHIFTS: "Shifts",
    RGB: "RGB objects",
    SHAPES: "Training and held-out shapes",
    PARAPHRASES: "Paraphrases",
    PROMPT: "What the prompt does",
    SENSITIVITY: "One token moved by one bin",
    PRECISION: "Less exact weights",
}
SAID = {
    SHIFTS: "Each variation alone at its full range (sim/variation.yaml), and all together; the same layouts in all "
    "rows.",
    SHAPES: "Red on blue, with shapes drawn for each colour from the group; the same layouts in both rows.",
    PARAPHRASES: "The same episodes, told in each phrasing; the first is the canonical one. *New* are sentences that "
    "the card does not list as trained on; *refused* are those with words that the policy does not know, or too many.",
    PROMPT: "Success is counted by the task that was meant. *wrong* names another task: a policy that listens does "
    "that one (*as told, not as asked*). *none* has no words. A demonstration is the end of an episode of the right "
    "task.",
    SENSITIVITY: "At every fifth step, each token of the executed action and of the joints was moved by one bin, "
    "alone, and the step decoded again. Counted is the action token that moved farthest.",
    PRECISION: "The rounded network drives; at each step its action tokens are compared with those of the weights as "
    "shipped on the same observations. *int8 dynamic* is ONNX Runtime's, activations included; the others round "
    "weights alone.",
}


def table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """A Markdown table: the first column to the left, the others to the right."""
    lines = [f"| {' | '.join(headings)} |", f"|{'---|' + '---:|' * (len(headings) - 1)}"]
    return [*lines, *(f"| {' | '.join(row)} |" for row in rows), ""]


def success_rows(heading: str, cells: Mapping[str, Tally]) -> list[str]:
    """Successes, sparse ones where they differ, and the kinds of failure."""
    sparse = any(tally.sparse not in (None, tally.successes) for tally in cells.values())
    headings = [heading, "episodes", "success", "95% interval", *(("sparse", "95% interval") if sparse else ())]
    rows = []
    for name, tally in cells.items():
        row = [name, str(tally.judged), *share(tally.successes, tally.judged)]
        if sparse:
            row += ["", ""] if tally.sparse is None else share(tally.sparse, tally.judged)
        rows.append([*row, kinds(tally)])
    return table([*headings, "failures"], rows)


def kinds(tally: Tally) -> str:
    """ "3 x dropped, 1 x never moved"."""
    return ", ".join(f"{count} x {kind}" for kind, count in tally.failures.items())


def part_section(part: str, rows: Sequence[Row], cells: Mapping[str, Tally]) -> list[str]:
    """One part: what was done, a row for each cell (for a part of one cell: each task), the time of a step."""
    lines = [f"## {HEADINGS.get(part, part.capitalize())}", ""]
    if part in SAID:
        lines += [SAID[part], ""]
    if len(cells) == 1:
        by_task = dict(sorted(tallies([row.outcome for row in rows], lambda outcome: outcome.task).items()))
        lines += success_rows("task", {**by_task, **({"all": Tally.of(r.outcome for r in rows)} if rows else {})})
    else:
        lines += success_rows("", phrasing_groups(rows)) if part == PARAPHRASES else []
        lines += success_rows("", cells)
    timing = Report("", 0, tuple(row.outcome for row in rows)).step_ms()
    if part in (TASKS_PART, "episodes") and timing is not None:
        lines += [
            f"A control step took {timing['p50']:.1f} ms p50, {timing['p99']:.1f} ms p99 with every core of the "
            "machine at work and one thread each; `gato-arm bench` measures what it takes alone.",
            "",
        ]
    return lines


def rgb_section(cells: Mapping[str, Tally], benchmark: str | None) -> list[str]:
    """The triplets beside what others reported; both of the paper's tables where `benchmark` is not known."""
    benchmarks = BENCHMARKS if benchmark is None else (benchmark,)
    lines = [f"## {HEADINGS[RGB]}", ""]
    if benchmark is None:
        lines += ["The card does not say what the policy was trained on, so both of the paper's tables follow.", ""]
    lines += [f"{MEANING[name]}." for name in benchmarks]
    lines.append("")
    others = {f"{system}, {name}": values for name in benchmarks for system, values in REPORTED[name].items()}
    rows = []
    for place, (triplet, tally) in enumerate(cells.items()):
        strict = " ".join(share(tally.successes, tally.judged)[:1])
        interval = share(tally.successes, tally.judged)[1]
        sparse = share(tally.sparse or 0, tally.judged)
        rows.append([triplet, str(tally.judged), strict, interval, *sparse])
        rows[-1] += [f"{values[place]:g}%" for values in others.values()]
    averages = [
        "average",
        "",
        mean([tally.rate for tally in cells.values()]),
        "",
        mean(
            [
                tally.sparse / tally.judged if tally.judged and tally.sparse is not None else None
                for tally in cells.values()
            ]
        ),
        "",
        *(f"{sum(values) / len(values):.1f}%" for values in others.values()),
    ]
    lines += table(
        ["", "episodes", "ours, strict", "95% interval", "ours, sparse", "95% interval", *others], [*rows, averages]
    )
    lines += ["![The triplets beside what others reported](rgb.png)", ""]
    lines += ["What is different, so that the columns must not be read as a race:", ""]
    lines += [f"- {difference}" for difference in DIFFERENCES]
    return [*lines, ""]


def mean(rates: Sequence[float | None]) -> str:
    """The mean of the cells' rates in per cent; nothing where one is missing."""
    known = [rate for rate in rates if rate is not None]
    return f"{100 * sum(known) / len(known):.1f}%" if known and len(known) == len(rates) else ""


def moved_table(heading: str, moved: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """How far bins moved, a row for each kind."""
    rows = []
    for name, numbers in moved.items():
        shares = [f"{100 * numbers[key]:.1f}%" for key in ("unmoved", "over_4", "over_20")]
        rows.append([name, str(numbers["count"]), *shares, *(str(numbers[key]) for key in ("p50", "p99", "max"))])
    return table([heading, "compared", "unmoved", "over 4 bins", "over 20 bins", "p50", "p99", "max"], rows)


def wrong_pair_section(found: Mapping[str, Any]) -> list[str]:
    """How often a rightly told policy stacked another pair."""
    counted = {HEADINGS.get(part, part): numbers for part, numbers in found["parts"].items()}
    rows = []
    for name, numbers in {**counted, "all": found}.items():
        low, high = (100 * bound for bound in numbers["interval_95"])
        rows.append([name, str(numbers["episodes"]), str(numbers["wrong_pairs"]), f"{low:.2f} to {high:.2f}%"])
    return [
        "## The wrong pair",
        "",
        "Episodes in which the policy was told the canonical sentence, and another pair stood in the end.",
        "",
        *table(["part", "episodes", "wrong pair", "95% interval"], rows),
    ]
