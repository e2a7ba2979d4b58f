"""What is interrupted and resumed ends as it would have; several processes hold the same weights."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from policies.gato.imitate import imitate
from policies.gato.ranks import Ranks
from policies.gato.text import Text
from policies.gato.train import TrainConfig, Trainer, batch_seed, load_state, save_state
from policies.policy import PolicyError
from tests.policies.gato.test_imitate import CODEC, network, write

CPU = torch.device("cpu")
SCRIPT = """
import json, sys
import numpy as np
import torch
from policies.dataset import Dataset
from policies.gato.imitate import fit, load_replay
from policies.gato.ranks import Ranks
from policies.gato.text import Text
from policies.gato.train import TrainConfig, Trainer
from tests.policies.gato.test_imitate import CODEC, SPEC, TASKS, network
from pathlib import Path

torch.set_num_threads(1)
ranks = Ranks.join("cpu")
model = network()
with torch.no_grad():  # they begin apart: the first one's weights are to win
    for parameter in model.parameters():
        parameter.add_(ranks.rank)
replay = load_replay(Dataset(Path(sys.argv[1])), SPEC, CODEC, Text(), ranks.device, tasks=TASKS)
trainer = Trainer(model, TrainConfig(batch=4), ranks=ranks)
losses = [float(measures["loss"]) for measures in fit(trainer, replay, 3, seed=5)]
total = [float(sum(p.double().sum() for p in weights)) for weights in (model.parameters(), trainer.average.values())]
agreed = ranks.greatest([ranks.rank]) + ranks.total([1.0, ranks.rank])
found = {"losses": losses, "total": total, "agreed": agreed, "finite": bool(np.isfinite(losses).all())}
Path(sys.argv[2], f"{ranks.rank}.json").write_text(json.dumps(found))
ranks.leave()
"""


pytestmark = pytest.mark.usefixtures("one_thread")


def trained(folder: Path, out: Path, iterations: int, **more: Any) -> dict[str, torch.Tensor]:
    model = network()
    config = TrainConfig(batch=4, warmup=3)
    imitate(folder, out, iterations, model, CODEC, Text(), rate=20, config=config, seed=3, **more)
    return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}


def test_resumed_to_the_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "data")
    whole = trained(tmp_path / "data", tmp_path / "whole", 8)
    update, done = Trainer.update, 0

    def cut_off(self: Trainer, *arguments: Any) -> Any:
        nonlocal done
        if done == 5:
            raise KeyboardInterrupt
        done += 1
        return update(self, *arguments)

    monkeypatch.setattr("policies.gato.imitate.SAVE_EVERY", 0.0)
    monkeypatch.setattr(Trainer, "update", cut_off)
    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path / "data", tmp_path / "parts", 8)
    monkeypatch.setattr(Trainer, "update", update)
    parts = trained(tmp_path / "data", tmp_path / "parts", 8, resume=True)
    assert all(torch.equal(whole[name], parts[name]) for name in whole)
    ends = [torch.load(tmp_path / name / "checkpoint.pt", weights_only=True)["weights"] for name in ("whole", "parts")]
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0]), "and so is the moving average"
    other = trained(tmp_path / "data", tmp_path / "other", 5)
    assert any(not torch.equal(whole[name], other[name]) for name in whole)


def test_only_the_same_training_is_resumed(tmp_path: Path) -> None:
    trainer = Trainer(network(), TrainConfig())
    with pytest.raises(PolicyError, match="no training to resume"):
        load_state(tmp_path / "state.pt", trainer, {})
    save_state(tmp_path / "state.pt", trainer, {"seed": 1, "steps": 7})
    assert load_state(tmp_path / "state.pt", trainer, {"seed": 1}) == {"seed": 1, "steps": 7}
    with pytest.raises(PolicyError, match="was trained with seed 1, not 2"):
        load_state(tmp_path / "state.pt", trainer, {"seed": 2})


def test_a_batch_is_the_seed_s_the_rank_s_and_the_iteration_s() -> None:
    seeds = {batch_seed(seed, rank, iteration) for seed in range(3) for rank in range(3) for iteration in range(50)}
    assert len(seeds) == 450 and all(0 <= seed < 2**63 for seed in seeds)
    assert batch_seed(1, 2, 3) == batch_seed(1, 2, 3)


def test_alone_is_a_rank_too() -> None:
    alone = Ranks.join("cpu")
    tensor = torch.ones(3)
    alone.average(tensor)
    alone.share([tensor])
    assert alone.first and alone.device == CPU and tensor.tolist() == [1, 1, 1]
    assert alone.total([1, 2]) == [1, 2] and alone.greatest([3]) == [3]
    alone.leave()


def test_two_processes_learn_from_different_batches_and_hold_the_same_weights(tmp_path: Path) -> None:
    write(tmp_path / "data")
    (tmp_path / "script.py").write_text(SCRIPT)
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = [*launch, str(tmp_path / "script.py"), str(tmp_path / "data"), str(tmp_path)]
    found = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, env=found)
    assert done.returncode == 0, done.stderr
    first, second = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1))
    assert first["finite"] and second["finite"] and first["losses"] != second["losses"]
    assert first["total"] == second["total"]
    assert first["agreed"] == second["agreed"] == [1, 2, 1]
