"""A camera that is unplugged and returns, and one that freezes: what the OpenCV camera's thread makes of it."""

from __future__ import annotations

import selectors
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import pytest

from drivers import opencv_camera
from drivers.opencv_camera import GRABS_BEFORE_DEAD, OpenCVCamera
from sim.camera_stream import CameraStream
from sim.emulator import EmulatorProcess
from tests.drivers.camera_conformance import refused
from tests.drivers.fake_capture import FakeCamera, sensor
from tests.drivers.opencv_cameras import config, death, on, reads, until


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lost sources are looked for again at once."""
    monkeypatch.setattr(opencv_camera, "REOPEN_PAUSE", 0.02)


@pytest.fixture
def device() -> FakeCamera:
    return FakeCamera()


@pytest.fixture
def connected(device: FakeCamera) -> Iterator[OpenCVCamera]:
    camera = OpenCVCamera("fixed", config(0), open_capture=device.open)
    camera.connect()
    yield camera
    camera.close()


@contextmanager
def streaming(picture: Callable[[int], np.ndarray], port: int = 0) -> Iterator[tuple[str, int]]:
    """A stream of `picture(number)`, (H, W, 3) RGB, on the loopback interface: its URL and its port."""
    done = threading.Event()
    with selectors.DefaultSelector() as selector:
        stream = CameraStream(["fixed"], selector, port)

        def serve() -> None:
            number = 0
            while not done.is_set():
                for key, mask in selector.select(0.01):
                    key.data(key, mask)
                stream.publish("fixed", picture(number))
                number += 1

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield stream.url("fixed"), stream.port
        finally:
            done.set()
            thread.join()
            stream.close()


def test_a_grab_that_fails_now_and_then_is_no_death(connected: OpenCVCamera, device: FakeCamera) -> None:
    for _ in range(3):
        device.hiccups = GRABS_BEFORE_DEAD - 1
        until(lambda: device.hiccups == 0, "the failures are over")
        before = connected.read().sequence
        until(lambda before=before: connected.read().sequence > before, "frames go on")
    assert device.opened == 1 and connected.reconnects == 0


def test_an_unplugged_device_is_found_again(connected: OpenCVCamera, device: FakeCamera) -> None:
    last = connected.read()
    device.here = False
    assert "fixed: 0 stopped sending frames" in death(connected)
    tried = device.opened
    until(lambda: device.opened > tried + 2, "it is looked for again and again")
    assert "stopped sending frames" in refused(connected.read)
    device.here = True
    until(lambda: reads(connected) is not None, "frames come again")
    back = connected.read()
    assert back.sequence > last.sequence and back.stamp > last.stamp
    assert connected.reconnects == 1
    assert device.released == device.opened - 1


def test_a_device_that_returns_in_a_poorer_mode_says_so(connected: OpenCVCamera, device: FakeCamera) -> None:
    device.here = False
    death(connected)
    device.picture = sensor((32, 32))
    device.here = True
    until(lambda: "fewer than" in refused(connected.read), "the new mode is refused")
    assert connected.reconnects == 0


def test_close_ends_the_search_for_a_lost_device(connected: OpenCVCamera, device: FakeCamera) -> None:
    device.here = False
    death(connected)
    connected.close()
    tried = device.opened
    time.sleep(0.1)
    assert device.opened == tried == device.released
    assert "not connected" in refused(connected.read)


def test_connect_after_an_unplug_starts_anew(connected: OpenCVCamera, device: FakeCamera) -> None:
    device.here = False
    death(connected)
    assert "cannot be opened" in refused(connected.connect)
    device.here = True
    connected.connect()
    assert connected.read().image.shape == (64, 64, 3) and connected.reconnects == 0


def test_a_stream_that_dies_and_returns() -> None:
    with streaming(sensor((64, 64))) as (url, port):
        camera = on(url)
        camera.connect()
        last = camera.read().sequence
    assert "fixed.mjpg stopped sending frames" in death(camera)
    with streaming(sensor((64, 64)), port):
        until(lambda: reads(camera) is not None, "frames come again")
        assert camera.read().sequence > last and camera.reconnects == 1
        camera.close()


def test_noise_is_no_repetition(connected: OpenCVCamera) -> None:
    until(lambda: connected.read().sequence > 20, "twenty frames")
    assert connected.read().repeats == 0


def test_noise_that_averaging_hides_is_no_repetition(device: FakeCamera) -> None:
    def almost_still(number: int) -> np.ndarray:
        picture = np.full((480, 640, 3), 100, np.uint8)
        picture[number % 60 * 8, number % 640] += 1
        return picture

    device.picture = almost_still
    camera = OpenCVCamera("fixed", config(0), open_capture=device.open)
    camera.connect()
    until(lambda: camera.read().sequence > 20, "twenty frames")
    frame = camera.read()
    camera.close()
    assert frame.repeats == 0 and (frame.image == 100).all()


def test_a_frozen_device_is_counted_until_it_thaws(connected: OpenCVCamera, device: FakeCamera) -> None:
    live = device.picture
    device.picture = lambda number: live(7)
    until(lambda: connected.read().repeats > 20, "repeats are counted")
    first, second = connected.read(), connected.read()
    assert second.repeats - first.repeats == second.sequence - first.sequence
    device.picture = live
    until(lambda: connected.read().repeats == 0, "the count starts anew")


def test_repeats_do_not_outlive_an_unplug(device: FakeCamera) -> None:
    still = sensor()(1)
    device.picture = lambda number: still
    camera = OpenCVCamera("fixed", config(0), open_capture=device.open)
    camera.connect()
    until(lambda: camera.read().repeats > 200, "repeats are counted")
    before = camera.read().sequence
    device.here = False
    death(camera)
    device.here = True
    until(lambda: reads(camera) is not None, "frames come again")
    back = camera.read()
    camera.close()
    assert back.repeats < back.sequence - before


def test_a_picture_that_may_stand_still_is_not_counted(device: FakeCamera) -> None:
    still = sensor()(1)
    device.picture = lambda number: still
    camera = OpenCVCamera("fixed", config(0, static_ok=True), open_capture=device.open)
    camera.connect()
    until(lambda: camera.read().sequence > 20, "twenty frames")
    assert camera.read().repeats == 0
    camera.close()


@pytest.mark.parametrize("noisy", [True, False])
def test_repetition_is_seen_through_jpeg(noisy: bool) -> None:
    """A sensor's noise of two levels survives the emulator's compression; the same picture decodes to the same."""
    live = sensor((64, 64))
    with streaming(live if noisy else lambda number: live(1)) as (url, _):
        camera = on(url)
        camera.connect()
        until(lambda: camera.read().sequence > 10, "ten frames")
        repeats = camera.read().repeats
        camera.close()
    assert (repeats == 0) if noisy else (repeats >= 10)


def test_faults_of_the_emulated_cameras_are_noticed_and_end() -> None:
    with EmulatorProcess() as emulator:
        camera = on(emulator.camera_url("fixed"))
        camera.connect()
        until(lambda: camera.read().sequence > 3, "frames of a still scene")
        assert camera.read().repeats == 0
        emulator.fault("freeze_camera", camera="fixed")
        until(lambda: camera.read().repeats > 5, "it is frozen")
        emulator.clear("freeze_camera")
        until(lambda: camera.read().repeats == 0, "it lives again")
        emulator.fault("drop_camera", camera="fixed")
        assert "stopped sending frames" in death(camera)
        emulator.clear("drop_camera")
        until(lambda: reads(camera) is not None, "it is found again")
        assert camera.reconnects == 1
        camera.close()
