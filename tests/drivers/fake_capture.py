"""A scripted `drivers.capture.Capture`: a device that grants, refuses, freezes, dies and returns as a test says."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray


def sensor(shape: tuple[int, int] = (480, 640)) -> Callable[[int], NDArray[np.uint8]]:
    """Pictures of a still scene as a sensor gives them: a grey wall with noise; frame number -> (H, W, 3) BGR."""

    def picture(number: int) -> NDArray[np.uint8]:
        return np.random.default_rng(number).integers(126, 131, (*shape, 3), dtype=np.uint8)

    return picture


@dataclass
class FakeCamera:
    """The device. `here` is whether it is plugged in; each `open` gives a capture as `cv2.VideoCapture` would."""

    picture: Callable[[int], NDArray[np.uint8]] = field(default_factory=sensor)
    here: bool = True
    sending: bool = True
    hiccups: int = 0  # that many grabs fail, then they work again
    backend: str = "V4L2"
    grants: dict[int, Callable[[float], float]] = field(default_factory=dict)  # property -> what becomes of a wish
    refuses: frozenset[int] = frozenset()  # properties that cannot be set
    undecodable: frozenset[int] = frozenset()  # numbers of the grabs after which `retrieve` fails
    properties: dict[int, float] = field(default_factory=dict)
    asked: list[tuple[int, float]] = field(default_factory=list)
    opened: int = 0
    released: int = 0
    grabbed: int = 0
    paced: threading.Event = field(default_factory=threading.Event)  # set: no pause between two frames

    def open(self, source: int | str) -> FakeCapture:
        self.opened += 1
        return FakeCapture(self)


class FakeCapture:
    """One opened `FakeCamera`."""

    def __init__(self, camera: FakeCamera) -> None:
        self._camera = camera

    def isOpened(self) -> bool:
        return self._camera.here

    def grab(self) -> bool:
        camera = self._camera
        camera.paced.wait(0.002)
        if camera.hiccups:
            camera.hiccups -= 1
            return False
        if not (camera.here and camera.sending):
            return False
        camera.grabbed += 1
        return True

    def retrieve(self) -> tuple[bool, Any]:
        number = self._camera.grabbed
        if number in self._camera.undecodable:
            return False, None
        return True, self._camera.picture(number)

    def get(self, propId: int, /) -> float:
        return self._camera.properties.get(propId, 0.0)

    def set(self, propId: int, value: float, /) -> bool:
        camera = self._camera
        camera.asked.append((propId, value))
        if propId in camera.refuses:
            return False
        camera.properties[propId] = camera.grants.get(propId, float)(value)
        return True

    def getBackendName(self) -> str:
        if not self._camera.here:
            raise cv2.error("not opened")
        return self._camera.backend

    def release(self) -> None:
        self._camera.released += 1
