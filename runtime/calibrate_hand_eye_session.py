"""One run of `gato-arm calibrate hand-eye`: what is opened, and in which order.

What happens then is runtime/calibrate_hand_eye.py; what an emulated robot is given to see, calibrate_emulated.py.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.text import Text

from calibration.board import Board, find_board
from calibration.errors import CalibrationError
from calibration.files import outputs_beside
from calibration.hand_eye import HandEyeProblem, Kind
from calibration.kinematics import Kinematics
from drivers.camera import Camera
from drivers.camera_calibration import load_camera_calibration
from drivers.config import CameraConfig, ConfigError, RobotConfig
from drivers.robot import open_arm, open_camera
from runtime.calibrate_camera import find_camera, full_size
from runtime.calibrate_emulated import EmulatedRig
from runtime.calibrate_hand_eye import HandEyeRun, describe, store
from runtime.calibrate_operator import Operator
from runtime.calibrate_poses import PosePlanner, unfolded
from runtime.clock import MonotonicClock
from runtime.guard import Guard
from runtime.servo_process import ServoProcess
from runtime.servo_state import ServoSettings


@dataclass(frozen=True)
class Wish:
    """What is calibrated: a camera by name, fixed or on the wrist, with which board and how many poses."""

    camera: str | None
    kind: Kind
    board: Board
    poses: int
    date: str
    file: Path | None = None  # the camera's calibration, if the robot's file does not name it
    seed: int = 0  # of the poses, and of an emulated robot's rig


def calibrate(config: RobotConfig, robot: str, wish: Wish, operator: Operator) -> dict[str, Any] | None:
    """Calibrate; the figures, or None when the operator did not want it.

    Raises `CalibrationError` with the reason, `ConfigError`, `ArmError`, `CameraError` and `StageFault`.
    """
    name, camera_config = find_camera(config, wish.camera)
    path, robot_file = outputs_beside(robot, name, wish.file)
    if wish.file is None and camera_config.calibration is not None:
        path = Path(camera_config.calibration)
    calibration = load_camera_calibration(path)
    camera_config = full_size(camera_config)
    if calibration.lens.size != camera_config.size:
        raise CalibrationError(
            f"{path}: its lens is for {calibration.lens.size} pixels, the camera gives {camera_config.size}; "
            "calibrate it again, or set `capture` as it was"
        )
    guard = Guard.of(unfolded(config))
    if guard is None:
        raise ConfigError(f"{config.name}: arm.urdf is not set: where the hand is follows from it")
    problem = HandEyeProblem(wish.kind, wish.board, calibration.lens, Kinematics(config))
    table = config.safety.table_height or 0.0
    planner = PosePlanner(config.arm.spec(), problem, guard, table, np.random.default_rng(wish.seed))
    rig = EmulatedRig(config, name, camera_config.size, wish.seed) if config.emulated else None
    with ExitStack() as stack:
        if rig is not None:
            operator.say(f"emulated  a rig with its board (seed {wish.seed}); its truth is compared at the end")
            stage, eye = stack.enter_context(rig.opened(problem, planner))
            run = HandEyeRun(stage.servo, eye, problem, planner, stage.clock, operator.say, poses=wish.poses)
        else:
            servo, camera = stack.enter_context(_opened(config, name, camera_config))
            _pose_by_hand(wish, camera, operator)
            if not operator.confirm(
                f"The arm takes torque here and moves by itself through {wish.poses} poses, slowly: stand back. Go on?"
            ):
                return None
            run = HandEyeRun(servo, camera, problem, planner, MonotonicClock(), operator.say, poses=wish.poses)
        result = run.run(date=wish.date)
    for text in describe(result):
        operator.say(text)
    if rig is not None:
        operator.say(rig.judge_place(result.found))
    return result.to_json() if store(result.place, calibration, path, robot_file, operator) else None


@contextmanager
def _opened(config: RobotConfig, name: str, camera_config: CameraConfig) -> Iterator[tuple[ServoProcess, Camera]]:
    """A real robot's arm and camera; the arm is held and released in the end, whatever happens."""
    servo = ServoProcess(
        functools.partial(open_arm, config.arm),
        config.arm.spec(),
        settings=ServoSettings.of_robot(config),
        make_guard=functools.partial(Guard.of, config),
    )
    camera = open_camera(name, camera_config)
    with closing(camera):
        camera.connect()
        servo.open()
        try:
            yield servo, camera
        finally:
            servo.stop()


def _pose_by_hand(wish: Wish, camera: Camera, operator: Operator) -> None:
    where = "in the gripper" if wish.kind == "fixed" else "flat on the table, fastened with tape"

    def look() -> Text:
        view = find_board(wish.board, camera.read().image)
        seen = 0 if view is None else len(view.ids)
        return Text(f"camera {camera.name}: {seen} of {len(wish.board.corners)} corners of the board seen")

    operator.watch(
        "view",
        f"Put the board {wish.board.name!r} {where}. Hold the arm where the camera sees the board large, whole and "
        "from ahead, with room around the arm.",
        look,
    )
