"""A camera's lens from views of a board: focal lengths, principal point, distortion, and how far each can be trusted.

Knows no device and no file. The error that counts is that of views which took no part in the fit: half of such a view's
corners say where the board is, and the error is that of the other half.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from numpy.typing import ArrayLike

from calibration.board import CORNERS_MIN, Board, BoardView, Points
from calibration.errors import CalibrationError
from drivers.arm import Array, frozen
from drivers.camera_calibration import Lens, LensErrors

VIEWS_MIN: Final = 10
FOLDS: Final = 4
OUTLIER: Final = 4.0  # times the median error, or a corner's deviation, beyond which a corner, or a view, is left out
CORNER_DEVIATION: Final = 0.15  # px, of one corner as a picture shows it
METHOD: Final = "ChArUco, cv2.calibrateCameraExtended, k1 k2 p1 p2 k3"
FOCAL_DEVIATION_MAX: Final = 0.01  # of the focal length
CENTRE_DEVIATION_MAX: Final = 0.01  # of the picture's width
AGREEING: Final = 0.75  # share of a view's corners that have to agree with each other
SHOWN_MIN: Final = 0.05  # share of a corner's squared error that is taken to show, where the others hardly bind it
CRITERIA: Final = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 100, 1e-9)


@dataclass(frozen=True)
class Solution:
    """What the solver says of a lens."""

    matrix: Array
    distortion: Array  # (5,)
    poses: tuple[Array, ...]  # of the board in the camera's frame, (4, 4)
    rms: float  # px
    deviations: Array  # (9,): fx, fy, cx, cy, k1, k2, p1, p2, k3
    per_view: Array  # (views,), RMS px


def calibrate_camera(board: Board, views: Sequence[BoardView], *, date: str) -> tuple[Lens, list[int]]:
    """The lens that `views` show, and the numbers of those that were left out because they do not fit the others.

    `date` is written into the result. Raises `CalibrationError` when there are too few views, when they are of several
    sizes, and when they leave a focal length or the principal point open.
    """
    if len(views) < VIEWS_MIN:
        raise CalibrationError(
            f"not enough views: {len(views)} of the board {board.name}, at least {VIEWS_MIN} are needed; show it "
            "more often"
        )
    sizes = {view.size for view in views}
    if len(sizes) > 1:
        raise CalibrationError(f"the pictures have several sizes ({sorted(sizes)}); a lens is calibrated for one")
    views = without_outliers(board, views, solve(board, views))
    solution = solve(board, views)
    out = np.flatnonzero(solution.per_view > OUTLIER * np.median(solution.per_view)).tolist()
    kept = [view for index, view in enumerate(views) if index not in out]
    if out and len(kept) >= VIEWS_MIN:
        solution = solve(board, kept)
    else:
        kept, out = list(views), []
    _refuse_open(solution, kept[0].size)
    (fx, fy, cx, cy), distortion = solution.matrix[[0, 1, 0, 1], [0, 1, 2, 2]].tolist(), solution.distortion.tolist()
    errors = LensErrors(
        held_out=held_out_error(board, kept),
        fitted=solution.rms,
        focal_length=float(solution.deviations[:2].max()),
        principal_point=float(solution.deviations[2:4].max()),
        views=len(kept),
        corners=sum(len(view.ids) for view in kept),
    )
    lens = Lens(
        size=kept[0].size, fx=fx, fy=fy, cx=cx, cy=cy, distortion=tuple(distortion), date=date, method=METHOD,
        board=board.describe(), errors=errors,
    )  # fmt: skip
    return lens, out


def solve(board: Board, views: Sequence[BoardView]) -> Solution:
    """One fit over all views. Raises `CalibrationError` when OpenCV finds none."""
    matched = [_match(board, view) for view in views]
    height, width = views[0].size
    try:
        rms, matrix, distortion, turns, shifts, deviations, _, per_view = cv2.calibrateCameraExtended(
            [objects.astype(np.float32) for objects, _ in matched],
            [pixels.astype(np.float32) for _, pixels in matched],
            (width, height),
            np.eye(3),
            np.zeros(5),
            criteria=CRITERIA,
        )
    except cv2.error as error:
        raise CalibrationError(
            f"these views do not determine a lens ({error.err}); show the board tilted, near and far"
        ) from error
    return Solution(
        matrix=frozen(matrix),
        distortion=frozen(np.ravel(distortion)[:5]),
        poses=tuple(_pose(turn, shift) for turn, shift in zip(turns, shifts, strict=True)),
        rms=float(rms),
        deviations=frozen(np.ravel(deviations)[:9]),
        per_view=frozen(np.ravel(per_view)),
    )


def without_outliers(board: Board, views: Sequence[BoardView], solution: Solution) -> list[BoardView]:
    """The views without single corners that are far off: a shadow's edge, a marker's corner taken for the board's."""
    errors = [
        np.linalg.norm(
            project(board.corners[view.ids], pose, solution.matrix, solution.distortion) - view.corners, axis=1
        )
        for view, pose in zip(views, solution.poses, strict=True)
    ]
    limit = OUTLIER * np.median(np.concatenate(errors))
    kept = [view.of(off <= limit) for view, off in zip(views, errors, strict=True)]
    # A view that loses most of its corners is wrong as a whole: its error tells, and it is left out with them.
    return [after if len(after.ids) > len(view.ids) / 2 else view for view, after in zip(views, kept, strict=True)]


def project(points: Array, pose: Array, matrix: Array, distortion: Array) -> Points:
    """Pixels (n, 2) of points (n, 3) whose frame stands at `pose` (4, 4) in the camera's."""
    pixels, _ = cv2.projectPoints(points, cv2.Rodrigues(pose[:3, :3])[0], pose[:3, 3], matrix, distortion)
    return np.array(pixels, dtype=np.float64).reshape(-1, 2)


def held_out_error(board: Board, views: Sequence[BoardView], folds: int = FOLDS) -> float:
    """RMS px over all views, each fitted by none of what it is judged by: `folds` fits, each without its share."""
    squares, count = 0.0, 0
    for fold in range(folds):
        held = [view for index, view in enumerate(views) if index % folds == fold]
        others = [view for index, view in enumerate(views) if index % folds != fold]
        solution = solve(board, others)
        for view in held:
            off = prediction_errors(board, view, solution.matrix, solution.distortion)
            squares, count = squares + float((off**2).sum()), count + len(off)
    return float(np.sqrt(squares / max(count, 1)))


def prediction_errors(board: Board, view: BoardView, matrix: Array, distortion: Array) -> Array:
    """How far (px) each second corner is from where the others say it should be."""
    judged = np.arange(len(view.ids)) % 2 == 1
    pose = board_pose(board, view.of(~judged), matrix, distortion)
    if pose is None:
        return np.zeros(0)
    predicted = project(board.corners[view.ids[judged]], pose, matrix, distortion)
    return np.linalg.norm(predicted - view.corners[judged], axis=1)


def board_pose(board: Board, view: BoardView, matrix: Array, distortion: Array) -> Array | None:
    """The board's pose in the camera's frame (4, 4); None when the view does not determine one.

    A plane has two poses that look alike; the one whose corners fit better is taken, then refined.
    """
    objects, pixels = _match(board, view)
    if len(objects) < 4:
        return None
    try:
        _, rotations, translations, errors = cv2.solvePnPGeneric(
            objects, pixels, matrix, distortion, flags=cv2.SOLVEPNP_IPPE
        )
    except cv2.error:
        return None
    # Corners on one line have a solution of NaN; four of which three are on one may have none.
    if not rotations or not np.isfinite(errors).all():
        return None
    best = int(np.argmin(np.ravel(errors)))
    rotation, translation = cv2.solvePnPRefineLM(
        objects, pixels, matrix, distortion, rotations[best], translations[best]
    )
    return _pose(rotation, translation)


def consistent(board: Board, view: BoardView, matrix: Array, distortion: Array) -> BoardView | None:
    """The view without corners that the others contradict, the worst first; None when too few, or most, do not agree.

    A corner's error under the pose that fits all is judged by what it should be, were the corner like the others: of a
    few corners each draws the pose towards itself, and hides part of its own error.
    """
    enough = max(CORNERS_MIN, math.ceil(AGREEING * len(view.ids)))
    while len(view.ids) >= enough:
        pose = board_pose(board, view, matrix, distortion)
        if pose is None:
            return None
        objects, pixels = _match(board, view)
        turn = cv2.Rodrigues(pose[:3, :3])[0]
        projected, derivatives = cv2.projectPoints(objects, turn, pose[:3, 3], matrix, distortion)
        basis, _ = np.linalg.qr(np.asarray(derivatives, dtype=np.float64)[:, :6])
        shown = np.sqrt(np.maximum(1 - (basis**2).sum(axis=1), SHOWN_MIN))  # share of each number's error
        errors = (np.asarray(projected, dtype=np.float64).reshape(-1, 2) - pixels).ravel()
        off = np.abs(errors / shown).reshape(-1, 2).max(axis=1) / CORNER_DEVIATION
        if off.max() <= OUTLIER:
            return view
        view = view.of(np.arange(len(off)) != off.argmax())
    return None


def _pose(rotation: ArrayLike, translation: ArrayLike) -> Array:
    pose = np.eye(4)
    pose[:3, :3] = cv2.Rodrigues(np.array(rotation, dtype=np.float64))[0]
    pose[:3, 3] = np.ravel(np.asarray(translation))
    return frozen(pose)


def _match(board: Board, view: BoardView) -> tuple[Points, Points]:
    return board.corners[view.ids], view.corners


def _refuse_open(solution: Solution, size: tuple[int, int]) -> None:
    focal = solution.deviations[:2].max() / solution.matrix[0, 0]
    if not focal < FOCAL_DEVIATION_MAX:
        raise CalibrationError(
            f"these views leave the focal length open ({100 * focal:.1f}% standard deviation); tilt the board more, in "
            "all four directions"
        )
    centre = solution.deviations[2:4].max() / size[1]
    if not centre < CENTRE_DEVIATION_MAX:
        raise CalibrationError(
            f"these views leave the principal point open ({solution.deviations[2:4].max():.1f} px standard deviation); "
            "show the board in every corner of the picture, and tilted"
        )
