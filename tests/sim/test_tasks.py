"""Tasks and the judge: every sentence, every mistake, every outcome."""

from __future__ import annotations

import numpy as np
import pytest

from sim import so101
from sim.expert import Expert
from sim.grips import top
from sim.shapes import shape_set
from sim.tasks import STILL_STEPS, TASKS, TIME_LIMIT, Judge, Task, TaskError, is_stacked, parse_task, phrasings
from sim.world import BLOCK, COLOURS, World

TASK = TASKS[0]
SPOTS = {"red": (0.17, 0.09), "green": (0.17, -0.09), "blue": (0.2, 0.0)}


@pytest.fixture
def world(shared: World) -> World:
    """Three blocks on the table, the arm turned away."""
    shared.reset(np.random.default_rng(0), arm_pose=np.array([-1.8, -0.9, 0.6, 1.0, 0.0, 1.0]))
    for colour, (x, y) in SPOTS.items():
        shared.place_block(colour, (x, y, BLOCK / 2), 0.0)
    shared.step(4)
    return shared


def put(world: World, colour: str, on: str) -> None:
    x, y, z = world.block_pose(on)[0]
    world.place_block(colour, (x, y, z + BLOCK), 0.0)


def judged(world: World, judge: Judge, steps: int = TIME_LIMIT) -> str | None:
    for _ in range(steps):
        world.step(world.physics_rate // 20)
        judge.update()
        if judge.outcome is not None:
            break
    return judge.outcome


def test_there_are_six_tasks_and_each_is_understood_as_written() -> None:
    assert len({task.text for task in TASKS}) == 6
    assert [parse_task(task.text) for task in TASKS] == list(TASKS)
    assert parse_task("  Stack the RED block on the blue block ") == Task(
        "stack the red block on the blue block", "red", "blue"
    )


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.text)
def test_a_task_may_be_asked_for_in_other_words(task: Task) -> None:
    sentences = phrasings(task.moved, task.base)
    assert sentences[0] == task.text and len(set(sentences)) == len(sentences) >= 20
    assert {parse_task(sentence) for sentence in sentences} == {task}
    assert parse_task(f"Please {sentences[3]}.") == task


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "not understood"),
        ("tidy up", "not understood"),
        ("stack the red block", "not understood"),
        ("stack the red block on the blue block twice", "not understood"),
        ("stack the pink block on the blue block", "no pink block here; there are red, green, blue blocks"),
        ("put the red ball on the blue block", "there is no red ball here"),
        ("on the yellow cube, stack the red cube", "there is no yellow cube here"),
        ("stack the red block on the grey block", "no grey block"),
        ("stack the red block on the red block", "cannot stand on itself"),
    ],
)
def test_what_cannot_be_asked_is_one_line(text: str, reason: str) -> None:
    with pytest.raises(TaskError, match=reason) as caught:
        parse_task(text)
    assert "\n" not in str(caught.value) and repr(text)[1:-1] in str(caught.value)


def test_success_takes_half_a_second_of_rest(world: World) -> None:
    judge = Judge(world, TASK)
    put(world, TASK.moved, TASK.base)
    assert judged(world, judge, STILL_STEPS - 1) is None
    assert judged(world, judge, 3) == "success"
    assert is_stacked(world, TASK.moved, TASK.base) and not is_stacked(world, TASK.base, TASK.moved)
    steps = judge.steps
    judge.update()
    assert judge.steps == steps, "a verdict is final"


def test_gatos_success_is_seen_at_any_step_and_does_not_wait_for_rest(world: World) -> None:
    judge = Judge(world, TASK)
    judged(world, judge, 1)
    assert not judge.sparse, "apart"
    put(world, TASK.moved, TASK.base)
    assert judged(world, judge, 2) is None
    assert judge.sparse
    world.place_block(TASK.moved, (0.25, 0.0, BLOCK / 2), 0.0)
    assert judged(world, judge, 2) is None
    assert judge.sparse, "what was seen was seen"


def test_a_block_in_the_jaws_does_not_count_for_gato(world: World) -> None:
    judge = Judge(world, TASK)
    demonstrate(world, judge, "held")
    assert not judge.sparse


@pytest.mark.parametrize("group", ["triplet1", "triplet3", "triplet4"])
def test_deformed_objects_are_stacked_when_one_stands_on_the_other(shared: World, group: str) -> None:
    shapes = dict(zip(COLOURS, shape_set(group), strict=True))
    shared.reset(np.random.default_rng(0), arm_pose=np.array([-1.8, -0.9, 0.6, 1.0, 0.0, 1.0]), shapes=shapes)
    shared.place_block("blue", (0.2, 0.0, shared.solids["blue"].below), 0.4)
    middle = shared.block_pose("blue")[0] + top(shared.solids["blue"], shared.object_truth("blue")[1])
    shared.place_block("red", (middle[0], middle[1], middle[2] + shared.solids["red"].below), -0.3)
    judge = Judge(shared, TASKS[1])
    assert (judge.task.moved, judge.task.base) == ("red", "blue")
    assert judged(shared, judge) == "success" and judge.sparse
    shared.place_block("red", (0.12, 0.0, shared.solids["red"].below), 0.0)
    assert not is_stacked(shared, "red", "blue")


def test_a_stack_that_falls_in_between_starts_anew(world: World) -> None:
    judge = Judge(world, TASK)
    put(world, TASK.moved, TASK.base)
    judged(world, judge, STILL_STEPS - 1)
    world.place_block(TASK.moved, (0.25, 0.0, BLOCK / 2), 0.0)
    assert judged(world, judge, 1) is None
    put(world, TASK.moved, TASK.base)
    assert judged(world, judge, STILL_STEPS - 2) is None


def test_the_other_way_round_is_the_wrong_pair(world: World) -> None:
    judge = Judge(world, TASK)
    put(world, TASK.base, TASK.moved)
    assert judged(world, judge) == "wrong pair stacked"
    assert judge.steps == TIME_LIMIT


def test_nothing_moved(world: World) -> None:
    assert judged(world, Judge(world, TASK)) == "never moved"


def test_another_block_moved(world: World) -> None:
    judge = Judge(world, TASK)
    world.place_block(TASK.base, (0.12, -0.02, BLOCK / 2), 0.0)
    assert judged(world, judge) == "wrong block moved"


def test_beside_is_not_on(world: World) -> None:
    judge = Judge(world, TASK)
    x, y, _ = world.block_pose(TASK.base)[0]
    world.place_block(TASK.moved, (x - 1.2 * BLOCK, y, BLOCK / 2), 0.0)
    assert judged(world, judge) == "placed beside"


def test_a_block_that_fell_off(world: World) -> None:
    judge = Judge(world, TASK)
    world.place_block(TASK.moved, (1.5, 0.0, 0.0), 0.0)
    assert judged(world, judge) == "block off the table"


def demonstrate(world: World, judge: Judge, stop: str) -> None:
    """Drive the demonstrator until its block is in the air ("held") or on the other in its jaws ("stacked")."""
    expert, command = Expert(world, judge.task), world.joint_targets()
    for _ in range(TIME_LIMIT):
        command = expert.act(command)
        world.set_targets(command)
        world.step(world.physics_rate // 20)
        judge.update()
        height = world.block_pose(judge.task.moved)[0][2]
        if (stop == "held" and height > 2 * BLOCK) or (stop == "stacked" and is_stacked(world, TASK.moved, TASK.base)):
            return
    raise AssertionError(f"the demonstrator never came to {stop}")


@pytest.mark.parametrize(
    ("stop", "outcome"), [("held", "still in the gripper"), ("stacked", "stacked but not released and clear")]
)
def test_an_arm_that_does_not_let_go(world: World, stop: str, outcome: str) -> None:
    judge = Judge(world, TASK)
    demonstrate(world, judge, stop)
    held = world.joint_positions()
    held[5] = 0.5  # closed on the block
    world.set_targets(np.clip(held, so101.SPEC.position_min, so101.SPEC.position_max))
    assert judged(world, judge) == outcome


def test_every_colour_is_in_a_task_as_moved_and_as_base() -> None:
    assert {task.moved for task in TASKS} == {task.base for task in TASKS} == set(COLOURS)
