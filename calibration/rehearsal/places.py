"""Where cameras and boards stand on a rig: random places like those of real ones, and views of the board from them.

For arms of an SO-101's size; the hand's frame has x along the fingers, y across them.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from scipy.spatial.transform import Rotation

from calibration.board import BOARDS, Board, BoardView
from calibration.hand_eye import Kind
from calibration.rehearsal.drawing import TrueLens
from drivers.arm import Array

FIXED_EYE, FIXED_FOCUS = np.array([0.52, 0.0, 0.40]), np.array([0.15, 0.0, 0.10])  # m, base frame
WRIST_EYE, WRIST_FOCUS = np.array([0.0, 0.0, 0.065]), np.array([0.14, 0.0, -0.01])  # m, hand's frame
BOARD_IN_HAND: Final = np.array([0.145, 0.0, 0.0])  # m, the board's middle, ahead of the fingers
BOARD_ON_TABLE: Final = np.array([0.21, 0.0, 0.0])
BOARD_OF: Final[dict[Kind, Board]] = {"fixed": BOARDS["hand"], "wrist": BOARDS["table"]}


def look_at(eye: Array, focus: Array, up: Array) -> Array:
    """A camera's pose (4, 4): z towards `focus`, y away from `up`."""
    ahead = (focus - eye) / np.linalg.norm(focus - eye)
    across = np.cross(ahead, up)
    across /= np.linalg.norm(across)
    pose = np.eye(4)
    pose[:3, 0], pose[:3, 1], pose[:3, 2], pose[:3, 3] = across, np.cross(ahead, across), ahead, eye
    return pose


def random_camera(kind: Kind, rng: np.random.Generator) -> Array:
    """In the base's frame, or the hand's."""
    eye, focus, reach = (FIXED_EYE, FIXED_FOCUS, 0.05) if kind == "fixed" else (WRIST_EYE, WRIST_FOCUS, 0.012)
    pose = look_at(
        eye + rng.uniform(-reach, reach, 3), focus + rng.uniform(-reach, reach, 3) / 2, np.array([0.0, 0.0, 1.0])
    )
    pose[:3, :3] = pose[:3, :3] @ Rotation.from_rotvec(rng.uniform(-0.1, 0.1, 3)).as_matrix()
    return pose


def random_board(kind: Kind, rng: np.random.Generator) -> Array:
    """In the hand's frame, facing ahead on a bracket, or on the table, face up."""
    board = BOARD_OF[kind]
    turn = Rotation.from_rotvec(rng.uniform(-0.12, 0.12, 3))
    pose = np.eye(4)
    if kind == "fixed":
        # z into the paper, which faces along the fingers: tipped up by 40 degrees, towards a camera above.
        facing = Rotation.from_matrix([[0.0, 0.0, -1.0], [1.0, 0.0, 0.0], [0.0, -1.0, 0.0]])
        tipped = Rotation.from_rotvec([0.0, -0.7, 0.0])
        pose[:3, :3] = (turn * tipped * facing).as_matrix()
        middle = BOARD_IN_HAND + rng.uniform(-0.008, 0.008, 3)
    else:
        flat = Rotation.from_matrix([[0.0, -1.0, 0.0], [-1.0, 0.0, 0.0], [0.0, 0.0, -1.0]])
        spin = Rotation.from_rotvec([0.0, 0.0, rng.uniform(-0.3, 0.3)])
        pose[:3, :3] = (spin * flat).as_matrix()
        middle = BOARD_ON_TABLE + np.array([*rng.uniform(-0.015, 0.015, 2), 0.0])
    pose[:3, 3] = middle - pose[:3, :3] @ np.array([*board.size, 0.0]) / 2
    return pose


def exact_view(board: Board, lens: TrueLens, pose: Array) -> BoardView | None:
    """The corners that the camera has in its picture, where the lens projects them; None from behind or too few."""
    if pose[:3, 2] @ pose[:3, 3] <= 0.3 * np.linalg.norm(pose[:3, 3]):
        return None
    points = board.corners @ pose[:3, :3].T + pose[:3, 3]
    if points[:, 2].min() < 0.05:
        return None
    pixels = lens.project(points)
    height, width = lens.size
    inside = ((pixels > 8) & (pixels < [width - 9, height - 9])).all(axis=1)
    if inside.sum() < 8:
        return None
    return BoardView(pixels[inside], np.flatnonzero(inside), lens.size)
