"""The picture of before and after: what it claims is so."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from calibration.board import BOARDS, BoardView
from calibration.picture import bend, draw_before_and_after
from drivers.camera_calibration import Lens
from tests.drivers.test_camera_calibration import LENS

TABLE = BOARDS["table"]


def test_bent_lines_are_measured_and_the_picture_is_written(tmp_path: Path) -> None:
    lens: Lens = LENS.model_copy(update={"distortion": (-0.25, 0.05, 0.0, 0.0, 0.0)})
    pixels, _ = cv2.projectPoints(
        TABLE.corners, np.zeros(3), np.array([-0.125, -0.0875, 0.25]), lens.matrix, np.array(lens.distortion)
    )
    view = BoardView(pixels.reshape(-1, 2), np.arange(len(pixels)), lens.size)
    straight = cv2.undistortPointsIter(
        pixels, lens.matrix, np.array(lens.distortion), np.eye(3), lens.matrix, (cv2.TERM_CRITERIA_COUNT, 50, 0.0)
    )
    assert bend(TABLE, view.ids, view.corners) > 2
    assert bend(TABLE, view.ids, straight.reshape(-1, 2)) < 0.01
    image = np.full((480, 640, 3), 128, dtype=np.uint8)
    draw_before_and_after(tmp_path / "p.png", TABLE, lens, (image, view), [view])
    picture = cv2.imread(str(tmp_path / "p.png"))
    assert picture is not None and picture.shape[1] > 1000
