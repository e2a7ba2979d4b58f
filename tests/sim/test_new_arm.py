"""A new arm is a YAML and a URDF: those of docs/arms.md, written to a folder, simulate, emulate and conform."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from drivers.config import ArmConfig, RobotConfig, load_robot
from drivers.robot import Robot, open_arm, open_camera
from sim.articulated import ArticulatedWorld
from tests.sim.arms_conformance import EmulatedConformance, SimulatedConformance

DOCUMENT = Path(__file__).parents[2] / "docs" / "arms.md"


def example(name: str) -> str:
    """The block of code that follows the name of a file in the document."""
    found = re.search(
        rf"`{re.escape(name)}`[^\n]*:\n\n```\w+\n(.*?)```", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL
    )
    assert found, name
    return found[1]


@pytest.fixture(scope="module")
def crane(tmp_path_factory: pytest.TempPathFactory) -> RobotConfig:
    folder = tmp_path_factory.mktemp("crane")
    for name in ("crane.yaml", "crane.urdf"):
        (folder / name).write_text(example(name))
    return load_robot(str(folder / "crane.yaml"))


@pytest.fixture(scope="module")
def shared_crane(crane: RobotConfig) -> Iterator[ArticulatedWorld]:
    world = ArticulatedWorld(crane)
    yield world
    world.close()


@pytest.fixture
def world(shared_crane: ArticulatedWorld) -> ArticulatedWorld:
    shared_crane.place_arm(shared_crane.home)
    return shared_crane


@pytest.fixture
def arm_config(crane: RobotConfig) -> ArmConfig:
    return crane.arm


class TestSimulated(SimulatedConformance):
    """Without a bus."""


@pytest.mark.parametrize("protocol", ["feetech", "dynamixel"])
class TestEmulated(EmulatedConformance):
    """Behind a bus."""


def test_both_jaws_follow_the_gripper(world: ArticulatedWorld) -> None:
    opened = np.array([0.0, 0.3, 1.0])
    world.set_targets(opened)
    world.step(400)
    np.testing.assert_allclose(world.joint_positions(), opened, atol=0.02)


def test_with_the_simulated_driver_it_is_a_robot_with_a_camera(crane: RobotConfig) -> None:
    config = crane.model_copy(
        update={
            "arm": crane.arm.model_copy(update={"driver": "simulated"}),
            "cameras": {"fixed": crane.cameras["fixed"].model_copy(update={"driver": "simulated"})},
        }
    )
    with Robot.from_config(config) as robot:
        np.testing.assert_allclose(robot.arm.hold().positions, crane.arm.home, atol=0.01)
        image = robot.cameras["fixed"].read().image
        assert image.shape == (64, 64, 3) and len(np.unique(image.reshape(-1, 3), axis=0)) > 5


def test_drivers_of_another_package_are_found_by_their_entry_points(
    tmp_path: Path, crane: RobotConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "stepper_arm.py").write_text(example("stepper_arm.py"))
    announced = tmp_path / "stepper_arm-1.0.dist-info"
    announced.mkdir()
    (announced / "METADATA").write_text("Metadata-Version: 2.1\nName: stepper-arm\nVersion: 1.0\n")
    points = example("pyproject.toml").replace('[project.entry-points."', "[").replace('"]', "]").replace('"', "")
    (announced / "entry_points.txt").write_text(points)
    monkeypatch.syspath_prepend(tmp_path)
    arm = open_arm(crane.arm.model_copy(update={"driver": "stepper"}))
    camera = open_camera("hot", crane.cameras["fixed"].model_copy(update={"driver": "thermal"}))
    monkeypatch.delitem(sys.modules, "stepper_arm")
    assert type(arm).__name__ == "StepperArm" and arm.spec.joint_names == ("turn", "lift", "gripper")
    assert (camera.name, camera.size) == ("hot", (64, 64))
