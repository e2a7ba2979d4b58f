"""From few demonstrations to a plot: what is shown, what is learned from it, and that nothing is done twice."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from policies.gato.config import SIZES
from policies.gato.model import Gato
from policies.gato.text import Text
from policies.gato.train import load_checkpoint, save_checkpoint
from runtime.cli import main
from runtime.few_shot import FewShotSettings, demonstrations, draw, few_shot
from runtime.so101_policy import SEQUENCE

TASK = "stack the blue block on the green block"


def base(folder: Path) -> Path:
    torch.manual_seed(0)
    save_checkpoint(folder / "base.pt", Gato(SIZES["tiny"], SEQUENCE, Text().vocab_size), {})
    return folder / "base.pt"


def test_demonstrations_are_of_the_task_and_disturbed() -> None:
    first, second = demonstrations(FewShotSettings(TASK, workers=1), 2)
    assert first.task == TASK and first.frames("fixed").shape == (len(first.actions), 64, 64, 3)
    assert not np.array_equal(first.frames("fixed")[0], second.frames("fixed")[0]), "another world"
    executed = first.joint_targets[1:, :5] - first.actions[:-1, :5]
    assert 0.005 < executed.std() < 0.03, "what was executed is what was wanted, and noise"


def test_each_number_of_demonstrations_is_learned_from_and_tried(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    settings = FewShotSettings(TASK, counts=(1,), episodes=2, workers=1, device="cpu", batch=2, iterations=(3, 3))
    lines: list[str] = []
    result = few_shot(base(tmp_path), tmp_path / "few", settings, say=lines.append)
    assert [(p["demonstrations"], p["iterations"], p["episodes"]) for p in result["points"]] == [(0, 0, 2), (1, 3, 2)]
    assert all(p["successes"] + sum(p["failures"].values()) == 2 for p in result["points"])
    assert json.loads((tmp_path / "few" / "few_shot.json").read_text()) == result
    assert (tmp_path / "few" / "few_shot.png").stat().st_size > 10_000
    weights = [load_checkpoint(tmp_path / "few" / f"few-{count}.pt")[0].head.weight for count in (0, 1)]
    assert not torch.equal(*weights)
    again = few_shot(tmp_path / "base.pt", tmp_path / "few", settings, say=lines.append)
    assert again == result and len(lines) == 3, "the demonstrations, two results, and nothing the second time"


def test_the_plot_shows_gato_where_it_was_measured(tmp_path: Path) -> None:
    points = [
        {"demonstrations": count, "success_rate": rate, "success_interval_95": [rate - 0.1, rate + 0.1]}
        for count, rate in ((0, 0.1), (10, 0.4), (500, 0.9))
    ]
    draw({"task": TASK, "points": points}, tmp_path / "with.png")
    draw({"task": TASK, "points": points[:2]}, tmp_path / "without.png")
    assert (tmp_path / "with.png").read_bytes() != (tmp_path / "without.png").read_bytes()


def test_numbers_that_are_none_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["few-shot", str(base(tmp_path)), str(tmp_path / "few"), "--demonstrations", "ten"]
    assert main(words) == 2 and "'ten' is not numbers" in capsys.readouterr().err
    assert main([*words[:3], "--task", "stack the pink block on the green block", "--device", "cpu"]) == 2
    assert "pink" in capsys.readouterr().err
