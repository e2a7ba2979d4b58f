"""What an evaluation says on an artifact's card: the figures of its report, and no more than a person reads.

Writes card.yaml anew; touches no weights. Knows reports and cards, not how episodes were played.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from policies.artifact import ArtifactError, load_artifact, write_card
from policies.card import GRAPH, Card
from runtime.evaluation.play import SENSITIVITY
from runtime.evaluation.suite import PARAPHRASES, RGB

FIGURES = ("episodes", "successes", "success_rate", "success_interval_95", "seed", "mean_steps")
OF_A_CELL = ("episodes", "successes", "success_interval_95")
SPARSE = ("sparse_successes", "sparse_interval_95")


def read_report(path: Path) -> dict[str, Any]:
    """A report of `gato-arm eval --json`. Raises `ArtifactError` for another file, and OSError."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        missing = [name for name in FIGURES if name not in content]
    except (ValueError, TypeError) as error:
        raise ArtifactError(f"{path}: not a report of gato-arm eval --json: {error}") from error
    if missing or not isinstance(content, dict):
        raise ArtifactError(f"{path}: not a report of gato-arm eval --json: it has no {', '.join(missing)}")
    return content


def figures(report: dict[str, Any]) -> dict[str, Any]:
    """What a card says of a report: the figures on top; of a suite also each part's cells, and the wrong pair."""
    said = {name: report[name] for name in FIGURES}
    parts = report.get("parts", {})
    if len(parts) > 1:
        cells = {
            part: {cell: _brief(tally, part) for cell, tally in content["cells"].items()}
            for part, content in parts.items()
            if part not in (PARAPHRASES, SENSITIVITY)
        }
        if phrasings := report.get("phrasings"):
            cells[PARAPHRASES] = {group: _brief(tally, PARAPHRASES) for group, tally in phrasings.items()}
        said["parts"] = cells
        said["wrong_pair"] = {name: value for name, value in report["wrong_pair"].items() if name != "parts"}
    return said


def _brief(tally: dict[str, Any], part: str) -> dict[str, Any]:
    names = (*OF_A_CELL, *(SPARSE if part == RGB else ()))
    return {name: tally[name] for name in names if name in tally}


def fill(folder: Path, report: Path) -> Card:
    """Put a report's figures on the card of the artifact in `folder`, beside what the card says of the export.

    The artifact is verified first, so that no changed file gets a new hash. Raises `ArtifactError` when the report is
    about another graph, and OSError.
    """
    card = load_artifact(folder).card
    content = read_report(report)
    graph = content.get("graph")
    if not graph or not card.files[GRAPH].startswith(graph):
        raise ArtifactError(
            f"{report}: is about the graph {graph or 'of nobody'}, {folder} has {card.files[GRAPH][:12]}: "
            "evaluate this one"
        )
    return write_card(folder, card.model_copy(update={"evaluation": {**card.evaluation, **figures(content)}}))
