"""Where a camera stands: on the arm's base ("fixed"), with the board in the hand, or on the hand ("wrist"), with the
board on the table. From poses of the arm and what the camera saw there.

A closed form (Park and Martin, cv2.calibrateHandEye) begins; then the camera's place, the board's place and the middle
joints' small offsets are refined together until the board's corners are where they were seen. The first joint's offset
is the same as a turn of the base and the last one's as a turn of the board or camera: neither can be told.

What is judged is each pose predicted from all others. Knows no device and no planner.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

import cv2
import numpy as np
from scipy.optimize import least_squares

from calibration.board import Board, BoardView, Points
from calibration.camera import CORNER_DEVIATION, board_pose, consistent, project
from calibration.errors import CalibrationError
from calibration.kinematics import Kinematics
from calibration.poses import difference, inverse, moved, quaternion, rotation_vector
from drivers.arm import Array
from drivers.camera_calibration import Lens, Place, PlaceErrors

Kind = Literal["fixed", "wrist"]
POSES_MIN: Final = 8
ROTATION_MIN: Final = np.radians(15)  # between two poses that tell something of a rotation
AXES_SPREAD_MIN: Final = 0.03  # second eigenvalue of the axes' scatter: 10 degrees from parallel
OFFSET_DEVIATION: Final = np.radians(0.15)  # what is expected of a joint's calibrated zero
PLAY: Final = np.radians(0.07)  # by which a joint is elsewhere than its encoder says, in each pose anew
SCALE_MAX: Final = 0.012  # by which the board may differ from its printed size
STEP: Final = 1e-6  # rad and m, of numerical derivatives
MOVED_MM, MOVED_DEG = 4.0, 1.0  # leave-one-out errors beyond which it is asked whether the board was moved
DISAGREE_MM, DISAGREE_DEG = 8.0, 2.0  # and beyond which the result is worth nothing
METHOD: Final = "Park-Martin, then reprojection with joint offsets"


@dataclass(frozen=True)
class Sample:
    """The arm's measured joint positions (n,), rad, and the board as the camera saw it there."""

    joints: Array
    view: BoardView


@dataclass(frozen=True)
class HandEye:
    """What was found: the camera's pose in the base's or hand's frame, the board's in the other one's (4, 4)."""

    camera: Array
    board: Array
    offsets: Array  # rad to add to each calibrated joint angle, (n,)
    reprojection: float  # px, RMS
    scale: float = 1.0  # of the board


@dataclass(frozen=True)
class _Fit:
    """A solution, its residuals there and their derivatives; `rows` are those of each sample."""

    found: HandEye
    residuals: Array
    jacobian: Array
    rows: list[slice]


class HandEyeProblem:
    """The samples of one camera, and how they hang together."""

    def __init__(self, kind: Kind, board: Board, lens: Lens, kinematics: Kinematics) -> None:
        self.kind: Kind = kind
        self.board, self.lens, self.kinematics = board, lens, kinematics
        self._matrix, self._distortion = lens.matrix, np.array(lens.distortion)
        self._corners = board.corners
        self._tunable = list(kinematics.moving[1:-1])
        self._parameters = 12 + len(self._tunable)

    def chain(self, joints: Array) -> Array:
        """From the board's carrier to the camera's: base from hand for a fixed camera, hand from base on the wrist."""
        pose = self.kinematics.pose(joints)
        return pose if self.kind == "fixed" else inverse(pose)

    def sample(self, joints: Array, view: BoardView) -> Sample | None:
        """What a view is worth: its corners that agree with each other; None when these are too few."""
        agreed = consistent(self.board, view, self._matrix, self._distortion)
        return None if agreed is None else Sample(joints, agreed)

    def seen(self, sample: Sample) -> Array | None:
        """The board's pose in the camera's frame by this view alone."""
        return board_pose(self.board, sample.view, self._matrix, self._distortion)

    def predicted(self, found: HandEye, joints: Array) -> Array:
        """The board's pose in the camera's frame at these joint positions."""
        return inverse(found.camera) @ self.chain(joints + found.offsets) @ found.board

    def begin(self, samples: Sequence[Sample]) -> HandEye:
        """The closed form. Raises `CalibrationError` for too few poses, or poses that leave the rotation open."""
        self._refuse_few(samples)
        chains = [self.chain(sample.joints) for sample in samples]
        seen = [self.seen(sample) for sample in samples]
        pairs = [(chain, pose) for chain, pose in zip(chains, seen, strict=True) if pose is not None]
        hands = [inverse(chain) for chain, _ in pairs]
        rotation, translation = cv2.calibrateHandEye(
            [hand[:3, :3] for hand in hands],
            [hand[:3, 3] for hand in hands],
            [pose[:3, :3] for _, pose in pairs],
            [pose[:3, 3] for _, pose in pairs],
            method=cv2.CALIB_HAND_EYE_PARK,
        )
        camera = np.eye(4)
        camera[:3, :3], camera[:3, 3] = rotation, np.ravel(translation)
        boards = [inverse(chain) @ camera @ pose for chain, pose in pairs]
        middle = boards[int(np.argmin([sum(difference(one, other)[0] for other in boards) for one in boards]))]
        return self.with_error(HandEye(camera, middle, np.zeros(samples[0].joints.size), 0.0), samples)

    def refine(self, start: HandEye, samples: Sequence[Sample], *, scaled: bool = False) -> HandEye:
        """Camera, board and joint offsets together; with `scaled` the board's size too."""
        return self._fit(start, samples, scaled).found

    def information(self, found: HandEye, joints: Array) -> Array:
        """What a view at these joint positions would tell, were `found` true: a covariance's inverse, shape (p, p).

        Its order is that of `_changed`: the camera's turn (rad) and shift (m), the board's, then offsets (rad).
        """
        pixels = project(self._corners, self.predicted(found, joints), self._matrix, self._distortion)
        inside = ((pixels > 0) & (pixels < np.array(self.lens.size[::-1]) - 1)).all(axis=1)
        sample = Sample(joints, BoardView(pixels[inside], np.flatnonzero(inside), self.lens.size))
        changes = STEP * np.eye(self._parameters)
        moves = [self._errors(self._changed(found, change, False), sample).ravel() / STEP for change in changes]
        derivative = self._whitening(found, sample) @ np.column_stack(moves)
        return np.asarray(derivative.T @ derivative)

    def expected(self) -> Array:
        """What is known before any view, as `information`: joints are calibrated."""
        known = np.zeros(self._parameters)
        known[12:] = OFFSET_DEVIATION**-2
        return np.diag(known)

    def leave_one_out(self, found: HandEye, samples: Sequence[Sample]) -> tuple[Array, Array]:
        """For each sample how far (mm, degrees) the board was from where all others predict it.

        `found` is refined from all. Each fit without one is a Gauss-Newton step from there: it is that near.
        """
        fit = self._fit(found, samples, False)
        off = []
        for sample, rows in zip(samples, fit.rows, strict=True):
            seen = self.seen(sample)
            if seen is None:
                continue
            others = np.ones(len(fit.residuals), dtype=bool)
            others[rows] = False
            step, *_ = np.linalg.lstsq(fit.jacobian[others], -fit.residuals[others], rcond=None)
            off.append(
                difference(
                    seen,
                    self.predicted(self._changed(fit.found, np.asarray(step, dtype=np.float64), False), sample.joints),
                )
            )
        errors = np.array(off)
        return errors[:, 0] * 1000, np.degrees(errors[:, 1])

    def _fit(self, start: HandEye, samples: Sequence[Sample], scaled: bool) -> _Fit:
        whitening = [self._whitening(start, sample) for sample in samples]

        def residuals(change: Array) -> Array:
            found = self._changed(start, change, scaled)
            parts = [
                white @ self._errors(found, sample).ravel() for white, sample in zip(whitening, samples, strict=True)
            ]
            return np.concatenate([*parts, found.offsets[self._tunable] / OFFSET_DEVIATION])

        result = least_squares(residuals, np.zeros(self._parameters + scaled), method="lm", x_scale="jac")
        ends = np.cumsum([0, *(2 * len(sample.view.ids) for sample in samples)])
        rows = [slice(int(low), int(high)) for low, high in itertools.pairwise(ends)]
        found = self.with_error(self._changed(start, result.x, scaled), samples)
        return _Fit(found, result.fun, result.jac, rows)

    def _changed(self, start: HandEye, change: Array, scaled: bool) -> HandEye:
        """`change`: of the camera (6,), of the board (6,), of the middle joints' offsets, and of the scale."""
        offsets = start.offsets.copy()
        offsets[self._tunable] += change[12 : self._parameters]
        scale = start.scale * (1 + change[-1]) if scaled else start.scale
        return HandEye(moved(start.camera, change[:6]), moved(start.board, change[6:12]), offsets, 0.0, scale)

    def _whitening(self, found: HandEye, sample: Sample) -> Array:
        """What makes a view's errors (2n,) independent and of unit size: every joint is off by a little in each pose,
        which moves all corners together; besides, each corner has its own noise."""
        here = self._errors(found, sample).ravel()
        columns = []
        for joint in self.kinematics.moving:
            joints = sample.joints.copy()
            joints[joint] += PLAY
            columns.append(self._errors(found, Sample(joints, sample.view)).ravel() - here)
        moves = np.column_stack(columns)
        covariance = moves @ moves.T + CORNER_DEVIATION**2 * np.eye(len(here))
        return np.linalg.inv(np.linalg.cholesky(covariance))

    def _errors(self, found: HandEye, sample: Sample) -> Points:
        """Where corners are predicted less where they were seen, px, (n, 2)."""
        pose = self.predicted(found, sample.joints)
        if (pose[:3, 3] + pose[:3, :2] @ np.array(self.board.size) / 2)[2] < 0.01:  # behind the camera
            return np.full((len(sample.view.ids), 2), 1e3)
        points = self._corners[sample.view.ids] * found.scale
        return project(points, pose, self._matrix, self._distortion) - sample.view.corners

    def with_error(self, found: HandEye, samples: Sequence[Sample]) -> HandEye:
        """The same with its reprojection error over these samples."""
        squares = np.concatenate([(self._errors(found, sample) ** 2).sum(axis=1) for sample in samples])
        return HandEye(found.camera, found.board, found.offsets, float(np.sqrt(squares.mean())), found.scale)

    def _refuse_few(self, samples: Sequence[Sample]) -> None:
        if len(samples) < 3:
            raise CalibrationError(
                f"not enough poses: the board was seen at {len(samples)}, at least {POSES_MIN} are needed; begin where "
                "the camera sees it well and the arm has room around it"
            )
        refuse_parallel([self.chain(sample.joints) for sample in samples])


def refuse_parallel(poses: Sequence[Array]) -> None:
    """Raises `CalibrationError` unless the poses turn against each other about axes that are not parallel."""
    turns = [rotation_vector(inverse(one) @ other) for place, one in enumerate(poses) for other in poses[place + 1 :]]
    angles = np.linalg.norm(turns, axis=1)
    large = np.array(turns)[angles > ROTATION_MIN]
    if len(large) < 2:
        raise CalibrationError(
            f"insufficient rotation: no two poses differ by more than {np.degrees(angles.max()):.0f} degrees, "
            f"{np.degrees(ROTATION_MIN):.0f} are needed; turn and tilt the hand more"
        )
    axes = large / np.linalg.norm(large, axis=1, keepdims=True)
    if np.linalg.eigvalsh(axes.T @ axes / len(axes))[1] < AXES_SPREAD_MIN:
        raise CalibrationError(
            "insufficient rotation: all poses turn about one axis, which leaves the camera's place along it open; roll "
            "the wrist, and tilt the hand, too"
        )


def calibrate_hand_eye(problem: HandEyeProblem, samples: Sequence[Sample], *, date: str) -> tuple[Place, HandEye]:
    """The camera's place, judged by leave-one-out. Raises `CalibrationError` with the reason if it is no good."""
    if len(samples) < POSES_MIN:
        raise CalibrationError(
            f"not enough poses: the board was seen at {len(samples)}, at least {POSES_MIN} are needed; begin where the "
            "camera sees it well and the arm has room around it"
        )
    start = problem.begin(samples)
    found, scaled = problem.refine(start, samples), problem.refine(start, samples, scaled=True)
    mm, degrees = problem.leave_one_out(found, samples)
    uncertain = np.median(mm) > MOVED_MM or np.median(degrees) > MOVED_DEG or mm.max() > 3 * MOVED_MM
    misprinted = abs(scaled.scale - 1) > SCALE_MAX
    if uncertain or misprinted:
        _refuse_moved(problem, found, scaled, samples)
    if misprinted:
        raise CalibrationError(
            f"wrong board: by the arm's motion its squares measure {1000 * problem.board.square * scaled.scale:.2f}, "
            f"not {1000 * problem.board.square:g} mm; it was printed at {100 * scaled.scale:.1f}%, or it is another one"
        )
    if np.median(mm) > DISAGREE_MM or np.median(degrees) > DISAGREE_DEG:
        raise CalibrationError(
            f"the poses disagree by {np.median(mm):.1f} mm and {np.median(degrees):.1f} degrees: calibrate the joints, "
            "see that the board is flat and nothing is loose, and do it again"
        )
    kinematics = problem.kinematics
    fixed = problem.kind == "fixed"
    x, y, z = found.camera[:3, 3].tolist()
    place = Place(
        carried_by="base" if fixed else "link",
        link=kinematics.base if fixed else kinematics.hand,
        position=(x, y, z),
        orientation=quaternion(found.camera),
        date=date,
        method=METHOD,
        board=problem.board.describe(),
        errors=PlaceErrors(
            leave_one_out_mm=float(np.median(mm)),
            leave_one_out_deg=float(np.median(degrees)),
            worst_mm=float(mm.max()),
            worst_deg=float(degrees.max()),
            reprojection=found.reprojection,
            poses=len(samples),
        ),
        joint_offsets={kinematics.joint_names[joint]: float(found.offsets[joint]) for joint in kinematics.moving[1:-1]},
    )
    return place, found


def _refuse_moved(problem: HandEyeProblem, whole: HandEye, scaled: HandEye, samples: Sequence[Sample]) -> None:
    """Would two places of the board, before and after some pose, explain what one does not, and a wrong size neither?

    For each moment the longer part says where the camera is, and with it the board's two places.
    """
    best: tuple[float, int, float, float] | None = None
    for split in range(4, len(samples) - 3):
        parts = sorted((samples[:split], samples[split:]), key=len)
        longer = problem.refine(whole, parts[1])
        boards = [
            inverse(problem.chain(sample.joints + longer.offsets)) @ longer.camera @ seen
            for sample in parts[0]
            if (seen := problem.seen(sample)) is not None
        ]
        middle = min(boards, key=lambda board: sum(difference(board, other)[0] for other in boards))
        shorter = problem.with_error(replace(longer, board=middle), parts[0])
        squares = [len(part) * found.reprojection**2 for part, found in zip(parts, (shorter, longer), strict=True)]
        shift, turn = difference(longer.board, middle)
        if best is None or sum(squares) < best[0]:
            best = sum(squares), split, 1000 * shift, float(np.degrees(turn))
    if best is None:
        return
    squared, split, shift_mm, turn_deg = best
    off = np.sqrt(squared / len(samples))
    explains = off < 0.6 * whole.reprojection and off < 0.8 * scaled.reprojection
    if explains and (shift_mm > 3 or turn_deg > 1):
        raise CalibrationError(
            f"the board moved between pose {split} and {split + 1}, by about {shift_mm:.0f} mm and {turn_deg:.1f} "
            "degrees: fasten it (or the camera), and do it again"
        )
