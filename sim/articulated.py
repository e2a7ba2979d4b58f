"""Any arm that a YAML and a URDF describe, on a table in PyBullet: for drivers and the emulator what `sim.world` is.

Knows no tasks, no blocks, no drivers and no clock but its own. Lengths in m, angles in rad, torques in N m.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from drivers.arm import Array, frozen
from drivers.config import ConfigError, RobotConfig, find_urdf
from drivers.urdf import DrivenJoint, driven_joints
from sim import scene
from sim.servo_strength import Strength, joint_strength

POSITION_GAIN = 0.2  # share of the position error closed in a substep, as in sim.world
BACKDRIVE = 0.01  # share of the stall torque that turns a servo without power: friction of its gears
FINGER_FORCE = 20.0  # N, the most that a jaw presses with that a linkage drives
HAND = 0.08  # m, what the hand adds to the reach beyond the last joint

# The fixed camera looks at the arm from ahead and aside, far enough to see all that it reaches.
FIXED_BEARING, FIXED_PITCH, FIXED_DISTANCE = 0.75, 0.45, 1.25  # rad, rad, reaches

# Inertias as the file has them; links other than neighbours cannot pass through each other.
FLAGS = scene.pybullet.URDF_USE_INERTIA_FROM_FILE | scene.pybullet.URDF_USE_SELF_COLLISION_EXCLUDE_PARENT

# Places in what PyBullet tells of a joint and of a link.
_NAME, _FORCE_MAX, _SPEED_MAX, _PARENT = 1, 10, 11, 16
_POSITION, _ORIENTATION = 4, 5


@dataclass(frozen=True, slots=True)
class _Motor:
    """A joint of the URDF as PyBullet numbers it, what drives it, and how hard and fast (N m, rad/s; N, m/s)."""

    number: int
    driven: DrivenJoint
    force: float
    speed: float


class ArticulatedWorld:
    """One physics client; not thread-safe. The arm stands at its home pose, or at zero where it has none.

    Joint arrays have shape (n,) in `spec.joint_names` order. A joint of the URDF that mimics one of them follows it.
    Raises `ConfigError` when the URDF is missing or does not fit the joints.
    """

    def __init__(self, config: RobotConfig, *, image_size: tuple[int, int] = (64, 64), physics_rate: int = 200) -> None:
        self.spec = config.arm.spec()
        self.image_size = image_size
        self.physics_rate = physics_rate
        home = config.arm.home_pose()
        zero = frozen(np.clip(np.zeros(self.spec.joints), self.spec.position_min, self.spec.position_max))
        self.home: Array = zero if home is None else home
        urdf = find_urdf(config.arm)
        strengths = [joint_strength(joint, config.arm.driver) for joint in config.arm.joints]
        driven = driven_joints(urdf, self.spec.joint_names)
        self._p = scene.connect(physics_rate)
        self.arm = self._load(urdf)
        self._motors = self._find_motors(driven, strengths)
        self._measured = [self._measuring(index) for index in range(self.spec.joints)]
        self._hand = max(0, self._p.getJointInfo(self.arm, self._measured[-1].number)[_PARENT])
        self._targets = np.array(self.home)
        self._torque = np.ones(self.spec.joints)
        self._substeps = 0
        self.place_arm(self.home)
        self.reach = self._chain_length() + HAND  # m, about
        scene.add_table(self._p, max(2, math.ceil(2 * self.reach / scene.TILE)))
        self._fixed_view = self._look_at_all()

    def _load(self, urdf: Path) -> int:
        """The arm's body; `ConfigError` closes the client."""
        try:
            with scene.quiet():
                arm: int = self._p.loadURDF(str(urdf), useFixedBase=True, flags=FLAGS)
        except scene.pybullet.error as error:
            self.close()
            raise ConfigError(f"{urdf}: the simulator cannot load it ({error})") from error
        return arm

    def _find_motors(self, driven: tuple[DrivenJoint, ...], strengths: list[Strength]) -> list[_Motor]:
        """A joint is as strong and fast as its servos, and no stronger or faster than its limits in the URDF."""
        p = self._p
        infos = {p.getJointInfo(self.arm, n)[_NAME].decode(): (n, p.getJointInfo(self.arm, n)) for n in self._links()}
        motors = []
        for joint in driven:
            number, info = infos[joint.name]
            force, speed = strengths[joint.index].torque, strengths[joint.index].speed
            if joint.prismatic:
                force, speed = FINGER_FORCE, speed * abs(joint.multiplier)
            motors.append(_Motor(number, joint, min(force, info[_FORCE_MAX]), min(speed, info[_SPEED_MAX])))
            p.changeDynamics(self.arm, number, linearDamping=0, angularDamping=0)
        return motors

    def _links(self) -> range:
        return range(self._p.getNumJoints(self.arm))

    def _measuring(self, index: int) -> _Motor:
        """The motor that says where joint `index` is: its own, or the first that mimics it."""
        candidates = [motor for motor in self._motors if motor.driven.index == index]
        return min(candidates, key=lambda motor: motor.driven.name != self.spec.joint_names[index])

    def _chain_length(self) -> float:
        """From the base to the last joint along the joints, m."""
        p, length, link = self._p, 0.0, self._measured[-1].number
        while link >= 0:
            parent = p.getJointInfo(self.arm, link)[_PARENT]
            here = np.array(p.getLinkState(self.arm, link, computeForwardKinematics=1)[_POSITION])
            there = np.zeros(3) if parent < 0 else np.array(p.getLinkState(self.arm, parent)[_POSITION])
            length += float(np.linalg.norm(here - there))
            link = parent
        return length

    def reset(self, rng: np.random.Generator, *, keep_arm: bool = False) -> None:
        """The arm at its home pose, at rest, or left as it is. There is nothing to lay out, so `rng` is not used."""
        if not keep_arm:
            self.place_arm(self.home)
            self._substeps = 0

    def place_arm(self, positions: Array) -> None:
        """Teleport the arm to joint `positions`, at rest, targets there, torque on."""
        for motor in self._motors:
            self._p.resetJointState(self.arm, motor.number, self._urdf_position(motor, positions), 0)
        self._torque[:] = 1
        self.set_targets(positions)

    def set_stops(self, low: Array, high: Array) -> None:
        """Where each joint's mechanical stops are, rad, shape (n,): not quite at its limits in any real arm."""
        for motor in self._motors:
            ends = sorted((self._urdf_position(motor, low), self._urdf_position(motor, high)))
            self._p.changeDynamics(self.arm, motor.number, jointLowerLimit=ends[0], jointUpperLimit=ends[1])

    def set_targets(self, positions: Array) -> None:
        """Servo goals; they hold until the next call. A joint without torque keeps none."""
        self._targets[:] = positions
        self._apply_motors()

    def set_torque(self, shares: NDArray[np.bool_] | Array) -> None:
        """Switch each joint's torque, or limit it to a share of the stall torque; switching on keeps the last goal."""
        if (self._torque != shares).any():
            self._torque[:] = shares
            self._apply_motors()

    def _apply_motors(self) -> None:
        for motor in self._motors:
            self._p.setJointMotorControl2(
                self.arm,
                motor.number,
                self._p.POSITION_CONTROL,
                targetPosition=self._urdf_position(motor, self._targets),
                positionGain=POSITION_GAIN,
                velocityGain=1.0,
                force=motor.force * max(self._torque[motor.driven.index], BACKDRIVE),
                maxVelocity=motor.speed,
            )

    @staticmethod
    def _urdf_position(motor: _Motor, positions: Array) -> float:
        driven = motor.driven
        return driven.multiplier * float(positions[driven.index]) + driven.offset

    def step(self, substeps: int = 1) -> None:
        """Advance physics by `substeps` of 1/physics_rate s."""
        for _ in range(substeps):
            self._p.stepSimulation()
        self._substeps += substeps

    @property
    def time(self) -> float:
        """Simulated seconds since the last reset that placed the arm."""
        return self._substeps / self.physics_rate

    def joint_states(self) -> tuple[Array, Array, Array]:
        """Measured angles (rad), speeds (rad/s), and motor torques as shares of the stall torque in [-1, 1]."""
        states = self._p.getJointStates(self.arm, [motor.number for motor in self._measured])
        multipliers = np.array([motor.driven.multiplier for motor in self._measured])
        offsets = np.array([motor.driven.offset for motor in self._measured])
        forces = np.array([motor.force for motor in self._measured])
        positions = (np.array([state[0] for state in states]) - offsets) / multipliers
        velocities = np.array([state[1] for state in states]) / multipliers
        loads = np.array([state[3] for state in states]) / forces * np.sign(multipliers)
        return positions, velocities, np.clip(loads, -1, 1)

    def joint_positions(self) -> Array:
        """Measured joint angles, rad."""
        return self.joint_states()[0]

    def joint_velocities(self) -> Array:
        """Measured joint speeds, rad/s."""
        return self.joint_states()[1]

    def joint_loads(self) -> Array:
        """Motor torque as a share of the stall torque, in [-1, 1]."""
        return self.joint_states()[2]

    def joint_targets(self) -> Array:
        """The servo goals in force, rad."""
        return self._targets.copy()

    def render(self, camera: str) -> NDArray[np.uint8]:
        """An image (H, W, 3) RGB: of "wrist" from above the hand, of any other name from a fixed place."""
        height, width = self.image_size
        wrist = camera == "wrist"
        projection = self._p.computeProjectionMatrixFOV(75 if wrist else 46, width / height, 0.01, 5 * self.reach)
        return scene.picture(self._p, self._wrist_view() if wrist else self._fixed_view, projection, self.image_size)

    def _look_at_all(self) -> object:
        distance = FIXED_DISTANCE * self.reach
        level = distance * math.cos(FIXED_PITCH)
        eye = [level * math.cos(FIXED_BEARING), level * math.sin(FIXED_BEARING), distance * math.sin(FIXED_PITCH)]
        return self._p.computeViewMatrix(eye, [0.3 * self.reach, 0, 0.3 * self.reach], [0, 0, 1])

    def _wrist_view(self) -> object:
        state = self._p.getLinkState(self.arm, self._hand, computeForwardKinematics=1)
        axes = np.array(self._p.getMatrixFromQuaternion(state[_ORIENTATION])).reshape(3, 3)
        forward, up = axes[:, 0], axes[:, 2]
        eye = np.array(state[_POSITION]) + 0.15 * self.reach * up
        return self._p.computeViewMatrix(eye.tolist(), (eye + forward - up).tolist(), up.tolist())

    def close(self) -> None:
        """Disconnect the physics client."""
        if self._p.isConnected():
            self._p.disconnect()
