"""What `gato-arm calibrate camera` and `hand-eye` find on an emulated robot: a rig drawn from a seed, and its truth.

Cameras have lenses and places of their own, boards are held and fastened anyhow; the arm is calibrated and plays a
little. A rig is the same for every verb with the same seed, so what one wrote the next can use, and all can be judged.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from calibration.hand_eye import HandEye, HandEyeProblem
from calibration.poses import difference
from calibration.rehearsal.arm import RehearsalArm, TrueArm
from calibration.rehearsal.drawing import TrueLens
from calibration.rehearsal.eye import RehearsalEye, TrueRig
from calibration.rehearsal.places import BOARD_OF, random_board, random_camera
from calibration.rehearsal.shots import HeldBoard, random_lens
from drivers.camera_calibration import Lens
from drivers.config import RobotConfig
from runtime.calibrate_poses import PosePlanner
from runtime.calibrate_rehearse import LockstepRig, good_start
from runtime.guard import Guard


class EmulatedRig:
    """One camera of an emulated robot, and what is before it."""

    def __init__(self, config: RobotConfig, camera: str, size: tuple[int, int], seed: int) -> None:
        self._config, self._camera = config, camera
        self._rng = np.random.default_rng([seed, list(config.cameras).index(camera)])
        self.lens: TrueLens = random_lens(self._rng, size)

    def held_board(self) -> HeldBoard:
        """The camera, with somebody who holds the board for lenses before it."""
        return HeldBoard(self._camera, BOARD_OF["wrist"], self.lens, self._rng)

    @contextmanager
    def opened(self, problem: HandEyeProblem, planner: PosePlanner) -> Iterator[tuple[LockstepRig, RehearsalEye]]:
        """The arm behind its servo loop, filter and guard, held where the camera sees the board; and the camera."""
        config, kind, rng = self._config, problem.kind, self._rng
        self.rig = TrueRig(kind, BOARD_OF[kind], self.lens, random_camera(kind, rng), random_board(kind, rng))
        with RehearsalArm(TrueArm.as_said(config), config) as arm:
            stage = LockstepRig(arm, config, Guard(config))
            stage.show(good_start(self.rig, problem.kinematics, planner, config.arm.spec(), rng))
            try:
                yield stage, RehearsalEye(self.rig, problem.kinematics, arm.world.joint_positions, stage.clock.now, rng)
            finally:
                stage.servo.stop()

    def judge_lens(self, found: Lens) -> str:
        """How far a lens is from the truth, in a line."""
        (fx, fy, cx, cy) = self.lens.matrix[[0, 1, 0, 1], [0, 1, 2, 2]].tolist()
        focal = 100 * max(abs(found.fx / fx - 1), abs(found.fy / fy - 1))
        centre = np.hypot(found.cx - cx, found.cy - cy)
        return (
            f"truth             {fx:.2f}, {fy:.2f} px and {cx:.2f}, {cy:.2f} px: focal length {focal:.2f}% off, "
            f"principal point {centre:.2f} px"
        )

    def judge_place(self, found: HandEye) -> str:
        """How far a place is from the truth, in a line."""
        way, turn = difference(found.camera, self.rig.camera)
        return f"truth             the camera stands {1000 * way:.2f} mm and {np.degrees(turn):.2f} degrees from there"
