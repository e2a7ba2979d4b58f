"""The report: Wilson's interval, counts by task and kind, JSON fields."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.report import EpisodeOutcome, Report, Tally, wilson, write_json


def make(outcomes: list[str]) -> Report:
    episodes = tuple(
        EpisodeOutcome(i, 7 + i, f"task {i % 2}", outcome, steps=10 + i, seconds=0.5, step_ms=(1.0, 2.0), missed=i % 2)
        for i, outcome in enumerate(outcomes)
    )
    return Report("expert", 7, episodes)


@pytest.mark.parametrize(
    ("successes", "trials", "low", "high"),
    [
        (256, 256, 0.98522, 1.0),
        (300, 300, 0.98736, 1.0),
        (8, 10, 0.49016, 0.94331),
        (0, 10, 0.0, 0.27753),
        (0, 0, 0.0, 1.0),
    ],
)
def test_wilson_matches_published_values(successes: int, trials: int, low: float, high: float) -> None:
    assert wilson(successes, trials) == pytest.approx((low, high), abs=1e-5)


@given(st.integers(0, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_holds_the_share_and_mirrors(case: tuple[int, int]) -> None:
    successes, trials = case
    low, high = wilson(successes, trials)
    assert 0.0 <= low <= high <= 1.0
    if trials:
        assert low <= successes / trials <= high
        mirrored = wilson(trials - successes, trials)
        assert (1.0 - high, 1.0 - low) == pytest.approx(mirrored, abs=1e-12)


def test_wilson_refuses_more_successes_than_trials() -> None:
    with pytest.raises(ValueError, match="3 successes in 2 trials"):
        wilson(3, 2)


def test_json_has_the_fields_of_the_design() -> None:
    content = make(["success", "dropped", "success", "not stacked", "dropped"]).to_json()
    assert content["episodes"] == 5 and content["successes"] == 2 and content["success_rate"] == 0.4
    assert content["per_task"]["task 0"] == {
        "episodes": 3,
        "judged": 3,
        "successes": 2,
        "success_rate": pytest.approx(2 / 3),
        "success_interval_95": list(wilson(2, 3)),
        "failures": {"dropped": 1},
    }
    assert "per_cell" not in content
    assert list(content["failures"].items()) == [("dropped", 2), ("not stacked", 1)]
    assert content["step_ms"] == {"p50": 1.5, "p99": 2.0, "max": 2.0}
    assert content["ticks"] == 60 and content["deadline_misses"] == 2
    assert content["policy"] == "expert" and content["seed"] == 7
    json.dumps(content)


def test_cells_and_gatos_sparse_success() -> None:
    outcomes = [
        EpisodeOutcome(i, i, "task", outcome, 10, 0.5, cell=cell, sparse=sparse)
        for i, (outcome, cell, sparse) in enumerate(
            [("success", "light", True), ("placed beside", "all", True), ("placed beside", "all", False)]
        )
    ]
    content = Report("expert", 0, tuple(outcomes)).to_json()
    assert list(content["per_cell"]) == ["light", "all"]
    assert content["per_cell"]["all"]["sparse_successes"] == 1 and content["per_cell"]["all"]["successes"] == 0
    assert content["sparse_rate"] == pytest.approx(2 / 3) and content["sparse_interval_95"] == list(wilson(2, 3))
    unseen = [*outcomes, EpisodeOutcome(3, 3, "task", "success", 10, 0.5)]
    assert Tally.of(unseen).sparse is None


def test_unjudged_episodes_do_not_count() -> None:
    report = make(["success", "unjudged"])
    assert report.success_rate == 1.0 and report.failures == {}
    nobody = make(["unjudged"])
    assert nobody.success_rate is None and nobody.summary() == "1 episodes, none judged"


def test_summary_says_what_matters() -> None:
    assert make(["success"] * 8 + ["dropped"] * 2).summary() == (
        "8 of 10 succeeded: 80.0% (95% interval 49.0 to 94.3%); failures: 2 x dropped"
    )


def test_table_has_a_row_for_each_task() -> None:
    assert make(["success", "unjudged", "dropped"]).table("t").row_count == 2


def test_steps_that_were_not_timed_have_no_percentiles() -> None:
    assert Report("expert", 7, ()).step_ms() is None


def test_json_file(tmp_path: Path) -> None:
    write_json(tmp_path / "a" / "b.json", {"x": "ö"})
    assert json.loads((tmp_path / "a" / "b.json").read_text(encoding="utf-8")) == {"x": "ö"}
