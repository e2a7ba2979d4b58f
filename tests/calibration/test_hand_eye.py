"""Where a camera stands: found from exact and from uncertain poses, and each refusal."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from calibration.board import BoardView
from calibration.errors import CalibrationError
from calibration.hand_eye import HandEyeProblem, Kind, Sample, calibrate_hand_eye, refuse_parallel
from calibration.kinematics import Kinematics
from calibration.poses import difference, inverse, moved
from calibration.rehearsal.drawing import TrueLens
from calibration.rehearsal.places import BOARD_OF, exact_view, random_board, random_camera
from calibration.rehearsal.shots import random_lens
from drivers.arm import Array
from drivers.camera_calibration import Lens
from drivers.config import load_robot
from tests.drivers.test_camera_calibration import LENS

ROBOT = load_robot("emulated")
SPEC = ROBOT.arm.spec()
KINEMATICS = Kinematics(ROBOT)


def as_lens(true: TrueLens) -> Lens:
    fx, fy, cx, cy = true.matrix[[0, 1, 0, 1], [0, 1, 2, 2]].tolist()
    return LENS.model_copy(
        update={"fx": fx, "fy": fy, "cx": cx, "cy": cy, "distortion": tuple(true.distortion.tolist())}
    )


class Rig:
    """A camera and a board that are known, and samples of them at random poses."""

    def __init__(self, kind: Kind, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.true_lens = random_lens(self.rng)
        self.camera, self.board = random_camera(kind, self.rng), random_board(kind, self.rng)
        self.problem = HandEyeProblem(kind, BOARD_OF[kind], as_lens(self.true_lens), KINEMATICS)
        self.offsets = np.zeros(6)

    def sample(self, *, noise: float = 0.0, play: float = 0.0, like: Array | None = None) -> Sample:
        """One view; `like` keeps all joints but the wrist's roll. Noise in px, play in rad."""
        while True:
            joints = self.rng.uniform(SPEC.position_min, SPEC.position_max)
            if like is not None:
                joints[:4] = like[:4]
            there = joints + self.offsets + self.rng.normal(0, 1, 6) * play
            pose = inverse(self.camera) @ self.problem.chain(there) @ self.board
            view = exact_view(self.problem.board, self.true_lens, pose)
            if view is not None and len(view.ids) >= 12:
                corners = view.corners + self.rng.normal(0, 1, view.corners.shape) * noise
                return Sample(joints, BoardView(corners, view.ids, view.size))


@pytest.mark.parametrize("kind", ["fixed", "wrist"])
def test_exact_views_give_the_exact_place(kind: Kind) -> None:
    rig = Rig(kind, 1)
    place, found = calibrate_hand_eye(rig.problem, [rig.sample() for _ in range(10)], date="2026-01-02")
    way, turn = difference(found.camera, rig.camera)
    assert way < 1e-5 and turn < 1e-4
    np.testing.assert_allclose(place.pose, rig.camera, atol=1e-5)
    assert (place.carried_by, place.link) == (("base", "base") if kind == "fixed" else ("link", "hand"))
    assert place.errors.leave_one_out_mm < 0.05 and place.date == "2026-01-02"


@pytest.mark.parametrize("kind", ["fixed", "wrist"])
def test_uncertain_joints_are_seen_through(kind: Kind) -> None:
    """Middle joints that are 0.3 degrees off are found, and the place with them."""
    rig = Rig(kind, 2)
    rig.offsets = np.radians([0.0, 0.3, -0.25, 0.2, 0.0, 0.0])
    samples = [rig.sample(noise=0.1, play=np.radians(0.05)) for _ in range(24)]
    place, found = calibrate_hand_eye(rig.problem, samples, date="x")
    way, turn = difference(found.camera, rig.camera)
    assert way < 1.0e-3 and np.degrees(turn) < 0.15
    np.testing.assert_allclose(np.degrees(found.offsets), np.degrees(rig.offsets), atol=0.12)
    assert place.joint_offsets["shoulder_lift"] == pytest.approx(found.offsets[1])
    mm, _ = rig.problem.leave_one_out(found, samples)
    assert 0.1 < np.median(mm) < 1.5 and place.errors.leave_one_out_mm == pytest.approx(np.median(mm), rel=0.01)


def test_leaving_one_out_is_what_fitting_without_it_gives() -> None:
    rig = Rig("fixed", 3)
    samples = [rig.sample(noise=0.1, play=np.radians(0.05)) for _ in range(12)]
    found = rig.problem.refine(rig.problem.begin(samples), samples)
    mm, _ = rig.problem.leave_one_out(found, samples)
    without = rig.problem.refine(found, samples[1:])
    seen = rig.problem.seen(samples[0])
    assert seen is not None
    exact = difference(seen, rig.problem.predicted(without, samples[0].joints))[0] * 1000
    assert mm[0] == pytest.approx(exact, rel=0.1, abs=0.05)


def test_too_few_poses_are_refused() -> None:
    rig = Rig("fixed", 4)
    samples = [rig.sample() for _ in range(7)]
    with pytest.raises(CalibrationError, match="not enough poses: the board was seen at 7, at least 8"):
        calibrate_hand_eye(rig.problem, samples, date="x")
    with pytest.raises(CalibrationError, match="not enough poses: the board was seen at 2"):
        rig.problem.begin(samples[:2])


def test_rotations_about_one_axis_are_refused() -> None:
    rig = Rig("wrist", 5)
    first = rig.sample()
    samples = [first, *(rig.sample(like=first.joints) for _ in range(11))]
    with pytest.raises(CalibrationError, match="insufficient rotation: all poses turn about one axis"):
        calibrate_hand_eye(rig.problem, samples, date="x")


def test_poses_that_hardly_turn_are_refused() -> None:
    rng = np.random.default_rng(0)
    poses = [moved(np.eye(4), np.concatenate([rng.uniform(-0.05, 0.05, 3), rng.uniform(-1, 1, 3)])) for _ in range(10)]
    with pytest.raises(CalibrationError, match="insufficient rotation: no two poses differ by more than"):
        refuse_parallel(poses)


@pytest.mark.parametrize("kind", ["fixed", "wrist"])
def test_a_board_that_moved_is_refused_with_the_pose_after_which_it_did(kind: Kind) -> None:
    rig = Rig(kind, 6)
    samples = [rig.sample(noise=0.1, play=np.radians(0.05)) for _ in range(11)]
    rig.board = moved(rig.board, np.array([0.02, 0.0, 0.03, 0.008, -0.009, 0.004]))
    samples += [rig.sample(noise=0.1, play=np.radians(0.05)) for _ in range(13)]
    with pytest.raises(CalibrationError, match=r"the board moved between pose 1[012] and 1[123], by about 1\d mm"):
        calibrate_hand_eye(rig.problem, samples, date="x")


def test_a_board_that_was_not_printed_in_true_size_is_refused() -> None:
    rig = Rig("fixed", 7)
    board = BOARD_OF["fixed"]
    believed = replace(board, square=board.square / 0.97, marker=board.marker / 0.97)
    problem = HandEyeProblem("fixed", believed, rig.problem.lens, KINEMATICS)
    samples = [rig.sample(noise=0.1, play=np.radians(0.05)) for _ in range(20)]
    with pytest.raises(CalibrationError, match=r"wrong board: .* squares measure (19.9|20.0|20.1).* printed at 9[67]"):
        calibrate_hand_eye(problem, samples, date="x")


def test_poses_that_disagree_for_no_known_reason_are_refused() -> None:
    rig = Rig("fixed", 8)
    samples = [rig.sample(noise=0.1, play=np.radians(3.0)) for _ in range(20)]
    with pytest.raises(CalibrationError, match=r"disagree by|insufficient|moved|wrong board"):
        calibrate_hand_eye(rig.problem, samples, date="x")


@pytest.mark.parametrize("kind", ["fixed", "wrist"])
def test_what_poses_would_tell_is_what_their_fit_knows(kind: Kind) -> None:
    """The covariance that is predicted from the poses is that of the fit from their views."""
    rig = Rig(kind, 9)
    samples = [rig.sample(noise=0.1, play=np.radians(0.05)) for _ in range(12)]
    found = rig.problem.refine(rig.problem.begin(samples), samples)
    jacobian = rig.problem._fit(found, samples, False).jacobian
    told = rig.problem.expected() + sum(rig.problem.information(found, sample.joints) for sample in samples)
    predicted, fitted = (np.sqrt(np.diag(np.linalg.inv(matrix))) for matrix in (told, jacobian.T @ jacobian))
    np.testing.assert_allclose(predicted, fitted, rtol=0.25)


def test_a_corner_that_its_view_contradicts_is_no_part_of_a_sample() -> None:
    rig = Rig("fixed", 10)
    sample = rig.sample(noise=0.05)
    corners = sample.view.corners.copy()
    corners[3] += [1.5, -1.0]
    kept = rig.problem.sample(sample.joints, BoardView(corners, sample.view.ids, sample.view.size))
    assert kept is not None
    np.testing.assert_array_equal(kept.view.ids, np.delete(sample.view.ids, 3))
    corners[5:] += rig.rng.normal(0, 2, corners[5:].shape)
    assert rig.problem.sample(sample.joints, BoardView(corners, sample.view.ids, sample.view.size)) is None
