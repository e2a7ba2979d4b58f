"""What every simulated scene shares: a physics client, a grey table at height 0, and how a picture is taken.

Knows no arm. Lengths in m.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sim.quiet import quiet

with quiet():
    import pybullet
    from pybullet_utils.bullet_client import BulletClient

FLAGS = pybullet.ER_NO_SEGMENTATION_MASK


TILE = 0.6  # m, edge of one tile of the table


def connect(physics_rate: int) -> Any:
    """A physics client of its own, with gravity."""
    with quiet():
        p = BulletClient(pybullet.DIRECT)
    p.setGravity(0, 0, -9.81)
    p.setTimeStep(1 / physics_rate)
    p.setPhysicsEngineParameter(numSolverIterations=30, deterministicOverlappingPairs=1)
    return p


def add_table(p: Any, tiles: int = 2) -> None:
    """A grey table at height 0 of `tiles` x `tiles` tiles, its middle a little ahead of the origin."""
    half, middle = tiles * TILE / 2, 0.1
    shape = p.createCollisionShape(p.GEOM_BOX, halfExtents=[half, half, 0.05])
    table = p.createMultiBody(0, shape, -1, [middle, 0, -0.05])
    p.changeDynamics(table, -1, lateralFriction=0.9)
    # TinyRenderer clips triangles that reach behind the camera badly; tiles cost 4 shapes and more and stay whole.
    places = [round((index + 0.5) * TILE - half, 9) for index in range(tiles)]
    for x in places:
        for y in places:
            tile = p.createVisualShape(
                p.GEOM_BOX, halfExtents=[TILE / 2, TILE / 2, 0.005], rgbaColor=[0.55, 0.55, 0.55, 1]
            )
            p.createMultiBody(0, -1, tile, [round(middle + x, 9), y, -0.005])
    p.changeVisualShape(table, -1, rgbaColor=[0, 0, 0, 0])


def picture(p: Any, view: object, projection: object, size: tuple[int, int]) -> NDArray[np.uint8]:
    """What a camera with these matrices sees, (H, W, 3) RGB; `size` is (height, width)."""
    height, width = size
    _, _, rgba, _, _ = p.getCameraImage(
        width,
        height,
        view,
        projection,
        lightDirection=[0.3, 0, 1],
        lightDistance=1.0,
        shadow=0,
        lightAmbientCoeff=0.6,
        lightDiffuseCoeff=0.45,
        lightSpecularCoeff=0.0,
        renderer=pybullet.ER_TINY_RENDERER,
        flags=FLAGS,
    )
    return np.ascontiguousarray(np.asarray(rgba, dtype=np.uint8).reshape(height, width, 4)[:, :, :3])
