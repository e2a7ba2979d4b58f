"""`gato-arm calibrate rehearse`: all calibrations on rigs drawn at random, judged by the truth, not by their residuals.

A rig has servos mounted anyhow, stops that are not quite where they should be, two cameras with lenses of their own and
play in every joint. It is calibrated as a real one would be: by the same steps, drivers, servo loop, filter and guard,
in lock-step (sim/lockstep_port.py), with pictures drawn through the true lenses (calibration/rehearsal/drawing.py).
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from joblib import Parallel, delayed
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from calibration.board import BOARDS
from calibration.camera import calibrate_camera
from calibration.errors import CalibrationError
from calibration.hand_eye import HandEyeProblem, Kind
from calibration.kinematics import Kinematics
from calibration.poses import difference
from calibration.rehearsal.arm import RehearsalArm, TrueArm
from calibration.rehearsal.drawing import TrueLens
from calibration.rehearsal.eye import RehearsalEye, TrueRig
from calibration.rehearsal.places import BOARD_OF, exact_view, random_board, random_camera
from calibration.rehearsal.shots import random_lens, shots
from calibration.views import Gathering
from drivers.arm import ArmSpec, Array
from drivers.camera_calibration import Lens
from drivers.config import RobotConfig, load_robot
from drivers.feetech import FEETECH
from drivers.servo_arm import ServoArm
from runtime import calibrate_joints as joints
from runtime.calibrate_by_hand import HandOperator
from runtime.calibrate_hand_eye import POSES, HandEyeRun
from runtime.calibrate_poses import PosePlanner, unfolded
from runtime.clock import SECOND, SimulatedClock
from runtime.guard import Guard
from runtime.loop import LockstepServo
from runtime.servo import ServoLoop, ServoSettings
from runtime.stage import StageFault

ROBOT: Final = "emulated"
KINDS: Final[tuple[Kind, ...]] = ("fixed", "wrist")
PICTURES_MAX: Final = 150
BARS: Final = {  # the worst error of a rig that passes
    "joint_deg": 0.5,
    "focal_percent": 0.5,
    "centre_px": 1.0,
    "place_mm": 2.0,
    "place_deg": 0.3,
}
UNITS: Final = {
    "joint_deg": "joint, °",
    "focal_percent": "focal length, %",
    "centre_px": "principal point, px",
    "place_mm": "camera, mm",
    "place_deg": "camera, °",
}
START_TRIES: Final = 20_000
GRIP: Final = 0.2  # rad of the gripper that holds the board


@dataclass
class RigErrors:
    """How far one rig's calibrations are from the truth; those of cameras by kind."""

    seed: int
    joint_deg: float = np.nan
    focal_percent: dict[str, float] = field(default_factory=dict)
    centre_px: dict[str, float] = field(default_factory=dict)
    held_out_px: dict[str, float] = field(default_factory=dict)
    place_mm: dict[str, float] = field(default_factory=dict)
    place_deg: dict[str, float] = field(default_factory=dict)
    left_out_mm: dict[str, float] = field(default_factory=dict)  # leave-one-out, as the operator would see it
    poses: dict[str, int] = field(default_factory=dict)
    refused: str | None = None

    def worst(self, name: str) -> float:
        """The largest error of that name."""
        value = getattr(self, name)
        return max(value.values(), default=np.nan) if isinstance(value, dict) else value

    def passed(self) -> bool:
        """Every error within its bar."""
        return self.refused is None and all(self.worst(name) <= bar for name, bar in BARS.items())


def rehearse(seed: int, *, poses: int = POSES, kinds: tuple[Kind, ...] = KINDS) -> RigErrors:
    """One rig, all of it drawn from `seed`. A refusal is noted, with what was found so far."""
    rng = np.random.default_rng(seed)
    robot = load_robot(ROBOT)
    errors = RigErrors(seed)
    with RehearsalArm(TrueArm.at_random(robot, rng), robot) as arm:
        try:
            calibrated = _rehearse_joints(arm, errors)
            for kind in kinds:
                lens, true = _rehearse_lens(kind, errors, rng)
                _rehearse_place(arm, calibrated, kind, lens, true, errors, rng, poses)
        except (CalibrationError, StageFault) as error:
            errors.refused = str(error)
    return errors


def _rehearse_joints(arm: RehearsalArm, errors: RigErrors) -> RobotConfig:
    found = joints.sweep_and_centre(arm.robot.arm, arm.line, HandOperator(arm.hand()), date="rehearsal")
    joints.write_servos(arm.robot.arm, arm.line, found)
    offsets = joints.read_offsets(arm.robot.arm, arm.line)
    off = arm.errors({name: record.zero for name, record in found.joints.items()}, offsets)
    errors.joint_deg = float(np.degrees(np.abs(off)).max())
    return joints.calibrated(arm.robot, found)


def _rehearse_lens(kind: Kind, errors: RigErrors, rng: np.random.Generator) -> tuple[Lens, TrueLens]:
    """Pictures of the table's board, held before the camera until nothing is missing."""
    board, true = BOARDS["table"], random_lens(rng)
    gathering = Gathering(board)
    for image in itertools.islice(shots(board, true, rng), PICTURES_MAX):
        gathering.offer(image)
        if not gathering.missing():
            break
    lens, _ = calibrate_camera(board, gathering.views, date="rehearsal")
    focal = max(abs(lens.fx / true.matrix[0, 0] - 1), abs(lens.fy / true.matrix[1, 1] - 1))
    errors.focal_percent[kind] = float(100 * focal)
    errors.centre_px[kind] = float(np.hypot(lens.cx - true.matrix[0, 2], lens.cy - true.matrix[1, 2]))
    errors.held_out_px[kind] = lens.errors.held_out
    return lens, true


def _rehearse_place(
    arm: RehearsalArm,
    robot: RobotConfig,
    kind: Kind,
    lens: Lens,
    true_lens: TrueLens,
    errors: RigErrors,
    rng: np.random.Generator,
    poses: int,
) -> None:
    kinematics = Kinematics(robot)
    rig = TrueRig(kind, BOARD_OF[kind], true_lens, random_camera(kind, rng), random_board(kind, rng))
    stage = LockstepRig(arm, robot, Guard(robot))
    problem = HandEyeProblem(kind, rig.board, lens, kinematics)
    planner = PosePlanner(robot.arm.spec(), problem, Guard(unfolded(robot)), robot.safety.table_height or 0.0, rng)
    stage.show(good_start(rig, kinematics, planner, robot.arm.spec(), rng))
    eye = RehearsalEye(rig, kinematics, arm.world.joint_positions, stage.clock.now, rng)
    try:
        result = HandEyeRun(stage.servo, eye, problem, planner, stage.clock, poses=poses).run(date="rehearsal")
    finally:
        stage.servo.stop()
    way, turn = difference(result.found.camera, rig.camera)
    errors.place_mm[kind], errors.place_deg[kind] = 1000 * way, float(np.degrees(turn))
    errors.left_out_mm[kind], errors.poses[kind] = result.place.errors.leave_one_out_mm, result.samples


class LockstepRig:
    """A rehearsal's arm behind the servo loop, its filter and guard; time passes as the loop goes."""

    def __init__(self, arm: RehearsalArm, robot: RobotConfig, guard: Guard) -> None:
        self._arm = arm
        self.clock = SimulatedClock()
        servos = ServoArm(
            robot.arm.model_copy(update={"port": "rehearsal"}), FEETECH, clock=self.clock.now, open_port=arm.open_port
        )
        loop = ServoLoop(servos, self.clock, ServoSettings.of_robot(robot), guard)
        loop.connect()
        self.servo = LockstepServo(loop, self._advance)
        self._names = [joint.name for joint in robot.arm.joints]

    def show(self, pose: Array) -> None:
        """The operator's hand takes the arm to a pose (n,) and keeps it there until it has torque."""
        start = self._arm.world.joint_positions()
        for share in np.linspace(0, 1, 50)[1:]:
            for name, angle in zip(self._names, start + share * (pose - start), strict=True):
                self._arm.lead(name, float(angle))
            self._arm.port.advance(0.04)
        self._arm.port.advance(0.3)

    def _advance(self, seconds: float) -> None:
        self._arm.port.advance(seconds)
        self.clock.advance(round(seconds * SECOND))


def good_start(
    rig: TrueRig, kinematics: Kinematics, planner: PosePlanner, spec: ArmSpec, rng: np.random.Generator
) -> Array:
    """Where a person would hold the arm: the board in the picture's middle, facing the camera, room all around."""
    best: tuple[float, Array] | None = None
    for _ in range(START_TRIES):
        pose = rng.uniform(spec.position_min + 0.4, spec.position_max - 0.4)
        pose[-1] = GRIP
        board = rig.seen(kinematics.pose(pose))
        view = exact_view(rig.board, rig.lens, board)
        share = 0.9 if rig.kind == "fixed" else 0.6  # a board on the table may be larger than the picture
        if view is None or len(view.ids) < share * len(rig.board.corners):
            continue
        middle = board[:3, :3] @ [*np.array(rig.board.size) / 2, 0] + board[:3, 3]
        facing = board[:3, 2] @ middle / np.linalg.norm(middle)
        off = np.linalg.norm(middle[:2]) / middle[2]
        worth = facing - off - 2 * abs(np.linalg.norm(middle) - 0.3)
        if (best is None or worth > best[0]) and planner.cramped(pose) is None:
            best = worth, pose
    if best is None:
        raise CalibrationError(f"rig {rig.kind}: no pose in which the camera sees the board")
    return best[1]


def summarise(rigs: list[RigErrors]) -> dict[str, Any]:
    """What `--json` writes: each rig, and for each bar the worst and the median error over all rigs."""
    figures: dict[str, Any] = {"rigs": len(rigs), "within_all_bars": sum(rig.passed() for rig in rigs)}
    for name, bar in BARS.items():
        values = np.array([rig.worst(name) for rig in rigs])
        figures[name] = {"bar": bar, "worst": float(np.max(values)), "median": float(np.median(values))}
    figures["refused"] = [f"rig {rig.seed}: {rig.refused}" for rig in rigs if rig.refused]
    figures["each"] = [vars(rig) for rig in rigs]
    return figures


def rehearse_many(rigs: int, seed: int, workers: int | None, console: Console) -> list[RigErrors]:
    """Rigs `seed`, `seed` + 1 ... on many processes, with a line (or a bar) as each is done; in the order of seeds."""
    found: list[RigErrors] = []
    jobs = Parallel(n_jobs=workers or -1, return_as="generator_unordered")
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("rigs calibrated", total=rigs)
        for errors in jobs(delayed(rehearse)(seed + index) for index in range(rigs)):
            found.append(errors)
            bar.advance(task)
            if not console.is_terminal:
                said = "within all bars" if errors.passed() else errors.refused or "beyond a bar"
                console.print(f"rig {errors.seed}: {said}", highlight=False)
    return sorted(found, key=lambda errors: errors.seed)


def show(rigs: list[RigErrors], figures: dict[str, Any], console: Console) -> None:
    """A row for each rig, and beneath it bars, worst and median."""
    table = Table("rig", *UNITS.values())
    for rig in rigs:
        table.add_row(str(rig.seed), *(f"{rig.worst(name):.3f}" for name in BARS))
    table.add_section()
    for row in ("median", "worst", "bar"):
        table.add_row(row, *(f"{figures[name][row]:.3f}" for name in BARS))
    console.print(table)
    for refused in figures["refused"]:
        console.print(refused, highlight=False)
    console.print(f"{figures['within_all_bars']} of {figures['rigs']} rigs within all bars", highlight=False)
