"""What is known of a camera: its lens, and where it stands. The file that `gato-arm calibrate` writes, and its numbers.

Knows no OpenCV and no arm: who undistorts or projects takes `matrix` and `distortion`; a pose is given in the frame of
the arm's base, or of the link that carries the camera. A camera's frame has x to the right, y down and z ahead; pixel
(0, 0) is the centre of the first pixel. Lengths in m.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

import numpy as np
import yaml
from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt, Strict, ValidationError, model_validator

from drivers.arm import Array, frozen
from drivers.config import CameraConfig, ConfigError

FILE_LIMIT = 1_000_000  # bytes
Triple = Annotated[tuple[float, float, float], Strict(False)]
Quaternion = Annotated[tuple[float, float, float, float], Strict(False)]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class LensErrors(_Model):
    """How far the lens can be trusted, px: judged on views that were not fitted, and by its standard deviations."""

    held_out: float  # RMS over views that took no part in the fit
    fitted: float  # RMS over those that did
    focal_length: float  # standard deviations
    principal_point: float
    views: PositiveInt
    corners: PositiveInt


class Lens(_Model):
    """A pinhole with OpenCV's distortion (k1, k2, p1, p2, k3), for frames of `size` (height, width)."""

    size: Annotated[tuple[PositiveInt, PositiveInt], Strict(False)]
    fx: PositiveFloat  # px
    fy: PositiveFloat
    cx: float
    cy: float
    distortion: Annotated[tuple[float, float, float, float, float], Strict(False)] = (0.0, 0.0, 0.0, 0.0, 0.0)
    date: str
    method: str
    board: str
    errors: LensErrors

    @property
    def matrix(self) -> Array:
        """The camera matrix (3, 3)."""
        return frozen([[self.fx, 0, self.cx], [0, self.fy, self.cy], [0, 0, 1]])

    def fitted(self, size: tuple[int, int]) -> Self:
        """The lens of frames cropped to the aspect of `size` (height, width) and resized, as camera drivers do."""
        height, width = self.size
        scale = min(height / size[0], width / size[1])
        crop = max(1, round(size[0] * scale)), max(1, round(size[1] * scale))
        top, left = (height - crop[0]) // 2, (width - crop[1]) // 2
        down, across = size[0] / crop[0], size[1] / crop[1]
        return self.model_copy(
            update={
                "size": size,
                "fx": self.fx * across,
                "fy": self.fy * down,
                "cx": (self.cx - left + 0.5) * across - 0.5,
                "cy": (self.cy - top + 0.5) * down - 0.5,
            }
        )


class PlaceErrors(_Model):
    """How far a camera's place can be trusted: each pose of the arm predicted from all others."""

    leave_one_out_mm: float  # median distance of the board from where it was predicted
    leave_one_out_deg: float
    worst_mm: float
    worst_deg: float
    reprojection: float  # px, RMS
    poses: PositiveInt


class Place(_Model):
    """Where a camera stands: its pose in the frame of the link that carries it, the arm's base for a fixed camera."""

    carried_by: Literal["base", "link"]
    link: str  # of the URDF; the base's where it is fixed
    position: Triple  # m
    orientation: Quaternion  # x, y, z, w
    date: str
    method: str
    board: str
    errors: PlaceErrors
    joint_offsets: dict[str, float] = Field(default_factory=dict)  # rad, found beside it: true angle - calibrated one

    @model_validator(mode="after")
    def _orientation_is_a_rotation(self) -> Self:
        if not abs(sum(part * part for part in self.orientation) - 1) < 1e-3:
            raise ValueError(f"orientation {self.orientation} is no unit quaternion")
        return self

    @property
    def pose(self) -> Array:
        """From the camera's frame to the carrying link's, (4, 4)."""
        x, y, z, w = np.array(self.orientation) / np.linalg.norm(self.orientation)
        rotation = [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
        pose = np.eye(4)
        pose[:3, :3], pose[:3, 3] = rotation, self.position
        return frozen(pose)


class CameraCalibration(_Model):
    """The file: one camera's lens, and its place once that is known."""

    version: Literal[1] = 1
    kind: Literal["camera"] = "camera"
    camera: str
    lens: Lens
    place: Place | None = None


def load_camera_calibration(path: Path) -> CameraCalibration:
    """A camera's calibration from its file. Raises `ConfigError`."""
    try:
        if path.stat().st_size > FILE_LIMIT:
            raise ConfigError(f"{path}: too large for a calibration")
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        return CameraCalibration.model_validate(content)
    except FileNotFoundError as error:
        raise ConfigError(f"{path}: no such calibration; make it with `gato-arm calibrate camera`") from error
    except (OSError, UnicodeDecodeError, yaml.YAMLError, RecursionError) as error:
        raise ConfigError(f"{path}: cannot be read as YAML ({' '.join(str(error).split())})") from error
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise ConfigError(f"{path}: {place}: {first['msg']}; make it anew with `gato-arm calibrate`") from error


def calibration_of(camera: CameraConfig) -> CameraCalibration | None:
    """The calibration that a robot's file names for a camera; None when it names none. Raises `ConfigError`."""
    return None if camera.calibration is None else load_camera_calibration(Path(camera.calibration))


def opengl_matrices(lens: Lens, pose: Array, near: float, far: float) -> tuple[Array, Array]:
    """View and projection (4, 4), row by row, of an OpenGL camera with this lens but for its distortion.

    `pose` is the camera's in the world's frame. PyBullet wants them column by column: `matrix.T.ravel()`.
    """
    height, width = lens.size
    view = np.diag([1.0, -1.0, -1.0, 1.0]) @ np.linalg.inv(pose)  # OpenGL looks along -z, y up
    projection = np.zeros((4, 4))
    projection[0, 0], projection[1, 1] = 2 * lens.fx / width, 2 * lens.fy / height
    # The outer edges of the picture are half a pixel beyond the centres of its first and last pixels.
    projection[0, 2] = 1 - (2 * lens.cx + 1) / width
    projection[1, 2] = (2 * lens.cy + 1) / height - 1
    projection[2, 2], projection[2, 3] = -(far + near) / (far - near), -2 * far * near / (far - near)
    projection[3, 2] = -1.0
    return frozen(view), frozen(projection)
