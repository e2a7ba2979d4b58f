"""The objects of block stacking: cubes deformed along four axes, and the polyhedra that they are.

A shape is an upright prism or frustum, so that it stands on its base; its four axes are those of the RGB-stacking
benchmark (Lee et al. 2021, as told in the Gato paper): the cross-section becomes a regular polygon, the top face
becomes smaller than the base, the body leans, the body is elongated. The sets of shapes are in shapes.yaml, which
`python -m sim.shape_sets` writes; they are the project's own, not the benchmark's meshes. Knows no physics.

Lengths in m. Every shape is its own mirror image about its x-z plane, so that a mirrored scene is a scene of the same
shapes.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from drivers.arm import frozen

EDGE = 0.028  # m, of the cube that is deformed; every shape is as high
COLOURS = ("red", "green", "blue")
TRIPLETS = ("triplet1", "triplet2", "triplet3", "triplet4", "triplet5")
GROUPS = ("cubes", "training", "held_out", *TRIPLETS)

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Shape:
    """A cube of edge `EDGE`, deformed; its height stays."""

    polygon: int = 4  # sides of the cross-section, 3 or more, its area kept
    trapezoid: float = 0.0  # the base is larger, the top smaller by half of this share
    parallelogram: float = 0.0  # how far the top leans along x, as a share of the height
    rectangle: float = 1.0  # length over width of the cross-section, its area kept

    def solid(self, edge: float = EDGE) -> Solid:
        """The body of this shape when the cube that is deformed has that edge."""
        return _solid(self, edge)

    def distance(self, other: Shape) -> float:
        """How different two shapes are, 1 for opposite ends of an axis: the root of the sum of squares over the axes.

        The polygon counts by the angle at its corners.
        """
        return math.dist(self._coordinates(), other._coordinates())

    def _coordinates(self) -> tuple[float, float, float, float]:
        return (4 / 3 * (1 - 3 / self.polygon), self.trapezoid / 0.6, self.parallelogram / 0.5, self.rectangle - 1)


CUBE = Shape()


@dataclass(frozen=True, eq=False)
class Solid:
    """A convex polyhedron about its centre of mass. Compared by identity: `Shape.solid` makes each one once."""

    shape: Shape
    edge: float
    vertices: Floats  # (n, 3), those of the base first, then those of the top in the same order
    faces: tuple[tuple[int, ...], ...]  # vertices of each, counter-clockwise from outside: base, top, sides
    normals: Floats  # (f, 3), outward
    volume: float

    @property
    def box(self) -> bool:
        """It is a cube."""
        return self.shape == CUBE

    @property
    def below(self) -> float:
        """The height of its centre of mass while it stands on its base."""
        return float(-self.vertices[0, 2])

    def inset(self, depth: float) -> Floats:
        """The vertices (n, 3) of the polyhedron whose faces lie `depth` deeper."""
        moved = np.empty_like(self.vertices)
        for index in range(len(moved)):
            planes = [number for number, face in enumerate(self.faces) if index in face]
            normals = self.normals[planes]
            moved[index] = np.linalg.solve(normals, normals @ self.vertices[index] - depth)
        return moved

    def triangles(self) -> tuple[Floats, list[int], Floats]:
        """Vertices, indices and normals of its surface; each face has its own vertices, so that it looks flat."""
        vertices: list[Floats] = []
        indices: list[int] = []
        normals: list[Floats] = []
        for face, normal in zip(self.faces, self.normals, strict=True):
            first = len(vertices)
            vertices += [self.vertices[index] for index in face]
            normals += [normal] * len(face)
            for corner in range(1, len(face) - 1):
                indices += [first, first + corner, first + corner + 1]
        return np.array(vertices), indices, np.array(normals)


@functools.lru_cache(maxsize=4096)
def _solid(shape: Shape, edge: float) -> Solid:
    sides, half = shape.polygon, edge / 2
    # One side looks along y: a body that leans along x can be gripped across. An odd polygon's looks along -x.
    first = math.pi / sides if sides % 4 == 0 else 0.0
    angles = first + 2 * math.pi * np.arange(sides) / sides
    radius = edge * math.sqrt(2 / (sides * math.sin(2 * math.pi / sides)))
    outline = radius * np.column_stack([np.cos(angles), np.sin(angles)])
    outline *= [math.sqrt(shape.rectangle), 1 / math.sqrt(shape.rectangle)]
    lean = np.array([shape.parallelogram * half, 0.0])
    base = np.column_stack([outline * (1 + shape.trapezoid / 2) - lean, np.full(sides, -half)])
    top = np.column_stack([outline * (1 - shape.trapezoid / 2) + lean, np.full(sides, half)])
    vertices = np.concatenate([base, top])
    corners = range(sides)
    faces = (
        tuple(reversed(corners)),
        tuple(sides + corner for corner in corners),
        *((c, (c + 1) % sides, sides + (c + 1) % sides, sides + c) for c in corners),
    )
    volume, centre = _volume_and_centre(vertices, faces)
    vertices = vertices - centre
    if shape == CUBE:  # to the last bit
        vertices, volume = np.copysign(half, vertices), edge**3
    normals = np.array([_normal(vertices[list(face)]) for face in faces])
    return Solid(shape, edge, frozen(vertices), faces, frozen(normals), volume)


def _normal(corners: Floats) -> Floats:
    normal = np.cross(corners[1] - corners[0], corners[2] - corners[0])
    return normal / np.linalg.norm(normal)


def _volume_and_centre(vertices: Floats, faces: tuple[tuple[int, ...], ...]) -> tuple[float, Floats]:
    """By the tetrahedra between the origin and the triangles of the faces."""
    volume, moment = 0.0, np.zeros(3)
    for face in faces:
        for corner in range(1, len(face) - 1):
            a, b, c = vertices[[face[0], face[corner], face[corner + 1]]]
            part = float(np.dot(a, np.cross(b, c))) / 6
            volume += part
            moment += part * (a + b + c) / 4
    return volume, moment / volume


@functools.cache
def _sets() -> Mapping[str, tuple[dict[str, Any], ...]]:
    content = yaml.safe_load((resources.files("sim") / "shapes.yaml").read_text(encoding="utf-8"))
    return {name: tuple(rows) for name, rows in content.items()}


@functools.cache
def shape_set(name: str) -> tuple[Shape, ...]:
    """The shapes of a group: one for "cubes"; those of a triplet are its red, its green and its blue one.

    Raises `KeyError` naming the groups.
    """
    if name == "cubes":
        return (CUBE,)
    if name not in GROUPS:
        raise KeyError(f"no objects {name!r}; there are {', '.join(GROUPS)}")
    return tuple(Shape(**row) for row in _sets()[name])


def sample_shapes(group: str, rng: np.random.Generator) -> dict[str, Shape]:
    """A shape for each colour: of a triplet its own three, else drawn from the group. Raises `KeyError`."""
    shapes = shape_set(group)
    if group in TRIPLETS:
        return dict(zip(COLOURS, shapes, strict=True))
    return {colour: shapes[int(rng.integers(len(shapes)))] for colour in COLOURS}
