"""ChArUco boards: what one looks like, and finding its corners in a picture. Knows no paper, no camera and no arm.

The board's frame has its origin at the outer corner of the first square, x along the rows of squares, y down the rows,
z into the paper; lengths in m. Chessboard corners are numbered along x, then y, from the first inner corner. Pixel
(0, 0) is the centre of the first pixel, as everywhere in OpenCV.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from calibration.errors import CalibrationError

Image = NDArray[np.uint8]
Points = NDArray[np.float64]
DictionaryName = Literal["DICT_4X4_50", "DICT_4X4_100", "DICT_5X5_100", "DICT_6X6_250", "DICT_ARUCO_ORIGINAL"]
DICTIONARIES: Final[tuple[DictionaryName, ...]] = (
    "DICT_4X4_50",
    "DICT_4X4_100",
    "DICT_5X5_100",
    "DICT_6X6_250",
    "DICT_ARUCO_ORIGINAL",
)
CORNERS_MIN: Final = 6  # of a board in one picture, below which its pose is not worth having
LAYOUT: Final = 0.3  # squares: markers that are further than this, at the median, from their places are another board's


@functools.cache
def _dictionary(name: str) -> cv2.aruco.Dictionary:
    return cv2.aruco.getPredefinedDictionary(getattr(cv2.aruco, name))


@dataclass(frozen=True, slots=True)
class Board:
    """`columns` x `rows` squares of edge `square` m with markers of edge `marker` m, ids from `first_id` on."""

    name: str
    columns: int
    rows: int
    square: float
    marker: float
    dictionary: DictionaryName = "DICT_4X4_50"
    first_id: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.marker < self.square:
            raise CalibrationError(f"board {self.name}: markers of {self.marker:g} m do not fit in {self.square:g} m")
        if min(self.columns, self.rows) < 3:
            raise CalibrationError(
                f"board {self.name}: {self.columns} x {self.rows} squares, at least 3 x 3 are needed"
            )
        stock = len(_dictionary(self.dictionary).bytesList)
        if self.first_id + self.markers > stock:
            raise CalibrationError(
                f"board {self.name}: needs markers {self.first_id} to {self.first_id + self.markers - 1}, "
                f"{self.dictionary} has {stock}"
            )

    @property
    def markers(self) -> int:
        """How many markers there are: one in each white square."""
        return self.columns * self.rows // 2

    @property
    def size(self) -> tuple[float, float]:
        """(width, height), m."""
        return self.columns * self.square, self.rows * self.square

    @property
    def corners(self) -> Points:
        """The inner chessboard corners in the board's frame, (n, 3)."""
        return np.array(_charuco(self).getChessboardCorners(), dtype=np.float64)

    def describe(self) -> str:
        """What is printed on it: enough to say it again on the command line."""
        last = self.first_id + self.markers - 1
        return (
            f"{self.name}: {self.columns} x {self.rows} squares of {self.square * 1000:g} mm, markers "
            f"{self.marker * 1000:g} mm, {self.dictionary} {self.first_id} to {last}"
        )

    def texture(self, pixels_per_square: int) -> Image:
        """The board without margin, one channel, black on white; its first pixel's outer corner is the origin."""
        picture = _charuco(self).generateImage(
            (self.columns * pixels_per_square, self.rows * pixels_per_square), marginSize=0
        )
        return np.asarray(picture, dtype=np.uint8)

    def marker_corners(self) -> list[tuple[int, Points]]:
        """Each marker's id and its corners in the board's frame, (4, 3)."""
        made = _charuco(self)
        return [
            (int(id), np.array(points, dtype=np.float64))
            for id, points in zip(np.ravel(made.getIds()), made.getObjPoints(), strict=True)
        ]

    def marker_cells(self, id: int) -> NDArray[np.bool_]:
        """A marker's cells with its black border, true where white; rows go down."""
        dictionary = _dictionary(self.dictionary)
        cells = dictionary.markerSize + 2
        return np.asarray(dictionary.generateImageMarker(id, cells, borderBits=1)) > 127


BOARDS: Final[Mapping[str, Board]] = MappingProxyType(
    {
        "table": Board("table", 10, 7, 0.025, 0.018),  # on A4 or Letter; lies on the table, or is held before a camera
        "hand": Board("hand", 5, 4, 0.020, 0.015, first_id=40),  # small enough for a gripper
    }
)


@dataclass(frozen=True)
class BoardView:
    """A board as a picture of `size` (height, width) shows it: chessboard corners (n, 2) px, their numbers (n,)."""

    corners: Points
    ids: NDArray[np.int64]
    size: tuple[int, int]

    def of(self, wanted: NDArray[np.bool_]) -> BoardView:
        """The corners where `wanted` (n,) is true."""
        return BoardView(self.corners[wanted], self.ids[wanted], self.size)


def find_board(board: Board, image: Image) -> BoardView | None:
    """The board in a picture, (H, W) or (H, W, 3) RGB; None when there is none, or too little of it.

    Raises `CalibrationError` for a board that is plainly another one.
    """
    grey = image if image.ndim == 2 else np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), dtype=np.uint8)
    corners, ids, marker_corners, marker_ids = _detector(board).detectBoard(grey)
    if marker_ids is None or not len(marker_ids):
        _refuse_other_dictionary(board, grey)
        return None
    own = {id for id, _ in board.marker_corners()}
    seen = {int(id) for id in np.ravel(marker_ids)}
    if len(seen - own) > len(seen & own):
        raise CalibrationError(
            f"wrong board: the picture has the markers {_some(seen - own)}, the board {board.describe()}; "
            "hold up that one, or name the one that is there with --board"
        )
    _refuse_other_layout(board, [np.asarray(four, dtype=np.float64) for four in marker_corners], np.asarray(marker_ids))
    if ids is None or len(ids) < CORNERS_MIN:
        return None
    numbers = np.ravel(ids).astype(np.int64)
    return BoardView(
        _sharpened(board, grey, np.asarray(corners, dtype=np.float64), numbers), numbers, (grey.shape[0], grey.shape[1])
    )


def _sharpened(board: Board, grey: Image, corners: Points, ids: NDArray[np.int64]) -> Points:
    """The corners (n, 2) to a tenth of a pixel or better, each from as much around it as has no marker in it."""
    found = np.reshape(corners, (-1, 2)).astype(np.float32)
    places = dict(zip(ids.tolist(), found, strict=True))
    across = board.columns - 1
    gaps = [
        float(np.hypot(*(places[id] - places[id + step])))
        for step in (1, across)
        for id in places
        if id + step in places and (step != 1 or (id + 1) % across)
    ]
    margin = (board.square - board.marker) / 2 / board.square
    reach = int(np.clip(margin * min(gaps, default=0.0) - 1, 2, 8))
    criteria = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 50, 1e-4)
    refined = cv2.cornerSubPix(grey, found[:, None].copy(), (reach, reach), (-1, -1), criteria).reshape(-1, 2)
    moved = np.hypot(*(refined - found).T)
    return np.where((moved < 2.0)[:, None], refined, found).astype(np.float64)


def _refuse_other_layout(board: Board, marker_corners: list[Points], marker_ids: NDArray[Any]) -> None:
    """A flat board's markers fit one homography; those of another layout do not."""
    places = dict(board.marker_corners())
    pairs = [
        (places[int(id)][:, :2], np.reshape(corners, (4, 2)))
        for id, corners in zip(np.ravel(marker_ids), marker_corners, strict=True)
        if int(id) in places
    ]
    if len(pairs) < 4:
        return
    source, target = (np.concatenate(side).astype(np.float64) for side in zip(*pairs, strict=True))
    homography, _ = cv2.findHomography(source, target, cv2.RANSAC, 8.0)
    if homography is None:
        return
    back = cv2.perspectiveTransform(target[:, None], np.linalg.inv(homography))[:, 0]
    off = np.linalg.norm(back - source, axis=1) / board.square
    if np.median(off) > LAYOUT:
        raise CalibrationError(
            f"wrong board: its markers do not lie as on the board {board.describe()}; compare what is printed on it"
        )


def _refuse_other_dictionary(board: Board, grey: Image) -> None:
    for name in DICTIONARIES:
        if name == board.dictionary:
            continue
        _, ids, _ = cv2.aruco.ArucoDetector(_dictionary(name)).detectMarkers(grey)
        if ids is not None and len(ids) >= 4:
            raise CalibrationError(
                f"wrong board: the picture has markers of {name}, the board {board.describe()}; "
                "hold up that one, or name the one that is there with --board"
            )


def _some(ids: set[int]) -> str:
    few = sorted(ids)[:6]
    return ", ".join(map(str, few)) + (" ..." if len(ids) > len(few) else "")


@functools.cache
def _charuco(board: Board) -> cv2.aruco.CharucoBoard:
    ids = np.arange(board.first_id, board.first_id + board.markers)
    return cv2.aruco.CharucoBoard(
        (board.columns, board.rows), board.square, board.marker, _dictionary(board.dictionary), ids
    )


@functools.cache
def _detector(board: Board) -> cv2.aruco.CharucoDetector:
    detector = cv2.aruco.CharucoDetector(_charuco(board))
    parameters = detector.getDetectorParameters()
    parameters.cornerRefinementMethod = cv2.aruco.CORNER_REFINE_SUBPIX
    detector.setDetectorParameters(parameters)
    return detector


def parse_board(text: str) -> Board:
    """A board by name, or as "COLUMNSxROWS:SQUARE:MARKER[:DICTIONARY[:FIRST_ID]]" in mm. Raises `CalibrationError`."""
    if text in BOARDS:
        return BOARDS[text]
    usage = f'board {text!r}: give {" or ".join(BOARDS)}, or for example "10x7:25:18:DICT_4X4_50:0" (in mm)'
    try:
        size, square, marker, *rest = text.split(":")
        columns, rows = (int(number) for number in size.split("x"))
        edges = float(square) / 1000, float(marker) / 1000
        dictionary = next(name for name in DICTIONARIES if name == (rest[0] if rest else DICTIONARIES[0]))
        first = int(rest[1]) if len(rest) > 1 else 0
    except (ValueError, StopIteration) as error:
        raise CalibrationError(usage) from error
    return Board("own", columns, rows, *edges, dictionary, first)
