"""Contact sheets: sizes, colours, captions."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.picture import BACKGROUND, TONES, Cell, contact_sheet, decode, jpeg, save_png, wrap

RED = np.full((64, 64, 3), (200, 10, 20), dtype=np.uint8)


def test_frames_stand_side_by_side_in_rgb() -> None:
    sheet = contact_sheet([Cell((RED, RED // 2), "both cameras")])
    assert tuple(sheet[8 + 96, 8 + 96]) == (200, 10, 20)
    assert tuple(sheet[8 + 96, 8 + 192 + 96]) == (100, 5, 10)
    assert tuple(sheet[0, 0]) == BACKGROUND


@pytest.mark.parametrize(("count", "columns", "across", "down"), [(1, 4, 1, 1), (5, 4, 4, 2), (8, 2, 2, 4)])
def test_cells_fill_rows(count: int, columns: int, across: int, down: int) -> None:
    sheet = contact_sheet([Cell((RED,), str(i)) for i in range(count)], columns)
    one = contact_sheet([Cell((RED,), "0")])
    assert sheet.shape[1] - 8 == across * (one.shape[1] - 8)
    assert sheet.shape[0] - 8 == down * (one.shape[0] - 8)


def test_the_caption_takes_its_tone() -> None:
    caption = contact_sheet([Cell((RED * 0,), "dropped the block", "bad")])[8 + 192 :]
    brightest = caption.reshape(-1, 3)[caption.reshape(-1, 3).sum(axis=1).argmax()].astype(int)
    assert np.abs(brightest - TONES["bad"]).max() < 40


def test_a_large_frame_is_scaled_down() -> None:
    assert contact_sheet([Cell((np.zeros((480, 640, 3), np.uint8),), "big")]).shape[1] == 2 * 8 + 256


def test_frames_are_as_high_as_asked() -> None:
    sheet = contact_sheet([Cell((RED,), "small")], height=64)
    assert sheet.shape[1] == 2 * 8 + 64 and tuple(sheet[8 + 32, 8 + 32]) == (200, 10, 20)


def test_nothing_to_show_is_an_error() -> None:
    with pytest.raises(ValueError, match="at least one cell"):
        contact_sheet([])
    with pytest.raises(ValueError, match="no frame"):
        contact_sheet([Cell((), "empty")])


def test_png_on_disk_keeps_colours(tmp_path: Path) -> None:
    save_png(tmp_path / "deep" / "red.png", RED)
    assert np.array_equal(decode((tmp_path / "deep" / "red.png").read_bytes()), RED)


def test_jpeg_is_close() -> None:
    assert np.abs(decode(jpeg(RED)).astype(int) - RED).max() < 8


def test_what_is_no_image_is_refused() -> None:
    with pytest.raises(ValueError, match="not an image"):
        decode(b"text")


@given(st.text(alphabet="ab ", max_size=80), st.integers(1, 20))
def test_wrapping_loses_no_word(text: str, characters: int) -> None:
    lines = wrap(text, characters)
    assert " ".join(lines).split() == text.split()
    assert all(len(line) <= characters or " " not in line for line in lines)


def test_importing_does_not_import_opencv() -> None:
    code = "import sys, runtime.picture; sys.exit('cv2' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
