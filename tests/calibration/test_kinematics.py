"""Forward kinematics: the same as the simulator's own."""

from __future__ import annotations

import numpy as np
import pytest

from calibration.kinematics import Kinematics
from drivers.config import ConfigError, load_robot
from sim.so101 import HAND, forward

GRASP = np.array([0.0981, 0.0, 0.0, 1.0])  # m, from the wrist-roll joint to between the pads
ROBOT = load_robot("emulated")


def test_the_hand_is_where_the_simulated_arms_formula_puts_it() -> None:
    kinematics = Kinematics(ROBOT)
    rng = np.random.default_rng(0)
    spec = ROBOT.arm.spec()
    assert kinematics.hand == "hand" and kinematics.moving == (0, 1, 2, 3, 4) and pytest.approx(0.1592) == HAND
    for _ in range(20):
        joints = rng.uniform(spec.position_min, spec.position_max)
        np.testing.assert_allclose((kinematics.pose(joints) @ GRASP)[:3], forward(joints)[0], atol=2e-4)


@pytest.mark.parametrize("name", ["so100", "so101", "koch", "viperx300"])
def test_every_arm_has_a_hand_before_its_gripper(name: str) -> None:
    robot = load_robot(name)
    kinematics = Kinematics(robot)
    assert robot.arm.joints[kinematics.moving[-1]].name not in robot.safety.grippers
    pose = kinematics.pose(np.zeros(len(robot.arm.joints)))
    assert 0.1 < np.linalg.norm(pose[:3, 3]) < 1.0


def test_joints_that_the_urdf_lacks_are_named() -> None:
    joints = [ROBOT.arm.joints[0].model_copy(update={"name": "waist"}), *ROBOT.arm.joints[1:]]
    with pytest.raises(ConfigError, match="no joint 'waist'"):
        Kinematics(ROBOT.model_copy(update={"arm": ROBOT.arm.model_copy(update={"joints": joints})}))
