"""The PyBullet scene: arm, table, three blocks, two cameras. Knows no tasks, no drivers and no clock but its own.

Everything but the blocks is grey and the scene is symmetric about the x-z plane, so that permuting colour channels and
mirroring left and right are exact augmentations (of single scenes as it was designed, of what is drawn when conditions
vary). Lengths in m, angles in rad, torques in N m.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from drivers.arm import Array, frozen
from drivers.camera_calibration import CameraCalibration
from drivers.config import URDF_FOLDER
from sim import scene, so101
from sim.blocks import add_block
from sim.cameras import CalibratedCamera, Cameras, stand
from sim.drives import ARM_JOINTS, HAND_LINK, LEFT_JAW, RIGHT_JAW, Drives
from sim.shapes import COLOURS, CUBE, EDGE, Shape, Solid
from sim.table_top import Matrix, TableTop
from sim.variation import NOMINAL, Conditions

__all__ = ["BEARING", "BLOCK", "COLOURS", "HOME", "RADIUS", "SPACING", "URDF", "World", "sample_layout"]

URDF = "so101_stacking.urdf"
BLOCK = EDGE
RADIUS = (0.13, 0.225)  # m, where block centres may lie
BEARING = 1.05  # rad, either side of straight ahead
SPACING = 0.068  # m, so that an open gripper fits between two blocks

HOME = frozen([0.0, -0.55, 0.35, 1.35, 0.0, 1.5])

_LIGHT_LINKS, _DARK_LINKS = (0, 1, 2, LEFT_JAW, RIGHT_JAW), (-1, 3, HAND_LINK)


class World:
    """One physics client; not thread-safe. `reset` first.

    Joint arrays have shape (6,) in `spec.joint_names` order; the gripper is its servo's angle. `solids` are the bodies
    of the blocks, `conditions` what is not as it was designed.
    """

    spec = so101.SPEC

    def __init__(self, *, image_size: tuple[int, int] = (64, 64), physics_rate: int = 200) -> None:
        self.image_size = image_size
        self.physics_rate = physics_rate
        self.conditions = NOMINAL
        self.solids: dict[str, Solid] = {}
        self.blocks: dict[str, int] = {}
        self._calibrated: dict[str, CalibratedCamera] = {}
        self._p = scene.connect(physics_rate)
        self._substeps = 0
        self._build(_solids(NOMINAL, {}), NOMINAL)

    def _build(self, solids: dict[str, Solid], conditions: Conditions) -> None:
        """All bodies, in an empty simulation."""
        p = self._p
        self.solids = solids
        self._table = scene.add_table(p, height=conditions.table_height)
        self.arm: int = p.loadURDF(str(URDF_FOLDER / URDF), useFixedBase=True)
        masses = zip(COLOURS, conditions.block_masses, strict=True)
        self.blocks = {colour: add_block(p, solids[colour], mass) for colour, mass in masses}
        for joint in ARM_JOINTS:
            p.changeDynamics(self.arm, joint, linearDamping=0, angularDamping=0)
        gear = p.createConstraint(
            self.arm, LEFT_JAW, self.arm, RIGHT_JAW, p.JOINT_GEAR, [0, 1, 0], [0, 0, 0], [0, 0, 0]
        )
        p.changeConstraint(gear, gearRatio=-1, maxForce=50, erp=0.5)
        self._drives = Drives(p, self.arm, HOME, self.physics_rate)
        self._table_top = TableTop(self._draw, self._hide_table, scene.PLACE)
        self._adopt(conditions)

    def _adopt(self, conditions: Conditions) -> None:
        """Everything that conditions say, but for the blocks' bodies."""
        p = self._p
        self.conditions = conditions
        # No spinning or rolling friction: with it, Bullet pushes a gripped block out of the moving jaws.
        for jaw in (LEFT_JAW, RIGHT_JAW):
            p.changeDynamics(self.arm, jaw, lateralFriction=conditions.finger_friction)
        for colour, rgb in zip(COLOURS, conditions.block_colours, strict=True):
            p.changeDynamics(self.blocks[colour], -1, lateralFriction=conditions.block_friction)
            p.changeVisualShape(self.blocks[colour], -1, rgbaColor=[*rgb, 1])
        p.changeDynamics(self._table.touched, -1, lateralFriction=conditions.table_friction)
        for links, grey in ((_LIGHT_LINKS, conditions.arm_light), (_DARK_LINKS, conditions.arm_dark)):
            for link in links:
                p.changeVisualShape(self.arm, link, rgbaColor=[grey, grey, grey, 1])
        # The nominal world of cubes keeps the solver that it always had.
        scene.set_solver(p, careful=conditions != NOMINAL or not all(solid.box for solid in self.solids.values()))
        self._drives.adopt(conditions)
        self._cameras = Cameras(p, self.image_size, conditions)
        self._light = scene.Light(
            conditions.light_direction, conditions.light_colour, conditions.light_ambient, conditions.light_diffuse
        )
        self._hide_table(False)
        self._table_top.appear(conditions.table_height)

    def reset(
        self,
        rng: np.random.Generator,
        *,
        arm_pose: Array | None = None,
        keep_arm: bool = False,
        conditions: Conditions = NOMINAL,
        shapes: Mapping[str, Shape] | None = None,
    ) -> None:
        """New block layout from `rng`; the arm at `arm_pose` (default HOME), at rest, or left as it is.

        `shapes` are those of the blocks by colour, cubes where it names none. What follows does not depend on what
        came before, to the last bit (unless the arm is left as it is).
        """
        solids = _solids(conditions, shapes or {})
        if solids != self.solids or conditions.block_masses != self.conditions.block_masses:
            self._rebuild(solids, conditions, keep_arm)
        elif conditions != self.conditions:
            self._adopt(conditions)
        # Bullet warm-starts from cached contacts, so the blocks leave all of them first.
        for index, colour in enumerate(COLOURS):
            self.place_block(colour, (1.0 + index, 0.0, 1.0), 0.0)
        self._p.performCollisionDetection()
        for colour, (x, y, yaw) in zip(COLOURS, sample_layout(rng), strict=True):
            solid = solids[colour]
            # A quarter of a turn says it all for a cube.
            self.place_block(colour, (x, y, conditions.table_height + solid.below), yaw if solid.box else 4 * yaw)
        if not keep_arm:
            self.place_arm(HOME if arm_pose is None else arm_pose)
            self._substeps = 0
        self.step(2)

    def _rebuild(self, solids: dict[str, Solid], conditions: Conditions, keep_arm: bool) -> None:
        """Other bodies; 2 ms. The arm stays as it is where it is asked to."""
        p, drives = self._p, self._drives
        states = p.getJointStates(self.arm, (*ARM_JOINTS, LEFT_JAW, RIGHT_JAW))
        p.resetSimulation()
        scene.set_physics(p, self.physics_rate)
        self._build(solids, conditions)
        if keep_arm:
            for joint, (position, velocity, *_) in zip((*ARM_JOINTS, LEFT_JAW, RIGHT_JAW), states, strict=True):
                p.resetJointState(self.arm, joint, position, velocity)
            self._drives.place(drives.targets)
            self._drives.set_torque(drives.torque)

    def place_block(self, colour: str, position: tuple[float, float, float], yaw: float) -> None:
        """Teleport a block's centre of mass, the block upright and at rest."""
        orientation = self._p.getQuaternionFromEuler([0, 0, yaw])
        self._p.resetBasePositionAndOrientation(self.blocks[colour], position, orientation)
        self._p.resetBaseVelocity(self.blocks[colour], [0, 0, 0], [0, 0, 0])

    def place_arm(self, positions: Array) -> None:
        """Teleport the arm to joint `positions`, at rest, targets there, torque on."""
        for joint in ARM_JOINTS:
            self._p.resetJointState(self.arm, joint, positions[joint], 0)
        jaw = positions[5] * so101.OPENING_PER_RADIAN / 2
        for joint in (LEFT_JAW, RIGHT_JAW):
            self._p.resetJointState(self.arm, joint, jaw, 0)
        self._drives.place(positions)

    def set_targets(self, positions: Array) -> None:
        """Servo goals; they hold until the next call. A joint without torque keeps none."""
        self._drives.set_targets(positions)

    def set_torque(self, shares: NDArray[np.bool_] | Array) -> None:
        """Switch each joint's torque, or limit it to a share of the stall torque; switching on keeps the last goal."""
        self._drives.set_torque(shares)

    def step(self, substeps: int = 1) -> None:
        """Advance physics by `substeps` of 1/physics_rate s."""
        for _ in range(substeps):
            if self._drives.waiting:
                self._drives.elapse()
            self._p.stepSimulation()
        self._substeps += substeps

    @property
    def time(self) -> float:
        """Simulated seconds since the arm was last placed."""
        return self._substeps / self.physics_rate

    def joint_states(self) -> tuple[Array, Array, Array]:
        """Measured angles (rad), speeds (rad/s), and motor torques as shares of the stall torque in [-1, 1]."""
        states = self._p.getJointStates(self.arm, (*ARM_JOINTS, LEFT_JAW, RIGHT_JAW))
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
        """The servo goals given last, rad."""
        return self._drives.targets.copy()

    def block_pose(self, colour: str) -> tuple[Array, Array]:
        """Centre of mass (3,) in m and orientation quaternion (x, y, z, w)."""
        position, orientation = self._p.getBasePositionAndOrientation(self.blocks[colour])
        return np.array(position), np.array(orientation)

    def object_truth(self, colour: str) -> tuple[Array, Array]:
        """The centre of mass (3,) in m and the orientation as a matrix (3, 3), whose columns are the body's axes."""
        position, orientation = self._p.getBasePositionAndOrientation(self.blocks[colour])
        return np.array(position), np.array(self._p.getMatrixFromQuaternion(orientation)).reshape(3, 3)

    def block_speed(self, colour: str) -> float:
        """Linear speed of a block's centre, m/s."""
        return math.hypot(*self._p.getBaseVelocity(self.blocks[colour])[0])

    def block_touches_arm(self, colour: str) -> bool:
        """True when any link of the arm is in contact with the block."""
        return bool(self._p.getContactPoints(self.arm, self.blocks[colour]))

    def block_touches_table(self, colour: str) -> bool:
        """True when the block is in contact with the table."""
        return bool(self._p.getContactPoints(self._table.touched, self.blocks[colour]))

    def blocks_touch(self, one: str, other: str) -> bool:
        """True when two blocks are in contact."""
        return bool(self._p.getContactPoints(self.blocks[one], self.blocks[other]))

    def render(self, camera: str) -> NDArray[np.uint8]:
        """The image of "fixed" or "wrist", (H, W, 3) RGB. Raises `KeyError` for another name."""
        view, projection = {"fixed": self._fixed_camera, "wrist": self._wrist_camera}[camera]()
        return self._table_top.picture(view, projection)

    def _draw(self, view: Matrix, projection: Matrix) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
        return scene.draw(self._p, view, projection, self.image_size, self._light)

    def _hide_table(self, hidden: bool) -> None:
        scene.hide_table(self._p, self._table.seen, hidden, self.conditions.table_grey)

    def stand_cameras(self, calibrations: Mapping[str, CameraCalibration]) -> None:
        """Put cameras where calibrated ones stand, with their lenses but for distortion; conditions move them no more.

        Raises `ConfigError` for a calibration without a place, and for one of another link than the camera's.
        """
        self._calibrated = {name: stand(found, self.image_size) for name, found in calibrations.items()}

    def camera_matrices(self, camera: str) -> tuple[Array, Array]:
        """OpenGL view and projection matrices (4, 4) of a camera as it stands now."""
        view, projection = {"fixed": self._fixed_camera, "wrist": self._wrist_camera}[camera]()
        return np.array(view).reshape(4, 4).T, np.array(projection).reshape(4, 4).T

    def _fixed_camera(self) -> tuple[Matrix, Matrix]:
        calibrated = self._calibrated.get("fixed")
        return self._cameras.fixed() if calibrated is None else calibrated.matrices(np.eye(4))

    def _wrist_camera(self) -> tuple[Matrix, Matrix]:
        state = self._p.getLinkState(self.arm, HAND_LINK, computeForwardKinematics=1)
        calibrated = self._calibrated.get("wrist")
        if calibrated is None:
            return self._cameras.wrist(state[4], state[5])
        hand = np.eye(4)
        hand[:3, :3] = np.array(self._p.getMatrixFromQuaternion(state[5])).reshape(3, 3)
        hand[:3, 3] = state[4]
        return calibrated.matrices(hand)

    def close(self) -> None:
        """Disconnect the physics client."""
        if self._p.isConnected():
            self._p.disconnect()


def _solids(conditions: Conditions, shapes: Mapping[str, Shape]) -> dict[str, Solid]:
    edges = zip(COLOURS, conditions.block_edges, strict=True)
    return {colour: shapes.get(colour, CUBE).solid(edge) for colour, edge in edges}


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
