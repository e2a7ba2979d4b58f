"""A camera on a rig that is known: shows the board as seen from where the arm truly is. A `drivers.camera.Camera`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from calibration.board import Board, Image
from calibration.hand_eye import Kind
from calibration.kinematics import Kinematics
from calibration.poses import inverse
from calibration.rehearsal.drawing import Light, TrueLens, draw
from drivers.arm import Array
from drivers.camera import Frame

PLAY = np.radians(0.05)  # standard deviation of each joint between its encoder and the link that it moves
STILL = 1e-3  # rad, that a joint may creep without a motion


@dataclass(frozen=True)
class TrueRig:
    """One camera of a rig as it is: `camera` in the base's or hand's frame, `board` in the other one's, (4, 4)."""

    kind: Kind
    board: Board
    lens: TrueLens
    camera: Array
    board_pose: Array

    def seen(self, hand: Array) -> Array:
        """The board's pose in the camera's frame when the hand is at `hand` (4, 4)."""
        chain = hand if self.kind == "fixed" else inverse(hand)
        return inverse(self.camera) @ chain @ self.board_pose


class RehearsalEye:
    """`joints()` says where the arm's servos are (n,), rad, `clock()` the time, ns.

    Play is new after each motion. As long as the arm is quite still frames show the same picture, which costs nothing.
    """

    def __init__(
        self,
        rig: TrueRig,
        kinematics: Kinematics,
        joints: Callable[[], Array],
        clock: Callable[[], int],
        rng: np.random.Generator,
    ) -> None:
        self.rig = rig
        self._kinematics, self._joints, self._clock, self._rng = kinematics, joints, clock, rng
        self._light = Light(
            level=rng.uniform(0.7, 1.0),
            slope=(rng.uniform(-0.3, 0.3), rng.uniform(-0.3, 0.3)),
            blur=rng.uniform(0.4, 0.8),
            noise=rng.uniform(1.0, 3.0),
        )
        self._sequence = 0
        self._play: Array = np.zeros(kinematics.reach.size)
        self._at: Array | None = None  # of the last motion's end, and of the last picture
        self._drawn: Array = np.full(kinematics.reach.size, np.nan)
        self._image: Image | None = None

    @property
    def name(self) -> str:
        return self.rig.kind

    @property
    def size(self) -> tuple[int, int]:
        return self.rig.lens.size

    def connect(self) -> None:
        """It is there."""

    def close(self) -> None:
        """It stays."""

    def read(self) -> Frame:
        """A new frame at each call."""
        joints = self._joints()
        if self._at is None or np.abs(joints - self._at).max() > STILL:
            self._play, self._at = self._rng.normal(0, PLAY, joints.size), joints.copy()
        if self._image is None or not np.array_equal(joints, self._drawn):
            pose = self.rig.seen(self._kinematics.pose(joints + self._play))
            self._image, self._drawn = draw(self.rig.board, self.rig.lens, pose, self._light, self._rng), joints.copy()
        self._sequence += 1
        return Frame(self._clock() + self._sequence, self._sequence, self._image)
