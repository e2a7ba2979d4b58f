"""What a camera is to the rest of the runtime, and the OpenCV camera: any index, path or URL that OpenCV opens."""

from __future__ import annotations

import atexit
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]

FIRST_FRAME_DEADLINE = 5.0  # s, from connect() to the first frame
STALL_DEADLINE = 2.0  # s that one grab of a network source may wait before it counts as failed
GRABS_BEFORE_DEAD = 5  # failed grabs in a row; a USB camera fails one now and then and goes on
GRAB_RETRY_PAUSE = 0.02  # s
STALE_FRAMES = 1  # at the start: what was captured while the device was being opened is older than its stamp

# FFmpeg must hand over each frame as it comes: no packet buffering, no second spent on estimating the frame rate.
# Read by OpenCV at every open; an operator's own setting wins.
FFMPEG_OPTIONS = "fflags;nobuffer|flags;low_delay|probesize;4096|analyzeduration;0|fpsprobesize;0"
FFMPEG_QUIET = "-8"  # AV_LOG_QUIET: what goes wrong is said once, by CameraError


class CameraError(Exception):
    """The camera cannot give what was asked; the message says what, where and what to do."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One image as it was captured."""

    stamp: int  # monotonic ns, at capture
    sequence: int  # counts captured frames; two reads of one frame have the same number
    image: NDArray[np.uint8]  # (H, W, 3) RGB, read-only


class Camera(Protocol):
    """A source of frames. `read` never waits for the next frame: it returns the latest one."""

    @property
    def name(self) -> str: ...

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of every frame."""

    def connect(self) -> None:
        """Open the device and wait for the first frame. Raises `CameraError`."""

    def read(self) -> Frame:
        """The latest frame. Raises `CameraError` when not connected or the source has died."""

    def close(self) -> None:
        """Release the device; may be called at any time, more than once."""


def fit(image: Image, size: tuple[int, int]) -> Image:
    """The centre of `image` (H, W, 3) cropped to the aspect of `size` (height, width) and resized to it.

    Areas are averaged, so that a small image shows no aliasing. Returns `image` itself when it has that size already.
    """
    height, width = image.shape[:2]
    goal_height, goal_width = size
    if (height, width) == size:
        return image
    scale = min(height / goal_height, width / goal_width)
    crop_height, crop_width = max(1, round(goal_height * scale)), max(1, round(goal_width * scale))
    top, left = (height - crop_height) // 2, (width - crop_width) // 2
    crop = image[top : top + crop_height, left : left + crop_width]
    return np.asarray(cv2.resize(crop, (goal_width, goal_height), interpolation=cv2.INTER_AREA), dtype=np.uint8)


class OpenCVCamera:
    """A camera behind `cv2.VideoCapture`, kept current by a thread that holds on to the latest frame only.

    `source` is a device index, a path (device node or video file, the file played at `fps`) or a URL. `size` is the
    (height, width) that `read` gives, whatever the device delivers. Frames are stamped by `clock` when the device has
    handed them over, before they are decoded.
    """

    def __init__(
        self,
        name: str,
        source: int | str | Path,
        size: tuple[int, int],
        fps: float = 30.0,
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._name = name
        self._source = source if isinstance(source, int) else str(source)
        self._size = (int(size[0]), int(size[1]))
        self._fps = fps
        self._clock = clock
        self._link: _Link | None = None

    @property
    def name(self) -> str:
        return self._name

    @property
    def size(self) -> tuple[int, int]:
        return self._size

    def connect(self) -> None:
        self.close()
        link = _Link(self._source, self._size, self._fps, self._clock)
        # A thread that is inside OpenCV when the interpreter goes down takes the process with it.
        atexit.register(link.end)
        link.thread.start()
        in_time = link.settled.wait(FIRST_FRAME_DEADLINE)
        if link.frame is None:
            _end(link)
            if in_time:
                raise CameraError(self._explain(link))
            raise CameraError(
                f"camera {self._name}: {self._source} gave no frame within {FIRST_FRAME_DEADLINE:g} s; "
                "check that it is sending and that no other program holds it"
            )
        self._link = link

    def read(self) -> Frame:
        link = self._link
        if link is None:
            raise CameraError(f"camera {self._name}: not connected; call connect() before read()")
        frame = link.frame
        if link.death is not None or frame is None:
            raise CameraError(self._explain(link))
        return frame

    def close(self) -> None:
        link, self._link = self._link, None
        if link is not None:
            _end(link)

    def _explain(self, link: _Link) -> str:
        return f"camera {self._name}: {self._source} {link.death}; check `source` in the robot's YAML, cable and power"


class _Link:
    """One opened device and its thread. The thread owns the capture: it opens, grabs and releases it."""

    def __init__(self, source: int | str, size: tuple[int, int], fps: float, clock: Callable[[], int]) -> None:
        self.source, self.size, self.fps, self.clock = source, size, fps, clock
        self.frame: Frame | None = None
        self.death: str | None = None  # why there are no more frames
        self.settled = threading.Event()  # the first frame is here, or there will be none
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self._run, name=f"camera {source}", daemon=True)

    def end(self) -> None:
        """Stop the thread and wait for it, but not for longer than a grab may take."""
        self.stop.set()
        self.thread.join(STALL_DEADLINE + 1.0)

    def _run(self) -> None:
        capture = _open(self.source, self.size, self.fps)
        try:
            if capture.isOpened():
                self._follow(capture)
            else:
                self.death = "cannot be opened"
        except cv2.error as error:
            self.death = f"failed in OpenCV ({error.err or error.func})"
        finally:
            capture.release()
            self.settled.set()

    def _follow(self, capture: cv2.VideoCapture) -> None:
        sequence = grabbed = failures = 0
        pause = 1 / self.fps if isinstance(self.source, str) and Path(self.source).is_file() else 0.0
        while not self.stop.wait(pause) if pause else not self.stop.is_set():
            if not capture.grab():
                failures += 1
                if failures == GRABS_BEFORE_DEAD:
                    self.death = "stopped sending frames" if sequence else "opens but sends no frame"
                    return
                self.stop.wait(GRAB_RETRY_PAUSE)
                continue
            stamp = self.clock()
            failures = 0
            grabbed += 1
            if grabbed <= STALE_FRAMES:
                continue
            decoded, picture = capture.retrieve()
            if not decoded:
                continue
            image = cv2.cvtColor(fit(np.asarray(picture, dtype=np.uint8), self.size), cv2.COLOR_BGR2RGB)
            image.flags.writeable = False
            self.frame = Frame(stamp, sequence, np.asarray(image, dtype=np.uint8))
            sequence += 1
            self.settled.set()


def _end(link: _Link) -> None:
    link.end()
    atexit.unregister(link.end)


def _open(source: int | str, size: tuple[int, int], fps: float) -> cv2.VideoCapture:
    os.environ.setdefault("OPENCV_FFMPEG_CAPTURE_OPTIONS", FFMPEG_OPTIONS)
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", FFMPEG_QUIET)
    level = cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    try:
        if isinstance(source, str) and "://" in source:
            return cv2.VideoCapture(
                source,
                cv2.CAP_FFMPEG,
                [
                    cv2.CAP_PROP_N_THREADS, 1,  # with more, FFmpeg decodes frames in parallel and gives each one late
                    cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, int(FIRST_FRAME_DEADLINE * 1000),
                    cv2.CAP_PROP_READ_TIMEOUT_MSEC, int(STALL_DEADLINE * 1000),
                ],
            )  # fmt: skip
        capture = cv2.VideoCapture(source)
        capture.set(cv2.CAP_PROP_FRAME_WIDTH, max(size[1], 640))  # below VGA many devices crop or refuse
        capture.set(cv2.CAP_PROP_FRAME_HEIGHT, max(size[0], 480))
        capture.set(cv2.CAP_PROP_FPS, fps)
        capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)
        return capture
    finally:
        cv2.utils.logging.setLogLevel(level)
