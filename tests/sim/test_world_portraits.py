"""The sheets of objects and variations: whole rows, pictures that differ, mistakes in one line."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from sim import world_portraits
from sim.shapes import shape_set
from sim.variation import NOMINAL, conditions_at
from sim.world import World
from sim.world_portraits import SIZE, main, objects, scene


def test_pictures_have_one_size_and_differ() -> None:
    world = World(image_size=SIZE)
    plain, bright = scene(world, "a", NOMINAL), scene(world, "a", conditions_at("light", "high"))
    assert plain.shape == bright.shape == (*SIZE, 3) and (plain != bright).mean() > 0.5
    world.close()
    world = World(image_size=(3 * SIZE[0], 3 * SIZE[1]))
    pictures = [objects(world, "b", shape_set(name)) for name in ("triplet1", "triplet5")]
    assert pictures[0].shape == (*SIZE, 3) and (pictures[0] != pictures[1]).any(axis=2).mean() > 0.02
    world.close()


def test_it_writes_both_sheets_or_says_what_it_needs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    blank = np.zeros((4, 4, 3), dtype=np.uint8)
    monkeypatch.setattr(world_portraits, "object_sheet", lambda: blank)
    monkeypatch.setattr(world_portraits, "variation_sheet", lambda: blank)
    assert main([str(tmp_path)]) == 0
    assert all(cv2.imread(str(tmp_path / name)) is not None for name in ("objects.png", "variation.png"))
    assert main([str(tmp_path / "none")]) == 2
    assert capsys.readouterr().err.startswith("usage")
