"""How far a joint's turn can move a shape, in any pose: what lets a guard be sure without looking. Pinocchio's model.

Knows kinematics and shapes, no pose in particular and no rule. Lengths in m.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import pinocchio as pin

from drivers.arm import Array


class Levers:
    """Of the joints `driven` (numbers in the model, (n,)); all others stand as in `pose`, a configuration."""

    def __init__(self, model: pin.Model, shapes: pin.GeometryModel, driven: Sequence[int], pose: Array) -> None:
        self._model, self._shapes, self._driven = model, shapes, tuple(driven)
        self._data, self._placed = model.createData(), pin.GeometryData(shapes)
        pin.computeJointJacobians(model, self._data, pose)
        pin.updateGeometryPlacements(model, self._data, shapes, self._placed)

    def of(self, first: int, second: int, normal: Array | None = None) -> Array:
        """By how much the distance of two shapes changes at most for each unit that a joint moves, shape (n,): m/rad,
        or m/m for a joint that slides. Joints that carry both shapes, or neither, change nothing; nor does the
        outermost of all, where `second` is a half-space of that `normal` at rest and the joint turns about it."""
        levers = np.zeros(len(self._driven))
        chains = [self._chain(shape) for shape in (first, second)]
        for shape, chain, other in ((first, chains[0], chains[1]), (second, chains[1], chains[0])):
            reach, outer = 0.0, None  # of what the joint `outer` carries, from its origin
            for joint in reversed(chain):
                frame = self._data.oMi[joint]
                if outer is None:
                    carried = np.array([frame.actInv(corner) for corner in self._corners(shape)])
                else:
                    carried = frame.actInv(self._data.oMi[outer].translation)[None]
                sliding, turning = np.split(self._axis(joint), 2)
                if joint not in other:
                    across = 1.0
                    if normal is not None and joint == chain[0]:
                        across = float(np.linalg.norm(np.cross(frame.rotation @ turning, normal)))
                    off_axis = float(np.linalg.norm(np.cross(turning, carried), axis=1).max())
                    turns = across * (off_axis + reach) if turning.any() else 0.0
                    levers[self._driven.index(joint)] = float(np.linalg.norm(sliding)) + turns
                reach += float(np.linalg.norm(carried, axis=1).max()) + self._travel(joint)
                outer = joint
        return levers

    def _chain(self, shape: int) -> list[int]:
        """The driven joints that carry a shape, the innermost first."""
        parent = self._shapes.geometryObjects[shape].parentJoint
        return [joint for joint in self._model.supports[parent] if joint in self._driven]

    def _corners(self, shape: int) -> list[Array]:
        """The corners of a shape's bounding box, in the base frame."""
        geometry = self._shapes.geometryObjects[shape].geometry
        geometry.computeLocalAABB()
        box, place = geometry.aabb_local, self._placed.oMg[shape]
        sides = zip(box.min_.tolist(), box.max_.tolist(), strict=True)
        return [place.act(np.array(corner)) for corner in itertools.product(*sides)]

    def _axis(self, joint: int) -> Array:
        """A joint's unit of motion in its own frame: linear, then angular, shape (6,)."""
        jacobian = pin.getJointJacobian(self._model, self._data, joint, pin.ReferenceFrame.LOCAL)
        return np.asarray(jacobian[:, self._model.joints[joint].idx_v], dtype=np.float64)

    def _travel(self, joint: int) -> float:
        """How far a joint that slides may be from where it stands; 0 for one that turns."""
        if not self._axis(joint)[:3].any():
            return 0.0
        place = self._model.joints[joint].idx_q
        return float(self._model.upperPositionLimit[place] - self._model.lowerPositionLimit[place])
