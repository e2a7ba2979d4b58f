"""The verb: files that it leaves, and that it goes on where it was stopped."""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path

import pytest

from policies.artifact import ArtifactError
from runtime.cli import main
from runtime.evaluation.session import check, play_missing, subject_of
from runtime.evaluation.store import Store
from runtime.evaluation.trial import EvaluationError, Setting, cell_of
from runtime.evaluation.verb import EvalOptions
from sim.shapes import TRIPLETS
from sim.variation import VARIATIONS

EXPERT = ["eval", "--policy", "expert", "--workers", "1"]


def test_a_report_its_json_and_that_nothing_is_played_twice(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, figures = tmp_path / "report", tmp_path / "figures.json"
    words = [*EXPERT, "--episodes", "2", "--objects", "training", "--shift", "light", "--report", str(folder)]
    assert main([*words, "--json", str(figures)]) == 0
    said = capsys.readouterr().out
    assert "2/2, " in said and str(folder / "report.md") in said
    content = json.loads(figures.read_text())
    assert content == json.loads((folder / "report.json").read_text())
    assert content["episodes"] == 2 and list(content["per_cell"]) == ["training, light"] and content["graph"] is None
    lines = (folder / "episodes.jsonl").read_text()
    assert main(words) == 0 and (folder / "episodes.jsonl").read_text() == lines
    assert "succeeded" not in capsys.readouterr().out.partition("episodes, by task")[0]
    (folder / "report.md").unlink()
    assert main(["eval", "--render", str(folder)]) == 0 and (folder / "report.md").is_file()


def test_without_a_report_the_json_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    figures = tmp_path / "figures.json"
    assert main([*EXPERT, "--episodes", "1", "--json", str(figures)]) == 0
    content = json.loads(figures.read_text())
    assert content["policy"] == "expert" and content["seed"] == 100_000
    assert content["picture"] is None and content["failures"] == {}


def test_nothing_is_begun_when_the_time_is_up(tmp_path: Path) -> None:
    subject = subject_of("expert")
    trials = list(cell_of("episodes", "cubes", 3, 5, Setting()))
    store = Store(tmp_path, subject.label)
    assert not play_missing(subject, trials, store, workers=1, minutes=0)
    assert store.missing(trials) == trials
    check(subject, trials)
    with pytest.raises(EvaluationError, match="the expert has neither prompt nor weights"):
        check(subject, list(cell_of("episodes", "cubes", 1, 5, Setting(demonstration=True))))


def test_cameras_of_any_size_are_rendered_and_joints_of_another_arm_are_refused(tmp_path: Path) -> None:
    trials = list(cell_of("episodes", "cubes", 1, 5, Setting(robot=robot_file(tmp_path, "[32, 48]", "gripper"))))
    subject = subject_of("stack")
    check(subject, trials)
    (other,) = cell_of("episodes", "cubes", 1, 5, Setting(robot=robot_file(tmp_path, "[64, 64]", "claw")))
    with pytest.raises(ArtifactError, match="another arm"):
        check(subject, [other])


def robot_file(folder: Path, size: str, last_joint: str) -> str:
    """The simulated robot with cameras of another size and another name of its last joint."""
    text = (Path(str(resources.files("drivers"))) / "robots" / "simulated.yaml").read_text()
    path = folder / f"{last_joint}.yaml"
    path.write_text(text.replace("[64, 64]", size).replace("name: gripper", f"name: {last_joint}"))
    return str(path)


def test_rows_of_what_was_asked() -> None:
    cells = [trial.cell for trial in EvalOptions(episodes=1, objects="triplets").trials(expert=True)]
    assert cells == list(TRIPLETS)
    cells = [trial.cell for trial in EvalOptions(episodes=1, shifts=("each",)).trials(expert=True)]
    assert cells == [f"cubes, {name}" for name in ("nominal", *VARIATIONS, "all")]
    (one,) = EvalOptions(episodes=1, task="put the red cube on the green cube").trials(expert=True)
    assert one.task == "stack the red block on the green block" and one.cell == "cubes"
