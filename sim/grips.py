"""How two parallel jaws can take a solid as it lies: from its faces alone, in any pose.

The jaws hang vertically and close along a level axis. Knows no arm and no world. Lengths in m, angles in rad.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import numpy as np

from drivers.arm import Array
from sim.shapes import Solid

WIDEST = 0.053  # m between the faces: 6 mm on either side are left of the 65 mm that the jaws open
STEEP = 0.5  # vertical part of the normal, beyond which a face is no side: 30 degrees from upright
TOUCH = 0.0015  # m, within which of the outermost point the jaw touches
FINGER = 0.005  # m, that a contact may be off the middle of a jaw


@dataclass(frozen=True)
class Grip:
    """A level axis along which the jaws can close, at `angle` (rad, from the x axis, a half turn is the same)."""

    angle: float
    width: float  # m, between the jaws
    middle: Array  # (2,) m, half way between the jaws, from the centre of mass
    slope: float  # of the steeper of the two sides that the jaws touch: how far it leans inwards for its height


def grips(solid: Solid, axes: Array) -> list[Grip]:
    """Every grip that has a side of the solid flat on one jaw, the jaws pushing at the same height against each other.

    `axes` is the solid's orientation, (3, 3). Empty when it lies so that no two sides can be gripped.
    """
    return list(_grips(solid, axes.astype(np.float64, copy=False).tobytes()))


@functools.lru_cache(maxsize=256)  # every task's demonstrator asks about the same three solids
def _grips(solid: Solid, orientation: bytes) -> tuple[Grip, ...]:
    axes = np.frombuffer(orientation).reshape(3, 3)
    vertices, normals = solid.vertices @ axes.T, solid.normals @ axes.T
    found: list[Grip] = []
    for normal in normals[np.abs(normals[:, 2]) < STEEP]:
        angle = math.atan2(normal[1], normal[0]) % math.pi
        if all(abs(math.remainder(angle - grip.angle, math.pi)) > 0.01 for grip in found):
            grip = _along(vertices, angle)
            if grip is not None:
                found.append(grip)
    return tuple(found)


def _along(vertices: Array, angle: float) -> Grip | None:
    along = vertices[:, 0] * math.cos(angle) + vertices[:, 1] * math.sin(angle)
    across = vertices[:, 1] * math.cos(angle) - vertices[:, 0] * math.sin(angle)
    low, high = along.min(), along.max()
    if high - low > WIDEST:
        return None
    touching = along < low + TOUCH, along > high - TOUCH
    overlap = []
    for values in (vertices[:, 2], across):
        start = max(values[touched].min() for touched in touching)
        end = min(values[touched].max() for touched in touching)
        overlap.append((start, end))
    (bottom, top), (left, right) = overlap
    if top < bottom - TOUCH or right < left - FINGER:
        return None  # the jaws would push past each other
    aside = min(max(0.0, left - FINGER), right + FINGER)
    forth = (low + high) / 2
    middle = np.array(
        [forth * math.cos(angle) - aside * math.sin(angle), forth * math.sin(angle) + aside * math.cos(angle)]
    )
    heights = vertices[:, 2]
    upper = along[heights > heights.mean()]
    slope = max(high - upper.max(), upper.min() - low) / np.ptp(heights)
    return Grip(angle, float(high - low), middle, float(slope))


def span(solid: Solid, axes: Array, angle: float) -> float:
    """Its width along the level axis at `angle`, m."""
    return float(np.ptp(solid.vertices @ axes.T @ [math.cos(angle), math.sin(angle), 0.0]))


def lowest(solid: Solid, axes: Array) -> float:
    """The depth of its lowest point below its centre of mass, m."""
    return float(-(solid.vertices @ axes[2]).min())


def top(solid: Solid, axes: Array) -> Array:
    """The middle of the face that looks up most, (3,) m from the centre of mass."""
    face = solid.faces[int((solid.normals @ axes[2]).argmax())]
    middle: Array = solid.vertices[list(face)].mean(axis=0) @ axes.T
    return middle
