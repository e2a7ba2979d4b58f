"""Writes shapes.yaml: `python -m sim.shape_sets`. The five triplets are chosen by hand, the rest is drawn from a seed.

A drawn shape is one that can be stacked, by the rule in `stackable`; it is at least `APART` from every test shape, and
a held-out one also from every training shape (`Shape.distance`).
"""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import numpy as np

from sim.grips import grips
from sim.shapes import EDGE, TRIPLETS, Shape

SEED = 20221110  # any number; this one is fixed
TRAINING, HELD_OUT = 103, 36  # as many as in the benchmark
APART = 0.15
STEEP = 0.45  # of a side that is gripped: how far it leans for its height

SLANTED = Shape(trapezoid=0.5)
LEANING = Shape(parallelogram=0.35)
SHARED = Shape(polygon=6)
# Red is stacked on blue. 13 shapes in 15 places, as in the benchmark: two of them play twice.
TEST = {
    # the top object has no two faces that are parallel: it must be gripped low and right
    "triplet1": (Shape(polygon=3, trapezoid=0.3), SHARED, SLANTED),
    # the base leans, its top is off its middle
    "triplet2": (Shape(rectangle=1.4), SLANTED, LEANING),
    # long on small: must be balanced
    "triplet3": (Shape(rectangle=1.9), Shape(polygon=7), Shape(polygon=5, trapezoid=0.55)),
    # narrow tops and bases: the middles must meet
    "triplet4": (Shape(polygon=3), Shape(polygon=8, rectangle=1.3), Shape(parallelogram=0.2, rectangle=1.7)),
    # nearly round: turns in the jaws
    "triplet5": (Shape(polygon=10), Shape(trapezoid=0.25, rectangle=1.5), SHARED),
}


def stackable(shape: Shape) -> bool:
    """Something can be put on it and it can be put on something: its centre of mass, and half of the way from there to
    the middle of its top, are at least 6 mm within its base, and its top is at least 14 mm wide and long. And jaws can
    lift it: of some grip both sides are less than 24 degrees from upright, where they touch."""
    solid = shape.solid()
    corners = len(solid.vertices) // 2
    base, top = solid.vertices[:corners, :2], solid.vertices[corners:, :2]
    loaded = top.mean(axis=0) / 2
    room = min(_margin(base, np.zeros(2)), _margin(base, loaded))
    if room < 0.006 or np.ptp(top, axis=0).min() < EDGE / 2:
        return False
    return any(grip.slope < STEEP for grip in grips(solid, np.eye(3)))


def _margin(outline: np.ndarray, point: np.ndarray) -> float:
    """How far `point` is within a convex outline, counter-clockwise."""
    sides = np.roll(outline, -1, axis=0) - outline
    inward = np.column_stack([-sides[:, 1], sides[:, 0]]) / np.linalg.norm(sides, axis=1, keepdims=True)
    return float(((point - outline) * inward).sum(axis=1).min())


def draw(rng: np.random.Generator) -> Shape:
    """A cube deformed along one to three axes. Of the polygons, those that lean have two sides across, and only
    squares are elongated by more than a half: else no pair of faces is left to grip."""
    axes = rng.permutation(4)[: rng.integers(1, 4)]
    polygon = int(rng.choice([3, 5, 6, 7, 8, 10])) if 0 in axes else 4
    trapezoid = round(float(rng.uniform(0.1, 0.6)), 2) if 1 in axes else 0.0
    parallelogram = round(float(rng.uniform(0.1, 0.45)), 2) if 2 in axes and polygon % 2 == 0 else 0.0
    rectangle = round(float(rng.uniform(1.1, 2.0 if polygon == 4 else 1.5)), 2) if 3 in axes else 1.0
    return Shape(polygon, trapezoid, parallelogram, rectangle)


def make() -> dict[str, list[Shape]]:
    """Every set by its name."""
    rng = np.random.default_rng(SEED)
    test = {shape for triplet in TEST.values() for shape in triplet} | {Shape()}
    training = _drawn(rng, TRAINING, test)
    held_out = _drawn(rng, HELD_OUT, test | set(training))
    return {"training": training, "held_out": held_out, **{name: list(TEST[name]) for name in TRIPLETS}}


def _drawn(rng: np.random.Generator, count: int, avoid: set[Shape]) -> list[Shape]:
    found: list[Shape] = []
    while len(found) < count:
        shape = draw(rng)
        near = min(shape.distance(other) for other in avoid)
        if near >= APART and stackable(shape) and shape not in found:
            found.append(shape)
    return found


def as_yaml(sets: dict[str, list[Shape]]) -> str:
    """The text of shapes.yaml."""
    lines = ["# Written by `python -m sim.shape_sets`; fixed before the first training. A triplet is red, green, blue."]
    for name, shapes in sets.items():
        lines.append(f"{name}:")
        for shape in shapes:
            changed = {key: value for key, value in vars(shape).items() if value != getattr(Shape, key)}
            lines.append(f"  - {{{', '.join(f'{key}: {value:g}' for key, value in changed.items())}}}")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    Path(str(resources.files("sim"))).joinpath("shapes.yaml").write_text(as_yaml(make()), encoding="utf-8")
