"""Poses from which a camera's place can be found: safe, with the board in sight, and worth the most of those looked at.

At first nothing is known but one pose in which the board is seen; small steps around it give the first idea of where
camera and board are, and from then on it is computed what the camera would see, and what that would tell. Every pose,
and the whole straight way there through joint space, keeps more room than the guard asks for, so that neither a joint's
calibration that is half a degree off nor what the arm does between two targets brings the guard's own margin near; the
servo loop's filter and guard look at each step all the same. Knows no device.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np

from calibration.camera import project
from calibration.hand_eye import HandEye, HandEyeProblem, Sample
from drivers.arm import ArmSpec, Array
from drivers.config import RobotConfig
from runtime.guard import Guard
from runtime.safety import COLLISION

ROOM: Final = 0.02  # m kept from table and walls beyond what safety asks for: five joints half a degree off, and more
SELF_ROOM: Final = (
    0.005  # m kept between the arm's own parts beyond what safety asks for: they are nearer to each other
)
CLEARANCE: Final = 0.02  # m that the board in the hand keeps from the table
FINEST: Final = 0.005  # rad, half a piece of a way, below which its middle stands for it: 4 mm of an arm 0.4 m long
LIMIT_MARGIN: Final = 0.06  # rad that every joint keeps from its limits
FIRST_STEPS: Final = (0.25, 0.4)  # rad, of the first poses
FIRST_DROP: Final = 0.015  # m by which the hand may be lower than where the operator held it, until the board is known
EDGE: Final = 12  # px from the picture's edge
FACING_MIN: Final = 0.45  # cosine between the board's axis and the line of sight: 63 degrees
SQUARE_MIN: Final = 18.0  # px of a square's shorter side: below, a marker's edge is easily taken for a corner
SEEN_MIN: Final = 0.35  # share of the board's corners in the picture
TURN_WORTH: Final = 0.3  # m before the camera, at which an error of its turn counts as much as one of its place
CANDIDATES: Final = 60  # poses that show the board and are compared for the next one
DRAWS: Final = 1500  # random poses that are looked at for these, at most


def unfolded(config: RobotConfig) -> RobotConfig:
    """The robot for the guard of a planner: what touches in its rest pose, folded, must not in a plan."""
    return config.model_copy(update={"arm": config.arm.model_copy(update={"rest": None})})


class PosePlanner:
    """For one arm and one camera. The gripper, which may hold the board, stays as it is. `table` is its height, m."""

    def __init__(
        self, spec: ArmSpec, problem: HandEyeProblem, guard: Guard, table: float, rng: np.random.Generator
    ) -> None:
        self._low, self._high = spec.position_min + LIMIT_MARGIN, spec.position_max - LIMIT_MARGIN
        self._problem, self._guard, self._table, self._rng = problem, guard, table, rng
        self._moving = list(problem.kinematics.moving)
        self._margins: Array = np.array([SELF_ROOM if pair.rule == COLLISION else ROOM for pair in guard.pairs])

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
        """A safe pose that shows the board and tells most beside `samples`; None when there is none."""
        problem = self._problem
        known = problem.expected() + sum(problem.information(found, sample.joints) for sample in samples)
        best: tuple[float, Array] | None = None
        compared = 0
        for _ in range(DRAWS):
            pose = here.copy()
            pose[self._moving] = self._rng.uniform(self._low[self._moving], self._high[self._moving])
            if not self.shows(found, pose):
                continue
            left = _uncertainty(known + problem.information(found, pose))
            if (best is None or left < best[0]) and self.safe(here, pose, found):
                best = left, pose
            compared += 1
            if compared >= CANDIDATES:
                break
        return None if best is None else best[1]

    def shows(self, found: HandEye, pose: Array) -> bool:
        """Would the camera see enough of the board, large enough, from not too far aside?"""
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
        grid = pixels.reshape(problem.board.rows - 1, problem.board.columns - 1, 2)
        shortest = min(float(np.linalg.norm(np.diff(grid, axis=axis), axis=-1).min()) for axis in (0, 1))
        share = inside.mean()
        # A board in the hand is small: all of it; of a large one on the table a part is enough.
        return bool(shortest >= SQUARE_MIN and (share == 1 if problem.kind == "fixed" else share >= SEEN_MIN))

    def cramped(self, pose: Array) -> str | None:
        """What is too near in a pose for anything to be planned from there, as in "hand would hit the table"."""
        lacking = self._guard.clearances(pose) - self._margins
        return self._guard.pairs[int(lacking.argmin())].text if lacking.min() <= 0 else None

    def safe(self, here: Array, there: Array, found: HandEye | None = None) -> bool:
        """May the arm go straight from `here` to `there`? Looks at the whole way, closer where there is less room.

        A joint that turns moves nothing further than the angle times a lever; so the room in the middle of a piece of
        the way says whether there is some all along it.
        """
        if (self._room(there, found) <= 0).any() or (self._room(here, found) <= 0).any():
            return False
        levers = self._levers(found)
        pieces = [(here, there)]
        while pieces:
            start, end = pieces.pop()
            middle, half = (start + end) / 2, np.abs(end - start) / 2
            room = self._room(middle, found)
            if (room <= 0).any():
                return False
            if (room <= levers @ half).any() and half.max() > FINEST:
                pieces += [(start, middle), (middle, end)]
        return True

    def way_back(self, visited: Sequence[Array], found: HandEye | None) -> list[Array]:
        """Poses to go through from the last of `visited` to the first of them: shortcuts where these are safe, else the
        way that was come by."""
        way = []
        last = len(visited) - 1
        while last > 0:
            last = next(
                (index for index in range(last) if self.safe(visited[last], visited[index], found)),
                last - 1,
            )
            way.append(visited[last])
        return way

    def _room(self, pose: Array, found: HandEye | None) -> Array:
        """What is left of each clearance beyond the margins, m: of the guard's pairs, and of the board in the hand."""
        room = self._guard.clearances(pose) - self._margins
        corners = self._in_hand(found)
        if corners is None:
            return room
        hand = self._problem.kinematics.pose(pose)
        lowest = (corners @ hand[2, :3]).min() + hand[2, 3]
        return np.array([*room, lowest - self._table - CLEARANCE])

    def _levers(self, found: HandEye | None) -> Array:
        """By how much each `_room` changes with the joints' angles at most, m/rad, (rooms, n)."""
        corners = self._in_hand(found)
        if corners is None:
            return np.asarray(self._guard.levers)
        board = np.zeros(self._guard.levers.shape[1])
        furthest = float(np.linalg.norm(corners, axis=1).max())
        board[self._moving] = self._problem.kinematics.reach[self._moving] + furthest
        return np.vstack([self._guard.levers, board])

    def _in_hand(self, found: HandEye | None) -> Array | None:
        """The corners (4, 3) of the board with a margin around it in the hand's frame; None where none is, or known."""
        if found is None or self._problem.kind == "wrist":
            return None
        width, height = self._problem.board.size
        signs = np.array([[-1, -1, 0], [1, -1, 0], [-1, 1, 0], [1, 1, 0]])
        points = np.array([width, height, 0]) * (0.5 + 0.6 * signs)
        return np.asarray(points @ found.board[:3, :3].T + found.board[:3, 3])

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


def _uncertainty(information: Array) -> float:
    """Variance of the camera's place, m^2, with that of its turn."""
    covariance = np.linalg.pinv(information, hermitian=True)
    return float(np.trace(covariance[3:6, 3:6]) + TURN_WORTH**2 * np.trace(covariance[:3, :3]))
