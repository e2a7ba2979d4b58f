"""The drawn board: what the detector finds in it is where the true lens puts it."""

from __future__ import annotations

import numpy as np
import pytest

from calibration.board import BOARDS, find_board
from calibration.rehearsal import drawing
from calibration.rehearsal.drawing import FINE, Light, TrueLens, draw
from calibration.rehearsal.shots import random_lens, random_pose

TABLE = BOARDS["table"]


def test_corners_are_drawn_where_the_lens_projects_them() -> None:
    rng = np.random.default_rng(1)
    lens = random_lens(rng)
    off = []
    for _ in range(8):
        pose = random_pose(TABLE, lens, rng)
        view = find_board(TABLE, draw(TABLE, lens, pose, Light(noise=0.5), rng))
        if view is not None:
            points = TABLE.corners[view.ids] @ pose[:3, :3].T + pose[:3, 3]
            off.append(view.corners - lens.project(points))
    errors = np.concatenate(off)
    assert len(errors) > 200
    assert np.abs(errors.mean(axis=0)).max() < 0.03
    assert np.median(np.abs(errors)) < 0.06


def test_a_board_behind_the_camera_or_seen_from_behind_is_not_drawn() -> None:
    rng = np.random.default_rng(2)
    lens = random_lens(rng)
    pose = random_pose(TABLE, lens, rng)
    behind, reverse = pose.copy(), pose.copy()
    behind[2, 3] *= -1
    reverse[:3, [0, 2]] *= -1
    for wrong in (behind, reverse):
        assert np.ptp(draw(TABLE, lens, wrong, Light(noise=0.0), rng)) < 5


@pytest.mark.filterwarnings("error")
def test_rays_along_the_boards_plane_meet_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Edge-on, with the middle row of a pinhole's rays exactly in the plane: no division by zero, and nothing there."""
    size, focal = (48, 64), 40.0
    across, down = np.meshgrid((np.arange(64 * FINE) - 96) / focal / FINE, (np.arange(48 * FINE) - 72) / focal / FINE)
    rays = np.stack([across, down], axis=-1).astype(np.float32)
    monkeypatch.setattr(drawing, "_rays", lambda *lens: rays)
    lens = TrueLens(size, np.array([[focal, 0, 32], [0, focal, 24], [0, 0, 1]]), np.zeros(5))
    pose = np.array([[1.0, 0, 0, -0.1], [0, 0, -1.0, -0.02], [0, 1.0, 0, 0.1], [0, 0, 0, 1]])
    shown = drawing.draw(TABLE, lens, pose, Light(noise=0.0, blur=0.0, level=1.0), np.random.default_rng(3))
    assert (shown[24:] == shown[-1, 0]).all()  # the background from the horizon on
    assert np.ptp(shown[:20]) > 50
