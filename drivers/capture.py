"""A `cv2.VideoCapture` for a camera's config: how it is opened, what is asked of the device, and what it granted.

Knows no thread and keeps no frame; opencv_camera.py does.
"""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any, Protocol

import cv2

from drivers.camera import CameraMode
from drivers.config import CameraConfig

OPEN_DEADLINE = 5.0  # s that a network source may take to answer
STALL_DEADLINE = 2.0  # s that one grab may wait before it counts as failed

# FFmpeg must hand over each frame as it comes: no packet buffering, no second spent on estimating the frame rate.
# Read by OpenCV at every open; an operator's own setting wins, here and below.
FFMPEG_OPTIONS = "fflags;nobuffer|flags;low_delay|probesize;4096|analyzeduration;0|fpsprobesize;0"
FFMPEG_QUIET = "-8"  # AV_LOG_QUIET: what goes wrong is said once, by CameraError

SMALLEST_ASKED = (480, 640)  # (height, width): below VGA many devices crop or refuse
FPS_TOLERANCE = 0.5  # 29.97 is 30
EXPOSURE_TOLERANCE = 0.1  # share: devices have steps

# CAP_PROP_AUTO_EXPOSURE means something else at each backend: V4L2 hands the value to the control
# V4L2_CID_EXPOSURE_AUTO, whose menu has 1 = manual and 3 = aperture priority (the two that UVC cameras know);
# DirectShow and Media Foundation take a switch. (The 0.25 and 0.75 of many examples are V4L2's menu scaled to [0, 1],
# as OpenCV 3 did.) CAP_PROP_EXPOSURE is in units of 100 us at V4L2, the binary logarithm of seconds at the other two.
AUTO_AND_MANUAL = {"V4L2": (3.0, 1.0), "DSHOW": (1.0, 0.0), "MSMF": (1.0, 0.0)}
V4L2_EXPOSURE_UNIT = 1e-4  # s


class Capture(Protocol):
    """The part of `cv2.VideoCapture` that is used."""

    def isOpened(self) -> bool: ...
    def grab(self) -> bool: ...
    def retrieve(self) -> tuple[bool, Any]: ...
    def get(self, propId: int, /) -> float: ...
    def set(self, propId: int, value: float, /) -> bool: ...
    def getBackendName(self) -> str: ...
    def release(self) -> None: ...


def is_url(source: int | str) -> bool:
    """True for what comes over a network."""
    return isinstance(source, str) and "://" in source


def is_film(source: int | str) -> bool:
    """True for a video file, which has an end; a device node is no regular file."""
    return isinstance(source, str) and not is_url(source) and Path(source).is_file()


def open_source(source: int | str) -> Capture:
    """OpenCV's capture of a device index, a path or a URL; the caller asks it `isOpened`. OpenCV prints nothing."""
    os.environ.setdefault("OPENCV_FFMPEG_CAPTURE_OPTIONS", FFMPEG_OPTIONS)
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", FFMPEG_QUIET)
    os.environ.setdefault("OPENCV_VIDEOIO_V4L_SELECT_TIMEOUT", str(math.ceil(STALL_DEADLINE)))
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    if not is_url(source):
        return cv2.VideoCapture(source)
    return cv2.VideoCapture(
        str(source),
        cv2.CAP_FFMPEG,
        [
            cv2.CAP_PROP_N_THREADS, 1,  # with more, FFmpeg decodes frames in parallel and gives each one late
            cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, int(OPEN_DEADLINE * 1000),
            cv2.CAP_PROP_READ_TIMEOUT_MSEC, int(STALL_DEADLINE * 1000),
        ],
    )  # fmt: skip


def ask(capture: Capture, config: CameraConfig) -> list[str]:
    """Ask an opened device for the mode and the exposure of `config`; a line for each thing it refuses outright.

    Nothing is asked of a film or a stream: they come as they are.
    """
    if is_url(config.source) or is_film(config.source):
        return [] if config.exposure == "auto" else ["exposure cannot be locked: the source is no device"]
    if config.fourcc is not None:  # first: the sizes and rates on offer depend on it
        capture.set(cv2.CAP_PROP_FOURCC, cv2.VideoWriter.fourcc(*config.fourcc))
    height, width = _asked_size(config)
    capture.set(cv2.CAP_PROP_FRAME_WIDTH, width)
    capture.set(cv2.CAP_PROP_FRAME_HEIGHT, height)
    capture.set(cv2.CAP_PROP_FPS, config.fps)
    capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)
    return _set_exposure(capture, config.exposure)


def granted(capture: Capture, config: CameraConfig, size: tuple[int, int], refusals: list[str]) -> CameraMode:
    """The mode of a device that sends frames of `size` (height, width), with a note for each wish it did not grant.

    What frames look like counts, not what the device says of their size.
    """
    notes = list(refusals)
    is_device = not (is_url(config.source) or is_film(config.source))
    asked = _asked_size(config) if is_device else config.capture
    if asked is not None and size != asked:
        notes.append(f"asked for {as_text(asked)}, it gives {as_text(size)} (width x height)")
    fps = capture.get(cv2.CAP_PROP_FPS) if is_device else 0.0  # of a stream FFmpeg only guesses it
    stated = fps if math.isfinite(fps) and fps > 0 else None
    if stated is not None and abs(stated - config.fps) > FPS_TOLERANCE:
        notes.append(f"asked for {config.fps:g} frames a second, it states {stated:g}")
    fourcc = _fourcc(capture.get(cv2.CAP_PROP_FOURCC))
    if config.fourcc is not None and fourcc != config.fourcc:
        notes.append(f"asked for pixel format {config.fourcc}, it gives {fourcc or 'one that it does not state'}")
    return CameraMode(size, stated, fourcc, capture.getBackendName(), tuple(notes))


def as_text(size: tuple[int, int]) -> str:
    """(height, width) as people write it: width first."""
    return f"{size[1]}x{size[0]}"


def _asked_size(config: CameraConfig) -> tuple[int, int]:
    if config.capture is not None:
        return config.capture
    return max(config.size[0], SMALLEST_ASKED[0]), max(config.size[1], SMALLEST_ASKED[1])


def _set_exposure(capture: Capture, exposure: str | float) -> list[str]:
    """Lock the exposure at that many seconds, or leave it to the device: also after somebody else had locked it."""
    backend = capture.getBackendName()
    if isinstance(exposure, str):
        if backend in AUTO_AND_MANUAL:
            capture.set(cv2.CAP_PROP_AUTO_EXPOSURE, AUTO_AND_MANUAL[backend][0])
        return []
    if backend not in AUTO_AND_MANUAL:
        return [f"exposure cannot be locked through {backend}"]
    value = exposure / V4L2_EXPOSURE_UNIT if backend == "V4L2" else math.log2(exposure)
    manual = capture.set(cv2.CAP_PROP_AUTO_EXPOSURE, AUTO_AND_MANUAL[backend][1])
    if not (capture.set(cv2.CAP_PROP_EXPOSURE, round(value)) and manual):
        return ["its driver has no exposure lock: exposure stays automatic"]
    found = capture.get(cv2.CAP_PROP_EXPOSURE)
    seconds = found * V4L2_EXPOSURE_UNIT if backend == "V4L2" else 2.0**found
    # The logarithm is whole at DirectShow and Media Foundation: half a step is a factor of the square root of two.
    tolerance = EXPOSURE_TOLERANCE if backend == "V4L2" else math.sqrt(2) - 1 + EXPOSURE_TOLERANCE
    if not exposure / (1 + tolerance) <= seconds <= exposure * (1 + tolerance):
        return [f"asked for an exposure of {exposure:g} s, it gives {seconds:g} s"]
    return []


def _fourcc(code: float) -> str:
    """The four letters of CAP_PROP_FOURCC; "" for what is not four letters."""
    if not 0 < code < 2**32:
        return ""
    letters = int(code).to_bytes(4, "little").decode("latin-1").strip("\0 ")
    return letters if letters.isascii() and letters.isprintable() else ""
