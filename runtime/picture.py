"""Pictures for people: contact sheets of camera frames with a caption under each.

Knows no episodes and no policy. OpenCV is imported when a picture is made, so that the module costs nothing to import.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]

BACKGROUND = (24, 26, 30)  # RGB, as the tones below
TONES = {"good": (96, 200, 120), "bad": (232, 104, 96), "plain": (200, 204, 210)}
FRAME_HEIGHT = 192  # shown height of one camera frame, pixels
MARGIN = 8
LINE = 16  # height of a caption line, pixels
FONT_SCALE = 0.42  # of OpenCV's Hershey font: about 10 pixels high


@dataclass(frozen=True)
class Cell:
    """One entry of a contact sheet: the frames of one moment, side by side, and what to say about them."""

    frames: tuple[Image, ...]  # (H, W, 3) RGB, any sizes
    caption: str
    tone: str = "plain"  # a key of TONES; colours the caption


def contact_sheet(cells: Sequence[Cell], columns: int = 4, height: int = FRAME_HEIGHT) -> Image:
    """Arrange `cells` row by row, at most `columns` side by side, frames shown `height` pixels high; (H, W, 3) RGB.

    Raises ValueError when there is no cell or a cell without a frame.
    """
    if not cells:
        raise ValueError("a contact sheet needs at least one cell")
    tiles = [_tile(cell, height) for cell in cells]
    tallest = max(tile.shape[0] for tile in tiles)
    width = max(tile.shape[1] for tile in tiles)
    across = min(columns, len(tiles))
    down = -(-len(tiles) // across)
    sheet = np.empty((down * (tallest + MARGIN) + MARGIN, across * (width + MARGIN) + MARGIN, 3), dtype=np.uint8)
    sheet[:] = BACKGROUND
    for i, tile in enumerate(tiles):
        row, column = divmod(i, across)
        top = MARGIN + row * (tallest + MARGIN)
        left = MARGIN + column * (width + MARGIN)
        sheet[top : top + tile.shape[0], left : left + tile.shape[1]] = tile
    return sheet


def save_png(path: Path, image: Image) -> None:
    """Write an (H, W, 3) RGB image. Raises OSError when the file cannot be written."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(_encode(".png", image, []))


def jpeg(image: Image, quality: int = 90) -> bytes:
    """An (H, W, 3) RGB image as JPEG."""
    import cv2

    return _encode(".jpg", image, [int(cv2.IMWRITE_JPEG_QUALITY), quality])


def decode(data: bytes) -> Image:
    """A JPEG or PNG as (H, W, 3) RGB. Raises ValueError when it is neither."""
    import cv2

    image = cv2.imdecode(np.frombuffer(data, dtype=np.uint8), cv2.IMREAD_COLOR)
    if image is None:
        raise ValueError("the data is not an image")
    return np.ascontiguousarray(image[..., ::-1], dtype=np.uint8)


def wrap(text: str, characters: int) -> list[str]:
    """Break `text` at spaces into lines of at most `characters`; a longer word keeps its line."""
    lines: list[str] = []
    for word in text.split():
        if lines and len(lines[-1]) + 1 + len(word) <= characters:
            lines[-1] += " " + word
        else:
            lines.append(word)
    return lines


def _tile(cell: Cell, height: int) -> Image:
    import cv2

    if not cell.frames:
        raise ValueError(f"the cell {cell.caption!r} has no frame")
    frames = []
    for frame in cell.frames:
        scale = height / frame.shape[0]
        size = (max(1, round(frame.shape[1] * scale)), height)
        method = cv2.INTER_NEAREST if scale >= 1.0 else cv2.INTER_AREA  # show the pixels that the policy saw
        frames.append(np.asarray(cv2.resize(frame, size, interpolation=method), dtype=np.uint8))
    picture = np.concatenate(frames, axis=1)
    lines = wrap(cell.caption, max(8, picture.shape[1] // 8))
    band = np.empty((LINE * max(1, len(lines)) + 6, picture.shape[1], 3), dtype=np.uint8)
    band[:] = BACKGROUND
    for i, line in enumerate(lines):
        cv2.putText(
            band, line, (2, LINE * (i + 1) - 3), cv2.FONT_HERSHEY_SIMPLEX, FONT_SCALE, TONES[cell.tone], 1, cv2.LINE_AA
        )
    return np.concatenate([picture, band], axis=0)


def _encode(suffix: str, image: Image, parameters: list[int]) -> bytes:
    import cv2

    done, data = cv2.imencode(suffix, image[..., ::-1], parameters)
    if not done:
        raise ValueError(f"an image of shape {image.shape} and type {image.dtype} could not be encoded")
    return bytes(data.tobytes())
