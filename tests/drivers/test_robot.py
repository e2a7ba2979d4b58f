"""How drivers are found by name, and how an arm and its cameras open and close together."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import EntryPoint, EntryPoints
from typing import Any

import pytest

from drivers import robot as robot_module
from drivers.arm import ArmError
from drivers.camera import CameraError
from drivers.config import ArmConfig, ConfigError, load_robot
from drivers.feetech import FeetechArm
from drivers.opencv_camera import OpenCVCamera
from drivers.robot import ARM_GROUP, CAMERA_GROUP, Robot, open_arm, open_camera

LOG: list[str] = []


class Device:
    """Writes down what is called, and fails on connect when it is told to."""

    def __init__(self, name: str, failure: Exception | None = None) -> None:
        self.name, self.failure = name, failure

    def connect(self) -> None:
        LOG.append(f"connect {self.name}")
        if self.failure:
            raise self.failure

    def close(self) -> None:
        LOG.append(f"close {self.name}")


class PluginArm:
    def __init__(self, config: ArmConfig) -> None:
        self.config = config


class PluginCamera:
    def __init__(self, *given: object) -> None:
        self.given = given


@pytest.fixture
def plugins(monkeypatch: pytest.MonkeyPatch) -> None:
    here = __name__
    points = [
        EntryPoint("plugin", f"{here}:PluginArm", ARM_GROUP),
        EntryPoint("feetech", f"{here}:PluginArm", ARM_GROUP),
        EntryPoint("plugin", f"{here}:PluginCamera", CAMERA_GROUP),
    ]
    monkeypatch.setitem(sys.modules, here, sys.modules[__name__])
    monkeypatch.setattr(robot_module, "entry_points", lambda **match: EntryPoints(points).select(**match))


@pytest.fixture(autouse=True)
def empty_log() -> None:
    LOG.clear()


def changed(driver: str) -> tuple[Any, Any]:
    config = load_robot("so101")
    return (
        config.arm.model_copy(update={"driver": driver}),
        config.cameras["wrist"].model_copy(update={"driver": driver}),
    )


def test_built_in_drivers_are_made_but_not_connected() -> None:
    config = load_robot("so101")
    arm = open_arm(config.arm)
    assert isinstance(arm, FeetechArm)
    with pytest.raises(ArmError, match="not connected"):
        arm.read()
    camera = open_camera("wrist", config.cameras["wrist"])
    assert isinstance(camera, OpenCVCamera)
    assert (camera.name, camera.size) == ("wrist", (64, 64))


@pytest.mark.usefixtures("plugins")
def test_entry_points_are_drivers_too() -> None:
    arm_config, camera_config = changed("plugin")
    arm, camera = open_arm(arm_config), open_camera("wrist", camera_config)
    assert isinstance(arm, PluginArm) and arm.config is arm_config
    assert isinstance(camera, PluginCamera) and camera.given == ("wrist", camera_config)


@pytest.mark.usefixtures("plugins")
def test_an_entry_point_cannot_take_a_built_in_name() -> None:
    assert isinstance(open_arm(load_robot("so101").arm), FeetechArm)


@pytest.mark.usefixtures("plugins")
def test_an_unknown_driver_suggests_and_lists() -> None:
    arm_config, camera_config = changed("feetec")
    with pytest.raises(ConfigError, match=r"^arm\.driver: no driver 'feetec' \(did you mean 'feetech'\?\); known"):
        open_arm(arm_config)
    with pytest.raises(ConfigError, match=r"^cameras\.wrist\.driver: no driver 'feetec'; known: opencv, plugin$"):
        open_camera("wrist", camera_config)


def test_a_robot_has_its_arm_and_cameras() -> None:
    made = Robot.from_config(load_robot("so101"))
    assert isinstance(made.arm, FeetechArm)
    assert set(made.cameras) == {"fixed", "wrist"}


def made_of(arm: Any, **cameras: Any) -> Robot:
    return Robot(arm, cameras)


def test_together_it_connects_and_closes() -> None:
    with made_of(Device("arm"), left=Device("left"), right=Device("right")) as robot:
        assert robot.cameras["left"].name == "left"
        assert LOG == ["connect arm", "connect left", "connect right"]
    assert sorted(LOG[3:]) == ["close arm", "close left", "close right"]


def test_one_that_fails_to_connect_closes_all() -> None:
    robot = made_of(Device("arm"), left=Device("left", CameraError("left: no frame")), right=Device("right"))
    with pytest.raises(CameraError, match="no frame"):
        robot.connect()
    assert LOG[:2] == ["connect arm", "connect left"]
    assert {"close arm", "close left"} <= set(LOG)


def test_one_that_fails_to_close_does_not_keep_the_others() -> None:
    class Stuck(Device):
        def close(self) -> None:
            raise CameraError("stuck")

    with pytest.raises(CameraError, match="stuck"):
        made_of(Device("arm"), left=Stuck("left"), right=Device("right")).close()
    assert sorted(LOG) == ["close arm", "close right"]


def test_an_arm_opens_without_opencv() -> None:
    code = (
        "import sys; from drivers.config import load_robot; from drivers.robot import open_arm; "
        "open_arm(load_robot('so101').arm); sys.exit('cv2' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
