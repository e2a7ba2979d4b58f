"""The OpenCV camera: any index, path or URL that OpenCV opens, kept current by a thread, found again after an unplug.

Knows no backend's ways: capture.py opens the device and asks it for its mode.
"""

from __future__ import annotations

import atexit
import threading
import time
from collections.abc import Callable

import cv2
import numpy as np

from drivers.camera import CameraError, CameraMode, Frame, Image
from drivers.capture import OPEN_DEADLINE, Capture, as_text, ask, granted, is_film, open_source
from drivers.config import CameraConfig

FIRST_FRAME_DEADLINE = OPEN_DEADLINE  # s, from connect() to the first frame
GRABS_BEFORE_DEAD = 5  # failed grabs in a row; a USB camera fails one now and then and goes on
GRAB_RETRY_PAUSE = 0.02  # s
REOPEN_PAUSE = 1.0  # s between two tries to find a source again that has gone
STALE_FRAMES = 1  # at the start: what was captured while the device was being opened is older than its stamp
SAMPLED_ROWS = 60  # of a picture, about, that are compared with the one before: 0.1 ms for VGA


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

    `config.source` is a device index, a path (device node or video file, the file played once at `fps`) or a URL.
    `config.size` is what `read` gives, whatever the device delivers. Frames are stamped by `clock` when the device has
    handed them over, before they are decoded. When the source dies, the thread tries to open it again every
    `REOPEN_PAUSE` until `close`. `open_capture` stands in for OpenCV in tests.
    """

    def __init__(
        self,
        name: str,
        config: CameraConfig,
        *,
        clock: Callable[[], int] = time.monotonic_ns,
        open_capture: Callable[[int | str], Capture] = open_source,
    ) -> None:
        self._name = name
        self._config = config
        self._clock = clock
        self._open_capture = open_capture
        self._link: _Link | None = None

    @property
    def name(self) -> str:
        return self._name

    @property
    def size(self) -> tuple[int, int]:
        return self._config.size

    @property
    def mode(self) -> CameraMode | None:
        """What the device granted when it was opened last; None when not connected."""
        return None if self._link is None else self._link.mode

    @property
    def reconnects(self) -> int:
        """How often the source was lost and found again since `connect`."""
        return 0 if self._link is None else self._link.reconnects

    def connect(self) -> None:
        self.close()
        link = _Link(self._config, self._clock, self._open_capture)
        # A thread that is inside OpenCV when the interpreter goes down takes the process with it.
        atexit.register(link.end)
        link.thread.start()
        in_time = link.settled.wait(FIRST_FRAME_DEADLINE)
        if link.frame is None:
            _end(link)
            if in_time:
                raise CameraError(self._explain(link))
            raise CameraError(
                f"camera {self._name}: {self._config.source} gave no frame within {FIRST_FRAME_DEADLINE:g} s; "
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
        hint = "check `source` in the robot's YAML, cable and power"
        return f"camera {self._name}: {self._config.source} {link.death}; {hint}"


class _Link:
    """One source and its thread. The thread owns the capture: it opens, grabs and releases it, as often as needed."""

    def __init__(
        self, config: CameraConfig, clock: Callable[[], int], open_capture: Callable[[int | str], Capture]
    ) -> None:
        self.config, self.clock, self.open_capture = config, clock, open_capture
        self.frame: Frame | None = None
        self.mode: CameraMode | None = None
        self.reconnects = 0
        self.death: str | None = None  # why there are no more frames, until there are again
        self.settled = threading.Event()  # the first frame is here, or there will be none
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self._run, name=f"camera {config.source}", daemon=True)
        self._rows: Image | None = None  # of the picture before

    def end(self) -> None:
        """Stop the thread and wait for it, but not for longer than OpenCV may take to open a source."""
        self.stop.set()
        if self.thread.is_alive():
            self.thread.join(OPEN_DEADLINE + 1.0)

    def _run(self) -> None:
        while True:
            self._use()
            self.settled.set()
            # What never gave a frame is the caller's to try again, and a film has an end.
            if self.frame is None or is_film(self.config.source) or self.stop.wait(REOPEN_PAUSE):
                return

    def _use(self) -> None:
        """Open the source and follow it until it dies."""
        capture = self.open_capture(self.config.source)
        try:
            if capture.isOpened():
                self._follow(capture)
            elif self.frame is None:
                self.death = "cannot be opened"
        except cv2.error as error:
            self.death = f"failed in OpenCV ({error.err or error.func})"
        finally:
            capture.release()

    def _follow(self, capture: Capture) -> None:
        refusals = ask(capture, self.config)
        grabbed = failures = 0
        begun = False
        pause = 1 / self.config.fps if is_film(self.config.source) else 0.0
        while not self.stop.wait(pause) if pause else not self.stop.is_set():
            if not capture.grab():
                failures += 1
                if failures == GRABS_BEFORE_DEAD:
                    self.death = "opens but sends no frame" if self.frame is None else "stopped sending frames"
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
            picture = np.asarray(picture, dtype=np.uint8)
            if not begun and not self._begin(capture, picture, refusals):
                return
            begun = True
            self._keep(stamp, picture)

    def _begin(self, capture: Capture, picture: Image, refusals: list[str]) -> bool:
        """Check the mode by the first picture; False when it is of no use."""
        height, width = picture.shape[:2]
        if height < self.config.size[0] or width < self.config.size[1]:
            given, needed = as_text((height, width)), as_text(self.config.size)
            self.death = f"gives {given} pixels, fewer than the {needed} of its `size`"
            return False
        self.mode = granted(capture, self.config, (height, width), refusals)
        self.reconnects += self.frame is not None
        self._rows = None
        return True

    def _keep(self, stamp: int, picture: Image) -> None:
        """Make this picture (BGR) the latest frame."""
        before = self.frame
        rows = picture[:: max(1, len(picture) // SAMPLED_ROWS)]
        repeated = before is not None and self._rows is not None and np.array_equal(rows, self._rows)
        self._rows = rows
        image = cv2.cvtColor(fit(picture, self.config.size), cv2.COLOR_BGR2RGB)
        image.flags.writeable = False
        self.frame = Frame(
            stamp,
            0 if before is None else before.sequence + 1,
            np.asarray(image, dtype=np.uint8),
            before.repeats + 1 if before is not None and repeated and not self.config.static_ok else 0,
        )
        self.death = None  # only now: a reader that finds no death takes the frame
        self.settled.set()


def _end(link: _Link) -> None:
    link.end()
    atexit.unregister(link.end)
