"""The demonstrator: stacks from home and from anywhere, remembers nothing, and asks for no more than a step."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from numpy.typing import NDArray

from sim import so101
from sim.expert import OPEN, STEP, Expert, step_towards, yaw_of
from sim.shapes import GROUPS, Shape, sample_shapes
from sim.tasks import TASKS, Judge
from sim.variation import NOMINAL, VARIATIONS, Conditions, sample_conditions
from sim.world import HOME, World


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    world = World()
    yield world
    world.close()


def demonstrate(
    world: World,
    seed: int,
    pose: NDArray[np.float64] | None = None,
    conditions: Conditions = NOMINAL,
    objects: str = "cubes",
) -> tuple[str | None, list[object]]:
    """The outcome, and every command."""
    shapes = sample_shapes(objects, np.random.default_rng(seed))
    world.reset(np.random.default_rng(seed), arm_pose=pose, conditions=conditions, shapes=shapes)
    task = TASKS[seed % len(TASKS)]
    judge, command, commands = Judge(world, task), world.joint_targets(), []
    while judge.outcome is None:
        before, command = command, Expert(world, task).act(command)  # a new one each step: it has no memory
        commands.append(command.tolist())
        assert np.abs(command - before)[:5].max() <= STEP + 1e-9
        assert (command >= so101.SPEC.position_min).all() and (command <= so101.SPEC.position_max).all()
        world.set_targets(command)
        world.step(10)
        judge.update()
    return judge.outcome, commands


@pytest.mark.parametrize("seed", range(500, 512))
def test_it_stacks_from_home(world: World, seed: int) -> None:
    assert demonstrate(world, seed)[0] == "success"


def anywhere(rng: np.random.Generator) -> NDArray[np.float64]:
    """A pose above the blocks' area, the gripper as it may be."""
    while True:
        radius, bearing, height = rng.uniform(0.11, 0.24), rng.uniform(-1.2, 1.2), rng.uniform(0.065, 0.14)
        chain = so101.inverse(np.array([radius * np.cos(bearing), radius * np.sin(bearing), height]))
        if chain is not None:
            return np.array([*chain, rng.uniform(-1.2, 1.2), rng.uniform(0.4, 1.7)])


@pytest.mark.parametrize("seed", range(600, 608))
def test_it_stacks_from_anywhere(world: World, seed: int) -> None:
    assert demonstrate(world, seed, anywhere(np.random.default_rng(seed)))[0] == "success"


@pytest.mark.parametrize("objects", GROUPS[1:])
def test_it_stacks_deformed_objects(world: World, objects: str) -> None:
    assert demonstrate(world, 720, objects=objects)[0] == "success"


@pytest.mark.parametrize("seed", range(730, 736))
def test_it_stacks_under_every_condition_at_once(world: World, seed: int) -> None:
    conditions = sample_conditions(np.random.default_rng(seed), VARIATIONS)
    assert demonstrate(world, seed, conditions=conditions, objects="training")[0] == "success"


def test_the_jaws_are_turned_across_what_leans(world: World) -> None:
    for yaw in (0.3, 1.2, -0.9):
        world.reset(np.random.default_rng(0), shapes={"red": Shape(parallelogram=0.4)})
        world.place_block("red", (0.18, 0.02, world.solids["red"].below), yaw)
        turn = Expert(world, TASKS[0]).grasp_turn("red")
        assert abs(np.sin(turn - yaw - np.pi / 2)) < 1e-3 and 0 <= turn < np.pi


def test_the_same_seed_is_the_same_demonstration_to_the_last_bit(world: World) -> None:
    first = demonstrate(world, 700)
    demonstrate(world, 701)
    assert demonstrate(world, 700) == first


def test_a_mirrored_scene_is_stacked_by_mirrored_commands(world: World) -> None:
    sign = np.array([-1, 1, 1, 1, -1, 1])
    commands = []
    for side in (1, -1):
        world.reset(np.random.default_rng(3))
        for colour, (x, y) in {"red": (0.15, 0.1), "green": (0.18, -0.08), "blue": (0.2, 0.02)}.items():
            world.place_block(colour, (x, side * y, 0.014), side * 0.3)
        pose = HOME + np.array([0.2, 0, 0, 0, 0.1, 0])
        world.place_arm(pose * sign if side < 0 else pose)
        commands.append(Expert(world, TASKS[0]).act(world.joint_targets()))
    np.testing.assert_allclose(commands[1], commands[0] * sign, atol=1e-6)


def test_all_joints_slow_down_alike() -> None:
    command = np.array(HOME)
    goal, _ = so101.forward(np.array([0.8, *HOME[1:]]))
    step = step_towards(command, goal, OPEN, 0.5) - command
    assert np.abs(step[:5]).max() == pytest.approx(STEP)
    assert step[4] / step[0] == pytest.approx(0.5 / 0.8, rel=1e-3)


def test_what_is_out_of_reach_is_approached() -> None:
    command = np.array(HOME)
    step = step_towards(command, np.array([0.5, 0.2, 0.05]), OPEN, 0.0)
    assert np.isfinite(step).all() and step[0] > command[0]


@pytest.mark.parametrize("yaw", [-3.0, -1.0, 0.0, 0.4, 2.0])
def test_yaw_of_an_upright_block(yaw: float) -> None:
    assert yaw_of(np.array([0, 0, np.sin(yaw / 2), np.cos(yaw / 2)])) == pytest.approx(yaw)
