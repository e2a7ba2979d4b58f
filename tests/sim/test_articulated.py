"""Any arm in PyBullet: it stands at home, holds, moves as fast as its servos, falls; what does not fit is refused."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from drivers.config import ConfigError, RobotConfig, load_robot, robot_names
from drivers.urdf import driven_joints
from sim.articulated import ArticulatedWorld
from sim.servo_strength import STRENGTHS, joint_strength

ARMS = [name for name in robot_names() if load_robot(name).arm.urdf != "so101_stacking.urdf"]


@pytest.fixture(scope="module", params=ARMS)
def shared_arm(request: pytest.FixtureRequest) -> Iterator[ArticulatedWorld]:
    world = ArticulatedWorld(load_robot(request.param), image_size=(48, 64))
    yield world
    world.close()


@pytest.fixture
def world(shared_arm: ArticulatedWorld) -> ArticulatedWorld:
    shared_arm.reset(np.random.default_rng(0))
    return shared_arm


@pytest.fixture
def so101() -> Iterator[ArticulatedWorld]:
    world = ArticulatedWorld(load_robot("so101"))
    yield world
    world.close()


def with_urdf(folder: Path, text: str) -> RobotConfig:
    (folder / "arm.urdf").write_text(text)
    robot = load_robot("so101")
    return robot.model_copy(update={"arm": robot.arm.model_copy(update={"urdf": str(folder / "arm.urdf")})})


def test_it_holds_its_home_pose_against_gravity_and_says_with_what_load(world: ArticulatedWorld) -> None:
    world.step(200)
    positions, velocities, loads = world.joint_states()
    np.testing.assert_allclose(positions, world.home, atol=0.005)
    np.testing.assert_allclose(velocities, 0, atol=1e-3)
    assert 0.02 < np.abs(loads).max() < 0.9
    assert world.time == 1.0


def test_a_released_arm_falls_and_one_with_too_little_torque_sags(world: ArticulatedWorld) -> None:
    world.set_torque(np.zeros(world.spec.joints, dtype=bool))
    world.step(200)
    assert np.abs(world.joint_positions() - world.home).max() > 0.15
    world.reset(np.random.default_rng(0))
    world.step(100)
    needed = np.abs(world.joint_loads()).max()
    world.set_torque(np.full(world.spec.joints, needed / 2))
    world.step(100)
    assert np.abs(world.joint_positions() - world.home).max() > 0.01


def test_joints_go_where_they_are_sent_no_faster_than_their_servos(world: ArticulatedWorld) -> None:
    start = world.joint_positions()
    middle = (world.spec.position_min + world.spec.position_max) / 2
    goal = start + np.where(middle >= start, 0.4, -0.4)
    world.set_targets(goal)
    fastest = np.zeros(world.spec.joints)
    for _ in range(200):
        world.step()
        fastest = np.maximum(fastest, np.abs(world.joint_velocities()))
    np.testing.assert_allclose(world.joint_positions(), goal, atol=0.03)
    np.testing.assert_array_equal(world.joint_targets(), goal)
    assert (fastest > 0.5).all() and (fastest < 50).all()


def test_reset_brings_the_arm_home_or_leaves_it(world: ArticulatedWorld) -> None:
    away = world.home * 0.5
    world.place_arm(away)
    world.reset(np.random.default_rng(1), keep_arm=True)
    np.testing.assert_allclose(world.joint_positions(), away, atol=1e-9)
    world.step(3)
    world.reset(np.random.default_rng(1))
    np.testing.assert_allclose(world.joint_positions(), world.home, atol=1e-9)
    assert world.time == 0


def test_cameras_see_the_arm_from_a_fixed_place_and_from_the_hand(world: ArticulatedWorld) -> None:
    fixed, wrist = world.render("fixed"), world.render("wrist")
    assert fixed.shape == wrist.shape == (48, 64, 3) and fixed.dtype == np.uint8
    np.testing.assert_array_equal(world.render("any other"), fixed)
    turned = world.home.copy()
    turned[0] += 0.6
    world.place_arm(turned)
    assert (world.render("fixed") != fixed).mean() > 0.005
    assert (fixed != wrist).mean() > 0.2


def test_the_arm_fills_a_good_part_of_the_fixed_view_and_none_of_it_is_cut_off(world: ArticulatedWorld) -> None:
    seen = world.render("fixed").astype(int)
    coloured = np.abs(seen - 143).max(axis=2) > 12  # the table is grey
    arm = coloured & (seen.min(axis=2) < 250)  # and beyond it is white
    rows, columns = np.nonzero(arm)
    assert 0.01 < arm.mean() < 0.4
    assert rows.min() > 2 and rows.max() < 45 and columns.min() > 2 and columns.max() < 61


def test_links_do_not_pass_through_each_other(so101: ArticulatedWorld) -> None:
    folded = np.array([0.0, -1.7, 1.69, 1.66, 0.0, 0.0])
    so101.set_targets(folded)
    so101.step(600)
    assert np.abs(so101.joint_positions() - folded).max() > 0.05


def test_a_shadow_doubles_the_torque() -> None:
    shoulder = load_robot("viperx300").arm.joints[1]
    alone = shoulder.model_copy(update={"shadow": None})
    assert shoulder.shadow is not None
    assert joint_strength(shoulder, "dynamixel").torque == 2 * joint_strength(alone, "dynamixel").torque == 21.2


@pytest.mark.parametrize(("driver", "model"), [("feetech", "sts3215"), ("dynamixel", "xl330-m288"), ("x", "sts3215")])
def test_a_joint_without_a_model_has_its_drivers_usual_servo(driver: str, model: str) -> None:
    joint = load_robot("so101").arm.joints[0].model_copy(update={"servo": None})
    assert joint_strength(joint, driver) == STRENGTHS[model]


def test_a_servo_of_unknown_strength_is_refused_with_the_nearest() -> None:
    joint = load_robot("so101").arm.joints[0].model_copy(update={"servo": "xl430-w25"})
    with pytest.raises(
        ConfigError, match=r"shoulder_pan: .*'xl430-w25' \(did you mean 'xl430-w250'\?\); known: sts3215"
    ):
        joint_strength(joint, "dynamixel")


@pytest.mark.parametrize("name", [name for name in ARMS if name != "so101_leader"])
def test_the_urdfs_limits_are_the_strengths_of_the_servos(name: str) -> None:
    """Not those of the SO-101 leader, whose servos have other gears."""
    world = ArticulatedWorld(load_robot(name))
    arm = load_robot(name).arm
    for motor in world._motors:
        strength = joint_strength(arm.joints[motor.driven.index], arm.driver)
        if not motor.driven.prismatic:
            assert dataclasses.astuple(strength) == pytest.approx((motor.force, motor.speed), rel=0.01), motor
    world.close()


def test_a_urdf_that_does_not_fit_is_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="not a URDF"):
        ArticulatedWorld(with_urdf(tmp_path, "<robot>"))
    with pytest.raises(ConfigError, match="has no joint 'shoulder_pan'"):
        ArticulatedWorld(with_urdf(tmp_path, '<robot name="a"><link name="base"/></robot>'))


def test_a_urdf_that_the_simulator_cannot_load_is_refused_in_one_line(tmp_path: Path) -> None:
    names = load_robot("so101").arm.spec().joint_names
    joints = "".join(f'<joint name="{name}" type="revolute"/>' for name in names)
    text = f'<robot name="a"><link name="base"/>{joints}</robot>'
    assert len(driven_joints(Path(with_urdf(tmp_path, text).arm.urdf or ""), names)) == 6
    with pytest.raises(ConfigError, match="the simulator cannot load it") as caught:
        ArticulatedWorld(with_urdf(tmp_path, text))
    assert "\n" not in str(caught.value)
