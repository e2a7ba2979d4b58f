"""From rows to a report: suites, sums, Markdown, pictures."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from runtime.evaluation.markdown import mean, success_rows
from runtime.evaluation.paper import BENCHMARKS, REPORTED
from runtime.evaluation.render import render
from runtime.evaluation.sheets import CELLS, chosen
from runtime.evaluation.store import FOLDER
from runtime.evaluation.suite import PARTS, SUITES, right, suite_trials
from runtime.evaluation.summary import WRONG_PAIR, by_part, spread_of, summarise, wrong_pairs
from runtime.evaluation.trial import EvaluationError, Setting, cell_of
from runtime.picture import decode, jpeg
from runtime.report import Tally, wilson
from tests.runtime.evaluation_rows import KINDS, POLICY, make_row, suite_rows


def test_a_suite_has_every_part_and_no_trial_twice() -> None:
    trials = suite_trials("full", 100_000)
    assert list(dict.fromkeys(trial.part for trial in trials)) == list(PARTS)
    assert len({trial.key for trial in trials}) == len(trials)
    assert sum(trial.part == "tasks" for trial in trials) == 2000
    assert {trial.part for trial in suite_trials("small", 0, only=("rgb", "tasks"))} == {"rgb", "tasks"}
    assert all(trial.told() for trial in suite_trials("smoke", 0, expert=True))
    with pytest.raises(EvaluationError, match="no suite 'huge'; there are full, small, smoke"):
        suite_trials("huge", 0)
    with pytest.raises(EvaluationError, match="no part 'colours' in a suite; there are tasks, shifts"):
        suite_trials("full", 0, only=("colours",))
    assert set(SUITES["full"].__dataclass_fields__) == set(PARTS)


def test_the_papers_averages_are_those_of_the_paper() -> None:
    averages = {name: {who: round(sum(v) / 5, 1) for who, v in of.items()} for name, of in REPORTED.items()}
    assert averages["mastery"] == {"Gato": 75.6, "BC-IMP": 74.7}  # the paper rounds 74.66 to 74.6
    assert averages["generalization"] == {"Gato": 50.2, "BC-IMP": 49.0}
    assert set(averages) == set(BENCHMARKS)


def test_rows_are_ordered_as_the_suite_is_whatever_came_first() -> None:
    rows = suite_rows()
    assert [row for of in by_part(rows[::-1]).values() for row in of] == rows


def test_the_wrong_pair_is_counted_where_the_policy_was_rightly_told() -> None:
    rows = [make_row(trial, WRONG_PAIR) for trial in suite_trials("smoke", 0)]
    told = [row for row in rows if right(row.trial)]
    found = wrong_pairs(rows)
    assert found["wrong_pairs"] == found["episodes"] == len(told) < len(rows)
    assert found["parts"]["tasks"]["episodes"] == 2 and "paraphrases" not in found["parts"]
    assert found["interval_95"] == list(wilson(len(told), len(told)))
    assert not any(row.trial.setting.prompt != "right" or row.trial.setting.demonstration for row in told)


def test_how_far_bins_moved() -> None:
    numbers = spread_of([{"0": 50, "1": 40}, {"5": 9, "30": 1}])
    assert numbers == {"count": 100, "unmoved": 0.5, "over_4": 0.1, "over_20": 0.01, "p50": 0, "p99": 5, "max": 30}
    assert spread_of([])["p50"] is None


def test_the_json_has_the_fields_of_the_design_and_every_part() -> None:
    content = summarise(suite_rows(), POLICY)
    wanted = "episodes successes success_rate per_task failures step_ms deadline_misses ticks policy seed".split()
    assert set(wanted) <= set(content) and set(content["step_ms"]) == {"p50", "p99", "max"}
    assert list(content["parts"]) == list(PARTS)
    assert content["episodes"] == content["parts"]["tasks"]["episodes"] == 2
    assert content["parts"]["shifts"]["cells"]["light"]["success_interval_95"] == list(wilson(1, 1))
    assert content["sensitivity"]["executed action"]["over_20"] == 0.25
    assert content["precision"]["bf16"]["unmoved"] == 0.9
    assert content["policy"] == "stack" and content["graph"] == "0123456789ab"
    assert {name: group["episodes"] for name, group in content["phrasings"].items()} == {
        "canonical": 1,
        "others of the card": 1,
        "new": 28,
    }
    json.dumps(content)


def test_a_report_and_its_pictures(tmp_path: Path) -> None:
    strip = np.full((128, 5 * 64 + 8, 3), 120, dtype=np.uint8)
    (tmp_path / FOLDER).mkdir()
    (tmp_path / FOLDER / "one.jpg").write_bytes(jpeg(strip))
    rows = [replace(row, strip=None if row.outcome.success else f"{FOLDER}/one.jpg") for row in suite_rows()]
    content = render(tmp_path, rows, "mastery")
    text = (tmp_path / "report.md").read_text()
    assert json.loads((tmp_path / "report.json").read_text()) == content and content["graph"] == "0123456789ab"
    for heading in ("Shifts", "RGB objects", "What the prompt does", "The wrong pair", "Failures"):
        assert f"## {heading}" in text
    assert "| triplet5 | 1 |" in text and "Gato, mastery" in text and "generalization" not in text.lower()
    pictures = [line.partition("](")[2].rstrip(")") for line in text.splitlines() if line.startswith("![")]
    assert len(pictures) >= 6 and len(set(pictures)) == len(pictures)
    for name in pictures:
        assert decode((tmp_path / name).read_bytes()).std() > 1  # something is drawn on it
    both = render(tmp_path, rows)
    assert both["benchmark"] is None and "Gato, generalization" in (tmp_path / "report.md").read_text()


def test_a_report_without_failures_has_no_sheet(tmp_path: Path) -> None:
    render(tmp_path, [make_row(trial, "success") for trial in cell_of("episodes", "cubes", 7, 0, Setting())])
    text = (tmp_path / "report.md").read_text()
    assert "## Failures" not in text and "| all | 7 | 100.0% | 64.6 to 100.0% |" in text
    assert not list(tmp_path.glob("failures*"))


def test_a_report_is_about_one_policy(tmp_path: Path) -> None:
    rows = suite_rows()
    with pytest.raises(EvaluationError, match="holds episodes of expert, stack@0123456789ab; a report is about one"):
        render(tmp_path, [*rows[:2], replace(rows[2], policy="expert")])
    with pytest.raises(EvaluationError, match="holds no episode"):
        render(tmp_path, [])


def test_a_sheet_shows_every_kind() -> None:
    trials = list(cell_of("shifts", "all", 60, 0, Setting()))
    rows = [make_row(trial, KINDS[0] if trial.index < 50 else KINDS[1 + trial.index % 2]) for trial in trials]
    shown = chosen(rows)
    assert len(shown) == CELLS and {row.outcome.outcome for row in shown} == set(KINDS)
    assert sum(row.outcome.outcome == KINDS[0] for row in shown) == CELLS - 10


def test_sparse_successes_are_shown_where_they_differ() -> None:
    same = Tally(3, 3, 2, 2, {"placed beside": 1}, 9)
    assert "sparse" not in success_rows("task", {"a": same})[0]
    lines = success_rows("task", {"a": same, "b": replace(same, sparse=3)})
    assert "sparse" in lines[0] and "| 1 x placed beside |" in lines[2]
    assert mean([0.5, 1.0]) == "75.0%" and mean([0.5, None]) == "" == mean([])
