"""`gato-arm calibrate hand-eye`: the arm moves itself through safe poses, the camera looks, and its place comes out.

Every motion goes through the servo loop, its safety filter and guard; the arm is held whenever it does not move. Which
poses are tried is calibrate_poses.py, what follows from them calibration/hand_eye.py.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from calibration.board import BoardView, find_board
from calibration.errors import CalibrationError
from calibration.files import name_camera_calibration, write_calibration
from calibration.hand_eye import HandEye, HandEyeProblem, Sample, calibrate_hand_eye
from calibration.poses import difference
from drivers.camera import Camera
from drivers.camera_calibration import CameraCalibration, Place
from runtime.calibrate_operator import Operator
from runtime.calibrate_poses import PosePlanner
from runtime.clock import MILLISECOND, Clock
from runtime.loop import Servo
from runtime.stage import await_frames, go_to

POSES: Final = 24
FIRST_POSES: Final = 6  # after which it is computed what the camera sees
PERIOD: Final = 50 * MILLISECOND  # between targets
SETTLING: Final = 6  # periods at rest before a picture is taken
READINGS: Final = 4  # of the joints, that are averaged
MISSES_MAX: Final = 12  # poses in a row without the board before it is given up
MOVED_MM, MOVED_DEG = 4.0, 1.0  # between the first pose and the same at the end: the board, or the camera, was moved


@dataclass(frozen=True)
class HandEyeResult:
    """What came out, and from how much."""

    place: Place
    found: HandEye
    samples: int
    misses: int

    def to_json(self) -> dict[str, Any]:
        return {"place": self.place.model_dump(mode="json"), "poses": self.samples, "without_board": self.misses}


class HandEyeRun:
    """One calibration: a `servo` whose arm stands where `camera` sees the board. `tell` is told a line now and then."""

    def __init__(
        self,
        servo: Servo,
        camera: Camera,
        problem: HandEyeProblem,
        planner: PosePlanner,
        clock: Clock,
        tell: Callable[[str], None] = lambda text: None,
        *,
        poses: int = POSES,
    ) -> None:
        self._servo, self._camera, self._problem, self._planner = servo, camera, problem, planner
        self._clock, self._tell, self._wanted = clock, tell, poses
        self.samples: list[Sample] = []
        self.misses = 0
        self._visited: list[np.ndarray] = []  # poses, from the first on, straight from one to the next
        self._in_a_row = 0

    def run(self, *, date: str) -> HandEyeResult:
        """Gather, come back to the first pose, judge. Raises `CalibrationError` with the reason, and `StageFault`."""
        self._servo.start()
        self._servo.hold()
        start = self._here()
        if (near := self._planner.cramped(start)) is not None:
            raise CalibrationError(
                f"not enough room here: the {near}; hold the arm with more of it around, and begin again"
            )
        self._visited = [start]
        first = self._look()
        if first is None:
            raise CalibrationError(
                f"the camera {self._camera.name!r} does not see the board {self._problem.board.describe()}; hold the "
                "arm where it does, and begin again"
            )
        self.samples.append(first)
        self._gather_first(start)
        self._go_back(self._gather_more())
        self._refuse_moved(first, self._look())
        place, found = calibrate_hand_eye(self._problem, self.samples, date=date)
        return HandEyeResult(place, found, len(self.samples), self.misses)

    def _gather_first(self, start: np.ndarray) -> None:
        for pose in self._planner.first(start):
            if len(self.samples) >= FIRST_POSES and self._determined():
                return
            if self._planner.safe(self._here(), pose):
                self._take(pose)

    def _determined(self) -> bool:
        try:
            self._problem.begin(self.samples)
        except CalibrationError:
            return False
        return True

    def _gather_more(self) -> HandEye | None:
        """What is found at last; None when the first poses say too little, which `calibrate_hand_eye` explains."""
        if len(self.samples) < 3:
            return None
        found = self._problem.refine(self._problem.begin(self.samples), self.samples)
        while len(self.samples) < self._wanted and self._in_a_row < MISSES_MAX:
            pose = self._planner.next(found, self.samples, self._here())
            if pose is None and len(self._visited) == 1:
                break
            if pose is None:
                self._go_back(found)  # where there was room
            elif self._take(pose):
                found = self._problem.refine(found, self.samples)
        return found

    def _take(self, pose: np.ndarray) -> bool:
        self._go(pose)
        self._visited.append(pose)
        sample = self._look()
        if sample is None:
            self.misses += 1
            self._in_a_row += 1
            return False
        self._in_a_row = 0
        self.samples.append(sample)
        self._tell(f"pose {len(self.samples)} of {self._wanted}: {len(sample.view.ids)} corners")
        return True

    def _go_back(self, found: HandEye | None) -> None:
        """To the first pose, by ways that are safe."""
        for pose in self._planner.way_back(self._visited, found):
            self._go(pose)
        self._visited = self._visited[:1]

    def _go(self, pose: np.ndarray) -> None:
        go_to(self._servo, pose, self._clock, PERIOD)

    def _here(self) -> np.ndarray:
        return np.array(self._servo.state().command)

    def _look(self) -> Sample | None:
        """What the camera sees once the arm has come to rest, with the joints as they are then."""
        readings = []
        for period in range(SETTLING + READINGS):
            until = self._clock.now() + PERIOD
            self._servo.elapse()
            self._clock.sleep_until(until)
            if period >= SETTLING:
                readings.append(self._servo.state().positions)
        await_frames({self._camera.name: self._camera}, self._clock.now(), self._clock)
        view: BoardView | None = find_board(self._problem.board, self._camera.read().image)
        return None if view is None else self._problem.sample(np.mean(readings, axis=0), view)

    def _refuse_moved(self, first: Sample, last: Sample | None) -> None:
        then = self._problem.seen(first)
        now = None if last is None else self._problem.seen(last)
        if last is not None and then is not None and now is not None:
            way, turn = difference(now, then)
            if way * 1000 <= MOVED_MM and np.degrees(turn) <= MOVED_DEG:
                return
            raise CalibrationError(
                f"the board moved: back at the first pose it is {way * 1000:.0f} mm and {np.degrees(turn):.1f} degrees "
                "from where it was; fasten it (or the camera), and do it again"
            )
        raise CalibrationError(
            "the board moved: back at the first pose the camera does not see it any more; fasten it, and do it again"
        )


def describe(result: HandEyeResult) -> list[str]:
    """The result in a few lines for people."""
    place, errors = result.place, result.place.errors
    x, y, z = place.position
    lines = [
        f"camera            {1000 * x:.1f}, {1000 * y:.1f}, {1000 * z:.1f} mm in the frame of {place.link!r}",
        f"left out          each pose from all others: {errors.leave_one_out_mm:.2f} mm and "
        f"{errors.leave_one_out_deg:.2f} degrees (worst {errors.worst_mm:.1f} mm, {errors.worst_deg:.2f} degrees)",
        f"reprojection      {errors.reprojection:.2f} px over {errors.poses} poses, {result.misses} without the board",
    ]
    if place.joint_offsets:
        joints = ", ".join(f"{name} {np.degrees(angle):+.2f}°" for name, angle in place.joint_offsets.items())
        lines.append(f"joints are off by {joints}: add it to their zeros if it is the same with another camera")
    return lines


def store(
    place: Place, calibration: CameraCalibration, path: Path, robot_file: Path | None, operator: Operator
) -> bool:
    """Write the place beside the lens; a place that is there is shown first. False when not wished."""
    if calibration.place is not None:
        old = calibration.place
        way, turn = difference(old.pose, place.pose)
        operator.say(
            f"{path} holds a place of {old.date}: {old.errors.leave_one_out_mm:.2f} mm left out; the new one is "
            f"{1000 * way:.1f} mm and {np.degrees(turn):.2f} degrees from it, {place.errors.leave_one_out_mm:.2f} mm"
        )
        if not operator.confirm("Replace it?"):
            return False
    write_calibration(path, calibration.model_copy(update={"place": place}))
    operator.say(f"written   {path}")
    if robot_file is not None:
        name_camera_calibration(robot_file, calibration.camera, path)
        operator.say(f"named in  {robot_file}")
    return True
