"""What a camera is to the rest of the runtime: frames with their stamps, and three verbs.

Knows no device and no library: drivers implement `Camera`, and every one of them passes the same conformance suite
(tests/drivers/camera_conformance.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]


class CameraError(Exception):
    """The camera cannot give what was asked; the message says what, where and what to do."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One image as it was captured.

    `repeats` is how many frames in a row, up to this one, have shown what the one before them showed, to the last bit.
    A sensor has noise: where it grows the source is frozen, however fresh the stamps are. Drivers whose picture is
    drawn anew at each read, or where `CameraConfig.static_ok` says so, leave it at 0.
    """

    stamp: int  # monotonic ns, at capture
    sequence: int  # counts captured frames; two reads of one frame have the same number
    image: NDArray[np.uint8]  # (H, W, 3) RGB, read-only
    repeats: int = 0


@dataclass(frozen=True, slots=True)
class CameraMode:
    """How a device sends its frames. `notes` says in a line each what was asked of it and not granted."""

    size: tuple[int, int]  # (height, width) as captured, before frames are brought to the size asked for
    fps: float | None  # as the device states it; None: it does not
    fourcc: str  # pixel format, as in MJPG; "" where the device does not state it
    backend: str  # what OpenCV reaches it through, as in V4L2
    notes: tuple[str, ...] = ()


class Camera(Protocol):
    """A source of frames. `read` never waits for the next frame: it returns the latest one.

    A driver that can tell has a property `mode` as well, a `CameraMode`, None until it is connected.
    """

    @property
    def name(self) -> str: ...

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of every frame."""

    def connect(self) -> None:
        """Open the device and wait for the first frame. Raises `CameraError`."""

    def read(self) -> Frame:
        """The latest frame. Raises `CameraError` when not connected, and while the source is gone.

        A driver may find its source again: then `read` works again, and sequence numbers go on.
        """

    def close(self) -> None:
        """Release the device; may be called at any time, more than once."""
