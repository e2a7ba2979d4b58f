"""The printed sheet: true size, complete, and readable by the detector that it is for."""

from __future__ import annotations

import re
from pathlib import Path

import cv2
import numpy as np
import pytest

from calibration.board import BOARDS, Board, find_board
from calibration.board_sheet import DPI, PAPERS, black_squares, white_cells, write_sheet
from calibration.errors import CalibrationError

MM_PER_INCH = 25.4


@pytest.mark.parametrize("name", BOARDS)
def test_the_png_measures_what_is_written_on_it(name: str, tmp_path: Path) -> None:
    board = BOARDS[name]
    write_sheet(board, tmp_path / "b.pdf", tmp_path / "b.png")
    picture = np.asarray(cv2.imread(str(tmp_path / "b.png")), dtype=np.uint8)
    view = find_board(board, picture)
    assert view is not None and len(view.ids) == (board.columns - 1) * (board.rows - 1)
    on_paper = view.corners / DPI * MM_PER_INCH / 1000
    expected = board.corners[view.ids][:, :2]
    assert np.abs((on_paper - on_paper[0]) - (expected - expected[0])).max() < 0.1e-3


@pytest.mark.parametrize("paper", PAPERS)
def test_the_pdf_is_as_large_as_its_paper(paper: str, tmp_path: Path) -> None:
    write_sheet(BOARDS["hand"], tmp_path / "b.pdf", tmp_path / "b.png", paper)
    found = re.search(rb"/MediaBox \[ ?0 0 ([\d.]+) ([\d.]+) ?\]", (tmp_path / "b.pdf").read_bytes())
    assert found is not None
    size = [float(value) / 72 * MM_PER_INCH for value in found.groups()]
    assert size == pytest.approx(PAPERS[paper], abs=0.01)


@pytest.mark.parametrize("name", BOARDS)
def test_the_rectangles_on_the_sheet_are_the_board(name: str) -> None:
    """Filled pixel by pixel they give OpenCV's own picture of the board."""
    board, pixels = BOARDS[name], 120
    drawn = np.full((board.rows * pixels, board.columns * pixels), 255, dtype=np.uint8)
    for value, rectangles in ((0, black_squares(board)), (255, white_cells(board))):
        for rectangle in rectangles:
            left, top, width, height = (edge / board.square * pixels for edge in rectangle)
            drawn[round(top) : round(top + height), round(left) : round(left + width)] = value
    assert np.mean(drawn != board.texture(pixels)) < 0.01  # rounding at the cells' edges


def test_a_board_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CalibrationError, match="do not fit on a4"):
        write_sheet(Board("big", 12, 9, 0.03, 0.02, "DICT_4X4_100"), tmp_path / "b.pdf", tmp_path / "b.png")
    with pytest.raises(CalibrationError, match="known are a4, a3, letter"):
        write_sheet(BOARDS["hand"], tmp_path / "b.pdf", tmp_path / "b.png", "a5")
