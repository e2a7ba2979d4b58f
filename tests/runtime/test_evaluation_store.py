"""Rows on disk: what was interrupted goes on, what was cut off is left out, another policy's are refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from runtime.evaluation.play import Played
from runtime.evaluation.store import STRIPS, Store, read_rows
from runtime.evaluation.trial import EvaluationError, Setting, Trial, cell_of
from runtime.picture import decode
from runtime.report import EpisodeOutcome
from tests.runtime.evaluation_rows import POLICY

TRIALS = list(cell_of("shifts", "light", 4, 50, Setting(shifts=("light",))))
STRIP = np.full((128, 300, 3), 90, dtype=np.uint8)


def played(trial: Trial, outcome: str = "success", strip: np.ndarray | None = None) -> Played:
    done = EpisodeOutcome(trial.index, trial.seed, trial.task, outcome, 3, 0.15, (1.0, 2.5), 0, trial.cell, True)
    return Played(trial, trial.told(), done, strip, {"bins": {"0": 3}})


def test_what_was_played_is_not_missing_and_reads_as_it_was_written(tmp_path: Path) -> None:
    store = Store(tmp_path / "new", POLICY)
    rows = [store.add(played(trial)) for trial in TRIALS[:3]]
    again = Store(tmp_path / "new", POLICY)
    assert list(again.rows.values()) == rows
    assert again.missing(TRIALS) == TRIALS[3:]


def test_a_line_that_was_cut_off_is_played_again(tmp_path: Path) -> None:
    store = Store(tmp_path, POLICY)
    for trial in TRIALS[:2]:
        store.add(played(trial))
    file = tmp_path / "shifts.jsonl"
    whole = file.read_bytes()
    for cut in (len(whole) - 1, len(whole) - 2, len(whole) - 40, whole.index(b"\n") + 1):
        file.write_bytes(whole[:cut])
        half = Store(tmp_path, POLICY)
        for trial in half.missing(TRIALS[:2]):
            half.add(played(trial))
        assert [row.trial for row in read_rows(tmp_path)] == TRIALS[:2]


def test_results_of_several_machines_are_put_together_and_count_once(tmp_path: Path) -> None:
    for machine, trials in (("a", TRIALS[:2]), ("b", TRIALS[1:])):
        for trial in trials:
            Store(tmp_path / machine, POLICY).add(played(trial))
    (tmp_path / "a" / "shifts-b.jsonl").write_bytes((tmp_path / "b" / "shifts.jsonl").read_bytes())
    rows = Store(tmp_path / "a", POLICY).rows.values()
    assert len(rows) == 4 and {row.trial for row in rows} == set(TRIALS)


def test_a_cell_keeps_some_strips(tmp_path: Path) -> None:
    store = Store(tmp_path, POLICY)
    rows = [store.add(played(t, "dropped", STRIP)) for t in cell_of("shifts", "all", STRIPS + 2, 0, Setting())]
    kept = [row.strip for row in rows if row.strip is not None]
    assert len(kept) == len(set(kept)) == STRIPS
    assert decode((tmp_path / str(kept[0])).read_bytes()).shape == STRIP.shape


def test_another_policys_rows_and_other_files_are_refused(tmp_path: Path) -> None:
    Store(tmp_path, POLICY).add(played(TRIALS[0]))
    with pytest.raises(EvaluationError, match="holds episodes of stack@0123456789ab, not of expert"):
        Store(tmp_path, "expert")
    (tmp_path / "other.jsonl").write_text('{"some": "thing"}\n')
    with pytest.raises(EvaluationError, match=r"other\.jsonl:1: no line of an evaluation"):
        Store(tmp_path, POLICY)
