"""`gato-arm train --dataset`: collected demonstrations to a checkpoint, and on from there."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from policies.dataset import Dataset
from policies.dataset_writer import DatasetWriter
from policies.gato.config import ModelConfig
from policies.gato.model import Gato
from policies.gato.sequence import SequenceSpec
from policies.gato.text import Text
from policies.gato.train import load_checkpoint, save_checkpoint
from policies.policy import PolicyError
from runtime.cli import main
from runtime.collect import CollectSettings, collect
from runtime.imitate import _scene, imitate
from runtime.so101_policy import SEQUENCE
from sim.tasks import TASKS


@pytest.fixture(scope="module")
def demonstrations(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("demonstrations")
    assert collect(folder, 2, CollectSettings(seed=40), workers=1) == 2
    return folder


def test_collected_episodes_are_learned_and_learning_goes_on_from_a_checkpoint(
    demonstrations: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    reports: list[dict[str, float]] = []
    said = imitate(demonstrations, tmp_path, 25, size="tiny", device="cpu", batch=8, report=reports.append)
    checkpoint = tmp_path / "checkpoint.pt"
    model, details = load_checkpoint(checkpoint)
    assert model.spec == SEQUENCE and details == said and said["episodes"] == 2
    words = ["train", str(tmp_path / "more"), "--dataset", str(demonstrations), "--init", str(checkpoint)]
    assert main([*words, "--iterations", "2", "--batch", "2", "--device", "cpu"]) == 0
    assert "loss" in capsys.readouterr().out
    further, _ = load_checkpoint(tmp_path / "more" / "checkpoint.pt")
    assert further.config == model.config, "the size is the checkpoint's"


def test_only_the_simulator_s_own_demonstrations_are_mirrored_and_recoloured(
    demonstrations: Path, tmp_path: Path
) -> None:
    text, dataset = Text(), Dataset(demonstrations)
    scene = _scene(dataset, text)
    assert scene is not None and len(scene.roles) == len(scene.names) == len(TASKS)
    for task, ((moved, base), *_) in zip(TASKS, scene.names, strict=True):
        ids = text.encode(task.text)
        assert (text.decode([ids[moved]]).strip(), text.decode([ids[base]]).strip()) == (task.moved, task.base)
    episode = dataset[0]
    with DatasetWriter(
        tmp_path,
        fps=20,
        images=dict.fromkeys(episode.images, (64, 64)),
        joint_names=("a", "b", "c", "d", "e", "f"),
        robot_type="so101",
    ) as writer:
        writer.add(replace(episode, extra={}))
    assert _scene(Dataset(tmp_path), text) is None


def test_mistakes_are_one_line(demonstrations: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", str(tmp_path / "out"), "--dataset", str(tmp_path / "nothing")]) == 2
    assert "holds no dataset" in capsys.readouterr().err
    other = SequenceSpec((("eye", 16, 16),), (("joint_positions", 6),), actions=6)
    tiny = ModelConfig(layers=1, heads=2, head_width=16, feedforward=32, patch_channels=32)
    save_checkpoint(tmp_path / "other.pt", Gato(tiny, other, Text().vocab_size), {})
    assert main(["train", str(tmp_path / "learned"), "--init", str(tmp_path / "other.pt"), "--seconds", "1"]) == 2
    assert "begin with another or without" in capsys.readouterr().err
    with pytest.raises(PolicyError, match="other sequences"):
        imitate(demonstrations, tmp_path / "out", 1, init=tmp_path / "other.pt", device="cpu")
    assert not (tmp_path / "out").exists()
