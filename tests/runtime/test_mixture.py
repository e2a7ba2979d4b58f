"""What episodes of training are made of."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from policies.gato.text import Text
from policies.policy import PolicyError
from runtime.mixture import FIRST, KINDS, Mixture
from runtime.so101_policy import (
    HELD_OUT_PHRASES,
    fitting_phrasings,
    held_out_phrasings,
    named_words,
    trained_phrasings,
)
from sim.shapes import COLOURS, shape_set
from sim.tasks import TASKS, parse_task, phrasings
from sim.variation import NOMINAL


def test_the_shares_are_drawn_and_nothing_that_is_held_out() -> None:
    mixture, rng = Mixture.load(), np.random.default_rng(0)
    drawn = [mixture.draw(rng) for _ in range(1500)]
    kinds = Counter(KINDS[setting.kind] for setting in drawn)
    assert set(kinds) == set(KINDS)
    assert kinds["cubes_nominal"] / 1500 == pytest.approx(0.35 * 0.25, abs=0.03)
    held_out = set(shape_set("held_out"))
    for setting in drawn:
        objects, hardness = KINDS[setting.kind].split("_")
        assert (setting.shapes is None) == (objects == "cubes")
        assert (setting.conditions == NOMINAL) == (hardness == "nominal")
        if setting.shapes is not None:
            assert set(setting.shapes) == set(COLOURS) and held_out.isdisjoint(setting.shapes.values())
        assert setting.delayed >= (setting.conditions.delay > 0)
    deformed = [setting.task == FIRST for setting in drawn if setting.shapes is not None]
    assert np.mean(deformed) == pytest.approx(0.4 + 0.6 / 6, abs=0.05)
    assert TASKS[FIRST].text == "stack the red block on the blue block"


def test_what_is_kept_out_is_not_drawn() -> None:
    mixture, rng = Mixture.load().without(["triplets"], [2, 5]), np.random.default_rng(1)
    drawn = [mixture.draw(rng) for _ in range(500)]
    assert {setting.task for setting in drawn} == {0, 1, 3, 4}
    assert not any(KINDS[setting.kind].startswith("triplets") for setting in drawn)
    said = mixture.describe()
    assert said["kept_out_objects"] == ["triplets"] and said["kept_out_tasks"] == [TASKS[2].text, TASKS[5].text]
    assert sum(said["objects"].values()) == pytest.approx(1, abs=0.01)
    for objects, tasks, reason in (
        (["pyramids"], [], "no objects 'pyramids'"),
        (["cubes", "training", "triplets"], [], "everything is kept out"),
        ([], range(6), "everything is kept out"),
    ):
        with pytest.raises(PolicyError, match=reason):
            Mixture.load().without(objects, tasks)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("objects: {pyramids: 1}\nvariations: {all: 1}\nsome: [1, 2]\ndeformed_first: 0", "no objects 'pyramids'"),
        ("objects: {cubes: 1}\nvariations: {wild: 1}\nsome: [1, 2]\ndeformed_first: 0", "no variations 'wild'"),
        ("objects: {cubes: 0}\nvariations: {all: 1}\nsome: [1, 2]\ndeformed_first: 0", "give one of them a share"),
        ("objects: {cubes: 1}\nvariations: {all: 1}\nsome: [3, 2]\ndeformed_first: 0", "3 to 2 variations"),
        ("objects: {cubes: -1}", "no mixture"),
        ("- 1\n- [", "no mixture"),
    ],
)
def test_a_mixture_that_is_none_is_one_line(tmp_path: Path, content: str, reason: str) -> None:
    (tmp_path / "mixture.yaml").write_text(content)
    with pytest.raises(PolicyError, match=reason) as caught:
        Mixture.load(tmp_path / "mixture.yaml")
    assert "\n" not in str(caught.value)


def test_phrasings_fit_name_their_colours_and_some_are_held_out() -> None:
    text = Text()
    for task in TASKS:
        fitting, trained, held_out = (
            fitting_phrasings(task, text),
            trained_phrasings(task, text),
            held_out_phrasings(task),
        )
        assert fitting == phrasings(task.moved, task.base) and trained[0] == task.text
        assert set(trained) == set(fitting) - set(held_out) and len(held_out) == len(HELD_OUT_PHRASES)
        assert set(held_out) <= set(fitting)
        known = {word for phrase in trained for word in text.encode(phrase).tolist()}
        assert all(word in known for phrase in held_out for word in text.encode(phrase).tolist())
        for phrase in fitting:
            assert parse_task(phrase) == task
            ids, (moved, base) = text.encode(phrase), named_words(text, task, phrase)
            assert [text.decode([ids[place]]).strip() for place in (moved, base)] == [task.moved, task.base]
