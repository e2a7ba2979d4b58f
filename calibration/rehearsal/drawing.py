"""A board as a camera with a real lens sees it: distortion, blur, uneven light and noise. Knows no arm.

Every pixel is the mean of `FINE` x `FINE` rays through the true lens, each of which is looked up in the board's texture
where it meets the board's plane. Nothing is shared with the solver but OpenCV's definition of the lens.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import RectBivariateSpline

from calibration.board import Board, Image
from drivers.arm import Array

FINE: Final = 3  # rays of a pixel along each axis
TEXTURE: Final = 120  # px of the texture for a square
MARGIN: Final = 0.5  # squares of white paper around the board
MARGIN_TONE, BACK_TONE = 235.0, 110.0


@dataclass(frozen=True)
class TrueLens:
    """A camera as it is: `size` (height, width), matrix (3, 3), OpenCV's five distortion coefficients."""

    size: tuple[int, int]
    matrix: Array
    distortion: Array

    def project(self, points: Array) -> Array:
        """Pixels (n, 2) of points (n, 3) in the camera's frame."""
        pixels, _ = cv2.projectPoints(points, np.zeros(3), np.zeros(3), self.matrix, self.distortion)
        return np.array(pixels, dtype=np.float64).reshape(-1, 2)


@dataclass(frozen=True)
class Light:
    """How a picture is exposed: brightness from one side to the other, blur of the optics (px), noise (levels)."""

    level: float = 0.85
    slope: tuple[float, float] = (0.0, 0.0)  # share of brightness gained from left to right, and from top to bottom
    blur: float = 0.6
    noise: float = 1.5
    smear: tuple[float, float] = (0.0, 0.0)  # px that the picture moves while it is taken


def draw(board: Board, lens: TrueLens, pose: Array, light: Light, rng: np.random.Generator) -> Image:
    """A picture (H, W, 3) RGB of the board at `pose` (4, 4), from its frame to the camera's."""
    height, width = lens.size
    fine = np.full((height * FINE, width * FINE), BACK_TONE, dtype=np.float32)
    _paint(fine, board, lens, pose)
    grey = cv2.resize(fine, (width, height), interpolation=cv2.INTER_AREA)
    grey = _smear(np.asarray(grey, dtype=np.float32), light.smear)
    if light.blur > 0:
        grey = cv2.GaussianBlur(grey, (0, 0), light.blur)
    shade = (
        light.level
        * (1 + light.slope[0] * (np.arange(width) / width - 0.5))[None, :]
        * (1 + light.slope[1] * (np.arange(height) / height - 0.5))[:, None]
    )
    colour = grey[:, :, None] * shade[:, :, None] + light.noise * rng.standard_normal((height, width, 3))
    return np.clip(np.rint(colour), 0, 255).astype(np.uint8)


def _paint(fine: NDArray[np.float32], board: Board, lens: TrueLens, pose: Array) -> None:
    """The board with its white margin onto the picture of rays, where it is seen from its front."""
    if pose[:3, 2] @ pose[:3, 3] <= 0:  # z points into the paper: a board seen from behind shows nothing
        return
    wide, high = board.size
    margin = MARGIN * board.square
    outline = _outline(wide, high, margin) @ pose[:3, :3].T + pose[:3, 3]
    if outline[:, 2].min() < 0.01:
        return
    pixels = lens.project(outline)
    low = np.floor(pixels.min(axis=0)).astype(int) - 2
    high_px = np.ceil(pixels.max(axis=0)).astype(int) + 3
    left, top = (max(0, int(value)) * FINE for value in low)
    right, bottom = (min(edge, int(value)) * FINE for edge, value in zip(lens.size[::-1], high_px, strict=True))
    if left >= right or top >= bottom:
        return
    rays = _rays(lens.size, lens.matrix.tobytes(), lens.distortion.tobytes())[top:bottom, left:right]
    onto = np.linalg.inv(np.column_stack((pose[:3, 0], pose[:3, 1], pose[:3, 3])))
    x, y, w = (
        np.einsum("ij,hwj->ihw", onto[:, :2].astype(np.float32), rays) + onto[:, 2].astype(np.float32)[:, None, None]
    )
    # Rays that run along the board's plane, or away from it, meet no paper: they are sent beside it.
    ahead = w > 0
    x, y = (np.divide(part, w, out=np.full_like(part, -1.0), where=ahead) for part in (x, y))
    texture, scale = _texture(board)
    here = cv2.remap(
        texture,
        ((x + margin) * scale - 0.5).astype(np.float32),
        ((y + margin) * scale - 0.5).astype(np.float32),
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=-1.0,
    )
    inside = (x > -margin) & (y > -margin) & (x < wide + margin) & (y < high + margin)
    area = fine[top:bottom, left:right]
    area[inside] = np.maximum(here[inside], 8.0)


def _outline(wide: float, high: float, margin: float) -> Array:
    """Points all around the paper, dense enough that a curved edge lies within them, (n, 3)."""
    steps = np.linspace(0, 1, 9)
    x, y = -margin + steps * (wide + 2 * margin), -margin + steps * (high + 2 * margin)
    sides = [(x, np.full(9, y[0])), (x, np.full(9, y[-1])), (np.full(9, x[0]), y), (np.full(9, x[-1]), y)]
    points = np.concatenate([np.column_stack(side) for side in sides])
    return np.column_stack((points, np.zeros(len(points))))


@functools.lru_cache(maxsize=2)
def _texture(board: Board) -> tuple[NDArray[np.float32], float]:
    """The paper as a picture, and its pixels for a metre."""
    scale = TEXTURE / board.square
    margin = round(MARGIN * TEXTURE)
    printed = board.texture(TEXTURE)
    paper = cv2.copyMakeBorder(printed, margin, margin, margin, margin, cv2.BORDER_CONSTANT, value=255)
    return np.asarray(paper, dtype=np.float32) * (MARGIN_TONE / 255), scale


@functools.lru_cache(maxsize=4)
def _rays(size: tuple[int, int], matrix: bytes, distortion: bytes) -> NDArray[np.float32]:
    """The direction (x/z, y/z) in which each ray leaves the camera, (H * FINE, W * FINE, 2)."""
    height, width = size
    steps = (np.arange(FINE) - (FINE - 1) / 2) / FINE
    columns = (np.arange(width)[:, None] + steps).ravel()
    rows = (np.arange(height)[:, None] + steps).ravel()
    # The inverse of a smooth distortion is smooth: a spline through a coarse grid is exact to 1e-5 px.
    coarse_x, coarse_y = np.arange(-8, width + 9, 4.0), np.arange(-8, height + 9, 4.0)
    grid = np.stack(np.meshgrid(coarse_x, coarse_y), axis=-1).reshape(-1, 1, 2)
    criteria = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 100, 1e-12)
    directions = cv2.undistortPointsIter(
        grid, np.frombuffer(matrix).reshape(3, 3), np.frombuffer(distortion), np.eye(3), np.eye(3), criteria
    ).reshape(len(coarse_y), len(coarse_x), 2)
    splines = [RectBivariateSpline(coarse_y, coarse_x, directions[:, :, axis]) for axis in (0, 1)]
    return np.stack([spline(rows, columns) for spline in splines], axis=-1).astype(np.float32)


def _smear(grey: NDArray[np.float32], smear: tuple[float, float]) -> NDArray[np.float32]:
    length = float(np.hypot(*smear))
    if length < 0.5:
        return grey
    steps = max(2, round(2 * length))
    total = np.zeros_like(grey)
    for share in np.linspace(-0.5, 0.5, steps):
        shift = np.array([[1, 0, share * smear[0]], [0, 1, share * smear[1]]], dtype=np.float32)
        total += cv2.warpAffine(grey, shift, grey.shape[::-1], borderMode=cv2.BORDER_REPLICATE)
    return (total / steps).astype(np.float32)
