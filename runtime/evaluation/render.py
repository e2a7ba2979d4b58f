"""A folder of rows becomes a report: report.md, its pictures, contact sheets of failures, report.json.

Made anew from the rows each time, so that a report of results from several machines needs no machine again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from runtime.evaluation.markdown import (
    HEADINGS,
    moved_table,
    part_section,
    rgb_section,
    success_rows,
    wrong_pair_section,
)
from runtime.evaluation.paper import GENERALIZATION, REPORTED
from runtime.evaluation.play import SENSITIVITY
from runtime.evaluation.plot import draw_failures, draw_moved, draw_success, draw_triplets
from runtime.evaluation.sheets import failure_sheet
from runtime.evaluation.store import Row
from runtime.evaluation.suite import PRECISION, RGB
from runtime.evaluation.summary import bins_apart, by_part, moved_bins, summarise, tallies_of, wrong_pairs
from runtime.evaluation.trial import EvaluationError
from runtime.report import Tally, write_json

REPORT, JSON = "report.md", "report.json"


def render(folder: Path, rows: Sequence[Row], benchmark: str | None = None) -> dict[str, Any]:
    """Write the report of `rows` into `folder`, where their strips lie; returns what report.json says.

    `benchmark` says beside which of the paper's tables the triplets stand; None: both. Raises `EvaluationError` when
    there is no row or more than one policy's, and OSError.
    """
    policies = sorted({row.policy for row in rows})
    if len(policies) != 1:
        found = f"episodes of {', '.join(policies)}" if policies else "no episode (*.jsonl)"
        raise EvaluationError(f"{folder}: holds {found}; a report is about one policy")
    parts = by_part(rows)
    cells = {part: tallies_of(of_part) for part, of_part in parts.items()}
    name, _, graph = policies[0].partition("@")
    content = summarise(rows, policies[0]) | {"benchmark": benchmark}
    draw_success(cells, folder / "success.png")
    lines = [
        f"# Evaluation of {name}",
        "",
        f"{len(rows)} episodes in lock-step, seeds {content['seed']} and on"
        f"{f', graph {graph}' if graph else ''}. Intervals are Wilson's, 95%. How to read this: docs/evaluation.md.",
        "",
        *success_rows(
            "part", {HEADINGS.get(part, part): Tally.of(r.outcome for r in of) for part, of in parts.items()}
        ),
        "![Success with its intervals](success.png)",
        "",
    ]
    for part, of_part in parts.items():
        lines += _section(folder, part, of_part, cells[part], benchmark)
    lines += wrong_pair_section(wrong_pairs(rows))
    lines += _failures(folder, cells, parts)
    (folder / REPORT).write_text("\n".join(lines).rstrip() + "\n", encoding="utf-8")
    write_json(folder / JSON, content)
    return content


def _section(folder: Path, part: str, rows: Sequence[Row], cells: dict[str, Tally], benchmark: str | None) -> list[str]:
    if part == RGB and len(cells) == len(REPORTED[GENERALIZATION]["Gato"]):
        drawn = benchmark or GENERALIZATION
        draw_triplets(cells, REPORTED[drawn], f"RGB objects beside Skill {drawn.capitalize()}", folder / "rgb.png")
        return rgb_section(cells, benchmark)
    lines = part_section(part, rows, cells)
    if part == SENSITIVITY:
        draw_moved(_curves(rows, "farthest"), folder / "sensitivity.png")
        lines += [*moved_table("moved", moved_bins(rows)), "![How far tokens moved](sensitivity.png)", ""]
    if part == PRECISION and (apart := bins_apart(rows)):
        draw_moved(_curves(rows, "bins_apart"), folder / "precision.png")
        lines += [*moved_table("weights", apart), "![How far tokens were apart](precision.png)", ""]
    return lines


def _curves(rows: Sequence[Row], key: str) -> dict[str, Counter[int]]:
    """Bins to how often: of each kind of token, or of each cell where the measure has no kinds."""
    curves: dict[str, Counter[int]] = {}
    for row in rows:
        measured = row.measured.get(key, {})
        nested = measured if key == "farthest" else {row.trial.cell: measured} if measured else {}
        for name, counts in nested.items():
            curves.setdefault(name, Counter()).update({int(bins): count for bins, count in counts.items()})
    return curves


def _failures(folder: Path, cells: dict[str, dict[str, Tally]], parts: dict[str, list[Row]]) -> list[str]:
    """All failures by kind, and a sheet for each part that has strips."""
    if not draw_failures(cells, folder / "failures.png"):
        return []
    lines = ["## Failures", "", "![Failures by kind](failures.png)", ""]
    for part, rows in parts.items():
        sheet = f"failures-{part}.png"
        if failure_sheet(rows, folder, folder / sheet):
            heading = HEADINGS.get(part, part)
            lines += [f"{heading}: from the first frame to the last, fixed camera above, wrist camera below.", ""]
            lines += [f"![Failures: {heading}]({sheet})", ""]
    return lines
