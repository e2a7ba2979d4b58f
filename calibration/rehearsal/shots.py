"""How somebody holds a board before a camera, at random: poses, light and unsteady hands. Knows no arm."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator

import numpy as np
from scipy.spatial.transform import Rotation

from calibration.board import Board, Image
from calibration.rehearsal.drawing import Light, TrueLens, draw
from drivers.arm import Array
from drivers.camera import Frame

FOCAL = (480.0, 720.0)  # px for a picture 640 wide: webcams of 48 to 67 degrees
CENTRE = (12.0, 10.0)  # px off the picture's middle, to either side and up or down
ASPECT = 0.005  # by which fx and fy differ at most
RADIAL, TANGENTIAL = ((-0.15, 0.08), (-0.05, 0.10)), 0.001  # ranges of k1 and k2, and of p1 and p2


def random_lens(rng: np.random.Generator, size: tuple[int, int] = (480, 640)) -> TrueLens:
    """A webcam's lens."""
    height, width = size
    focal = rng.uniform(*FOCAL) * width / 640
    matrix = np.array(
        [
            [focal, 0, (width - 1) / 2 + rng.uniform(-CENTRE[0], CENTRE[0])],
            [0, focal * (1 + rng.uniform(-ASPECT, ASPECT)), (height - 1) / 2 + rng.uniform(-CENTRE[1], CENTRE[1])],
            [0, 0, 1],
        ]
    )
    k1, k2 = (rng.uniform(*bounds) for bounds in RADIAL)
    p1, p2 = rng.uniform(-TANGENTIAL, TANGENTIAL, size=2)
    return TrueLens(size, matrix, np.array([k1, k2, p1, p2, 0.0]))


def random_light(rng: np.random.Generator) -> Light:
    """A room's light and a webcam's sharpness and noise."""
    slope = rng.uniform(-0.4, 0.4, size=2)
    return Light(
        level=rng.uniform(0.6, 1.0),
        slope=(float(slope[0]), float(slope[1])),
        blur=rng.uniform(0.4, 0.9),
        noise=rng.uniform(1.0, 3.0),
    )


def random_pose(board: Board, lens: TrueLens, rng: np.random.Generator) -> Array:
    """The board (its frame to the camera's, (4, 4)) somewhere in the picture, tilted, near or far."""
    height, width = lens.size
    distance = rng.uniform(0.9, 2.8) * board.size[0]
    aim = rng.uniform([0.1 * width, 0.1 * height], [0.9 * width, 0.9 * height])
    middle = distance * np.linalg.solve(lens.matrix, [*aim, 1.0])
    turn = Rotation.from_euler("xyz", [*rng.uniform(-0.7, 0.7, size=2), rng.uniform(-0.5, 0.5)])
    pose = np.eye(4)
    pose[:3, :3] = turn.as_matrix()
    pose[:3, 3] = middle - pose[:3, :3] @ np.array([*board.size, 0.0]) / 2
    return pose


def shots(board: Board, lens: TrueLens, rng: np.random.Generator, *, unsteady: float = 0.1) -> Iterator[Image]:
    """Pictures without end; a share of `unsteady` is smeared by motion."""
    while True:
        light = random_light(rng)
        if rng.random() < unsteady:
            smear = rng.uniform(6, 12) * np.array([np.cos(angle := rng.uniform(0, np.pi)), np.sin(angle)])
            light = Light(light.level, light.slope, light.blur, light.noise, (float(smear[0]), float(smear[1])))
        yield draw(board, lens, random_pose(board, lens, rng), light, rng)


class HeldBoard:
    """A `drivers.camera.Camera` before which somebody moves a board: each frame shows it elsewhere."""

    def __init__(self, name: str, board: Board, lens: TrueLens, rng: np.random.Generator) -> None:
        self.name, self.size = name, lens.size
        self._frames = zip(itertools.count(), shots(board, lens, rng), strict=False)

    def connect(self) -> None:
        """It is there."""

    def close(self) -> None:
        """It stays."""

    def read(self) -> Frame:
        """The next picture."""
        sequence, image = next(self._frames)
        return Frame(time.monotonic_ns(), sequence, image)
