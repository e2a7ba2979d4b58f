"""Trials: what is told, what is drawn, which names mean what."""

from __future__ import annotations

from dataclasses import replace

import pytest

from runtime.evaluation.trial import (
    PROMPTS,
    RGB_TASK,
    EvaluationError,
    Setting,
    Trial,
    cell_of,
    objects_of,
    setting_from,
    shifts_of,
)
from sim.shapes import TRIPLETS
from sim.tasks import TASKS, parse_task, phrasings
from sim.variation import NOMINAL, VARIATIONS

LIGHT = ("light_direction", "light_colour", "light_ambient", "light_diffuse")
TRIAL = Trial("episodes", "cubes", 0, 7, TASKS[0].text)


def told(seed: int, **setting: object) -> str | None:
    return replace(TRIAL, seed=seed, setting=Setting(**setting)).told()


def test_what_is_told() -> None:
    task = parse_task(TRIAL.task)
    assert told(7) == TRIAL.task and told(7, prompt="none") is None
    sentences = [told(seed, prompt="paraphrased") for seed in range(40)]
    assert set(sentences) <= set(phrasings(task.moved, task.base)[1:]) and len(set(sentences)) > 10
    assert told(7, prompt="paraphrased", phrasing=2) == phrasings(task.moved, task.base)[2]
    others = {told(seed, prompt="wrong") for seed in range(40)}
    assert others == {other.text for other in TASKS} - {TRIAL.task}
    with pytest.raises(EvaluationError, match="no prompt 'sung'; there are right, paraphrased"):
        told(7, prompt="sung")


def test_a_seed_draws_the_same_shapes_and_conditions() -> None:
    drawn = replace(TRIAL, setting=Setting(objects="training", shifts=("light",)))
    shapes = drawn.shapes()
    assert shapes == drawn.shapes() and shapes is not None and set(shapes) == {"red", "green", "blue"}
    assert shapes != replace(drawn, seed=8).shapes() and TRIAL.shapes() is None
    assert drawn.conditions() == drawn.conditions() != replace(drawn, seed=8).conditions()
    assert TRIAL.conditions() == NOMINAL
    assert replace(drawn.conditions(), **{name: getattr(NOMINAL, name) for name in LIGHT}) == NOMINAL


def test_trials_that_come_out_alike_have_one_key() -> None:
    variants = [
        TRIAL,
        replace(TRIAL, seed=8),
        replace(TRIAL, task=TASKS[1].text),
        *(replace(TRIAL, setting=Setting(prompt=prompt)) for prompt in PROMPTS[1:]),
        replace(TRIAL, setting=Setting(demonstration=True)),
        replace(TRIAL, setting=Setting(shifts=("light",))),
    ]
    assert len({trial.key for trial in variants}) == len(variants)
    assert replace(TRIAL, index=9).key == TRIAL.key


@pytest.mark.parametrize("setting", [Setting(), Setting("triplet2", ("light", "delay"), "wrong", None, True)])
def test_a_setting_comes_back_from_json(setting: Setting) -> None:
    assert setting_from(setting.to_json()) == setting
    assert Setting().to_json() == {}


def test_tasks_in_turn_on_cubes_and_the_benchmarks_task_on_other_objects() -> None:
    cubes = list(cell_of("episodes", "cubes", 7, 100, Setting()))
    assert [trial.task for trial in cubes] == [TASKS[i % 6].text for i in range(7)]
    assert [trial.seed for trial in cubes] == list(range(100, 107))
    assert {trial.task for trial in cell_of("episodes", "x", 3, 0, Setting(objects="training"))} == {RGB_TASK}
    assert {trial.task for trial in cell_of("episodes", "x", 3, 0, Setting(), [TASKS[4].text])} == {TASKS[4].text}


def test_names_of_shifts() -> None:
    assert shifts_of([]) == {"nominal": ()}
    assert shifts_of(["delay", "light"]) == {"light+delay": ("light", "delay")}
    assert shifts_of(["all"]) == {"all": VARIATIONS}
    suite = shifts_of(["each"])
    assert list(suite) == ["nominal", *VARIATIONS, "all"] and suite["table"] == ("table",)
    with pytest.raises(EvaluationError, match=r"no shift 'lihgt' \(did you mean 'light'\?\)"):
        shifts_of(["lihgt"])
    with pytest.raises(EvaluationError, match="leave the other names out"):
        shifts_of(["each", "light"])


def test_names_of_objects() -> None:
    assert objects_of("triplets") == TRIPLETS and objects_of("held_out") == ("held_out",)
    with pytest.raises(EvaluationError, match="no objects 'spheres'; there are cubes, training"):
        objects_of("spheres")
