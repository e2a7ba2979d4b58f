"""What every simulated scene shares: a physics client, a grey table at height 0, and how a picture is taken.

Knows no arm. Lengths in m.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sim.quiet import quiet

with quiet():
    import pybullet
    from pybullet_utils.bullet_client import BulletClient

FLAGS = pybullet.ER_NO_SEGMENTATION_MASK

TILE = 0.6  # m, edge of one tile of the table
TABLE_GREY = 0.55
PLACE = ((-0.5, -0.6), (0.7, 0.6))  # lowest and highest x and y of a table of 2 x 2 tiles


@dataclass(frozen=True)
class Light:
    """A lamp at infinity and what comes from everywhere. It throws no shadows: they double what a picture costs."""

    direction: tuple[float, float, float] = (0.3, 0.0, 1.0)  # towards the lamp
    colour: tuple[float, float, float] = (1.0, 1.0, 1.0)
    ambient: float = 0.6
    diffuse: float = 0.45


DAYLIGHT = Light()


class Client(BulletClient):
    """A physics client that looks each function of PyBullet up once, not at every call."""

    def __getattr__(self, name: str) -> Any:
        found = super().__getattr__(name)
        if name not in ("disconnect", "isConnected"):  # which depend on whether there still is a connection
            setattr(self, name, found)
        return found


def connect(physics_rate: int) -> Any:
    """A physics client of its own, with gravity."""
    with quiet():
        p = Client(pybullet.DIRECT)
    set_physics(p, physics_rate)
    return p


def set_physics(p: Any, physics_rate: int) -> None:
    """Gravity and the solver's settings, which a client forgets when its simulation is reset."""
    p.setGravity(0, 0, -9.81)
    p.setTimeStep(1 / physics_rate)
    p.setPhysicsEngineParameter(deterministicOverlappingPairs=1)
    set_solver(p, careful=False)


def set_solver(p: Any, careful: bool) -> None:
    """How far the contacts of a substep are solved.

    After 30 iterations, a slanted solid between two jaws still turns by up to 30 degrees a second; after 100 it does
    not. Most substeps are solved long before, and stop there; with a residual of 1e-5 or more, what stands on something
    trembles by some mm/s.
    """
    iterations, residual = (100, 1e-6) if careful else (30, 1e-7)
    p.setPhysicsEngineParameter(numSolverIterations=iterations, solverResidualThreshold=residual)


@dataclass(frozen=True)
class Table:
    """A table's bodies: one that is touched, and the tiles that are seen."""

    touched: int
    seen: tuple[int, ...]


def add_table(p: Any, tiles: int = 2, height: float = 0.0) -> Table:
    """A grey table at `height` of `tiles` x `tiles` tiles, its middle ahead of the origin."""
    half, middle = tiles * TILE / 2, 0.1
    shape = p.createCollisionShape(p.GEOM_BOX, halfExtents=[half, half, 0.05])
    table = p.createMultiBody(0, shape, -1, [middle, 0, height - 0.05])
    p.changeDynamics(table, -1, lateralFriction=0.9)
    # TinyRenderer clips triangles that reach behind the camera badly; tiles cost 4 shapes and more and stay whole.
    places = [round((index + 0.5) * TILE - half, 9) for index in range(tiles)]
    seen = []
    for x in places:
        for y in places:
            tile = p.createVisualShape(
                p.GEOM_BOX, halfExtents=[TILE / 2, TILE / 2, 0.005], rgbaColor=[*[TABLE_GREY] * 3, 1]
            )
            seen.append(p.createMultiBody(0, -1, tile, [round(middle + x, 9), y, height - 0.005]))
    p.changeVisualShape(table, -1, rgbaColor=[0, 0, 0, 0])
    return Table(table, tuple(seen))


def hide_table(p: Any, seen: Sequence[int], hidden: bool, grey: float = TABLE_GREY) -> None:
    """Leave the table out of pictures, or show it again in `grey`; it stays where it is."""
    for tile in seen:
        p.changeVisualShape(tile, -1, rgbaColor=[*[grey] * 3, 0 if hidden else 1])


def picture(p: Any, view: object, projection: object, size: tuple[int, int]) -> NDArray[np.uint8]:
    """What a camera with these matrices sees, (H, W, 3) RGB; `size` is (height, width)."""
    return np.ascontiguousarray(draw(p, view, projection, size)[0][:, :, :3])


def draw(
    p: Any, view: object, projection: object, size: tuple[int, int], light: Light = DAYLIGHT
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Colours (H, W, 4) and depths (H, W), 0 at the near plane and 1 at the far one; `size` is (height, width)."""
    height, width = size
    _, _, colours, depths, _ = p.getCameraImage(
        width,
        height,
        view,
        projection,
        lightDirection=light.direction,
        lightColor=light.colour,
        lightDistance=1.0,
        shadow=0,
        lightAmbientCoeff=light.ambient,
        lightDiffuseCoeff=light.diffuse,
        lightSpecularCoeff=0.0,
        renderer=pybullet.ER_TINY_RENDERER,
        flags=FLAGS,
    )
    # A PyBullet that was built without NumPy gives tuples.
    return (
        np.asarray(colours, dtype=np.uint8).reshape(height, width, 4),
        np.asarray(depths, dtype=np.float32).reshape(height, width),
    )
