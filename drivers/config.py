"""The pydantic models of robots/*.yaml, and how a robot's name or file becomes one of them.

Knows no driver: what a driver needs beyond these models it checks itself. Every mistake in a file becomes one line
that says where it is and what may stand there.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from importlib import resources
from pathlib import Path
from typing import Annotated, Literal, Self, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt, Strict, ValidationError, model_validator
from pydantic_core import ErrorDetails

from drivers.arm import JERK_TIME, ArmSpec, Array, frozen

FILE_BYTES = 1 << 20  # of a robot file: a thousand times what one needs
URDF_FOLDER = Path(str(resources.files("drivers"))).resolve() / "robots" / "urdf"


class ConfigError(Exception):
    """A configuration that cannot be used; the message says what, where and what to do."""


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class JointConfig(_Model):
    """One joint, its limits (rad, rad/s, rad/s^2) and the servo that drives it."""

    name: str = Field(min_length=1)
    id: int = Field(ge=0, le=252)
    minimum: float
    maximum: float
    velocity_max: PositiveFloat
    acceleration_max: PositiveFloat
    jerk_max: PositiveFloat | None = None  # rad/s^3; None: full acceleration is reached in 20 ms
    zero: int = 2048  # servo position at angle 0, counts
    direction: Literal[-1, 1] = 1  # -1 where the servo counts up while the angle goes down
    servo: str | None = None  # model, as in "xl330-m288"; None: the driver's usual one
    shadow: int | None = Field(default=None, ge=0, le=252)  # id of a second servo on the same joint, which follows

    @model_validator(mode="after")
    def _limits_in_order(self) -> Self:
        if not self.minimum < self.maximum:
            raise ValueError(f"minimum {self.minimum:g} is not below maximum {self.maximum:g}")
        return self


class ArmConfig(_Model):
    """An arm: which driver, on which port, with which joints (in bus order)."""

    driver: str = Field(min_length=1)
    port: str | None = None  # device path; None for drivers without one
    baudrate: PositiveInt = 1_000_000
    deadline: float = Field(default=0.004, gt=0, le=1)  # s, for one try of one transaction
    retries: int = Field(default=1, ge=0, le=5)  # further tries of a transaction
    usb_serial: str | None = None  # of the adapter: found again under any port name; wins over `port`
    urdf: str | None = None  # its geometry: a file beside the YAML, or one of robots/urdf
    calibration: str | None = None  # what `gato-arm calibrate joints` found out: a file beside the YAML
    joints: list[JointConfig] = Field(min_length=1)
    home: list[float] | None = None  # rad, for each joint: where an episode begins; None: wherever the arm is
    rest: list[float] | None = None  # rad: a pose that the arm keeps without torque; None: it has none

    @model_validator(mode="after")
    def _poses_within_limits(self) -> Self:
        for name, pose in (("home", self.home), ("rest", self.rest)):
            if pose is None:
                continue
            if len(pose) != len(self.joints):
                raise ValueError(f"{name} has {len(pose)} angles, the arm has {len(self.joints)} joints")
            for joint, angle in zip(self.joints, pose, strict=True):
                if not joint.minimum <= angle <= joint.maximum:
                    raise ValueError(
                        f"{name}: {joint.name} at {angle:g} rad is not within [{joint.minimum:g}, {joint.maximum:g}]"
                    )
        return self

    @model_validator(mode="after")
    def _joints_distinct(self) -> Self:
        for key in ("name", "id"):
            values = [getattr(joint, key) for joint in self.joints]
            for value in values:
                if values.count(value) > 1:
                    raise ValueError(f"two joints have the {key} {value!r}")
        ids = [joint.id for joint in self.joints] + [joint.shadow for joint in self.joints if joint.shadow is not None]
        for joint in self.joints:
            if joint.shadow is not None and ids.count(joint.shadow) > 1:
                raise ValueError(f"{joint.name}: its shadow has the id {joint.shadow}, which another servo has too")
        return self

    def home_pose(self) -> Array | None:
        """`home` as an array (n,), rad."""
        return None if self.home is None else frozen(self.home)

    def spec(self) -> ArmSpec:
        """Names and limits of the joints, in the order of the file."""
        return ArmSpec(
            joint_names=tuple(joint.name for joint in self.joints),
            position_min=frozen([joint.minimum for joint in self.joints]),
            position_max=frozen([joint.maximum for joint in self.joints]),
            velocity_max=frozen([joint.velocity_max for joint in self.joints]),
            acceleration_max=frozen([joint.acceleration_max for joint in self.joints]),
            jerk_max=frozen([joint.jerk_max or joint.acceleration_max / JERK_TIME for joint in self.joints]),
        )


class Box(_Model):
    """A box in the arm's base frame, m."""

    low: Annotated[tuple[float, float, float], Strict(False)]
    high: Annotated[tuple[float, float, float], Strict(False)]

    @model_validator(mode="after")
    def _corners_in_order(self) -> Self:
        if not all(low < high for low, high in zip(self.low, self.high, strict=True)):
            raise ValueError(f"low {self.low} is not below high {self.high} along every axis")
        return self


class SafetyConfig(_Model):
    """When the arm is slowed, stopped, or not obeyed. Defaults are for a table-top arm at 20 Hz."""

    soft_margin: float = Field(default=0.05, ge=0)  # rad before a joint limit in which motion towards it slows down
    workspace: Box | None = None  # where the gripper must stay; None: anywhere it reaches
    table_height: float | None = None  # m in the base frame: nothing but the base goes below; None: no table
    target_age_max_s: PositiveFloat = 0.08  # older targets are not followed: the arm decelerates
    silence_max_s: PositiveFloat = 0.2  # no fresh target for this long while running: fault
    tracking_error_max: PositiveFloat = 0.35  # rad between command and measurement, beyond which nothing is followed
    tracking_time_s: PositiveFloat = 0.5  # and for this long: fault
    lead_max: PositiveFloat = (
        0.15  # rad ahead of the measurement that a joint is sent: so far it leaps when it comes free
    )
    grip_lead_max: PositiveFloat = 0.15  # the same for a gripper: more presses harder where its servo is soft
    temperature_max_c: PositiveFloat = 65.0
    voltage_min: PositiveFloat | None = None  # V; None: the servo's own limits
    voltage_max: PositiveFloat | None = None
    stall_load: PositiveFloat = 0.75  # share of stall torque; servos protect themselves from 80% on, after 2 s
    stall_error: PositiveFloat = 0.05  # rad
    stall_time_s: PositiveFloat = 1.0  # load and error above both for this long, and it comes no nearer: fault
    grippers: Annotated[tuple[str, ...], Strict(False)] = ("gripper",)  # they press: neither stall nor tracking counts
    deadline_misses_max: PositiveInt = 20  # control steps in a row that came late
    observation_age_max_s: PositiveFloat = 0.5  # of a camera frame or a joint reading
    repeated_frames_max: PositiveInt = 20  # identical frames in a row: the camera is frozen
    stop: Literal["hold", "lower"] = "hold"  # after a fault: category 2, or category 1 (lower to `rest`, release)
    stop_button: str | None = None  # an input device whose key press stops the arm, as in /dev/input/by-id/...


class CameraConfig(_Model):
    """A camera: which driver, what it opens, and what its frames are like."""

    driver: str = Field(min_length=1)
    source: int | str = ""  # an index, a path or a URL; "" for drivers without one
    size: Annotated[tuple[PositiveInt, PositiveInt], Strict(False)]  # (height, width) of the frames handed out
    fps: PositiveFloat = 30.0
    capture: Annotated[tuple[PositiveInt, PositiveInt], Strict(False)] | None = None  # asked of the device
    fourcc: str | None = Field(default=None, pattern="^[A-Z0-9]{4}$")  # pixel format asked of it, as in MJPG
    exposure: Literal["auto"] | PositiveFloat = "auto"  # s, where it is locked
    calibration: str | None = None  # what `gato-arm calibrate` found out: a file beside the YAML
    static_ok: bool = False  # a drawn or heavily compressed picture: identical frames do not mean a frozen camera


class SimulationConfig(_Model):
    """In what world a simulated or emulated robot stands; `sim.rig` knows what conditions and objects there are."""

    conditions: dict[str, float | list[float] | list[list[float]]] = Field(default_factory=dict)
    objects: str = "cubes"


class RobotConfig(_Model):
    """An arm and its cameras. `emulated`: port and sources are placeholders that `with_devices` must replace."""

    name: str = Field(min_length=1)
    emulated: bool = False
    arm: ArmConfig
    safety: SafetyConfig = Field(default_factory=SafetyConfig)
    cameras: dict[str, CameraConfig] = Field(default_factory=dict)
    simulation: SimulationConfig | None = None  # None: the world as it was designed

    @model_validator(mode="after")
    def _only_simulated(self) -> Self:
        if self.simulation is not None and not self.emulated and self.arm.driver != "simulated":
            raise ValueError("simulation: this robot is neither emulated nor simulated; leave the section out")
        return self

    def with_devices(self, port: str, sources: Mapping[str, str]) -> RobotConfig:
        """This robot on another port and other camera sources (camera name -> source; the rest stay)."""
        cameras = {
            name: camera.model_copy(update={"source": sources.get(name, camera.source)})
            for name, camera in self.cameras.items()
        }
        return self.model_copy(update={"arm": self.arm.model_copy(update={"port": port}), "cameras": cameras})


def robot_names() -> tuple[str, ...]:
    """The robots that come with this package, by name."""
    folder = resources.files("drivers") / "robots"
    return tuple(sorted(entry.name[: -len(".yaml")] for entry in folder.iterdir() if entry.name.endswith(".yaml")))


def load_robot(name_or_path: str) -> RobotConfig:
    """The robot of that name (robots/NAME.yaml of this package), or of that YAML file. Raises `ConfigError`."""
    path = Path(name_or_path)
    if path.suffix in (".yaml", ".yml") or path.name != name_or_path:
        try:
            with path.open("rb") as opened:
                content = opened.read(FILE_BYTES + 1)
            text = content.decode("utf-8")
        except FileNotFoundError as error:
            raise ConfigError(f"{path}: no such robot file; known names: {', '.join(robot_names())}") from error
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"{path}: cannot be read as text ({error})") from error
        if len(content) > FILE_BYTES:
            raise ConfigError(f"{path}: has more than {FILE_BYTES >> 10} KiB: no robot file")
        return _with_files_found(parse_robot(text, str(path)), path)
    if name_or_path not in robot_names():
        known = ", ".join(robot_names())
        raise ConfigError(
            f"no robot {name_or_path!r}{suggest(name_or_path, robot_names())}; known: {known}; or give a YAML file"
        )
    file = resources.files("drivers") / "robots" / f"{name_or_path}.yaml"
    return parse_robot(file.read_text(encoding="utf-8"), f"{name_or_path}.yaml")


def find_urdf(arm: ArmConfig, beside: Path | None = None) -> Path:
    """The arm's geometry: a file in the folder `beside`, or one of this package's. Raises `ConfigError`."""
    if arm.urdf is None:
        raise ConfigError("arm.urdf: not set; name the URDF that describes the arm's links and joints")
    for folder in (beside, URDF_FOLDER):
        if folder is not None and (folder / arm.urdf).is_file():
            return (folder / arm.urdf).resolve()
    known = sorted(entry.name for entry in URDF_FOLDER.glob("*.urdf"))
    raise ConfigError(
        f"arm.urdf: no file {arm.urdf!r} beside the robot's YAML{suggest(arm.urdf, known)}; "
        f"those that come with the package: {', '.join(known)}"
    )


def parse_robot(text: str, where: str) -> RobotConfig:
    """The robot that a YAML text describes; `where` names the text in errors. Raises `ConfigError`."""
    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = error.problem_mark if isinstance(error, yaml.MarkedYAMLError) else None
        place = f"{where}:{mark.line + 1}:{mark.column + 1}" if mark else where
        problem = error.problem if isinstance(error, yaml.MarkedYAMLError) else str(error)
        raise ConfigError(f"{place}: not YAML: {' '.join((problem or 'syntax error').split())}") from error
    except (ValueError, RecursionError) as error:  # a date or number that YAML lets through and Python does not
        raise ConfigError(f"{where}: not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise ConfigError(f"{where}: a robot is a mapping with the keys {', '.join(RobotConfig.model_fields)}")
    try:
        return RobotConfig.model_validate(content)
    except ValidationError as error:
        raise ConfigError(_one_line(error, where)) from error


def _with_files_found(robot: RobotConfig, file: Path) -> RobotConfig:
    """The robot of `file`, URDF and calibrations as absolute paths: who opens them need not know the YAML's place."""
    cameras = {
        name: camera
        if camera.calibration is None
        else camera.model_copy(update={"calibration": str((file.parent / camera.calibration).resolve())})
        for name, camera in robot.cameras.items()
    }
    robot = robot.model_copy(update={"cameras": cameras})
    if robot.arm.calibration is not None:
        joints = str((file.parent / robot.arm.calibration).resolve())
        robot = robot.model_copy(update={"arm": robot.arm.model_copy(update={"calibration": joints})})
    if robot.arm.urdf is None:
        return robot
    try:
        urdf = find_urdf(robot.arm, file.parent)
    except ConfigError as error:
        raise ConfigError(f"{file}: {error}") from error
    return robot.model_copy(update={"arm": robot.arm.model_copy(update={"urdf": str(urdf)})})


def suggest(word: str, known: Iterable[str]) -> str:
    """` (did you mean X?)` for the known word nearest to `word`, or nothing."""
    nearest = difflib.get_close_matches(word, list(known), n=1)
    return f" (did you mean {nearest[0]!r}?)" if nearest else ""


def _one_line(error: ValidationError, where: str) -> str:
    """The first mistake, an unknown key before all others: a misspelt key is also a missing one."""
    details = error.errors(include_url=False, include_input=True)
    first = min(details, key=lambda detail: detail["type"] != "extra_forbidden")
    more = f" (and {len(details) - 1} more)" if len(details) > 1 else ""
    place = ".".join(str(part) for part in first["loc"])
    return f"{where}: {place}: {_explain(first)}{more}" if place else f"{where}: {_explain(first)}{more}"


def _explain(detail: ErrorDetails) -> str:
    """What is wrong with one value, and what may stand there."""
    if detail["type"] == "extra_forbidden":
        key, allowed = str(detail["loc"][-1]), _allowed_keys(detail["loc"][:-1])
        return f"unknown key{suggest(key, allowed)}; allowed: {', '.join(allowed)}"
    if detail["type"] == "missing":
        return "missing"
    message = detail["msg"].removeprefix("Value error, ")
    message = " ".join((message[:1].lower() + message[1:]).split())
    value = detail["input"]
    return message if isinstance(value, dict | list | BaseModel) else f"{message}, not {value!r}"


def _allowed_keys(location: tuple[int | str, ...]) -> tuple[str, ...]:
    """The keys of the model that stands at `location` in a robot file."""
    model: type[BaseModel] = RobotConfig
    for part in location:
        if isinstance(part, str) and part in model.model_fields:
            annotation = model.model_fields[part].annotation
            nested = [kind for kind in (annotation, *get_args(annotation)) if _is_model(kind)]
            model = nested[0] if nested else model
    return tuple(model.model_fields)


def _is_model(kind: object) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)
