"""The conformance suite on every arm that comes with the package: simulated, and emulated on either bus."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator

import pytest

from drivers.arm import Arm
from drivers.config import load_robot, robot_names
from drivers.robot import open_arm
from runtime.clock import SECOND, SimulatedClock
from sim.articulated import ArticulatedWorld
from sim.robot import SimulatedArm
from tests.drivers.arm_conformance import ArmConformance
from tests.sim.emulated_line import EmulatedLine

Advance = Callable[[float], None]

ARMS = [name for name in robot_names() if name not in ("emulated", "emulated_dynamixel")]  # both are `simulated`'s arm
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


class TestSimulated(ArmConformance):
    @pytest.fixture
    def clock(self) -> SimulatedClock:
        return SimulatedClock()

    @pytest.fixture
    def arm(self, world: ArticulatedWorld, clock: SimulatedClock) -> Iterator[Arm]:
        arm = SimulatedArm(world, clock=clock.now)
        yield arm
        arm.close()

    @pytest.fixture
    def advance(self, world: ArticulatedWorld, clock: SimulatedClock) -> Advance:
        def pass_time(seconds: float) -> None:
            world.step(round(seconds * world.physics_rate))
            clock.advance(round(seconds * SECOND))

        return pass_time


@pytest.mark.parametrize("protocol", PROTOCOLS)
class TestEmulated(ArmConformance):
    @pytest.fixture
    def line(self, name: str, world: ArticulatedWorld, protocol: str) -> Iterator[EmulatedLine]:
        with EmulatedLine(load_robot(name).arm, world, protocol) as line:
            yield line

    @pytest.fixture
    def arm(self, line: EmulatedLine) -> Iterator[Arm]:
        arm = open_arm(line.arm)
        yield arm
        arm.close()

    @pytest.fixture
    def advance(self, line: EmulatedLine) -> Advance:
        return line.advance
