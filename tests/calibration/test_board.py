"""Boards: what they look like, finding them, and refusing others."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from calibration.board import BOARDS, Board, find_board, parse_board
from calibration.errors import CalibrationError

TABLE, HAND = BOARDS["table"], BOARDS["hand"]


@pytest.mark.parametrize("board", BOARDS.values(), ids=BOARDS)
def test_every_corner_is_found_where_it_was_printed(board: Board) -> None:
    pixels = 60
    picture = cv2.GaussianBlur(board.texture(pixels), (0, 0), 0.7)
    view = find_board(board, np.asarray(picture, dtype=np.uint8))
    assert view is not None and view.size == picture.shape
    assert sorted(view.ids) == list(range((board.columns - 1) * (board.rows - 1)))
    expected = board.corners[view.ids][:, :2] / board.square * pixels - 0.5
    assert np.abs(view.corners - expected).max() < 0.02


def test_an_empty_picture_shows_no_board() -> None:
    assert find_board(TABLE, np.full((480, 640, 3), 120, dtype=np.uint8)) is None


def test_a_sliver_of_the_board_is_no_view() -> None:
    assert find_board(TABLE, TABLE.texture(60)[:, :100]) is None


def test_the_other_board_is_refused_by_its_markers() -> None:
    with pytest.raises(CalibrationError, match="wrong board: the picture has the markers 40, 41"):
        find_board(TABLE, HAND.texture(60))


def test_a_board_of_another_dictionary_is_refused_by_name() -> None:
    other = Board("other", 6, 5, 0.03, 0.02, "DICT_5X5_100")
    with pytest.raises(CalibrationError, match="wrong board: the picture has markers of DICT_5X5_100"):
        find_board(TABLE, other.texture(60))


def test_a_board_of_another_layout_is_refused() -> None:
    other = Board("other", 8, 6, 0.025, 0.018)
    with pytest.raises(CalibrationError, match="do not lie as on the board"):
        find_board(TABLE, other.texture(60))


def test_boards_are_named_or_spelled_out() -> None:
    assert parse_board("hand") is HAND
    assert parse_board("10x7:25:18:DICT_4X4_100:3") == Board("own", 10, 7, 0.025, 0.018, "DICT_4X4_100", 3)
    assert parse_board("5x4:20:15").dictionary == "DICT_4X4_50"


@pytest.mark.parametrize("text", ["", "tabel", "10x7", "axb:1:2", "10x7:25:18:DICT_9X9_1", "10x7:25:18:DICT_4X4_50:x"])
def test_what_is_no_board_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(CalibrationError, match="for example"):
        parse_board(text)


@pytest.mark.parametrize(
    ("text", "said"),
    [("10x7:20:20", "do not fit"), ("2x2:20:15", "at least 3 x 3"), ("10x11:20:15", "DICT_4X4_50 has 50")],
)
def test_a_board_that_cannot_be_is_refused(text: str, said: str) -> None:
    with pytest.raises(CalibrationError, match=said):
        parse_board(text)
