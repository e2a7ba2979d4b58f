"""What every camera must do: each clause of `drivers.camera.Camera`, run on simulated and emulated cameras.

A test module derives from `CameraConformance` and gives the two fixtures `camera` and `advance`.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest

from drivers.camera import Camera, CameraError, Frame


def refused(act: Callable[[], object]) -> str:
    """The message of the `CameraError` that `act` raises: one line, not empty."""
    with pytest.raises(CameraError) as caught:
        act()
    message = str(caught.value)
    assert message and "\n" not in message
    return message


class CameraConformance:
    """Derive, name the class Test..., and override both fixtures."""

    @pytest.fixture
    def camera(self) -> Camera:
        """A camera whose device works, not connected; the fixture closes it afterwards."""
        raise NotImplementedError

    @pytest.fixture
    def advance(self) -> Callable[[float], None]:
        """Lets that many seconds pass for the device and for the clock of its stamps."""
        raise NotImplementedError

    def later(self, camera: Camera, advance: Callable[[float], None], than: Frame) -> Frame:
        """A frame captured after `than`; fails when none comes within 5 s."""
        for _ in range(100):
            advance(0.05)
            frame = camera.read()
            if frame.sequence != than.sequence:
                return frame
        raise AssertionError("no new frame within 5 s")

    def test_not_connected_refuses_to_read_and_says_its_name(self, camera: Camera) -> None:
        assert camera.name in refused(camera.read)

    def test_close_at_any_time_and_more_than_once(self, camera: Camera) -> None:
        camera.close()
        camera.connect()
        camera.close()
        camera.close()
        refused(camera.read)

    def test_connects_again_after_close(self, camera: Camera) -> None:
        camera.connect()
        camera.close()
        camera.connect()
        assert camera.read().image.size

    def test_connecting_twice_leaves_one_working_camera(self, camera: Camera) -> None:
        camera.connect()
        camera.connect()
        assert camera.read().image.size

    def test_frame_is_an_rgb_image_of_the_stated_size(self, camera: Camera) -> None:
        camera.connect()
        image = camera.read().image
        assert image.shape == (*camera.size, 3)
        assert image.dtype == np.uint8
        assert image.flags.c_contiguous

    def test_frame_cannot_be_changed(self, camera: Camera) -> None:
        camera.connect()
        with pytest.raises(ValueError):
            camera.read().image[0, 0, 0] = 1

    def test_an_old_frame_keeps_its_pixels(self, camera: Camera, advance: Callable[[float], None]) -> None:
        camera.connect()
        first = camera.read()
        pixels = first.image.copy()
        self.later(camera, advance, first)
        np.testing.assert_array_equal(first.image, pixels)

    def test_stamp_and_sequence_grow_together(self, camera: Camera, advance: Callable[[float], None]) -> None:
        camera.connect()
        before = camera.read()
        for _ in range(5):
            after = self.later(camera, advance, before)
            assert after.sequence > before.sequence
            assert after.stamp > before.stamp
            before = after

    def test_repeats_are_counted_among_the_frames_since(self, camera: Camera, advance: Callable[[float], None]) -> None:
        camera.connect()
        before = camera.read()
        for _ in range(5):
            after = self.later(camera, advance, before)
            assert 0 <= after.repeats <= before.repeats + after.sequence - before.sequence
            before = after

    def test_reading_does_not_wait_for_a_new_frame(self, camera: Camera) -> None:
        camera.connect()
        frames = [camera.read() for _ in range(100)]
        sequences = [frame.sequence for frame in frames]
        assert sequences == sorted(sequences)
        assert len(set(sequences)) < len(sequences)
        for a, b in pairwise(frames):
            if a.sequence == b.sequence:
                assert a.stamp == b.stamp
                np.testing.assert_array_equal(a.image, b.image)
