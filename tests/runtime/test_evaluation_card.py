"""A report's figures on an artifact's card: only of the graph that was evaluated, and no weight is touched."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from policies.artifact import CARD, ArtifactError, find_artifact, load_artifact
from policies.card import GRAPH
from runtime.cli import main
from runtime.evaluation.card import figures, fill, read_report
from runtime.evaluation.session import benchmark_of
from runtime.evaluation.summary import summarise
from runtime.evaluation.trial import Setting, cell_of
from tests.runtime.evaluation_rows import make_row, suite_rows


@pytest.fixture
def artifact(tmp_path: Path) -> Path:
    return Path(shutil.copytree(find_artifact("stack"), tmp_path / "stack"))


def report(artifact: Path, graph: str | None = None) -> Path:
    label = f"stack@{graph or load_artifact(artifact).card.files[GRAPH][:12]}"
    path = artifact.parent / "report.json"
    path.write_text(json.dumps(summarise(suite_rows(), label)))
    return path


def test_a_suites_figures_stand_on_the_card_and_the_artifact_still_loads(artifact: Path) -> None:
    before = load_artifact(artifact).card
    fill(artifact, report(artifact))
    after = load_artifact(artifact).card
    assert after.files == before.files and after.created == before.created
    said = after.evaluation
    assert said["tokens_equal_to_torch"] == before.evaluation["tokens_equal_to_torch"]
    assert said["episodes"] == 2 and said["parts"]["shifts"]["light"]["episodes"] == 1
    assert "sparse_successes" in said["parts"]["rgb"]["triplet1"] and "sensitivity" not in said["parts"]
    assert set(said["parts"]["paraphrases"]) == {"canonical", "others of the card", "new"}
    assert said["wrong_pair"]["episodes"] > 0


def test_another_graphs_report_is_refused(artifact: Path) -> None:
    with pytest.raises(ArtifactError, match=r"is about the graph 0123456789ab, .* evaluate this one"):
        fill(artifact, report(artifact, "0123456789ab"))


def test_a_changed_file_gets_no_new_hash(artifact: Path) -> None:
    path = report(artifact)
    (artifact / GRAPH).write_bytes(b"something else")
    with pytest.raises(ArtifactError, match="changed since the export"):
        fill(artifact, path)


@pytest.mark.parametrize("content", ["no json", "[1, 2]", '{"episodes": 3}'])
def test_another_file_is_no_report(content: str, tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text(content)
    with pytest.raises(ArtifactError, match="not a report of gato-arm eval --json"):
        read_report(tmp_path / "x.json")


def test_of_a_plain_evaluation_only_the_figures_on_top() -> None:
    rows = [make_row(trial, "success") for trial in cell_of("episodes", "cubes", 3, 0, Setting())]
    said = figures(summarise(rows, "expert"))
    assert said == {
        "episodes": 3,
        "successes": 3,
        "success_rate": 1.0,
        "success_interval_95": said["success_interval_95"],
        "seed": 0,
        "mean_steps": 50.0,
    }


def test_the_verb_fills_and_shows_the_card(artifact: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["card", str(artifact), "--evaluation", str(report(artifact))]) == 0
    assert capsys.readouterr().out.rstrip() == (artifact / CARD).read_text().rstrip()
    assert main(["card", str(artifact), "--evaluation", str(report(artifact, "0123456789ab"))]) == 2
    assert "is about the graph" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("training", "benchmark"),
    [
        ({}, None),
        ({"mixture": {"objects": {"cubes": 1.0}}}, None),
        ({"mixture": {"objects": {"cubes": 0.5, "training": 0.5, "triplets": 0.0}}}, "generalization"),
        ({"mixture": {"objects": {"cubes": 0.5, "triplets": 0.5}}}, "mastery"),
        ({"mixture": "anything"}, None),
    ],
)
def test_which_of_the_papers_tables_a_training_is_comparable_with(
    training: dict[str, Any], benchmark: str | None
) -> None:
    assert benchmark_of(training) == benchmark
