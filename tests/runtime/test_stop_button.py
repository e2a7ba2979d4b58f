"""A FIFO stands in for the input device: the kernel's records are bytes either way."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from drivers.config import ConfigError
from runtime.stop_button import EV_KEY, EVENT, StopButton

PRESSED = "stop button pressed: release it, then reset"


class Device:
    """The other end of a FIFO."""

    def __init__(self, path: Path) -> None:
        os.mkfifo(path)
        self.path = str(path)
        self._file = os.open(path, os.O_RDWR)

    def key(self, *values: int, code: int = 30, kind: int = EV_KEY) -> None:
        for value in values:
            self.send(EVENT.pack(12, 34, kind, code, value))

    def send(self, data: bytes) -> None:
        os.write(self._file, data)

    def unplug(self) -> None:
        os.close(self._file)


@pytest.fixture
def device(tmp_path: Path) -> Device:
    return Device(tmp_path / "event0")


@pytest.fixture
def button(device: Device) -> Iterator[StopButton]:
    button = StopButton(device.path)
    yield button
    button.close()


def test_a_record_has_the_kernel_s_size() -> None:
    assert EVENT.size == 24  # on 64-bit systems


def test_nothing_is_wrong_with_a_button_that_nobody_presses(button: StopButton, device: Device) -> None:
    assert button.poll() is None
    device.key(0, 7, kind=4)  # a scan code, as keyboards send them
    device.key(0, kind=0)
    assert button.poll() is None


def test_a_press_is_told_once_after_it_was_released(button: StopButton, device: Device) -> None:
    device.key(1, 0)
    assert button.poll() == PRESSED
    assert button.poll() is None


def test_a_button_that_is_held_stays_pressed(button: StopButton, device: Device) -> None:
    device.key(1, 2)
    assert [button.poll() for _ in range(3)] == [PRESSED] * 3
    device.key(1, code=31)
    device.key(0)
    assert button.poll() == PRESSED
    device.key(0, code=31)
    assert button.poll() is None


def test_hundreds_of_events_at_once(button: StopButton, device: Device) -> None:
    device.key(*[1, 0] * 100)
    assert button.poll() == PRESSED
    assert button.poll() is None


def test_a_button_that_is_gone_is_wrong_for_good(button: StopButton, device: Device) -> None:
    assert button.poll() is None
    device.unplug()
    lost = f"stop button lost: {device.path} is gone: plug it in and start again"
    assert [button.poll(), button.poll()] == [lost, lost]


def test_a_device_that_fails_is_gone(button: StopButton, monkeypatch: pytest.MonkeyPatch) -> None:
    def unplugged(file: int, size: int) -> bytes:
        raise OSError(19, "No such device")

    monkeypatch.setattr(os, "read", unplugged)
    assert (button.poll() or "").startswith("stop button lost")


def test_a_mushroom_that_is_latched_at_the_start_is_pressed(device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    def keys_down(file: int, request: int, buffer: bytearray) -> int:
        assert request == 0x80604518  # EVIOCGKEY(96), as a C compiler says
        buffer[30 // 8] |= 1 << 30 % 8
        return 0

    monkeypatch.setattr("fcntl.ioctl", keys_down)
    button = StopButton(device.path)
    assert [button.poll(), button.poll()] == [PRESSED, PRESSED]
    device.key(0)
    assert button.poll() is None
    button.close()


def test_a_device_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^safety.stop_button: .*/none: No such file or directory; plug it in"):
        StopButton(str(tmp_path / "none"))


def test_closing_twice(device: Device) -> None:
    button = StopButton(device.path)
    button.close()
    button.close()
