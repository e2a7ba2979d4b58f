"""PNG gives every bit back, video what a lossy code gives."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra.numpy import arrays

from policies.dataset import DatasetError
from policies.dataset_images import decode_png, decoded, encode_png, encoded, read_video, write_video


@given(arrays(np.uint8, (5, 7, 3)))
def test_png_is_lossless(image: np.ndarray) -> None:
    assert np.array_equal(decode_png(encode_png(image)), image)


def test_images_are_arrays_or_files_as_one_wants() -> None:
    frames = np.random.default_rng(0).integers(0, 256, (3, 4, 6, 3), dtype=np.uint8)
    assert np.array_equal(decoded(encoded(frames)), frames)
    assert decoded(frames) is frames and encoded(encoded(frames)) == encoded(frames)


def moving(count: int = 9) -> np.ndarray:
    """A bright bar that wanders over a grey ground: frame i is told from its neighbours."""
    frames = np.full((count, 32, 48, 3), 90, dtype=np.uint8)
    for i in range(count):
        frames[i, :, 5 * i : 5 * i + 5] = (200, 60, 60)
    return frames


def test_every_frame_of_a_video_is_found(tmp_path: Path) -> None:
    frames, path = moving(), tmp_path / "a.mp4"
    write_video(path, frames, 20)
    whole = read_video(path, 0.0, 9, 20).astype(int)
    assert np.abs(whole - frames).mean() < 4
    part = read_video(path, 5 / 20, 3, 20).astype(int)
    assert np.array_equal(part, whole[5:8])


def test_a_video_that_is_short_or_damaged_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    write_video(path, moving(4), 20)
    with pytest.raises(DatasetError, match=r"has 4 frames from 0 s on, the episode 5"):
        read_video(path, 0.0, 5, 20)
    path.write_bytes(b"not a video")
    with pytest.raises(DatasetError, match="cannot be read as a video"):
        read_video(path, 0.0, 1, 20)
    with pytest.raises(DatasetError, match="both must be even"):
        write_video(path, np.zeros((2, 5, 6, 3), dtype=np.uint8), 20)
    with pytest.raises(DatasetError, match="neither PNG nor JPEG"):
        decode_png(b"nothing")
