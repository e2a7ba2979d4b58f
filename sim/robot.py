"""The simulated robot: an arm and cameras that are drivers on a simulated world, for lock-step.

They sense and command like the real devices: angles in servo counts, goals rounded to counts, torque off until held.
The world is that of block stacking for its own arm, and a bare table for any other (`sim.articulated`). Knows no tasks
and no policy, and steps no physics: time passes when the owner of the world lets it.
"""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from drivers.arm import ArmError, ArmSpec, Array, BusCounters, JointState, ReleaseReport, frozen
from drivers.camera import CameraError, Frame
from drivers.config import URDF_FOLDER, ArmConfig, CameraConfig, ConfigError, RobotConfig, SimulationConfig, find_urdf
from sim.articulated import ArticulatedWorld
from sim.rig import Rig
from sim.world import URDF, World

CAMERAS = ("fixed", "wrist")
COUNT = 2 * math.pi / 4096  # rad, the resolution of an STS3215
LOAD_STEP = 0.001  # its resolution of load, share of stall torque
LIMIT_TOLERANCE = 1e-6  # rad, for targets that were clipped to a limit in single precision

TEMPERATURE_C = 30.0
VOLTAGE = 7.4  # V

Clock = Callable[[], int]  # monotonic ns
AnyWorld = World | ArticulatedWorld


def _quantised(values: Array, step: float) -> Array:
    """The multiples of `step` nearest to `values`, read-only."""
    multiples: Array = np.rint(values / step) * step
    multiples.flags.writeable = False
    return multiples


class SimulatedArm:
    """`drivers.arm.Arm` on the joints of a world; `spec` may narrow the world's limits."""

    def __init__(self, world: AnyWorld, *, clock: Clock = time.monotonic_ns, spec: ArmSpec | None = None) -> None:
        self._world = world
        self._clock = clock
        self._spec = spec or world.spec
        self._counters = BusCounters()
        self._connected = False
        self._held = False  # since the last connect: what may be written to
        self._energised = False
        self._temperatures_c = frozen(np.full(self._spec.joints, TEMPERATURE_C))
        self._voltages = frozen(np.full(self._spec.joints, VOLTAGE))

    @property
    def spec(self) -> ArmSpec:
        return self._spec

    @property
    def counters(self) -> BusCounters:
        """Transactions, as a bus would count them; none ever fails."""
        return self._counters

    def connect(self) -> None:
        self._held = self._held and self._connected
        self._connected = True

    def energised(self) -> tuple[str, ...]:
        self._transact()
        return self._spec.joint_names if self._energised else ()

    def read(self) -> JointState:
        self._transact()
        positions, velocities, loads = self._world.joint_states()
        return JointState(
            self._clock(),
            _quantised(positions, COUNT),
            _quantised(velocities, COUNT),
            _quantised(loads, LOAD_STEP),
            self._temperatures_c,
            self._voltages,
        )

    def write(self, targets: Array) -> None:
        self._require_connection()
        values = np.asarray(targets, dtype=np.float64)
        spec = self._spec
        if values.shape != (spec.joints,):
            raise ArmError(f"targets have shape {values.shape}, the arm's {spec.joints} joints need ({spec.joints},)")
        inside = (values >= spec.position_min - LIMIT_TOLERANCE) & (values <= spec.position_max + LIMIT_TOLERANCE)
        if not inside.all():
            joint = int(np.argmin(inside))
            low, high = spec.position_min[joint], spec.position_max[joint]
            raise ArmError(f"{spec.joint_names[joint]}: target {values[joint]:g} rad is not within [{low:g}, {high:g}]")
        if not self._held:
            raise ArmError("the simulated arm is released: hold it before moving it")
        self._transact()
        self._world.set_targets(_quantised(values, COUNT))

    def hold(self) -> JointState:
        state = self.read()
        self._world.set_targets(state.positions)
        self._world.set_torque(np.ones(self._spec.joints, dtype=bool))
        self._held = self._energised = True
        return state

    def release(self) -> ReleaseReport:
        self._transact()
        self._world.set_torque(np.zeros(self._spec.joints, dtype=bool))
        self._held = self._energised = False
        return ReleaseReport(self._spec.joint_names)

    def close(self) -> None:
        self._connected = self._held = False

    def _require_connection(self) -> None:
        if not self._connected:
            raise ArmError("the simulated arm is not connected: connect it first")

    def _transact(self) -> None:
        self._require_connection()
        self._counters.sent += 1


class SimulatedCamera:
    """`drivers.camera.Camera` that renders the world as it is when it is read."""

    def __init__(self, name: str, world: AnyWorld, *, clock: Clock = time.monotonic_ns) -> None:
        self._name = name
        self._world = world
        self._clock = clock
        self._connected = False
        self._latest: Frame | None = None

    @property
    def name(self) -> str:
        return self._name

    @property
    def size(self) -> tuple[int, int]:
        return self._world.image_size

    def connect(self) -> None:
        self._connected = True

    def read(self) -> Frame:
        if not self._connected:
            raise CameraError(f"camera {self._name}: not connected; call connect() before read()")
        stamp, image = self._clock(), self._render()
        latest = self._latest
        # Always rendered: the world may have been rearranged while time stood still.
        if latest is not None and latest.stamp == stamp and np.array_equal(latest.image, image):
            return latest
        self._latest = Frame(stamp, 0 if latest is None else latest.sequence + 1, image)
        return self._latest

    def _render(self) -> NDArray[np.uint8]:
        image = self._world.render(self._name)
        image.flags.writeable = False
        return image

    def close(self) -> None:
        self._connected = False


@functools.cache
def _shared_rig(section: str) -> Rig:
    world = Rig(SimulationConfig.model_validate_json(section))
    world.reset(np.random.default_rng(0))
    return world


def shared_world(simulation: SimulationConfig | None = None) -> World:
    """The stacking world that arm and cameras of a robot config meet in, with block layout 0: one for each process and
    `simulation` section. Raises `ConfigError` for what that world has not."""
    return _shared_rig((simulation or SimulationConfig()).model_dump_json())


class _Stage:
    """The world of the arm that was opened last, for the cameras of the same robot: they are opened after it."""

    def __init__(self) -> None:
        self._key = ""
        self._world: AnyWorld | None = None

    def enter(self, config: ArmConfig, simulation: SimulationConfig | None) -> AnyWorld:
        """The arm's world, made anew unless it is the arm that was opened last. Raises `ConfigError`."""
        if config.urdf is None or find_urdf(config) == URDF_FOLDER / URDF:
            self._key, self._world = "", shared_world(simulation)
            return self._world
        if simulation is not None:
            raise ConfigError(f"simulation: only {URDF}'s world has conditions and objects; leave the section out")
        key = config.model_dump_json()
        if self._world is None or self._key != key:
            self._key, self._world = key, ArticulatedWorld(RobotConfig(name="simulated", arm=config))
        return self._world

    def world(self) -> AnyWorld:
        """The world of the arm that was opened last, or that of block stacking."""
        return self._world or shared_world()


_STAGE = _Stage()


def open_simulated_arm(config: ArmConfig, simulation: SimulationConfig | None = None) -> SimulatedArm:
    """The arm driver "simulated": the stacking arm, or the arm of its URDF. Raises `ConfigError`, also for joints that
    the arm has not."""
    spec, world = config.spec(), _STAGE.enter(config, simulation)
    if spec.joint_names != world.spec.joint_names:
        raise ConfigError(f"arm.joints: the simulated arm has {', '.join(world.spec.joint_names)}, in this order")
    return SimulatedArm(world, spec=spec)


def open_simulated_camera(name: str, config: CameraConfig) -> SimulatedCamera:
    """The camera driver "simulated", in the world of the robot's arm: no source, no rate, each read is a new picture.

    Raises `ConfigError` for a camera that the world has not.
    """
    world = _STAGE.world()
    if isinstance(world, World) and name not in CAMERAS:
        raise ConfigError(f"cameras.{name}: the simulated world has {', '.join(CAMERAS)}")
    if config.size != world.image_size:
        raise ConfigError(f"cameras.{name}.size: the simulated world renders {world.image_size}, not {config.size}")
    return SimulatedCamera(name, world)
