"""Which pictures of the board are worth keeping: sharp ones, unlike those before, that fill what is still missing.

Knows no device and no solver; what it says to whoever holds the board is plain text.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

import cv2
import numpy as np

from calibration.board import Board, BoardView, Image, Points, find_board

EDGE_WIDTH_MAX: Final = 4.0  # px over which an edge of the board may spread before its corners move with the light
REPEATED: Final = 0.01  # of the picture's diagonal: views of which no corner moved further are one view
CELLS: Final = (3, 4)  # rows and columns of picture regions that corners must have been in
CELL_CORNERS: Final = 12  # corners that a region needs
TILT: Final = 0.30  # rad: focal length and distance cannot be told apart without views from aside
TILTED_VIEWS: Final = 2  # of each of the four directions
NEAR: Final = 0.55  # of the picture's width that the board spans in views from near
FAR: Final = 0.45  # and less than this from afar
VIEWS: Final = 24


def edge_width(board: Board, view: BoardView, image: Image) -> float:
    """Over how many px the board's edges go from black to white, the blurrier of its two directions; inf if unknown.

    Contrast over the steepest slope across the middle of each square's edge: an ideal lens gives about 1.5.
    """
    grey = image if image.ndim == 2 else np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), dtype=np.uint8)
    places = {int(id): corner for id, corner in zip(view.ids, view.corners, strict=True)}
    across = board.columns - 1
    widths = []
    for step in (1, across):
        pairs = [
            (places[id], places[id + step])
            for id in places
            if id + step in places and (step != 1 or (id + 1) % across != 0)
        ]
        if not pairs:
            return float("inf")
        widths.append(float(np.median([_profile_width(grey, *pair) for pair in pairs])))
    return max(widths)


def _profile_width(grey: Image, first: Points, second: Points) -> float:
    along = second - first
    length = float(np.hypot(*along))
    normal = np.array([-along[1], along[0]]) / max(length, 1e-9)
    # Not further than the white margin around a marker, which is about a seventh of a square.
    reach = float(np.clip(0.3 * length, 2.5, 12.0))
    offsets = np.arange(-reach, reach + 0.01, 0.5)
    points = ((first + second) / 2 + offsets[:, None] * normal).astype(np.float32)
    profile = cv2.remap(grey, points[None, :, 0], points[None, :, 1], cv2.INTER_LINEAR)[0].astype(float)
    slope = np.abs(profile[2:] - profile[:-2]).max()  # over 1 px
    return float((profile.max() - profile.min()) / max(slope, 1e-9))


def tilt(board: Board, view: BoardView) -> tuple[float, float]:
    """About how far the board is turned about the picture's vertical and horizontal axis, rad.

    From a homography and a lens of 60 degrees: good enough to say what is missing, and no more.
    """
    height, width = view.size
    matrix = np.array([[0.87 * width, 0, width / 2], [0, 0.87 * width, height / 2], [0, 0, 1]])
    found, rotation, _ = cv2.solvePnP(
        board.corners[view.ids], view.corners, matrix, np.zeros(5), flags=cv2.SOLVEPNP_IPPE
    )
    if not found:
        return 0.0, 0.0
    normal = cv2.Rodrigues(rotation)[0][:, 2]
    return float(np.arctan2(normal[0], abs(normal[2]))), float(np.arctan2(normal[1], abs(normal[2])))


def span(view: BoardView) -> float:
    """The share of the picture's width or height that the corners span, the larger."""
    extent = np.ptp(view.corners, axis=0)
    return float(max(extent[0] / view.size[1], extent[1] / view.size[0]))


@dataclass
class Gathering:
    """Views of `board`, offered one picture after the other."""

    board: Board
    wanted: int = VIEWS
    views: list[BoardView] = field(default_factory=list)
    rejected: dict[str, int] = field(default_factory=dict)  # reason -> how often

    def offer(self, image: Image) -> str | None:
        """Keep a picture, or say in a word or two why not. Raises `CalibrationError` for a wrong board."""
        view = find_board(self.board, image)
        reason = self._against(view, image)
        if reason is not None or view is None:
            reason = reason or "no board"
            self.rejected[reason] = self.rejected.get(reason, 0) + 1
            return reason
        self.views.append(view)
        return None

    def _against(self, view: BoardView | None, image: Image) -> str | None:
        if view is None:
            return "no board"
        if edge_width(self.board, view, image) > EDGE_WIDTH_MAX:
            return "blurred"
        if any(self._same(view, other) for other in self.views):
            return "repeated"
        return None

    @staticmethod
    def _same(view: BoardView, other: BoardView) -> bool:
        common, mine, theirs = np.intersect1d(view.ids, other.ids, return_indices=True)
        if common.size < min(len(view.ids), len(other.ids)) / 2:
            return False
        moved = np.linalg.norm(view.corners[mine] - other.corners[theirs], axis=1).max()
        return bool(moved < REPEATED * np.hypot(*view.size))

    def covered(self) -> np.ndarray:
        """Corners seen in each region of the picture, shape `CELLS`."""
        counts = np.zeros(CELLS, dtype=int)
        for view in self.views:
            rows = np.clip((view.corners[:, 1] / view.size[0] * CELLS[0]).astype(int), 0, CELLS[0] - 1)
            columns = np.clip((view.corners[:, 0] / view.size[1] * CELLS[1]).astype(int), 0, CELLS[1] - 1)
            np.add.at(counts, (rows, columns), 1)
        return counts

    def missing(self) -> list[str]:
        """What is still to be shown, the most useful first; nothing when there is enough."""
        wishes = []
        counts = self.covered()
        empty = np.argwhere(counts < CELL_CORNERS)
        if len(empty):
            row, column = min(empty.tolist(), key=lambda cell: counts[cell[0], cell[1]])
            wishes.append(f"move the board to the {_place(row, CELLS[0], _HEIGHTS)} {_place(column, CELLS[1], _SIDES)}")
        tilts = np.array([tilt(self.board, view) for view in self.views]).reshape(-1, 2)
        for axis, sign, words in _TILTS:
            if (sign * tilts[:, axis] > TILT).sum() < TILTED_VIEWS:
                wishes.append(words)
        spans = [span(view) for view in self.views]
        if sum(share > NEAR for share in spans) < TILTED_VIEWS:
            wishes.append("bring it nearer, until it fills more than half of the picture")
        if sum(share < FAR for share in spans) < TILTED_VIEWS:
            wishes.append("take it further away")
        if not wishes and len(self.views) < self.wanted:
            wishes.append("show it in other poses")
        return wishes


_HEIGHTS, _SIDES = ("top", "middle", "bottom"), ("left", "right")
_TILTS: Final = (
    (0, 1, "turn the edge that is right in the picture towards the camera"),
    (0, -1, "turn the edge that is left in the picture towards the camera"),
    (1, 1, "tip the edge that is low in the picture towards the camera"),
    (1, -1, "tip the edge that is high in the picture towards the camera"),
)


def _place(index: int, of: int, names: tuple[str, ...]) -> str:
    return names[min(index * len(names) // of, len(names) - 1)]
