"""The lens: recovered from drawn views, judged by views it was not fitted to, refused where the views leave it open."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from calibration.board import BOARDS, BoardView
from calibration.camera import VIEWS_MIN, board_pose, calibrate_camera, consistent, held_out_error, prediction_errors
from calibration.errors import CalibrationError
from calibration.rehearsal.drawing import TrueLens
from calibration.rehearsal.shots import random_lens, random_pose
from calibration.views import Gathering
from drivers.arm import Array
from tests.calibration.conftest import Album

TABLE = BOARDS["table"]


@pytest.fixture(scope="module")
def views(album: Album) -> list[BoardView]:
    gathering = Gathering(TABLE)
    for image in album.images:
        gathering.offer(image)
    return gathering.views


def exact(lens: TrueLens, pose: Array) -> BoardView:
    """Every corner where the lens projects it, inside the picture or not."""
    pixels = lens.project(TABLE.corners @ pose[:3, :3].T + pose[:3, 3])
    return BoardView(pixels, np.arange(len(pixels)), lens.size)


def test_a_lens_is_recovered(album: Album, views: list[BoardView]) -> None:
    true = album.lens
    lens, out = calibrate_camera(TABLE, views, date="2026-01-02")
    assert lens.fx / true.matrix[0, 0] == pytest.approx(1, abs=0.005)
    assert lens.fy / true.matrix[1, 1] == pytest.approx(1, abs=0.005)
    assert np.hypot(lens.cx - true.matrix[0, 2], lens.cy - true.matrix[1, 2]) < 1.0
    assert lens.date == "2026-01-02" and lens.board == TABLE.describe() and lens.size == (480, 640)
    assert lens.errors.views == len(views) - len(out) and len(out) <= 3
    assert 0 < lens.errors.held_out < 0.15


def test_the_held_out_error_sees_what_the_fit_hides(views: list[BoardView]) -> None:
    """Corners off at random by half a pixel: few views fit them better than they predict others."""
    rng = np.random.default_rng(0)
    noisy = [
        BoardView(view.corners + rng.normal(0, 0.4, view.corners.shape), view.ids, view.size)
        for view in views[:VIEWS_MIN]
    ]
    lens, _ = calibrate_camera(TABLE, noisy, date="x")
    assert lens.errors.held_out > 1.1 * lens.errors.fitted
    assert held_out_error(TABLE, noisy) == pytest.approx(lens.errors.held_out)


def test_a_view_that_does_not_fit_is_left_out(views: list[BoardView]) -> None:
    bent = BoardView(views[3].corners + 6 * np.sin(views[3].corners[:, ::-1] / 40), views[3].ids, views[3].size)
    _, out = calibrate_camera(TABLE, [*views[:3], bent, *views[4:20]], date="x")
    assert 3 in out


def test_too_few_views_are_refused(views: list[BoardView]) -> None:
    with pytest.raises(CalibrationError, match=f"not enough views: 9 .* at least {VIEWS_MIN}"):
        calibrate_camera(TABLE, views[:9], date="x")


def test_pictures_of_several_sizes_are_refused(views: list[BoardView]) -> None:
    other = BoardView(views[0].corners, views[0].ids, (720, 1280))
    with pytest.raises(CalibrationError, match="several sizes"):
        calibrate_camera(TABLE, [*views, other], date="x")


def test_views_without_tilt_are_refused() -> None:
    rng = np.random.default_rng(0)
    lens = random_lens(rng)
    flat = []
    for _ in range(12):
        pose = np.eye(4)
        pose[:3, 3] = [*rng.uniform(-0.2, 0.0, 2), rng.uniform(0.4, 0.6)]
        view = exact(lens, pose)
        flat.append(BoardView(view.corners + rng.normal(0, 0.2, view.corners.shape), view.ids, view.size))
    with pytest.raises(CalibrationError, match=r"leave the (focal length|principal point) open"):
        calibrate_camera(TABLE, flat, date="x")


def test_a_boards_pose_is_found() -> None:
    rng = np.random.default_rng(1)
    lens = random_lens(rng)
    for _ in range(20):
        true = random_pose(TABLE, lens, rng)
        found = board_pose(TABLE, exact(lens, true), lens.matrix, lens.distortion)
        assert found is not None
        np.testing.assert_allclose(found, true, atol=1e-5)


def test_too_few_corners_give_no_pose() -> None:
    lens = random_lens(np.random.default_rng(1))
    view = exact(lens, random_pose(TABLE, lens, np.random.default_rng(2)))
    assert board_pose(TABLE, view.of(np.arange(len(view.ids)) < 3), lens.matrix, lens.distortion) is None


def test_corners_on_one_line_say_nothing_of_the_boards_pose(album: Album) -> None:
    """A view of nine corners whose every second one is in the same column, as one was that is at the picture's edge."""
    lens, rng = album.lens, np.random.default_rng(5)
    view = exact(lens, random_pose(TABLE, lens, rng))
    column = view.of(np.isin(view.ids, [16, 25, 34, 43, 52]))
    assert board_pose(TABLE, column, lens.matrix, lens.distortion) is None
    nine = view.of(np.isin(view.ids, [16, 24, 25, 33, 34, 42, 43, 51, 52]))
    assert prediction_errors(TABLE, nine, lens.matrix, lens.distortion).size == 0
    row = view.of(view.ids < 9)
    assert consistent(TABLE, row, lens.matrix, lens.distortion) is None


def test_a_view_for_which_the_solver_finds_nothing_has_no_pose(album: Album, monkeypatch: pytest.MonkeyPatch) -> None:
    """As it does for some views of four corners, three of them on a line: a matter of rounding."""
    view = exact(album.lens, random_pose(TABLE, album.lens, np.random.default_rng(5)))
    monkeypatch.setattr(cv2, "solvePnPGeneric", lambda *given, **options: (0, (), (), None))
    assert board_pose(TABLE, view, album.lens.matrix, album.lens.distortion) is None


def test_consistent_corners_are_kept_and_contradicted_ones_are_not(album: Album) -> None:
    lens, rng = album.lens, np.random.default_rng(6)
    for bad in (0, 1, 3):
        view = exact(lens, random_pose(TABLE, lens, rng))
        view = BoardView(view.corners + rng.normal(0, 0.08, view.corners.shape), view.ids, view.size)
        wrong = rng.choice(len(view.ids), bad, replace=False)
        corners = view.corners.copy()
        corners[wrong] += rng.choice([-1.5, 1.5], (bad, 2))
        kept = consistent(TABLE, BoardView(corners, view.ids, view.size), lens.matrix, lens.distortion)
        assert kept is not None
        assert set(view.ids) - set(kept.ids) == set(view.ids[wrong])
