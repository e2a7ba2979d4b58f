"""The blocks of block stacking as bodies of the physics: a box for a cube, a convex hull for any other solid.

Lengths in m, masses in kg.
"""

from __future__ import annotations

from typing import Any

from sim.shapes import EDGE, Solid

# m by which Bullet blows a hull up, while boxes keep it within themselves: a hull's faces lie that much deeper.
MARGIN = 0.001

# m: a finger pad is soft and touches an edge or a corner with a patch of about that radius, which keeps the block from
# turning about it; Bullet's point does not. A box touches with four points.
SPINNING = 0.002


def add_block(p: Any, solid: Solid, mass: float) -> int:
    """A body whose origin is its centre of mass; `mass` is that of a cube of edge `EDGE` of the same material."""
    if solid.box:
        half = [solid.edge / 2] * 3
        touched = p.createCollisionShape(p.GEOM_BOX, halfExtents=half)
        seen = p.createVisualShape(p.GEOM_BOX, halfExtents=half, specularColor=[0, 0, 0])
    else:
        vertices, indices, normals = solid.triangles()
        touched = p.createCollisionShape(p.GEOM_MESH, vertices=solid.inset(MARGIN).tolist())
        seen = p.createVisualShape(
            p.GEOM_MESH,
            vertices=vertices.tolist(),
            indices=indices,
            normals=normals.tolist(),
            specularColor=[0, 0, 0],
        )
    body: int = p.createMultiBody(mass * (solid.volume / EDGE**3), touched, seen)
    if not solid.box:
        p.changeDynamics(body, -1, spinningFriction=SPINNING)
    return body
