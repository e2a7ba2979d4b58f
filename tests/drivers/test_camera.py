"""The OpenCV camera against the emulator's stream, files and what is not a camera."""

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

from drivers.camera import CameraError, OpenCVCamera, fit
from sim.emulator import EmulatorProcess
from tests.drivers.camera_conformance import CameraConformance, refused

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def emulator() -> Iterator[EmulatorProcess]:
    with EmulatorProcess(seed=5) as process:
        yield process


class TestOpenCVCameraOnTheStream(CameraConformance):
    @pytest.fixture
    def camera(self, emulator: EmulatorProcess) -> Iterator[OpenCVCamera]:
        camera = OpenCVCamera("fixed", emulator.camera_url("fixed"), (64, 64))
        yield camera
        camera.close()

    @pytest.fixture
    def advance(self) -> Callable[[float], None]:
        return time.sleep


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
    camera = OpenCVCamera(name, emulator.camera_url(name), (64, 64))
    camera.connect()
    seen, rendered = camera.read().image.astype(int), emulator.frame(name).astype(int)
    camera.close()
    assert np.abs(seen - rendered).max() <= 16
    assert np.abs(seen - rendered).mean() < 1.5


def test_two_cameras_read_the_same_stream(emulator: EmulatorProcess) -> None:
    cameras = [OpenCVCamera(name, emulator.camera_url("wrist"), (32, 32)) for name in ("one", "two")]
    for camera in cameras:
        camera.connect()
    assert all(camera.read().image.shape == (32, 32, 3) for camera in cameras)
    for camera in cameras:
        camera.close()


def test_stamps_come_from_the_clock_that_was_passed_in(emulator: EmulatorProcess) -> None:
    ticks = iter(range(1000, 100_000, 1000))
    camera = OpenCVCamera("fixed", emulator.camera_url("fixed"), (64, 64), clock=lambda: next(ticks))
    camera.connect()
    assert camera.read().stamp % 1000 == 0
    camera.close()


def test_colours_and_centre_crop_of_a_file(film: Path) -> None:
    camera = OpenCVCamera("film", film, (24, 24))
    camera.connect()
    image = camera.read().image
    camera.close()
    assert image.shape == (24, 24, 3)
    assert image[12, 2, 0] > 200 and image[12, 2, 2] < 50
    assert image[12, -3, 2] > 200 and image[12, -3, 0] < 50


def death(camera: OpenCVCamera) -> str:
    """What `read` says once the source has died; fails when it has not within 10 s."""
    for _ in range(1000):
        try:
            camera.read()
        except CameraError:
            return refused(camera.read)
        time.sleep(0.01)
    raise AssertionError("the camera still gives frames")


def test_a_source_that_ends_is_reported_by_read(film: Path) -> None:
    camera = OpenCVCamera("film", film, (48, 96), fps=200)
    camera.connect()
    assert "film.avi stopped sending frames" in death(camera)
    camera.close()


def test_a_stream_that_dies_is_reported_by_read() -> None:
    with EmulatorProcess() as emulator:
        camera = OpenCVCamera("fixed", emulator.camera_url("fixed"), (64, 64))
        camera.connect()
    assert "fixed.mjpg stopped sending frames" in death(camera)
    camera.close()


def test_a_path_the_stream_does_not_serve(emulator: EmulatorProcess) -> None:
    camera = OpenCVCamera("top", emulator.camera_url("fixed").replace("fixed", "top"), (64, 64))
    assert "top.mjpg" in refused(camera.connect)


@pytest.mark.parametrize("source", [97, "/dev/video97", "nowhere.mp4", "http://127.0.0.1:9/fixed.mjpg", "x://y"])
def test_what_cannot_be_opened_gives_one_line_that_names_it(
    source: int | str, capfd: pytest.CaptureFixture[str]
) -> None:
    message = refused(OpenCVCamera("fixed", source, (64, 64)).connect)
    assert "fixed" in message and str(source) in message
    assert capfd.readouterr() == ("", "")


def test_a_file_that_is_no_video(tmp_path: Path) -> None:
    (tmp_path / "notes.mp4").write_text("no frames here")
    assert "notes.mp4" in refused(OpenCVCamera("fixed", tmp_path / "notes.mp4", (64, 64)).connect)


def test_leaving_without_close_is_a_clean_exit(emulator: EmulatorProcess) -> None:
    code = (
        "import sys; from drivers.camera import OpenCVCamera; "
        "camera = OpenCVCamera('fixed', sys.argv[1], (64, 64)); camera.connect(); print(camera.read().sequence)"
    )
    command = [sys.executable, "-c", code, emulator.camera_url("fixed")]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=30, check=False)
    assert (result.returncode, result.stderr) == (0, "")


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
