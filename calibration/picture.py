"""What a calibrated lens does to a picture: straight lines of the board before and after, and where views were."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from calibration.board import Board, BoardView, Image, Points
from drivers.camera_calibration import Lens


def draw_before_and_after(
    path: Path, board: Board, lens: Lens, shown: tuple[Image, BoardView], views: Sequence[BoardView]
) -> None:
    """A PNG of three panels: a picture as taken, the same without distortion, and all corners that were used."""
    image, view = shown
    matrix, distortion = lens.matrix, np.array(lens.distortion)
    straight = np.asarray(cv2.undistort(image, matrix, distortion), dtype=np.uint8)
    ideal = cv2.undistortPointsIter(
        view.corners[:, None], matrix, distortion, np.eye(3), matrix, (cv2.TERM_CRITERIA_COUNT, 50, 0.0)
    )
    figure = Figure(figsize=(16, 4.6), layout="constrained")
    FigureCanvasAgg(figure)
    before, after, coverage = figure.subplots(1, 3)
    _panel(before, image, board, view.ids, view.corners, "as taken")
    _panel(
        after,
        straight,
        board,
        view.ids,
        np.array(ideal, dtype=np.float64).reshape(-1, 2),
        "without distortion",
    )
    height, width = lens.size
    every = np.concatenate([each.corners for each in views])
    coverage.plot(every[:, 0], every[:, 1], ".", markersize=2, color="tab:blue")
    coverage.plot([lens.cx], [lens.cy], "+", markersize=14, color="tab:red", label="principal point")
    coverage.set(
        xlim=(0, width), ylim=(height, 0), aspect="equal",
        title=f"{len(every)} corners of {len(views)} views; held-out error {lens.errors.held_out:.2f} px",
    )  # fmt: skip
    coverage.legend(loc="lower right")
    figure.savefig(path, dpi=90)


def bend(board: Board, ids: np.ndarray, corners: Points) -> float:
    """How far (px) the corners of a row or column lie off the straight line through its ends, at most."""
    worst = 0.0
    for line in _lines(board, ids, corners):
        along = (line[-1] - line[0]) / np.linalg.norm(line[-1] - line[0])
        off = (line - line[0]) @ np.array([-along[1], along[0]])
        worst = max(worst, float(np.abs(off).max()))
    return worst


def _panel(axes: Axes, image: Image, board: Board, ids: np.ndarray, corners: Points, title: str) -> None:
    axes.imshow(image)
    for line in _lines(board, ids, corners):
        axes.plot(line[[0, -1], 0], line[[0, -1], 1], "-", color="tab:green", linewidth=0.9)
    axes.plot(corners[:, 0], corners[:, 1], ".", markersize=3, color="tab:red")
    axes.set(xlim=(0, image.shape[1]), ylim=(image.shape[0], 0), xticks=[], yticks=[])
    axes.set_title(f"{title}: corners up to {bend(board, ids, corners):.1f} px off straight lines")


def _lines(board: Board, ids: np.ndarray, corners: Points) -> list[Points]:
    """The corners of each row and each column of the board of which at least three were found."""
    rows, columns = np.divmod(ids, board.columns - 1)
    groups = [corners[numbers == number] for numbers in (rows, columns) for number in np.unique(numbers)]
    return [group for group in groups if len(group) >= 3]
