"""Episodes for a dataset from what a control loop tells."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from drivers.config import load_robot
from policies.dataset import Facts
from runtime.demonstration import EpisodeBuilder, describe_robot
from tests.runtime.episodes import make_end, make_start, make_step


def test_an_episode_is_its_steps_in_order() -> None:
    with EpisodeBuilder() as builder:
        builder.on_episode_start(make_start(0))
        steps = [replace(make_step(i, 0), frame_stamps={"fixed": 10 * i, "wrist": 20 * i}) for i in range(3)]
        for step in steps:
            builder.on_step(step)
        builder.on_episode_end(make_end(0, "success", 3))
        episode = builder.episode(Facts(seed=4))
        assert len(builder) == len(episode) == 3 and episode.task == make_start(0).task and episode.facts.seed == 4
        for row, step in enumerate(steps):
            np.testing.assert_allclose(episode.actions[row], step.action.targets, rtol=1e-6)
            assert episode.stamps is not None
            assert episode.stamps[row].tolist() == [step.joint_state.stamp, *step.frame_stamps.values()]
            for camera, image in step.observation.images.items():
                assert np.array_equal(episode.frames(camera)[row], image)
        builder.on_episode_start(make_start(0))
        with pytest.raises(ValueError, match="without a step"):
            builder.episode(Facts())


def test_a_robot_s_description_is_what_changes_a_recording() -> None:
    robot = load_robot("so101")
    moved = robot.with_devices("/dev/ttyOTHER", {})
    assert describe_robot(moved) == describe_robot(robot)
    joint = robot.arm.joints[0].model_copy(update={"zero": 2100})
    arm = robot.arm.model_copy(update={"joints": [joint, *robot.arm.joints[1:]]})
    assert describe_robot(robot.model_copy(update={"arm": arm})) != describe_robot(robot)
