"""A rig for `calibrate hand-eye` without servos: an arm that is at once where it is sent, and its camera."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
from rich.console import RenderableType

from calibration.hand_eye import HandEye, HandEyeProblem, Kind
from calibration.kinematics import Kinematics
from calibration.rehearsal.drawing import TrueLens
from calibration.rehearsal.eye import RehearsalEye, TrueRig
from calibration.rehearsal.places import BOARD_OF, random_board, random_camera
from calibration.rehearsal.shots import random_lens
from drivers.arm import Array
from drivers.camera_calibration import Lens
from drivers.config import load_robot
from runtime.calibrate_operator import Step
from runtime.calibrate_poses import PosePlanner, unfolded
from runtime.calibrate_rehearse import good_start
from runtime.clock import MILLISECOND, SimulatedClock
from runtime.course import Target
from runtime.guard import Guard
from runtime.loop import Servo
from tests.drivers.test_camera_calibration import LENS

ROBOT = load_robot("emulated")
SPEC = ROBOT.arm.spec()
KINEMATICS = Kinematics(ROBOT)
GUARD = Guard(ROBOT)


def as_lens(true: TrueLens) -> Lens:
    """The lens as one that was calibrated without error."""
    fx, fy, cx, cy = true.matrix[[0, 1, 0, 1], [0, 1, 2, 2]].tolist()
    k1, k2, p1, p2, k3 = true.distortion.tolist()
    return LENS.model_copy(update={"fx": fx, "fy": fy, "cx": cx, "cy": cy, "distortion": (k1, k2, p1, p2, k3)})


class QuickServo:
    """A `Servo` whose arm is where its target is; `obeys` (n,) says which joints are. Keeps every target in `went`."""

    def __init__(self, clock: SimulatedClock, pose: Array) -> None:
        self._clock = clock
        self.pose = pose.copy()
        self.obeys = np.ones(pose.size, dtype=bool)
        self.went: list[Array] = [pose.copy()]
        self.held = self.stopped = False

    def start(self) -> None:
        self.held = False

    def send_target(self, target: Target) -> None:
        assert not self.held
        self.pose = np.where(self.obeys, target.positions, self.pose)
        self.went.append(self.pose)

    def elapse(self) -> None:
        self._clock.advance(50 * MILLISECOND)

    def state(self) -> Any:
        return SimpleNamespace(command=self.pose, positions=self.pose, fault=None)

    def hold(self) -> None:
        self.held = True

    def stop(self, release: bool = True) -> None:
        self.stopped = True


class FakeRig:
    """One camera on a rig drawn from `seed`, whose truth is known, with all that a `HandEyeRun` takes."""

    def __init__(self, kind: Kind, seed: int) -> None:
        rng = np.random.default_rng(seed)
        lens = random_lens(rng)
        self.true = TrueRig(kind, BOARD_OF[kind], lens, random_camera(kind, rng), random_board(kind, rng))
        self.problem = HandEyeProblem(kind, self.true.board, as_lens(lens), KINEMATICS)
        self.planner = PosePlanner(SPEC, self.problem, Guard(unfolded(ROBOT)), ROBOT.safety.table_height or 0.0, rng)
        self.start = good_start(self.true, KINEMATICS, self.planner, SPEC, rng)
        self.clock = SimulatedClock()
        self.quick = QuickServo(self.clock, self.start)
        self.eye = RehearsalEye(self.true, KINEMATICS, lambda: self.quick.pose, self.clock.now, rng)

    @property
    def servo(self) -> Servo:
        return cast(Servo, self.quick)

    @property
    def found(self) -> HandEye:
        """The truth, as what would be found."""
        return HandEye(self.true.camera, self.true.board_pose, np.zeros(SPEC.joints), 0.0)


class Answering:
    """An `Operator` who says the same to every question, and does nothing by hand."""

    def __init__(self, agrees: bool) -> None:
        self.agrees, self.told = agrees, list[str]()

    def say(self, text: str) -> None:
        self.told.append(text)

    def confirm(self, question: str) -> bool:
        self.told.append(question)
        return self.agrees

    def watch(self, step: Step, instruction: str, look: Callable[[], RenderableType]) -> None:
        raise AssertionError("nothing to do by hand")
