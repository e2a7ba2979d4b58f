"""What the tests of this folder share: a world (`reset` makes it as good as new), an emulator, a client of its port."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from sim.emulator import EmulatorProcess
from sim.world import World
from tests.sim.servo_clients import FeetechClient


@pytest.fixture(scope="module")
def shared() -> Iterator[World]:
    world = World()
    yield world
    world.close()


@pytest.fixture
def emulator() -> Iterator[EmulatorProcess]:
    with EmulatorProcess(seed=1) as process:
        yield process


@pytest.fixture
def client(emulator: EmulatorProcess) -> Iterator[FeetechClient]:
    client = FeetechClient(emulator.port)
    yield client
    client.close()
