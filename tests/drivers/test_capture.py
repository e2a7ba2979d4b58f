"""What is asked of a device, in which order, and what is said of what it does not grant."""

from __future__ import annotations

import math
from pathlib import Path

import cv2
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from drivers.camera import CameraMode
from drivers.capture import ask, granted, is_film, is_url, open_source
from drivers.config import CameraConfig
from tests.drivers.fake_capture import FakeCamera

MJPG = cv2.VideoWriter.fourcc(*"MJPG")
YUYV = cv2.VideoWriter.fourcc(*"YUYV")


def settled(camera: FakeCamera, config: CameraConfig, size: tuple[int, int] = (480, 640)) -> CameraMode:
    """The mode that the device ends in when it sends frames of `size`."""
    capture = camera.open(config.source)
    return granted(capture, config, size, ask(capture, config))


def wish(**wishes: object) -> CameraConfig:
    return CameraConfig.model_validate({"driver": "opencv", "source": 0, "size": (64, 64)} | wishes)


def test_a_granted_mode_has_no_notes() -> None:
    mode = settled(FakeCamera(), wish(fourcc="MJPG"))
    assert mode == CameraMode((480, 640), 30.0, "MJPG", "V4L2")


def test_the_format_is_asked_first_then_size_and_rate() -> None:
    camera = FakeCamera()
    settled(camera, wish(fourcc="MJPG", capture=(720, 1280), fps=60), (720, 1280))
    assert camera.asked[:4] == [
        (cv2.CAP_PROP_FOURCC, MJPG),
        (cv2.CAP_PROP_FRAME_WIDTH, 1280),
        (cv2.CAP_PROP_FRAME_HEIGHT, 720),
        (cv2.CAP_PROP_FPS, 60),
    ]


def test_without_a_wish_vga_is_asked_and_no_format() -> None:
    camera = FakeCamera()
    settled(camera, wish())
    assert dict(camera.asked).keys().isdisjoint({cv2.CAP_PROP_FOURCC, cv2.CAP_PROP_EXPOSURE})
    assert (cv2.CAP_PROP_FRAME_WIDTH, 640) in camera.asked and (cv2.CAP_PROP_FRAME_HEIGHT, 480) in camera.asked


def test_frames_larger_than_vga_are_asked_for_as_large_as_they_are_handed_out() -> None:
    camera = FakeCamera()
    settled(camera, wish(size=(600, 100)), (600, 640))
    assert (cv2.CAP_PROP_FRAME_HEIGHT, 600) in camera.asked and (cv2.CAP_PROP_FRAME_WIDTH, 640) in camera.asked


def test_each_difference_is_a_note() -> None:
    camera = FakeCamera(grants={cv2.CAP_PROP_FPS: lambda _: 10.0, cv2.CAP_PROP_FOURCC: lambda _: float(YUYV)})
    mode = settled(camera, wish(fourcc="MJPG", capture=(720, 1280)), (480, 640))
    assert mode.notes == (
        "asked for 1280x720, it gives 640x480 (width x height)",
        "asked for 30 frames a second, it states 10",
        "asked for pixel format MJPG, it gives YUYV",
    )


@pytest.mark.parametrize(("stated", "fps"), [(0.0, None), (-1.0, None), (math.nan, None), (29.97, 29.97)])
def test_a_rate_is_what_the_device_states(stated: float, fps: float | None) -> None:
    mode = settled(FakeCamera(grants={cv2.CAP_PROP_FPS: lambda _: stated}), wish())
    assert mode.fps == fps and mode.notes == ()


@pytest.mark.parametrize("code", [0.0, -1.0, math.nan, 2.0**40, 1.0])
def test_a_format_that_is_not_four_letters_is_none(code: float) -> None:
    mode = settled(FakeCamera(grants={cv2.CAP_PROP_FOURCC: lambda _: code}), wish(fourcc="MJPG"))
    assert mode.fourcc == "" and "one that it does not state" in mode.notes[0]


@pytest.mark.parametrize("source", ["http://127.0.0.1/x.mjpg", __file__])
def test_nothing_is_asked_of_a_stream_or_a_film(source: str) -> None:
    camera = FakeCamera(properties={cv2.CAP_PROP_FPS: 25.0})
    assert settled(camera, wish(source=source), (64, 64)) == CameraMode((64, 64), None, "", "V4L2")
    assert camera.asked == []
    assert settled(camera, wish(source=source, exposure=0.01), (64, 64)).notes == (
        "exposure cannot be locked: the source is no device",
    )
    assert "asked for 20x10" in settled(camera, wish(source=source, capture=(10, 20)), (64, 64)).notes[0]


@pytest.mark.parametrize(("backend", "manual", "value"), [("V4L2", 1.0, 100), ("DSHOW", 0.0, -7), ("MSMF", 0.0, -7)])
def test_exposure_is_locked_in_the_units_of_each_backend(backend: str, manual: float, value: float) -> None:
    camera = FakeCamera(backend=backend)
    assert settled(camera, wish(exposure=0.01)).notes == ()
    assert camera.asked[-2:] == [(cv2.CAP_PROP_AUTO_EXPOSURE, manual), (cv2.CAP_PROP_EXPOSURE, value)]


@pytest.mark.parametrize(("backend", "automatic"), [("V4L2", 3.0), ("DSHOW", 1.0), ("MSMF", 1.0)])
def test_exposure_is_given_back_to_the_device(backend: str, automatic: float) -> None:
    camera = FakeCamera(backend=backend)
    assert settled(camera, wish()).notes == ()
    assert camera.properties[cv2.CAP_PROP_AUTO_EXPOSURE] == automatic


@pytest.mark.parametrize("refused", [cv2.CAP_PROP_AUTO_EXPOSURE, cv2.CAP_PROP_EXPOSURE])
def test_a_driver_without_an_exposure_lock_is_a_note(refused: int) -> None:
    camera = FakeCamera(refuses=frozenset({refused}))
    assert settled(camera, wish(exposure=0.01)).notes == ("its driver has no exposure lock: exposure stays automatic",)


def test_a_backend_without_an_exposure_lock_is_a_note() -> None:
    camera = FakeCamera(backend="AVFOUNDATION")
    assert settled(camera, wish(exposure=0.01)).notes == ("exposure cannot be locked through AVFOUNDATION",)
    assert settled(camera, wish()).notes == ()


def test_another_exposure_than_asked_is_a_note() -> None:
    camera = FakeCamera(grants={cv2.CAP_PROP_EXPOSURE: lambda _: 330.0})
    assert settled(camera, wish(exposure=0.01)).notes == ("asked for an exposure of 0.01 s, it gives 0.033 s",)


@given(st.floats(1e-4, 1.0), st.sampled_from(["V4L2", "DSHOW", "MSMF"]))
def test_rounding_to_a_devices_steps_is_no_difference(exposure: float, backend: str) -> None:
    notes = settled(FakeCamera(backend=backend), wish(exposure=exposure)).notes
    assert notes == () or (backend == "V4L2" and exposure < 6e-4)  # below, a unit of 100 us is too coarse


@pytest.mark.parametrize(
    "wrong", [{"exposure": 0}, {"exposure": "manual"}, {"fourcc": "MJPEG"}, {"fourcc": "mjpg"}, {"capture": (0, 640)}]
)
def test_a_wish_that_no_device_can_grant_is_no_config(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        wish(**wrong)


def test_what_is_a_film_and_what_comes_over_a_network(tmp_path: Path) -> None:
    film = tmp_path / "film.avi"
    film.touch()
    assert is_film(str(film))
    assert not any(map(is_film, (0, str(tmp_path), "/dev/null", f"http://x/{film}", "nowhere.avi")))
    assert is_url("rtsp://camera/1")
    assert not any(map(is_url, (0, str(film))))


def test_opening_what_is_not_there_prints_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    for source in (97, "nowhere.mp4", "http://127.0.0.1:9/fixed.mjpg"):
        capture = open_source(source)
        assert not capture.isOpened()
        capture.release()
    assert capfd.readouterr() == ("", "")
