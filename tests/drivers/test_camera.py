"""What a camera hands out: frames and modes that cannot be changed."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, fields

import numpy as np
import pytest

from drivers.camera import CameraMode, Frame

IMAGE = np.zeros((2, 3, 3), np.uint8)


def test_a_frame_is_not_repeated_unless_its_driver_says_so() -> None:
    assert Frame(1, 2, IMAGE).repeats == 0
    assert Frame(1, 2, IMAGE, 3).repeats == 3


@pytest.mark.parametrize("record", [Frame(1, 2, IMAGE), CameraMode((2, 3), 30.0, "MJPG", "V4L2")])
def test_what_was_seen_cannot_be_rewritten(record: Frame | CameraMode) -> None:
    for field in fields(record):
        with pytest.raises(FrozenInstanceError):
            setattr(record, field.name, None)
