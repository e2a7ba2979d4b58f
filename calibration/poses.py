"""Rigid poses as (4, 4) matrices: small changes, differences, quaternions."""

from __future__ import annotations

import numpy as np
from scipy.spatial.transform import Rotation

from drivers.arm import Array


def moved(pose: Array, change: Array) -> Array:
    """`pose` turned by a rotation vector (rad) in its own frame and shifted (m) in its parent's: `change` is (6,)."""
    result = pose.copy()
    result[:3, :3] = pose[:3, :3] @ Rotation.from_rotvec(change[:3]).as_matrix()
    result[:3, 3] += change[3:]
    return result


def inverse(pose: Array) -> Array:
    """The pose the other way round."""
    result = np.eye(4)
    result[:3, :3] = pose[:3, :3].T
    result[:3, 3] = -pose[:3, :3].T @ pose[:3, 3]
    return result


def rotation_vector(pose: Array) -> Array:
    """The axis of a pose's rotation times its angle, rad, (3,)."""
    return np.array(Rotation.from_matrix(pose[:3, :3]).as_rotvec(), dtype=np.float64)


def difference(first: Array, second: Array) -> tuple[float, float]:
    """How far two poses are apart: m, rad."""
    turn = rotation_vector(inverse(first) @ second)
    return float(np.linalg.norm(first[:3, 3] - second[:3, 3])), float(np.linalg.norm(turn))


def quaternion(pose: Array) -> tuple[float, float, float, float]:
    """(x, y, z, w)."""
    x, y, z, w = Rotation.from_matrix(pose[:3, :3]).as_quat().tolist()
    return x, y, z, w
