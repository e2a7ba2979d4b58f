"""Poses from which a camera's place can be found: safe, with the board in sight, and unlike those that were taken.

At first nothing is known but one pose in which the board is seen; small steps around it give the first idea of where
camera and board are, and from then on it is computed what the camera would see. Every pose, and the straight way there
through joint space, is asked of the guard before it is tried; the servo loop's filter asks it again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np

from calibration.camera import project
from calibration.hand_eye import HandEye, HandEyeProblem, Sample
from drivers.arm import ArmSpec, Array
from drivers.config import Box, RobotConfig
from runtime.guard import Guard

WAY_STEP: Final = 0.05  # rad between two poses of a way that are looked at
ROOM: Final = 0.02  # m that plans keep from table and walls beyond what safety asks for
LIMIT_MARGIN: Final = 0.06  # rad that every joint keeps from its limits
FIRST_STEPS: Final = (0.25, 0.4)  # rad, of the first poses
FIRST_DROP: Final = 0.015  # m by which the hand may be lower than where the operator held it, until the board is known
CLEARANCE: Final = 0.02  # m that the board in the hand keeps from the table
EDGE: Final = 12  # px from the picture's edge
FACING_MIN: Final = 0.45  # cosine between the board's axis and the line of sight: 63 degrees
SEEN_MIN: Final = 0.35  # share of the board's corners in the picture
ROTATION_WORTH: Final = 0.12  # m: what a radian of rotation counts for beside a way, when poses are compared
CANDIDATES: Final = 25  # safe ones that are compared for the next pose
DRAWS: Final = 1500  # random poses that are looked at for these, at most


def roomy(config: RobotConfig) -> RobotConfig:
    """The robot for a guard that plans: with more room than the servo loop's own guard, which brakes before it."""
    safety = config.safety
    table, box = safety.table_height, safety.workspace
    if table is not None:
        safety = safety.model_copy(update={"table_height": table + ROOM})
    if box is not None:
        (x, y, z), (far_x, far_y, far_z) = box.low, box.high
        smaller = Box(low=(x + ROOM, y + ROOM, z + ROOM), high=(far_x - ROOM, far_y - ROOM, far_z - ROOM))
        safety = safety.model_copy(update={"workspace": smaller})
    # The rest pose lies on the table, and is no part of a plan.
    return config.model_copy(update={"safety": safety, "arm": config.arm.model_copy(update={"rest": None})})


class PosePlanner:
    """For one arm and one camera. `fixed_joints` are those that stay as they are (a gripper that holds the board)."""

    def __init__(
        self, spec: ArmSpec, problem: HandEyeProblem, guard: Guard | None, table: float, rng: np.random.Generator
    ) -> None:
        self._low, self._high = spec.position_min + LIMIT_MARGIN, spec.position_max - LIMIT_MARGIN
        self._problem, self._guard, self._table, self._rng = problem, guard, table, rng
        self._moving = list(problem.kinematics.moving)

    def first(self, start: Array) -> Iterator[Array]:
        """Poses around `start` (n,), one joint at a time, then several."""
        lowest = self._problem.kinematics.pose(start)[2, 3] - FIRST_DROP
        for size in FIRST_STEPS:
            singles = [(joint, sign) for joint in self._moving[::-1] for sign in (1, -1)]
            changes = [self._single(joint, sign * size, start.size) for joint, sign in singles]
            changes += [self._several(size, start.size) for _ in range(12)]
            for change in changes:
                pose = start + change
                if self._within(pose) and self._problem.kinematics.pose(pose)[2, 3] >= lowest:
                    yield pose

    def next(self, found: HandEye, samples: Sequence[Sample], here: Array) -> Array | None:
        """A safe pose that shows the board from where it was not yet seen; None when there is none."""
        chains = np.array([self._problem.chain(sample.joints) for sample in samples])
        best: tuple[float, Array] | None = None
        safe = 0
        for _ in range(DRAWS):
            pose = here.copy()
            pose[self._moving] = self._rng.uniform(self._low[self._moving], self._high[self._moving])
            if not self.shows(found, pose):
                continue
            news = float(_unlike(self._problem.chain(pose), chains).min())
            if (best is not None and news <= best[0]) or not self.safe(here, pose, found):
                continue
            best = news, pose
            safe += 1
            if safe >= CANDIDATES:
                break
        return None if best is None else best[1]

    def shows(self, found: HandEye, pose: Array) -> bool:
        """Would the camera see enough of the board, from not too far aside?"""
        problem = self._problem
        board = problem.predicted(found, pose)
        points = problem.board.corners @ board[:3, :3].T + board[:3, 3]
        if points[:, 2].min() < 0.06:
            return False
        middle = points.mean(axis=0)
        if board[:3, 2] @ middle / np.linalg.norm(middle) < FACING_MIN:
            return False
        lens = problem.lens
        pixels = project(problem.board.corners, board, lens.matrix, np.array(lens.distortion))
        inside = ((pixels > EDGE) & (pixels < np.array(lens.size[::-1]) - EDGE)).all(axis=1)
        share = inside.mean()
        # A board in the hand is small: all of it; of a large one on the table a part is enough.
        return bool(share == 1 if problem.kind == "fixed" else share >= SEEN_MIN)

    def safe(self, here: Array, there: Array, found: HandEye | None = None) -> bool:
        """May the arm go straight from `here` to `there`? Looks at every pose of the way."""
        steps = max(2, int(np.ceil(np.abs(there - here).max() / WAY_STEP)) + 1)
        return all(self._free(pose, found) for pose in np.linspace(here, there, steps)[::-1])

    def _free(self, pose: Array, found: HandEye | None) -> bool:
        if self._guard is not None and self._guard.check(pose) is not None:
            return False
        if found is None or self._problem.kind == "wrist":
            return True
        board = self._problem.kinematics.pose(pose) @ found.board
        width, height = self._problem.board.size
        signs = np.array([[-1, -1, 0], [1, -1, 0], [-1, 1, 0], [1, 1, 0]])
        corners = np.array([width, height, 0]) * (0.5 + 0.6 * signs)  # of the board with a margin
        points = corners @ board[:3, :3].T + board[:3, 3]
        return bool(points[:, 2].min() > self._table + CLEARANCE)

    def _within(self, pose: Array) -> bool:
        chosen = pose[self._moving]
        return bool((chosen >= self._low[self._moving]).all() and (chosen <= self._high[self._moving]).all())

    def _single(self, joint: int, angle: float, size: int) -> Array:
        change = np.zeros(size)
        change[joint] = angle
        return change

    def _several(self, angle: float, size: int) -> Array:
        change = np.zeros(size)
        change[self._moving] = self._rng.uniform(-angle, angle, len(self._moving))
        return change


def _unlike(pose: Array, others: Array) -> Array:
    """How far a pose is from each of `others` (n, 4, 4), in m and what a rotation counts for."""
    ways = np.linalg.norm(others[:, :3, 3] - pose[:3, 3], axis=1)
    traces = np.einsum("nij,ij->n", others[:, :3, :3], pose[:3, :3])
    turns = np.arccos(np.clip((traces - 1) / 2, -1, 1))
    return np.asarray(ways + ROTATION_WORTH * turns)
