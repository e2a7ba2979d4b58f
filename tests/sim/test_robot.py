"""The simulated drivers on the PyBullet world: both conformance suites, and what is theirs alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pytest

from drivers.config import CameraConfig, ConfigError, RobotConfig, load_robot
from drivers.robot import Robot, open_arm, open_camera
from runtime.clock import SECOND, SimulatedClock
from sim.robot import COUNT, SimulatedArm, SimulatedCamera, shared_world
from sim.world import HOME, World
from tests.drivers.arm_conformance import ArmConformance
from tests.drivers.camera_conformance import CameraConformance

Advance = Callable[[float], None]


@pytest.fixture
def world(shared: World) -> World:
    shared.reset(np.random.default_rng(3), arm_pose=np.array([0.1, -0.55, 0.35, 1.2, 0.2, 1.0]))
    return shared


@pytest.fixture
def clock() -> SimulatedClock:
    return SimulatedClock()


@pytest.fixture
def advance(world: World, clock: SimulatedClock) -> Advance:
    def pass_time(seconds: float) -> None:
        world.step(round(seconds * world.physics_rate))
        clock.advance(round(seconds * SECOND))

    return pass_time


class TestSimulatedArm(ArmConformance):
    @pytest.fixture
    def arm(self, world: World, clock: SimulatedClock) -> Iterator[SimulatedArm]:
        arm = SimulatedArm(world, clock=clock.now)
        yield arm
        arm.close()

    @pytest.fixture
    def advance(self, advance: Advance) -> Advance:
        return advance

    def test_reads_and_goals_are_whole_counts(self, arm: SimulatedArm, world: World) -> None:
        arm.connect()
        arm.hold()
        arm.write(np.full(6, 0.1234567))
        for values in (arm.read().positions, world.joint_targets()):
            np.testing.assert_allclose(values / COUNT, np.rint(values / COUNT), atol=1e-9)

    def test_released_arm_falls(self, arm: SimulatedArm, advance: Advance) -> None:
        arm.connect()
        held = arm.hold().positions
        arm.release()
        advance(0.5)
        assert np.abs(arm.read().positions - held).max() > 0.1


class TestSimulatedCamera(CameraConformance):
    @pytest.fixture
    def camera(self, world: World, clock: SimulatedClock) -> Iterator[SimulatedCamera]:
        camera = SimulatedCamera("fixed", world, clock=clock.now)
        yield camera
        camera.close()

    @pytest.fixture
    def advance(self, advance: Advance) -> Advance:
        return advance

    def test_sees_a_new_layout_while_time_stands_still(self, camera: SimulatedCamera, world: World) -> None:
        camera.connect()
        before = camera.read()
        world.reset(np.random.default_rng(4))
        after = camera.read()
        assert after.sequence == before.sequence + 1
        assert (after.image != before.image).any()


def test_the_robot_of_the_name_is_an_arm_and_cameras_on_one_world() -> None:
    with Robot.from_config(load_robot("simulated")) as robot:
        assert isinstance(robot.arm, SimulatedArm)
        before = robot.cameras["fixed"].read()
        held = robot.arm.hold().positions
        robot.arm.write(held + np.array([0.5, 0, 0, 0, 0, 0]))
        shared_world().step(100)
        assert robot.arm.read().positions[0] > held[0] + 0.4
        assert (robot.cameras["fixed"].read().image != before.image).any()
        assert robot.cameras["wrist"].read().image.shape == (64, 64, 3)


def simulated(name: str) -> RobotConfig:
    """That robot with simulated devices."""
    robot = load_robot(name)
    cameras = {key: camera.model_copy(update={"driver": "simulated"}) for key, camera in robot.cameras.items()}
    arm = robot.arm.model_copy(update={"driver": "simulated"})
    return robot.model_copy(update={"arm": arm, "cameras": cameras})


def test_any_arm_with_a_urdf_is_simulated_and_its_cameras_see_it() -> None:
    with Robot.from_config(simulated("viperx300")) as robot:
        assert robot.arm.spec.joints == 7
        before = robot.cameras["fixed"].read().image
    with Robot.from_config(load_robot("simulated")) as robot:
        assert robot.arm.spec.joints == 6
        stacking = robot.cameras["fixed"].read().image
    assert (before != stacking).mean() > 0.1
    with Robot.from_config(simulated("viperx300")) as robot:
        np.testing.assert_array_equal(robot.cameras["fixed"].read().image, before)


def test_an_arm_that_is_opened_again_is_where_it_was() -> None:
    config = simulated("koch").arm
    arm = open_arm(config)
    arm.connect()
    held = arm.hold().positions
    again = open_arm(config)
    again.connect()
    np.testing.assert_array_equal(again.read().positions, held)


def test_an_arm_without_a_urdf_is_the_stacking_arm() -> None:
    bare = load_robot("simulated").arm.model_copy(update={"urdf": None})
    arm = open_arm(bare)
    arm.connect()
    np.testing.assert_allclose(arm.read().positions, shared_world().joint_positions(), atol=COUNT)


def test_torque_stays_as_it_is_when_the_arm_is_closed(world: World) -> None:
    arm = SimulatedArm(world)
    arm.connect()
    arm.hold()
    arm.close()
    arm.connect()
    assert arm.energised() == world.spec.joint_names


@pytest.mark.parametrize("name", ["simulated", "emulated", "emulated_dynamixel"])
def test_home_is_where_the_world_puts_the_arm(name: str) -> None:
    home = load_robot(name).arm.home_pose()
    assert home is not None
    np.testing.assert_array_equal(home, HOME)


def test_configs_that_the_world_cannot_serve_are_refused() -> None:
    config = load_robot("simulated")
    with pytest.raises(ConfigError, match="shoulder_pan"):
        open_arm(config.arm.model_copy(update={"joints": config.arm.joints[:5]}))
    with pytest.raises(ConfigError, match=r"cameras\.left"):
        open_camera("left", config.cameras["fixed"])
    with pytest.raises(ConfigError, match=r"cameras\.fixed\.size"):
        open_camera("fixed", CameraConfig(driver="simulated", size=(96, 96)))
