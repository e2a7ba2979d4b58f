"""The robots that come with the package: YAML and URDF agree with each other, with the makers, and with physics."""

from __future__ import annotations

import itertools
import xml.etree.ElementTree as ElementTree

import numpy as np
import pinocchio as pin
import pytest

from drivers.arm import Array
from drivers.config import RobotConfig, find_urdf, load_robot, robot_names
from drivers.urdf import driven_joints

SO_JOINTS = ("shoulder_pan", "shoulder_lift", "elbow_flex", "wrist_flex", "wrist_roll", "gripper")
VIPERX_JOINTS = ("waist", "shoulder", "elbow", "forearm_roll", "wrist_angle", "wrist_rotate", "gripper")
STACKING = ("emulated", "emulated_dynamixel", "emulated_rig", "simulated")
REAL = ("koch", "koch_leader", "so100", "so100_leader", "so101", "so101_leader", "viperx300", "widowx250_leader")
NAMES = (*STACKING[:3], *REAL[:2], STACKING[3], *REAL[2:])

# kg: the sum of the links' masses in the makers' descriptions (the URDFs name them); leaders by eye.
MASSES = {"so100": 0.76, "so101": 0.63, "koch": 0.34, "viperx300": 3.7, "widowx250_leader": 2.1}


class Geometry:
    """A robot's URDF in Pinocchio, posed by the arm's joint positions."""

    def __init__(self, robot: RobotConfig) -> None:
        self.urdf = find_urdf(robot.arm)
        self.driven = driven_joints(self.urdf, robot.arm.spec().joint_names)
        self.model = pin.buildModelFromUrdf(str(self.urdf))
        self.shapes = pin.buildGeomFromUrdf(self.model, str(self.urdf), pin.GeometryType.COLLISION)
        self.data = self.model.createData()
        geometries = self.shapes.geometryObjects
        for a, b in itertools.combinations(range(len(geometries)), 2):
            first, second = geometries[a].parentJoint, geometries[b].parentJoint
            parents = self.model.parents
            related = first == second or parents[first] == second or parents[second] == first
            if not (related or parents[first] == parents[second]):  # jaws on one hand meet
                self.shapes.addCollisionPair(pin.CollisionPair(a, b))
        self.placed = self.shapes.createData()

    def pose(self, positions: Array) -> None:
        q = pin.neutral(self.model)
        for joint in self.driven:
            index = self.model.joints[self.model.getJointId(joint.name)].idx_q
            q[index] = joint.multiplier * positions[joint.index] + joint.offset
        pin.computeCollisions(self.model, self.data, self.shapes, self.placed, q, False)

    def touching(self, positions: Array) -> list[tuple[str, str]]:
        """Names of the shapes of links that are no neighbours and touch."""
        self.pose(positions)
        names = [shape.name for shape in self.shapes.geometryObjects]
        pairs = zip(self.shapes.collisionPairs, self.placed.collisionResults, strict=True)
        return [(names[pair.first], names[pair.second]) for pair, result in pairs if result.isCollision()]

    def lowest(self, positions: Array) -> float:
        """Height of the lowest corner of any shape but the base's, m."""
        self.pose(positions)
        heights = []
        for shape, placement in zip(self.shapes.geometryObjects, self.placed.oMg, strict=True):
            shape.geometry.computeLocalAABB()
            box = shape.geometry.aabb_local
            if shape.parentJoint:
                corners = itertools.product(*zip(box.min_, box.max_, strict=True))
                heights += [float(placement.act(np.array(corner))[2]) for corner in corners]
        return min(heights)


def test_the_robots_that_ship() -> None:
    assert robot_names() == NAMES


@pytest.fixture(params=NAMES)
def robot(request: pytest.FixtureRequest) -> RobotConfig:
    return load_robot(request.param)


def poses(robot: RobotConfig) -> dict[str, Array]:
    """Zero, home and (where it has one) rest."""
    spec = robot.arm.spec()
    zero = np.clip(np.zeros(spec.joints), spec.position_min, spec.position_max)
    named = {"zero": zero, "home": robot.arm.home, "rest": robot.arm.rest}
    return {name: np.array(pose) for name, pose in named.items() if pose is not None}


def test_joints_are_those_of_the_arm(robot: RobotConfig) -> None:
    wide = "viperx" in robot.name or "widowx" in robot.name
    assert robot.arm.spec().joint_names == (VIPERX_JOINTS if wide else SO_JOINTS)
    shadows = {joint.name: joint.shadow for joint in robot.arm.joints if joint.shadow is not None}
    assert shadows == ({"shoulder": 3, "elbow": 5} if wide else {})
    assert [joint.id for joint in robot.arm.joints] == ([1, 2, 4, 6, 7, 8, 9] if wide else [1, 2, 3, 4, 5, 6])


def test_followers_have_cameras_and_limits_of_where_they_may_go_and_leaders_neither(robot: RobotConfig) -> None:
    follower = not robot.name.endswith("_leader")
    assert list(robot.cameras) == (["fixed", "wrist"] if follower else [])
    assert all(camera.size == (64, 64) for camera in robot.cameras.values())
    assert (robot.safety.workspace is not None) == (robot.safety.table_height is not None) == follower
    assert (robot.arm.rest is not None) == follower
    assert robot.emulated == robot.name.startswith("emulated")


def test_an_episode_begins_with_an_open_gripper(robot: RobotConfig) -> None:
    home = robot.arm.home_pose()
    assert home is not None and home[-1] > 0.4


@pytest.mark.parametrize("name", STACKING)
def test_the_stacking_arm_is_one_whatever_its_bus(name: str) -> None:
    spec, arm = load_robot(name).arm.spec(), load_robot(name).arm
    np.testing.assert_array_equal(spec.position_min, [-1.92, -1.75, -1.69, -1.66, -2.79, 0.0])
    np.testing.assert_array_equal(spec.position_max, [1.92, 1.75, 1.69, 1.66, 2.79, 1.75])
    np.testing.assert_array_equal(spec.velocity_max, [2.5] * 5 + [4.0])
    np.testing.assert_array_equal(spec.acceleration_max, [40.0] * 5 + [80.0])
    assert (arm.home, arm.rest, arm.urdf) == (lambda a: (a.home, a.rest, a.urdf))(load_robot("simulated").arm)
    assert load_robot(name).safety == load_robot("simulated").safety


@pytest.mark.parametrize("name", REAL)
def test_a_tick_of_10_ms_has_room_for_a_retry_on_a_real_arm(name: str) -> None:
    arm = load_robot(name).arm
    assert arm.deadline * (arm.retries + 1) <= 0.01


def test_limits_are_within_the_urdfs(robot: RobotConfig) -> None:
    geometry, spec = Geometry(robot), robot.arm.spec()
    for joint in geometry.driven:
        index = geometry.model.joints[geometry.model.getJointId(joint.name)].idx_q
        low, high = geometry.model.lowerPositionLimit[index], geometry.model.upperPositionLimit[index]
        ends = [
            joint.multiplier * limit[joint.index] + joint.offset for limit in (spec.position_min, spec.position_max)
        ]
        assert low - 1e-6 <= min(ends) and max(ends) <= high + 1e-6, joint.name


def test_masses_are_the_makers_and_inertias_those_of_bodies(robot: RobotConfig) -> None:
    geometry = Geometry(robot)
    inertias = list(geometry.model.inertias)
    if robot.name in MASSES:
        assert sum(inertia.mass for inertia in inertias) == pytest.approx(MASSES[robot.name], rel=0.02)
    for name, inertia in zip(geometry.model.names, inertias, strict=True):
        if name == "universe":  # the base, which does not move
            continue
        x, y, z = np.linalg.eigvalsh(inertia.inertia)
        assert x > 0 and x + y >= z * (1 - 1e-3), name


def test_no_links_but_neighbours_touch_in_the_poses_of_the_file(robot: RobotConfig) -> None:
    geometry = Geometry(robot)
    assert {name: geometry.touching(pose) for name, pose in poses(robot).items()} == {name: [] for name in poses(robot)}


def test_the_check_for_touching_links_finds_some() -> None:
    robot = load_robot("so101")
    folded = np.array([0.0, -1.75, 1.69, 1.66, 0.0, 0.0])
    assert ("shoulder_0", "hand_0") in Geometry(robot).touching(folded)


def test_the_arm_stands_on_the_table_and_stays_above_it(robot: RobotConfig) -> None:
    root = ElementTree.parse(find_urdf(robot.arm)).getroot()
    base = root.find("link[@name='base']/collision")
    assert base is not None
    box, origin = base.find("geometry/box"), base.find("origin")
    assert box is not None and origin is not None
    assert float(origin.get("xyz", "").split()[2]) == pytest.approx(float(box.get("size", "").split()[2]) / 2)
    for name, pose in poses(robot).items():
        assert Geometry(robot).lowest(pose) > 0.002, name


def test_the_fingers_reach_the_table_within_the_workspace(robot: RobotConfig) -> None:
    """With the hand turned down from home there is a pose that touches the table: so picking up is possible."""
    if robot.safety.workspace is None or robot.safety.table_height is None:
        assert robot.name.endswith("_leader")
        return
    geometry, home = Geometry(robot), np.array(robot.arm.home)
    lift = 1
    heights = []
    for lean in np.linspace(0, 1.2, 25):
        pose = home.copy()
        pose[lift] += lean
        pose = np.clip(pose, robot.arm.spec().position_min, robot.arm.spec().position_max)
        heights.append(geometry.lowest(pose))
        hand = geometry.data.oMi[geometry.model.njoints - 1].translation
        inside = (np.array(robot.safety.workspace.low) <= hand) & (hand <= np.array(robot.safety.workspace.high))
        if heights[-1] > robot.safety.table_height:
            assert inside.all(), (lean, hand)
    assert heights[0] > 0.02 and min(heights) < robot.safety.table_height
