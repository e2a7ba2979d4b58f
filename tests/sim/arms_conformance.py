"""The arm conformance suite on an `ArticulatedWorld`: as it is, and behind an emulated bus.

A test module gives the fixtures `world`, at home, and `arm_config`; of `EmulatedConformance` also `protocol`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from drivers.arm import Arm
from drivers.config import ArmConfig
from drivers.robot import open_arm
from runtime.clock import SECOND, SimulatedClock
from sim.articulated import ArticulatedWorld
from sim.robot import SimulatedArm
from tests.drivers.arm_conformance import ArmConformance
from tests.sim.emulated_line import EmulatedLine

Advance = Callable[[float], None]


class SimulatedConformance(ArmConformance):
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


class EmulatedConformance(ArmConformance):
    @pytest.fixture
    def line(self, arm_config: ArmConfig, world: ArticulatedWorld, protocol: str) -> Iterator[EmulatedLine]:
        with EmulatedLine(arm_config, world, protocol) as line:
            yield line

    @pytest.fixture
    def arm(self, line: EmulatedLine) -> Iterator[Arm]:
        arm = open_arm(line.arm)
        yield arm
        arm.close()

    @pytest.fixture
    def advance(self, line: EmulatedLine) -> Advance:
        return line.advance
