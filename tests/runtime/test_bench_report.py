"""What a bench tells: table, JSON, picture, and which parts it runs."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from runtime.bench import machine, run
from runtime.bench.figures import BenchError, Figure, Section
from runtime.bench.plot import draw, is_late
from runtime.bench.report import alternatives, number, table, to_json
from runtime.bench.run import BenchOptions, sections
from runtime.cli import main
from runtime.picture import decode

STEP = Section(
    "step",
    (
        Figure("control step", np.full(200, 12.0), 8.0, {"torch": np.full(9, 120.0)}, "many products"),
        Figure("  run", np.full(5, 11.0)),
    ),
    ("measured",),
)
LATE = Section("jitter", (Figure("servo tick late, idle", np.linspace(0, 3, 300)),))


def shown(section: Section) -> str:
    console = Console(width=200, file=io.StringIO(), record=True)
    console.print(table(section))
    return console.export_text()


def test_a_table_sets_floor_and_alternatives_beside_each_figure() -> None:
    text = shown(STEP)
    row = next(line for line in text.splitlines() if "control step" in line)
    assert [cell.strip() for cell in row.split("│")[1:7]] == ["control step", "12.0", "12.0", "8.00", "1.50", "200"]
    assert "torch: 120, 10.0 x (n 9)" in text and "many products" in text


def test_tails_are_told_where_there_are_enough_samples() -> None:
    long, short = STEP.figures
    assert next(alternatives(long)) == "p99.9 12.0, max 12.0"
    assert list(alternatives(short)) == []


@pytest.mark.parametrize(
    ("value", "text"), [(1234.5, "1234"), (99.94, "99.9"), (9.876, "9.88"), (0.1234, "0.12"), (0.01234, "0.012")]
)
def test_numbers_have_three_figures(value: float, text: str) -> None:
    assert number(value) == text


def test_json_holds_every_part_and_the_machine() -> None:
    content = json.loads(json.dumps(to_json([STEP, LATE], machine.describe(), 1.5)))
    assert content["parts"].keys() == {"step", "jitter"}
    assert content["parts"]["step"]["figures"][0]["ms"]["p99.9"] == 12.0
    assert content["machine"]["cores"] >= 1 and content["machine"]["packages"]["numpy"]


@pytest.mark.parametrize("told", [(STEP, LATE), (STEP,), (LATE,)])
def test_a_picture_is_drawn_of_whatever_was_measured(told: tuple[Section, ...], tmp_path: Path) -> None:
    draw(told, tmp_path / "new" / "bench.png", "here")
    image = decode((tmp_path / "new" / "bench.png").read_bytes())
    assert image.shape[1] > 800
    assert len(np.unique(image.reshape(-1, 3), axis=0)) > 10
    assert [is_late(figure) for figure in (*STEP.figures, *LATE.figures)] == [False, False, True]


def test_parts_are_measured_in_the_order_that_was_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "_section", lambda part, options, artifact: Section(part, ()))
    said: list[str] = []
    told = list(sections(BenchOptions(("sim", "servo")), said.append))
    assert [section.part for section in told] == said == ["sim", "servo"]


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (BenchOptions(("sim", "nothing")), "no part 'nothing'; there are step, flat"),
        (BenchOptions(device="tpu"), "no device 'tpu'"),
        (BenchOptions((), sizes=("2M",)), "no size '2M'"),
    ],
)
def test_what_is_not_there_is_refused(options: BenchOptions, text: str) -> None:
    with pytest.raises(BenchError, match=text):
        list(sections(options, lambda part: None))


def test_a_part_that_needs_torch_says_so_before_anything_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "find_spec", lambda name: None if name == "torch" else object())
    said: list[str] = []
    with pytest.raises(BenchError, match=r"train needs torch; pip install 'gato-arm\[train\]'"):
        list(sections(BenchOptions(("sim", "train")), said.append))
    assert said == []


def test_the_verb_prints_writes_and_draws(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(run, "_section", lambda part, options, artifact: STEP)
    out, picture = tmp_path / "bench.json", tmp_path / "bench.png"
    assert main(["bench", "sim", "--threads", "3", "--json", str(out), "--plot", str(picture)]) == 0
    assert json.loads(out.read_text())["parts"]["step"]["notes"] == ["measured"]
    assert picture.stat().st_size > 1000
    printed = capsys.readouterr().out
    assert "3 threads" in printed and "measuring  sim" in printed


def test_a_wrong_part_is_one_line_and_exit_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "everything"]) == 2
    assert capsys.readouterr().err.startswith("gato-arm: no part 'everything'")


def test_a_machine_is_described_where_nothing_can_be_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(machine, "CPUINFO", tmp_path / "none")
    monkeypatch.setattr(machine, "MEMINFO", tmp_path / "none")
    described = machine.describe()
    assert described["cpu"] and described["memory_gb"] is None
