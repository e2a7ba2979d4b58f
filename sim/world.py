"""The PyBullet scene: arm, table, three blocks, two cameras. Knows no tasks, no drivers and no clock but its own.

Everything but the blocks is grey and the scene is symmetric about the x-z plane, so that permuting colour channels and
mirroring left and right are exact augmentations. Lengths in m, angles in rad, torques in N m.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from drivers.arm import Array, frozen
from drivers.config import URDF_FOLDER
from sim import scene, so101
from sim.table_top import Matrix, TableTop

URDF = "so101_stacking.urdf"
COLOURS = ("red", "green", "blue")
BLOCK = 0.028  # m, edge
BLOCK_MASS = 0.030  # kg
GRIP_FORCE = 6.0  # N, each jaw
JAW_SPEED = 0.12  # m/s
POSITION_GAIN = 0.2  # share of the position error closed in a substep: a time constant of 22 ms at 200 Hz
RADIUS = (0.13, 0.225)  # m, where block centres may lie
BEARING = 1.05  # rad, either side of straight ahead
SPACING = 0.068  # m, so that an open gripper fits between two blocks

HOME = frozen([0.0, -0.55, 0.35, 1.35, 0.0, 1.5])

_ARM_JOINTS = (0, 1, 2, 3, 4)
_HAND_LINK, _LEFT_JAW, _RIGHT_JAW = 4, 5, 6
_RGB = {"red": (0.85, 0.1, 0.1, 1), "green": (0.1, 0.85, 0.1, 1), "blue": (0.1, 0.1, 0.85, 1)}


class World:
    """One physics client; not thread-safe. `reset` first.

    Joint arrays have shape (6,) in `spec.joint_names` order; the gripper is its servo's angle.
    """

    spec = so101.SPEC

    def __init__(self, *, image_size: tuple[int, int] = (64, 64), physics_rate: int = 200) -> None:
        self.image_size = image_size
        self.physics_rate = physics_rate
        self._p = p = scene.connect(physics_rate)
        self._table = scene.add_table(p)
        self.arm: int = p.loadURDF(str(URDF_FOLDER / URDF), useFixedBase=True)
        self.blocks: dict[str, int] = {colour: self._make_block(colour) for colour in COLOURS}
        # No spinning or rolling friction: with it, Bullet pushes a gripped block out of the moving jaws.
        for jaw in (_LEFT_JAW, _RIGHT_JAW):
            p.changeDynamics(self.arm, jaw, lateralFriction=1.5)
        for joint in _ARM_JOINTS:
            p.changeDynamics(self.arm, joint, linearDamping=0, angularDamping=0)
        gear = p.createConstraint(
            self.arm, _LEFT_JAW, self.arm, _RIGHT_JAW, p.JOINT_GEAR, [0, 1, 0], [0, 0, 0], [0, 0, 0]
        )
        p.changeConstraint(gear, gearRatio=-1, maxForce=50, erp=0.5)
        self._targets = np.array(HOME)
        self._torque = np.ones(6)
        self._told: dict[int, tuple[float, float]] = {}  # of each motor: goal and force
        self._substeps = 0
        self._fixed_view = p.computeViewMatrix([0.50, 0, 0.42], [0.145, 0, 0.02], [0, 0, 1])
        self._fixed_projection = p.computeProjectionMatrixFOV(46, image_size[1] / image_size[0], 0.05, 2.0)
        self._wrist_projection = p.computeProjectionMatrixFOV(75, image_size[1] / image_size[0], 0.01, 1.0)
        self._table_top = TableTop(self._draw, self._hide_table, ((-0.5, -0.6), (0.7, 0.6)), scene.TABLE_SHOWN)

    def _make_block(self, colour: str) -> int:
        p = self._p
        half = [BLOCK / 2] * 3
        body: int = p.createMultiBody(
            BLOCK_MASS,
            p.createCollisionShape(p.GEOM_BOX, halfExtents=half),
            p.createVisualShape(p.GEOM_BOX, halfExtents=half, rgbaColor=_RGB[colour], specularColor=[0, 0, 0]),
        )
        p.changeDynamics(body, -1, lateralFriction=1.0)
        return body

    def reset(self, rng: np.random.Generator, *, arm_pose: Array | None = None, keep_arm: bool = False) -> None:
        """New block layout from `rng`; the arm at `arm_pose` (default HOME), at rest, or left as it is.

        What follows does not depend on what came before, to the last bit (unless the arm is left as it is).
        """
        # Bullet warm-starts from cached contacts, so the blocks leave all of them first.
        for index, colour in enumerate(COLOURS):
            self.place_block(colour, (1.0 + index, 0.0, 1.0), 0.0)
        self._p.performCollisionDetection()
        for colour, (x, y, yaw) in zip(COLOURS, sample_layout(rng), strict=True):
            self.place_block(colour, (x, y, BLOCK / 2), yaw)
        if not keep_arm:
            self.place_arm(HOME if arm_pose is None else arm_pose)
            self._substeps = 0
        self.step(2)

    def place_block(self, colour: str, position: tuple[float, float, float], yaw: float) -> None:
        """Teleport a block, upright and at rest."""
        orientation = self._p.getQuaternionFromEuler([0, 0, yaw])
        self._p.resetBasePositionAndOrientation(self.blocks[colour], position, orientation)
        self._p.resetBaseVelocity(self.blocks[colour], [0, 0, 0], [0, 0, 0])

    def place_arm(self, positions: Array) -> None:
        """Teleport the arm to joint `positions`, at rest, targets there, torque on."""
        for joint in _ARM_JOINTS:
            self._p.resetJointState(self.arm, joint, positions[joint], 0)
        jaw = positions[5] * so101.OPENING_PER_RADIAN / 2
        for joint in (_LEFT_JAW, _RIGHT_JAW):
            self._p.resetJointState(self.arm, joint, jaw, 0)
        self._torque[:] = 1
        self.set_targets(positions)

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
        *goals, gripper = self._targets.tolist()
        *shares, gripping = self._torque.tolist()
        for joint, goal, share in zip(_ARM_JOINTS, goals, shares, strict=True):
            self._tell(joint, goal, max(so101.SERVO_TORQUE * share, 0.02), so101.SERVO_SPEED)
        for jaw in (_LEFT_JAW, _RIGHT_JAW):
            self._tell(jaw, gripper * so101.OPENING_PER_RADIAN / 2, GRIP_FORCE * gripping, JAW_SPEED)

    def _tell(self, joint: int, goal: float, force: float, speed: float) -> None:
        """Set a motor, which keeps what it was told last."""
        if self._told.get(joint) != (goal, force):
            self._told[joint] = goal, force
            self._p.setJointMotorControl2(
                self.arm,
                joint,
                self._p.POSITION_CONTROL,
                targetPosition=goal,
                positionGain=POSITION_GAIN,
                velocityGain=1.0,
                force=force,
                maxVelocity=speed,
            )

    def step(self, substeps: int = 1) -> None:
        """Advance physics by `substeps` of 1/physics_rate s."""
        for _ in range(substeps):
            self._p.stepSimulation()
        self._substeps += substeps

    @property
    def time(self) -> float:
        """Simulated seconds since the arm was last placed."""
        return self._substeps / self.physics_rate

    def joint_states(self) -> tuple[Array, Array, Array]:
        """Measured angles (rad), speeds (rad/s), and motor torques as shares of the stall torque in [-1, 1]."""
        states = self._p.getJointStates(self.arm, (0, 1, 2, 3, 4, _LEFT_JAW, _RIGHT_JAW))
        positions, velocities, _, torques = (np.array(column) for column in zip(*states, strict=True))
        opening = so101.OPENING_PER_RADIAN
        positions[5] = (positions[5] + positions[6]) / opening
        velocities[5] = (velocities[5] + velocities[6]) / opening
        loads = torques[:6] / so101.SERVO_TORQUE
        loads[5] = (torques[5] + torques[6]) * opening / 2 / so101.SERVO_TORQUE  # each jaw moves half of the opening
        return positions[:6], velocities[:6], np.minimum(np.maximum(loads, -1), 1)

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

    def block_pose(self, colour: str) -> tuple[Array, Array]:
        """Centre (3,) in m and orientation quaternion (x, y, z, w)."""
        position, orientation = self._p.getBasePositionAndOrientation(self.blocks[colour])
        return np.array(position), np.array(orientation)

    def block_speed(self, colour: str) -> float:
        """Linear speed of a block's centre, m/s."""
        return float(np.linalg.norm(self._p.getBaseVelocity(self.blocks[colour])[0]))

    def block_touches_arm(self, colour: str) -> bool:
        """True when any link of the arm is in contact with the block."""
        return bool(self._p.getContactPoints(self.arm, self.blocks[colour]))

    def render(self, camera: str) -> NDArray[np.uint8]:
        """The image of "fixed" or "wrist", (H, W, 3) RGB. Raises `KeyError` for another name."""
        view, projection = {"fixed": self._fixed_camera, "wrist": self._wrist_camera}[camera]()
        return self._table_top.picture(view, projection)

    def _draw(self, view: Matrix, projection: Matrix) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
        return scene.draw(self._p, view, projection, self.image_size)

    def _hide_table(self, hidden: bool) -> None:
        scene.hide_table(self._p, self._table, hidden)

    def camera_matrices(self, camera: str) -> tuple[Array, Array]:
        """OpenGL view and projection matrices (4, 4) of a camera as it stands now."""
        view, projection = {"fixed": self._fixed_camera, "wrist": self._wrist_camera}[camera]()
        return np.array(view).reshape(4, 4).T, np.array(projection).reshape(4, 4).T

    def _fixed_camera(self) -> tuple[Matrix, Matrix]:
        return self._fixed_view, self._fixed_projection

    def _wrist_camera(self) -> tuple[Matrix, Matrix]:
        state = self._p.getLinkState(self.arm, _HAND_LINK, computeForwardKinematics=1)
        origin = np.array(state[4])
        axes = np.array(self._p.getMatrixFromQuaternion(state[5])).reshape(3, 3)
        forward, up = axes[:, 0], axes[:, 2]
        eye = origin + 0.03 * forward + 0.06 * up
        focus = origin + 0.115 * forward
        return self._p.computeViewMatrix(eye.tolist(), focus.tolist(), up.tolist()), self._wrist_projection

    def close(self) -> None:
        """Disconnect the physics client."""
        if self._p.isConnected():
            self._p.disconnect()


def sample_layout(rng: np.random.Generator) -> list[tuple[float, float, float]]:
    """x, y, yaw of three blocks: within reach, at least `SPACING` apart."""
    while True:
        radius = rng.uniform(*RADIUS, size=3)
        bearing = rng.uniform(-BEARING, BEARING, size=3)
        x, y = radius * np.cos(bearing), radius * np.sin(bearing)
        gaps = np.hypot(x - np.roll(x, 1), y - np.roll(y, 1))
        if gaps.min() >= SPACING:
            yaw = rng.uniform(-np.pi / 4, np.pi / 4, size=3)
            return [(float(a), float(b), float(c)) for a, b, c in zip(x, y, yaw, strict=True)]
