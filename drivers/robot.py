"""Robot: an arm and its cameras, made from a config by the names of their drivers.

Knows no driver: the drivers of this package stand in two tables, others (the simulated ones among them) announce
themselves as entry points of the groups `gato_arm.arms` and `gato_arm.cameras`. A driver is imported when it is asked
for, so the servo process never loads OpenCV. An arm driver is called with its `ArmConfig`, a camera driver with the
camera's name and its `CameraConfig`; that of a simulated arm also with the robot's `SimulationConfig`, if it has one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from importlib.metadata import EntryPoint, entry_points
from types import MappingProxyType, TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

from drivers.arm import Arm
from drivers.config import ArmConfig, CameraConfig, ConfigError, RobotConfig, SimulationConfig, suggest

if TYPE_CHECKING:
    from drivers.camera import Camera

ARM_GROUP: Final = "gato_arm.arms"
CAMERA_GROUP: Final = "gato_arm.cameras"
BUILT_IN: Final[Mapping[str, Mapping[str, str]]] = MappingProxyType(
    {
        ARM_GROUP: {"feetech": "drivers.feetech:FeetechArm", "dynamixel": "drivers.dynamixel:DynamixelArm"},
        CAMERA_GROUP: {"opencv": "drivers.opencv_camera:OpenCVCamera"},
    }
)


def open_arm(config: ArmConfig, simulation: SimulationConfig | None = None) -> Arm:
    """The arm of a config, constructed but not connected; `simulation` is for the driver of a simulated one.

    Raises `ConfigError` for a driver that is not there.
    """
    driver = _driver(ARM_GROUP, config.driver, "arm.driver")
    arm: Arm = driver(config) if simulation is None else driver(config, simulation)
    return arm


def open_camera(name: str, config: CameraConfig) -> Camera:
    """A camera of a config, constructed but not connected. Raises `ConfigError` for a driver that is not there."""
    driver = _driver(CAMERA_GROUP, config.driver, f"cameras.{name}.driver")
    camera: Camera = driver(name, config)
    return camera


class Robot:
    """An arm and its cameras, connected and closed together; also a context manager."""

    def __init__(self, arm: Arm, cameras: Mapping[str, Camera]) -> None:
        self.arm = arm
        self.cameras = MappingProxyType(dict(cameras))

    @classmethod
    def from_config(cls, config: RobotConfig) -> Self:
        """The robot of a config, not connected. Raises `ConfigError`."""
        arm = open_arm(config.arm, config.simulation)
        return cls(arm, {name: open_camera(name, camera) for name, camera in config.cameras.items()})

    def connect(self) -> None:
        """Connect the arm, then every camera; if one fails, all are closed. Raises `ArmError` or `CameraError`."""
        with ExitStack() as undo:
            undo.callback(self.close)
            self.arm.connect()
            for camera in self.cameras.values():
                camera.connect()
            undo.pop_all()

    def close(self) -> None:
        """Close every camera and the arm (torque stays as it is), each whatever becomes of the others."""
        with ExitStack() as closing:
            closing.callback(self.arm.close)
            for camera in self.cameras.values():
                closing.callback(camera.close)

    def __enter__(self) -> Self:
        self.connect()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _driver(group: str, name: str, where: str) -> Callable[..., Any]:
    """What makes a device of driver `name`; this package's own drivers come before entry points of the same name."""
    announced = {point.name: point for point in entry_points(group=group)}
    announced |= {key: EntryPoint(key, value, group) for key, value in BUILT_IN[group].items()}
    if name not in announced:
        known = sorted(announced)
        raise ConfigError(f"{where}: no driver {name!r}{suggest(name, known)}; known: {', '.join(known)}")
    driver: Callable[..., Any] = announced[name].load()
    return driver
