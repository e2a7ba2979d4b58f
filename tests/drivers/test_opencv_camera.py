"""The OpenCV camera against the emulator's stream, films, what is no camera, and a device that a test scripts."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers import opencv_camera
from drivers.opencv_camera import OpenCVCamera, fit
from sim.emulator import EmulatorProcess
from tests.drivers.camera_conformance import CameraConformance, refused
from tests.drivers.fake_capture import FakeCamera, sensor
from tests.drivers.opencv_cameras import config, death, on, reads

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def emulator() -> Iterator[EmulatorProcess]:
    with EmulatorProcess(seed=5) as process:
        yield process


class TestOpenCVCameraOnTheStream(CameraConformance):
    @pytest.fixture
    def camera(self, emulator: EmulatorProcess) -> Iterator[OpenCVCamera]:
        camera = on(emulator.camera_url("fixed"))
        yield camera
        camera.close()

    @pytest.fixture
    def advance(self) -> Callable[[float], None]:
        return time.sleep


class TestOpenCVCameraOnADevice(CameraConformance):
    @pytest.fixture
    def camera(self) -> Iterator[OpenCVCamera]:
        camera = OpenCVCamera("fixed", config(0), open_capture=FakeCamera().open)
        yield camera
        camera.close()

    @pytest.fixture
    def advance(self) -> Callable[[float], None]:
        return time.sleep


@pytest.fixture
def device() -> FakeCamera:
    return FakeCamera()


@pytest.fixture
def film(tmp_path: Path) -> Path:
    """Ten frames of 48x96: a red left half, a blue right half."""
    path = tmp_path / "film.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 30, (96, 48))
    picture = np.zeros((48, 96, 3), np.uint8)
    picture[:, :48, 2] = 250
    picture[:, 48:, 0] = 250
    for _ in range(10):
        writer.write(picture)
    writer.release()
    return path


@pytest.mark.parametrize("name", ["fixed", "wrist"])
def test_pixels_of_the_stream_are_those_of_the_render(emulator: EmulatorProcess, name: str) -> None:
    camera = OpenCVCamera(name, config(emulator.camera_url(name)))
    camera.connect()
    seen, rendered = camera.read().image.astype(int), emulator.frame(name).astype(int)
    camera.close()
    assert np.abs(seen - rendered).max() <= 16
    assert np.abs(seen - rendered).mean() < 1.5


def test_two_cameras_read_the_same_stream(emulator: EmulatorProcess) -> None:
    cameras = [OpenCVCamera(name, config(emulator.camera_url("wrist"), (32, 32))) for name in ("one", "two")]
    for camera in cameras:
        camera.connect()
    assert all(camera.read().image.shape == (32, 32, 3) for camera in cameras)
    for camera in cameras:
        camera.close()


def test_stamps_come_from_the_clock_that_was_passed_in(device: FakeCamera) -> None:
    ticks = iter(range(1000, 100_000_000, 1000))
    camera = OpenCVCamera("fixed", config(0), clock=lambda: next(ticks), open_capture=device.open)
    camera.connect()
    frame = camera.read()
    camera.close()
    assert frame.stamp % 1000 == 0
    assert frame.stamp == 1000 * (frame.sequence + 2)  # one stamp a grab, of which the first is thrown away


def test_colours_and_centre_crop_of_a_film(film: Path) -> None:
    camera = on(str(film), (24, 24))
    camera.connect()
    image = camera.read().image
    camera.close()
    assert image.shape == (24, 24, 3)
    assert image[12, 2, 0] > 200 and image[12, 2, 2] < 50
    assert image[12, -3, 2] > 200 and image[12, -3, 0] < 50


def test_a_film_is_played_once(film: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opencv_camera, "REOPEN_PAUSE", 0.02)
    camera = on(str(film), (48, 96), fps=200)
    camera.connect()
    assert "film.avi stopped sending frames" in death(camera)
    time.sleep(0.1)  # several times as long as a lost device is left alone
    assert reads(camera) is None and camera.reconnects == 0
    camera.close()


def test_a_path_the_stream_does_not_serve(emulator: EmulatorProcess) -> None:
    assert "top.mjpg" in refused(on(emulator.camera_url("fixed").replace("fixed", "top")).connect)


@pytest.mark.parametrize("source", [97, "/dev/video97", "nowhere.mp4", "http://127.0.0.1:9/fixed.mjpg", "x://y"])
def test_what_cannot_be_opened_gives_one_line_that_names_it(
    source: int | str, capfd: pytest.CaptureFixture[str]
) -> None:
    message = refused(on(source).connect)
    assert "fixed" in message and str(source) in message
    assert capfd.readouterr() == ("", "")


def test_a_file_that_is_no_video(tmp_path: Path) -> None:
    (tmp_path / "notes.mp4").write_text("no frames here")
    assert "notes.mp4" in refused(on(str(tmp_path / "notes.mp4")).connect)


def test_leaving_without_close_is_a_clean_exit(emulator: EmulatorProcess) -> None:
    code = (
        "import sys; from drivers.config import CameraConfig; from drivers.opencv_camera import OpenCVCamera; "
        "config = CameraConfig(driver='opencv', source=sys.argv[1], size=(64, 64)); "
        "camera = OpenCVCamera('fixed', config); camera.connect(); print(camera.read().sequence)"
    )
    command = [sys.executable, "-c", code, emulator.camera_url("fixed")]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=30, check=False)
    assert (result.returncode, result.stderr) == (0, "")


def test_a_device_that_sends_nothing_is_refused_and_released(device: FakeCamera) -> None:
    device.sending = False
    camera = OpenCVCamera("fixed", config(0), open_capture=device.open)
    assert "opens but sends no frame" in refused(camera.connect)
    assert device.opened == device.released == 1


def test_a_device_that_takes_too_long_is_refused(device: FakeCamera, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opencv_camera, "FIRST_FRAME_DEADLINE", 0.1)
    device.undecodable = frozenset(range(1_000_000))
    camera = OpenCVCamera("fixed", config(0), open_capture=device.open)
    assert "gave no frame within 0.1 s" in refused(camera.connect)
    assert device.released == 1


def test_an_error_inside_opencv_is_a_camera_error(device: FakeCamera) -> None:
    def broken(number: int) -> np.ndarray:
        raise cv2.error("bad plug")

    device.picture = broken
    camera = OpenCVCamera("fixed", config(0), open_capture=device.open)
    assert "failed in OpenCV" in refused(camera.connect)
    assert device.released == 1


def test_fewer_pixels_than_needed_are_refused(device: FakeCamera) -> None:
    device.picture = sensor((48, 640))
    camera = OpenCVCamera("fixed", config(0), open_capture=device.open)
    assert "gives 640x48 pixels, fewer than the 64x64" in refused(camera.connect)
    assert camera.mode is None


def test_the_mode_is_known_while_connected_even_if_the_first_picture_was_broken(device: FakeCamera) -> None:
    device.undecodable = frozenset({2})
    camera = OpenCVCamera("fixed", config(0, capture=(720, 1280)), open_capture=device.open)
    assert camera.mode is None
    camera.connect()
    assert camera.mode is not None and camera.mode.size == (480, 640)
    assert "asked for 1280x720" in camera.mode.notes[0]
    camera.close()
    assert camera.mode is None


@given(st.integers(1, 80), st.integers(1, 80), st.integers(1, 80), st.integers(1, 80), st.integers(0, 255))
def test_fit_gives_the_size_and_keeps_a_flat_colour(
    height: int, width: int, rows: int, columns: int, level: int
) -> None:
    image = np.full((height, width, 3), level, np.uint8)
    fitted = fit(image, (rows, columns))
    assert fitted.shape == (rows, columns, 3)
    assert (fitted == level).all()


def test_fit_does_nothing_when_nothing_is_to_do() -> None:
    image = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    assert fit(image, (4, 4)) is image


def test_fit_averages_areas_and_cuts_the_sides_off() -> None:
    image = np.zeros((4, 8, 3), np.uint8)
    image[:, :2] = image[:, 6:] = 255
    image[::2, 2:6] = 100
    assert (fit(image, (2, 2)) == 50).all()
