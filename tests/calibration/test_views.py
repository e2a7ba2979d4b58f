"""Which pictures are kept, and what is asked for next."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from calibration.board import BOARDS, find_board
from calibration.rehearsal.drawing import Light, TrueLens, draw
from calibration.rehearsal.shots import random_lens
from calibration.views import CELLS, Gathering, edge_width, span, tilt
from drivers.arm import Array
from tests.calibration.conftest import Album

TABLE = BOARDS["table"]


@pytest.fixture(scope="module")
def lens() -> TrueLens:
    return random_lens(np.random.default_rng(3))


def facing(turn: Array, distance: float = 0.45) -> Array:
    """The board with its middle ahead of the camera, turned by a rotation matrix."""
    pose = np.eye(4)
    pose[:3, :3] = turn
    pose[:3, 3] = [0, 0, distance] - turn @ np.array([*TABLE.size, 0]) / 2
    return pose


def about(axis: int, angle: float) -> Array:
    c, s = np.cos(angle), np.sin(angle)
    turn = np.eye(3)
    first, second = (axis + 1) % 3, (axis + 2) % 3
    turn[first, first] = turn[second, second] = c
    turn[first, second], turn[second, first] = -s, s
    return turn


def shot(lens: TrueLens, pose: Array, **light: Any) -> np.ndarray:
    return draw(TABLE, lens, pose, Light(**light), np.random.default_rng(0))


def test_a_sharp_picture_is_sharp_and_a_moving_one_is_not(lens: TrueLens) -> None:
    widths = []
    for light in ({}, {"smear": (5.0, 0.0)}, {"smear": (0.0, 5.0)}, {"blur": 2.0}):
        image = shot(lens, facing(about(2, 0.1), 0.3), **light)
        view = find_board(TABLE, image)
        assert view is not None
        widths.append(edge_width(TABLE, view, image))
    assert widths[0] < 3 < 4 < min(widths[1:])


def test_tilts_have_the_sign_of_the_edge_that_is_nearer(lens: TrueLens) -> None:
    for axis, angle, which, sign in ((1, 0.4, 0, 1), (1, -0.4, 0, -1), (0, 0.4, 1, -1), (0, -0.4, 1, 1)):
        pose = facing(about(axis, angle))
        view = find_board(TABLE, shot(lens, pose))
        assert view is not None
        assert sign * tilt(TABLE, view)[which] == pytest.approx(0.4, abs=0.08)
        corners = TABLE.corners @ pose[:3, :3].T + pose[:3, 3]
        side = corners[:, which]
        assert (corners[side.argmax(), 2] < corners[side.argmin(), 2]) == (sign > 0)  # what the advice relies on


def test_a_view_that_is_much_like_another_is_not_kept(lens: TrueLens) -> None:
    gathering = Gathering(TABLE)
    assert gathering.offer(shot(lens, facing(np.eye(3)))) is None
    assert gathering.offer(shot(lens, facing(np.eye(3), 0.455))) == "repeated"
    assert gathering.offer(shot(lens, facing(about(1, 0.4)))) is None
    assert gathering.offer(shot(lens, facing(about(0, 0.3), 0.3), smear=(5.0, 0.0))) == "blurred"
    assert gathering.offer(np.zeros((480, 640, 3), dtype=np.uint8)) == "no board"
    assert gathering.rejected == {"repeated": 1, "blurred": 1, "no board": 1} and len(gathering.views) == 2


def test_what_is_missing_is_asked_for_until_nothing_is(album: Album) -> None:
    gathering = Gathering(TABLE)
    assert gathering.missing()[0].startswith("move the board to the")
    wishes = []
    for image in album.images:
        if not gathering.missing():
            break
        gathering.offer(image)
        wishes.append(len(gathering.missing()))
    assert wishes[-1] == 0 < wishes[0]
    assert gathering.covered().shape == CELLS and gathering.covered().min() >= 12
    assert max(span(view) for view in gathering.views) > 0.5


def test_without_tilted_views_tilt_is_asked_for(lens: TrueLens) -> None:
    gathering = Gathering(TABLE)
    gathering.offer(shot(lens, facing(np.eye(3))))
    assert sum("towards the camera" in wish for wish in gathering.missing()) == 4
