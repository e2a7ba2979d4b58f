"""The sheet of all arms: one picture each, and mistakes in one line."""

from __future__ import annotations

from pathlib import Path

import cv2
import pytest

from sim.portraits import COLUMNS, SIZE, main, portrait, sheet


def test_arms_differ_and_fill_their_pictures() -> None:
    so101, viperx = portrait("so101"), portrait("viperx300")
    assert so101.shape == viperx.shape == (*SIZE, 3)
    assert (so101 != viperx).any(axis=2).mean() > 0.02


def test_a_sheet_has_whole_rows() -> None:
    assert sheet(["so101"] * (COLUMNS + 1)).shape == (2 * SIZE[0], COLUMNS * SIZE[1], 3)


def test_it_writes_a_picture_of_the_robots_named(tmp_path: Path) -> None:
    assert main([str(tmp_path / "two.png"), "koch", "so100"]) == 0
    picture = cv2.imread(str(tmp_path / "two.png"))
    assert picture is not None and picture.shape == (SIZE[0], COLUMNS * SIZE[1], 3)


def test_mistakes_are_one_line_and_exit_code_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, says in (
        ([], "usage"),
        ([str(tmp_path / "a.png"), "so102"], "no robot 'so102'"),
        ([str(tmp_path / "none" / "a.png"), "so101"], "cannot be written"),
    ):
        assert main(arguments) == 2
        message = capsys.readouterr().err
        assert says in message and message.count("\n") == 1
