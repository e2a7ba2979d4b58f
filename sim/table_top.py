"""The table of a picture, computed instead of drawn: it is one plane of one colour, yet most of what a picture costs.

Bullet's software renderer draws the scene without the table and tells each pixel's depth; where the table's plane is
nearer, the pixel has the table's colour. The result is what the renderer itself would have drawn, to the last bit:
wherever a rounding could decide (at the table's edge, where something touches it, at the far plane), it draws the
table after all. Knows neither arm nor blocks. Lengths in m; a picture's rows go down.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Matrix = tuple[float, ...]  # 16 numbers, OpenGL's, column by column
Rectangle = tuple[tuple[float, float], tuple[float, float]]  # lowest and highest x and y
Draw = Callable[[Matrix, Matrix], tuple[NDArray[np.uint8], NDArray[np.float32]]]

# Within what a rounding may decide. Measured over 400 pictures of the wrist camera: the renderer's depths are off by at
# most 2e-7, and no pixel is on the wrong side of an edge.
DEPTH = 1e-6  # of a depth value
EDGE = 2e-3  # pixels; the renderer's coordinates are 32-bit floats of up to some thousand pixels
FAR = 0.02  # share of the far plane's distance


class TableTop:
    """A level rectangle of one colour, in pictures of which the rest is drawn.

    `draw` takes a view and a projection and returns colours (H, W, 4) and depths (H, W); `hide` is told true before
    it must draw the scene without the table, and false before it must draw all of it. Tell it with `appear` when the
    table is another.
    """

    def __init__(self, draw: Draw, hide: Callable[[bool], None], rectangle: Rectangle) -> None:
        self._draw, self._hide, self._rectangle = draw, hide, rectangle
        self._height, self._colour = 0.0, np.uint32(0)
        self._hidden = False

    def appear(self, height: float) -> None:
        """The table's surface is at `height` from now on, its colour whatever the renderer makes of it now."""
        self._switch(False)
        (_, _), (x, y) = self._rectangle
        # A glimpse of a far corner, beyond the arm's reach and away from all that lies on the table.
        x, y = x - 0.02, y - 0.02
        down = (1.0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, -x, -y, -height - 1, 1)  # 1 m above it, looking down
        narrow = (100.0, 0, 0, 0, 0, 100, 0, 0, 0, 0, -5 / 3, -1, 0, 0, -4 / 3, 0)  # from 0.5 to 2 m
        colours, _ = self._draw(down, narrow)
        self._height, self._colour = height, colours[0, 0].copy().view(np.uint32)[0]

    def picture(self, view: Matrix, projection: Matrix) -> NDArray[np.uint8]:
        """What a camera sees, (H, W, 3) RGB."""
        self._switch(True)
        colours, depths = self._draw(view, projection)
        shown = self._shown(view, projection, depths)
        if shown is None:
            self._switch(False)
            colours, _ = self._draw(view, projection)
        else:
            np.copyto(colours.view(np.uint32)[:, :, 0], self._colour, where=shown)
        return np.ascontiguousarray(colours[:, :, :3])

    def _shown(self, view: Matrix, projection: Matrix, depths: NDArray[np.float32]) -> NDArray[np.bool_] | None:
        """Where the table is seen, (H, W); None when a rounding decides."""
        height, width = depths.shape
        seen = table_depths(view, projection, self._rectangle, self._height, height, width)
        if seen is None:
            return None
        behind = depths - seen
        if np.abs(behind).min() < DEPTH:
            return None
        shown: NDArray[np.bool_] = behind > 0
        return shown

    def _switch(self, hidden: bool) -> None:
        if hidden != self._hidden:
            self._hidden = hidden
            self._hide(hidden)


@functools.lru_cache(maxsize=4)  # a camera that stands still asks once
def table_depths(
    view: Matrix, projection: Matrix, rectangle: Rectangle, level: float, height: int, width: int
) -> Floats | None:
    """The depth value in each pixel (H, W) of a table at height `level`, infinite beside it; None: a rounding decides.

    A depth value is 0 at the near plane and 1 at the far one, and linear in 1 / distance along the view.
    """
    matrix = np.array(projection).reshape(4, 4).T
    near, far = matrix[2, 3] / (matrix[2, 2] - 1), matrix[2, 3] / (matrix[2, 2] + 1)
    whole = (matrix @ np.array(view).reshape(4, 4).T)[[0, 1, 3]]
    onto = whole[:, [0, 1, 3]]  # of the plane: (x, y, 1) to clip space
    onto[:, 2] += level * whole[:, 2]
    if abs(np.linalg.det(onto)) < 1e-9:
        return None  # the camera stands in the plane
    # A pixel is sampled at its lower left corner. From (column, row, 1) to (x, y, 1) / distance: all that is asked of a
    # pixel is linear in that.
    pixels = np.array([[2 / width, 0, -1], [0, -2 / height, 1 - 2 / height], [0, 0, 1]])
    x, y, nearness = np.linalg.inv(onto) @ pixels
    (x_low, y_low), (x_high, y_high) = rectangle
    edges = np.stack(
        [x - x_low * nearness, x_high * nearness - x, y - y_low * nearness, y_high * nearness - y, nearness]
    )
    edges[4, 2] -= 1 / far
    edges[:4] /= np.maximum(np.hypot(edges[:4, :1], edges[:4, 1:2]), 1e-300)  # pixels inside
    edges[4] *= far / FAR * EDGE
    depths = far / (far - near) * (_spread(-near * nearness, height, width) + 1)
    corners = edges @ [[0, width - 1, 0, width - 1], [0, 0, height - 1, height - 1], [1, 1, 1, 1]]
    crossing = edges[corners.min(axis=1) <= EDGE]  # the edges that run through the picture
    if len(crossing) == 0:
        return depths
    inside = np.minimum.reduce([_spread(edge, height, width) for edge in crossing])
    if np.abs(inside).min() < EDGE:
        return None
    depths[inside < 0] = np.inf
    return depths


def _spread(form: Floats, height: int, width: int) -> Floats:
    """(H, W) values of a linear form of (column, row, 1)."""
    values: Floats = form[0] * np.arange(width) + (form[1] * np.arange(height) + form[2])[:, None]
    return values
