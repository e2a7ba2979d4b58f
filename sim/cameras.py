"""Where the two cameras of block stacking stand and what their lenses show, for any `Conditions`.

Matrices are OpenGL's, column by column, as PyBullet takes them. Knows no renderer and no arm but the hand's pose.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from drivers.arm import Array
from drivers.camera_calibration import CameraCalibration, Lens, opengl_matrices
from drivers.config import ConfigError
from sim.table_top import Matrix
from sim.variation import Conditions, Triple

_EYE, _FOCUS, _UP = (0.50, 0.0, 0.42), (0.145, 0.0, 0.02), (0.0, 0.0, 1.0)  # of the fixed camera, m
_FIXED_LENS = (46.0, 0.05, 2.0)  # vertical field of view in degrees, near and far plane in m
_WRIST_LENS = (75.0, 0.01, 1.0)
_STILL = (0.0, 0.0, 0.0)


class Cameras:
    """The cameras under `conditions`; `p` computes matrices, `size` is that of the images, (height, width)."""

    def __init__(self, p: Any, size: tuple[int, int], conditions: Conditions) -> None:
        self._p, self._size = p, size
        self._shift, self._turn = conditions.wrist_shift, conditions.wrist_turn
        self._fixed_projection = self._projection(_FIXED_LENS, conditions.fixed_zoom)
        self._wrist_projection = self._projection(_WRIST_LENS, conditions.wrist_zoom)
        eye = tuple(a + b for a, b in zip(_EYE, conditions.fixed_shift, strict=True))
        focus = tuple(a + b for a, b in zip(_FOCUS, conditions.fixed_shift, strict=True))
        self._fixed_view = self._view(np.array(eye), np.array(focus), np.array(_UP), _STILL, conditions.fixed_turn)

    def fixed(self) -> tuple[Matrix, Matrix]:
        """View and projection of the fixed camera."""
        return self._fixed_view, self._fixed_projection

    def wrist(self, origin: Sequence[float], orientation: Sequence[float]) -> tuple[Matrix, Matrix]:
        """View and projection of the wrist camera on a hand at `origin` (m), orientation a quaternion (x, y, z, w)."""
        place = np.array(origin)
        axes = np.array(self._p.getMatrixFromQuaternion(orientation)).reshape(3, 3)
        forward, up = axes[:, 0], axes[:, 2]
        eye, focus = place + 0.03 * forward + 0.06 * up, place + 0.115 * forward
        return self._view(eye, focus, up, self._shift, self._turn), self._wrist_projection

    def _projection(self, lens: tuple[float, float, float], zoom: float) -> Matrix:
        angle, near, far = lens
        if zoom != 1:
            angle = 2 * math.degrees(math.atan(zoom * math.tan(math.radians(angle) / 2)))
        height, width = self._size
        return tuple(self._p.computeProjectionMatrixFOV(angle, width / height, near, far))

    def _view(self, eye: Array, focus: Array, up: Array, shift: Triple, turn: Triple) -> Matrix:
        """Looking from `eye` to `focus`; then moved and turned in the camera's own right, up and forward axes."""
        if shift != _STILL or turn != _STILL:
            forward = (focus - eye) / np.linalg.norm(focus - eye)
            right = np.cross(forward, up) / np.linalg.norm(np.cross(forward, up))
            axes = np.column_stack([right, np.cross(right, forward), forward])
            eye = eye + axes @ shift
            turned = axes @ _rotation(turn)
            focus, up = eye + turned[:, 2], turned[:, 1]
        return tuple(self._p.computeViewMatrix(eye.tolist(), focus.tolist(), up.tolist()))


@dataclass(frozen=True)
class CalibratedCamera:
    """A camera that stands where a real one was found: its `pose` on what carries it, and its projection."""

    pose: Array
    projection: Matrix
    near: float
    far: float
    lens: Lens

    def matrices(self, carrier: Array) -> tuple[Matrix, Matrix]:
        """View and projection when what carries it is at `carrier` (4, 4)."""
        view, _ = opengl_matrices(self.lens, carrier @ self.pose, self.near, self.far)
        return tuple(view.T.ravel().tolist()), self.projection


def stand(calibration: CameraCalibration, size: tuple[int, int]) -> CalibratedCamera:
    """The camera "fixed" or "wrist" of a calibration, for images of `size` (height, width). Raises `ConfigError`."""
    carriers = {"fixed": "base", "wrist": "link"}
    name, place = calibration.camera, calibration.place
    if place is None:
        raise ConfigError(f"camera {name}: its place is not calibrated; run `gato-arm calibrate hand-eye`")
    if carriers.get(name) != place.carried_by:
        raise ConfigError(
            f"camera {name}: was calibrated on the {place.carried_by} {place.link!r}, it is not there here"
        )
    _, near, far = _FIXED_LENS if name == "fixed" else _WRIST_LENS
    lens = calibration.lens.fitted(size)
    _, projection = opengl_matrices(lens, place.pose, near, far)
    return CalibratedCamera(place.pose, tuple(projection.T.ravel().tolist()), near, far, lens)


def _rotation(turn: Triple) -> Array:
    """The rotation matrix of a rotation vector, rad (Rodrigues)."""
    angle = math.hypot(*turn)
    if angle == 0:
        return np.eye(3)
    x, y, z = np.array(turn) / angle
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + math.sin(angle) * cross + (1 - math.cos(angle)) * cross @ cross
