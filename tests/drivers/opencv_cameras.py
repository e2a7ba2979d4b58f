"""What the tests of the OpenCV camera share: cameras on a source, and waiting for what their threads do."""

from __future__ import annotations

import time
from collections.abc import Callable

from drivers.camera import CameraError, Frame
from drivers.config import CameraConfig
from drivers.opencv_camera import OpenCVCamera
from tests.drivers.camera_conformance import refused


def config(source: int | str, size: tuple[int, int] = (64, 64), **more: object) -> CameraConfig:
    return CameraConfig.model_validate({"driver": "opencv", "source": source, "size": size} | more)


def on(source: int | str, size: tuple[int, int] = (64, 64), **more: object) -> OpenCVCamera:
    return OpenCVCamera("fixed", config(source, size, **more))


def until(met: Callable[[], bool], what: str) -> None:
    """Wait for at most 10 s."""
    for _ in range(2000):
        if met():
            return
        time.sleep(0.005)
    raise AssertionError(f"not within 10 s: {what}")


def reads(camera: OpenCVCamera) -> Frame | None:
    """The latest frame, None while there is none."""
    try:
        return camera.read()
    except CameraError:
        return None


def death(camera: OpenCVCamera) -> str:
    """What `read` says once the source has died."""
    until(lambda: reads(camera) is None, "the camera stops giving frames")
    return refused(camera.read)
