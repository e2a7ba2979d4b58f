"""The conformance suite on every arm that comes with the package: simulated, and emulated on either bus."""

from __future__ import annotations

import functools

import pytest

from drivers.config import ArmConfig, load_robot, robot_names
from sim.articulated import ArticulatedWorld
from tests.sim.arms_conformance import EmulatedConformance, SimulatedConformance

ARMS = [name for name in robot_names() if not name.startswith("emulated")]  # these are `simulated`'s arm
PROTOCOLS = ("feetech", "dynamixel")


@functools.cache
def world_of(name: str) -> ArticulatedWorld:
    return ArticulatedWorld(load_robot(name))


@pytest.fixture(params=ARMS)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def world(name: str) -> ArticulatedWorld:
    world = world_of(name)
    world.place_arm(world.home)
    return world


@pytest.fixture
def arm_config(name: str) -> ArmConfig:
    return load_robot(name).arm


class TestSimulated(SimulatedConformance):
    """Without a bus."""


@pytest.mark.parametrize("protocol", PROTOCOLS)
class TestEmulated(EmulatedConformance):
    """Behind a bus."""
