"""`gato-arm calibrate hand-eye`, without servos: the place is found, every refusal has its reason, nothing is replaced
unseen. With servos, filter and guard it is `gato-arm calibrate rehearse` (test_calibrate_rehearse.py)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from calibration.board import BOARDS
from calibration.errors import CalibrationError
from calibration.hand_eye import POSES_MIN, HandEye, Sample
from calibration.poses import difference, moved
from calibration.rehearsal.eye import TrueRig
from drivers.camera import Frame
from drivers.camera_calibration import CameraCalibration, calibration_of, load_camera_calibration
from drivers.config import URDF_FOLDER, load_robot
from runtime.calibrate_hand_eye import HandEyeResult, HandEyeRun, describe, store
from tests.runtime.fake_rig import GUARD, ROBOT, Answering, FakeRig

POSES = 10


def calibrate(made: FakeRig, tell: Callable[[str], None] = lambda text: None, poses: int = POSES) -> HandEyeResult:
    run = HandEyeRun(made.servo, made.eye, made.problem, made.planner, made.clock, tell, poses=poses)
    return run.run(date="2026-01-02")


@pytest.fixture(scope="module")
def fixed() -> tuple[FakeRig, HandEyeResult, list[str]]:
    made, told = FakeRig("fixed", 11), list[str]()
    return made, calibrate(made, told.append), told


def test_the_place_is_found(fixed: tuple[FakeRig, HandEyeResult, list[str]]) -> None:
    made, result, told = fixed
    way, turn = difference(result.found.camera, made.true.camera)
    assert way < 3e-3 and np.degrees(turn) < 0.4
    assert result.samples == POSES and result.place.errors.poses == POSES
    assert told[-1].startswith(f"pose {POSES} of {POSES}: ")
    assert result.to_json()["place"]["date"] == "2026-01-02"


def test_the_arm_is_held_where_it_began_and_went_nowhere_that_the_guard_forbids(
    fixed: tuple[FakeRig, HandEyeResult, list[str]],
) -> None:
    quick, start = fixed[0].quick, fixed[0].start
    np.testing.assert_allclose(quick.pose, start)
    assert quick.held and not quick.stopped
    assert all(GUARD.check(pose) is None for pose in quick.went)
    # the targets of a way follow each other closely, at the speed of homing
    assert np.abs(np.diff(quick.went, axis=0)).max() < 0.08
    assert {float(pose[-1]) for pose in quick.went} == {float(start[-1])}


def test_where_nothing_is_safe_the_arm_goes_back_as_the_planner_says_and_tries_from_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = FakeRig("fixed", 16)
    next_pose, way_back = made.planner.next, made.planner.way_back
    asked: list[np.ndarray] = []
    aside = made.start + np.array([0.0, 0.0, 0.0, 0.1, 0.1, 0.0])

    def nothing_once(found: HandEye, samples: Sequence[Sample], here: np.ndarray) -> np.ndarray | None:
        asked.append(here)
        return None if len(asked) == 1 else next_pose(found, samples, here)

    def round_about(visited: Sequence[np.ndarray], found: HandEye | None) -> list[np.ndarray]:
        return [aside, *way_back(visited, found)]

    monkeypatch.setattr(made.planner, "next", nothing_once)
    monkeypatch.setattr(made.planner, "way_back", round_about)
    assert calibrate(made, poses=8).samples == 8
    assert np.abs(asked[0] - made.start).max() > 0.1
    np.testing.assert_allclose(asked[1], made.start)
    assert sum(np.allclose(pose, aside) for pose in made.quick.went) >= 2  # then, and at the end
    np.testing.assert_allclose(made.quick.pose, made.start)


def test_a_camera_on_the_wrist_is_found_too() -> None:
    made = FakeRig("wrist", 12)
    way, turn = difference(calibrate(made).found.camera, made.true.camera)
    assert way < 1e-3 and np.degrees(turn) < 0.3


def test_a_camera_that_sees_no_board_is_refused_before_anything_moves() -> None:
    made = FakeRig("fixed", 11)
    away = moved(made.true.camera, np.array([0.0, 1.5, 0.0, 0.0, 0.0, 0.0]))
    made.eye.rig = replace(made.true, camera=away)
    with pytest.raises(CalibrationError, match=r"the camera 'fixed' does not see the board hand: 5 x 4 .* begin again"):
        calibrate(made)
    assert len(made.quick.went) == 1


def test_another_board_is_refused() -> None:
    made = FakeRig("fixed", 11)
    other = replace(BOARDS["hand"], first_id=10)
    made.eye.rig = TrueRig("fixed", other, made.true.lens, made.true.camera, made.true.board_pose)
    with pytest.raises(CalibrationError, match=r"wrong board: the picture has the markers 10, 11"):
        calibrate(made)
    assert len(made.quick.went) == 1


def test_an_arm_without_room_around_it_is_refused() -> None:
    made = FakeRig("wrist", 11)
    made.quick.pose = np.array(ROBOT.arm.rest)
    with pytest.raises(CalibrationError, match=r"not enough room here: the .* would hit the table; hold the arm"):
        calibrate(made)
    assert len(made.quick.went) == 1


class Blinking:
    """A `Camera` that sees nothing any more after some frames."""

    def __init__(self, made: FakeRig, frames: int) -> None:
        self._eye, self._left = made.eye, frames
        self.name, self.size = made.eye.name, made.eye.size

    def connect(self) -> None: ...

    def close(self) -> None: ...

    def read(self) -> Frame:
        self._left -= 1
        frame = self._eye.read()
        return frame if self._left >= 0 else Frame(frame.stamp, frame.sequence, np.full_like(frame.image, 90))


def test_too_few_poses_are_refused_and_a_board_that_is_gone_too() -> None:
    made = FakeRig("fixed", 13)
    run = HandEyeRun(made.servo, Blinking(made, 12), made.problem, made.planner, made.clock, poses=POSES)
    with pytest.raises(CalibrationError, match="the board moved: back at the first pose the camera does not see it"):
        run.run(date="x")
    assert 0 < len(run.samples) < POSES_MIN and run.misses >= 12
    np.testing.assert_allclose(made.quick.pose, made.start)

    few = FakeRig("fixed", 13)
    with pytest.raises(CalibrationError, match=f"not enough poses: the board was seen at 7, at least {POSES_MIN} are"):
        calibrate(few, poses=7)


def test_a_board_that_was_knocked_at_the_end_is_refused() -> None:
    """Between the last pose and the way back: no pose disagrees, the first one seen again does."""
    made = FakeRig("fixed", 14)

    def knock(text: str) -> None:
        if text.startswith(f"pose {POSES} "):
            board = moved(made.true.board_pose, np.array([0, 0, 0.04, 0.012, 0, 0]))
            made.eye.rig = replace(made.true, board_pose=board)

    with pytest.raises(CalibrationError, match=r"the board moved: back at the first pose it is \d+ mm and \d\."):
        calibrate(made, knock)


def test_an_arm_that_only_turns_about_one_axis_is_refused() -> None:
    made = FakeRig("fixed", 15)
    made.quick.obeys[:] = False
    made.quick.obeys[3] = True  # the hand only nods
    with pytest.raises(CalibrationError, match="insufficient rotation: all poses turn about one axis"):
        calibrate(made)


def test_the_place_goes_beside_the_lens_and_is_not_replaced_unseen(
    fixed: tuple[FakeRig, HandEyeResult, list[str]], tmp_path: Path
) -> None:
    made, result, _ = fixed
    robot, path = tmp_path / "my.yaml", tmp_path / "my.fixed.yaml"
    robot.write_text((URDF_FOLDER.parent / "emulated.yaml").read_text())
    lens_only = CameraCalibration(camera="fixed", lens=made.problem.lens)
    yes, no = Answering(True), Answering(False)
    assert store(result.place, lens_only, path, robot, no)  # nothing to replace, so nobody is asked
    stored = calibration_of(load_robot(str(robot)).cameras["fixed"])
    assert stored is not None and stored.place is not None and stored.lens.fx == pytest.approx(made.problem.lens.fx)
    np.testing.assert_allclose(stored.place.pose, result.found.camera, atol=1e-6)

    x, y, z = result.place.position
    shifted = result.place.model_copy(update={"position": (x + 0.01, y, z)})
    assert not store(shifted, stored, path, robot, no)
    assert "the new one is 10.0 mm and 0.00 degrees from it" in no.told[-2] and no.told[-1] == "Replace it?"
    assert load_camera_calibration(path) == stored
    assert store(shifted, stored, path, robot, yes)
    kept = load_camera_calibration(path).place
    assert kept is not None and kept.position[0] == pytest.approx(x + 0.01, abs=1e-6)


@pytest.mark.parametrize("line", ["camera  ", "left out", "reprojection", "joints are off by shoulder_lift"])
def test_what_is_told_of_it(line: str, fixed: tuple[FakeRig, HandEyeResult, list[str]]) -> None:
    assert any(text.startswith(line) for text in describe(fixed[1]))
