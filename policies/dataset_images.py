"""An episode's images between arrays and files: lossless PNG one by one, or one MP4 a camera.

OpenCV and PyAV are imported where they are needed: a dataset of PNG needs no PyAV. Knows no dataset.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
from numpy.typing import NDArray

from policies.dataset_format import DatasetError

if TYPE_CHECKING:
    from av.video.stream import VideoStream

Frames = NDArray[np.uint8]  # (T, H, W, 3) RGB
Images = Sequence[bytes] | Frames  # PNG each, or decoded

CODEC = "libx264"
GROUP = 2  # frames between two that stand alone, as LeRobot has it: any frame is decoded fast
QUALITY = 18  # H.264's constant rate factor; 0 is lossless, LeRobot's own is 30 (with AV1)


def encode_png(image: NDArray[np.uint8]) -> bytes:
    """An (H, W, 3) RGB image as PNG."""
    import cv2

    done, data = cv2.imencode(".png", image[..., ::-1])
    if not done:
        raise DatasetError(f"an image of shape {image.shape} and type {image.dtype} could not be encoded as PNG")
    return bytes(data.tobytes())


def decode_png(data: bytes) -> NDArray[np.uint8]:
    """The (H, W, 3) RGB image of `encode_png`, or of another PNG or JPEG."""
    import cv2

    image = cv2.imdecode(np.frombuffer(data, dtype=np.uint8), cv2.IMREAD_COLOR)
    if image is None:
        raise DatasetError("an image in the dataset is neither PNG nor JPEG; the data file is damaged")
    return np.ascontiguousarray(image[..., ::-1], dtype=np.uint8)


def decoded(images: Images) -> Frames:
    """`images` as an array."""
    if isinstance(images, np.ndarray):
        return images
    return np.stack([decode_png(image) for image in images])


def encoded(images: Images) -> Sequence[bytes]:
    """`images` as PNG."""
    if isinstance(images, np.ndarray):
        return [encode_png(image) for image in images]
    return images


def write_video(path: Path, frames: Frames, fps: int) -> None:
    """`frames` as an MP4 of H.264 in 4:2:0; replaces `path`. Height and width must be even."""
    import av

    _, height, width, _ = frames.shape
    if height % 2 or width % 2:
        raise DatasetError(f"a video of {height}x{width} pixels cannot be written: both must be even; store images")
    options = {"g": str(GROUP), "crf": str(QUALITY)}
    with av.open(str(path), "w") as container:
        stream = cast("VideoStream", container.add_stream(CODEC, fps, options=options))
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")))
        container.mux(stream.encode())


def read_video(path: Path, start: float, count: int, fps: float) -> Frames:
    """The `count` frames from `start` s on. Raises `DatasetError` when there are fewer."""
    import av

    first = round(start * fps)
    frames: list[NDArray[np.uint8]] = []
    try:
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            if first and stream.time_base is not None:
                container.seek(int(start / stream.time_base), stream=stream, backward=True)
            for frame in container.decode(stream):
                if frame.time is None or round(frame.time * fps) < first:
                    continue
                frames.append(np.asarray(frame.to_ndarray(format="rgb24"), dtype=np.uint8))
                if len(frames) == count:
                    break
    except (av.FFmpegError, IndexError) as error:
        raise DatasetError(f"{path}: cannot be read as a video ({error})") from error
    if len(frames) != count:
        raise DatasetError(f"{path}: has {len(frames)} frames from {start:g} s on, the episode {count}")
    return np.stack(frames)
