"""What the doctor says of a camera that is slow, frozen, poorer than asked for, or gone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import pytest

from drivers.config import CameraConfig
from drivers.opencv_camera import OpenCVCamera
from runtime.doctor import Diagnosis
from runtime.doctor_cameras import look_at_camera
from runtime.picture import decode
from tests.drivers.fake_capture import FakeCamera, sensor


@pytest.fixture
def device() -> FakeCamera:
    return FakeCamera()


def look(device: FakeCamera, pictures: Path | None = None, **more: Any) -> Diagnosis:
    """The diagnosis of that device as a camera "fixed" that is asked for 1 frame a second."""
    given = {"driver": "opencv", "source": 0, "size": (64, 64), "fps": 1.0} | more
    config = CameraConfig.model_validate(given)
    diagnosis = Diagnosis("robot")
    camera = OpenCVCamera("fixed", config, open_capture=device.open)
    look_at_camera(camera, config, diagnosis, pictures, watch=0.2)
    assert device.released == device.opened
    return diagnosis


def test_a_healthy_camera(device: FakeCamera, tmp_path: Path) -> None:
    diagnosis = look(device, tmp_path / "pictures", fourcc="MJPG")
    assert diagnosis.problems == [] and diagnosis.notes == []
    row = diagnosis.cameras[0]
    assert (row["camera"], row["size"], row["repeats"]) == ("fixed", [64, 64], 0)
    assert row["mode"] == "640x480 MJPG 1/s V4L2"
    assert row["fps"] > 1 and row["age_ms"] >= 0
    assert decode(Path(row["snapshot"]).read_bytes()).shape == (64, 64, 3)


def test_what_was_not_granted_is_a_note(device: FakeCamera) -> None:
    device.grants[cv2.CAP_PROP_FPS] = lambda _: 0.25
    diagnosis = look(device, exposure=0.01, capture=(720, 1280))
    assert diagnosis.problems == []
    assert diagnosis.notes == [
        "camera fixed: asked for 1280x720, it gives 640x480 (width x height)",
        "camera fixed: asked for 1 frames a second, it states 0.25",
    ]


def test_a_frozen_camera_is_a_problem_unless_its_picture_may_stand_still(device: FakeCamera) -> None:
    still = sensor()(1)
    device.picture = lambda number: still
    problems = look(device).problems
    assert len(problems) == 1 and problems[0].startswith("camera fixed: frozen: ") and "static_ok" in problems[0]
    assert look(device, static_ok=True).problems == []


def test_a_camera_that_froze_for_a_moment_is_none(device: FakeCamera) -> None:
    live = device.picture
    device.picture = lambda number: live(number // 2)  # every frame twice
    assert look(device).problems == []


def test_a_slow_camera_is_a_problem(device: FakeCamera) -> None:
    problems = look(device, fps=100_000.0).problems
    assert len(problems) == 1 and "100000 were asked for" in problems[0] and "exposure" in problems[0]


def test_a_camera_that_sends_one_frame_only_is_a_problem(device: FakeCamera) -> None:
    device.undecodable = frozenset(range(3, 1_000_000))
    diagnosis = look(device)
    assert diagnosis.problems == ["camera fixed: no new frame while it was watched; check its cable"]
    assert diagnosis.cameras[0]["fps"] is None


def test_a_camera_that_is_not_there_is_a_problem(device: FakeCamera) -> None:
    device.here = False
    diagnosis = look(device)
    assert len(diagnosis.problems) == 1 and "cannot be opened" in diagnosis.problems[0]
    assert diagnosis.cameras[0]["fps"] is None


def test_a_camera_that_dies_while_it_is_watched_is_a_problem(device: FakeCamera) -> None:
    def unplug(number: int) -> Any:
        device.here = number < 5
        return sensor()(number)

    device.picture = unplug
    assert "stopped sending frames" in look(device).problems[0]
