"""Learning from a dataset: what the replay holds is what the episodes say, and the loss falls."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from policies.dataset import Dataset, DatasetError, Episode
from policies.dataset_images import encode_png
from policies.dataset_writer import DatasetWriter
from policies.gato.codec import Codec
from policies.gato.config import ModelConfig
from policies.gato.imitate import imitate, load_replay
from policies.gato.model import Gato
from policies.gato.sequence import FILLER, SequenceSpec
from policies.gato.text import Text
from policies.gato.tokens import ValueScale, bins_to_ids
from policies.gato.train import TrainConfig, load_checkpoint

JOINTS = ("pan", "grip")
TASKS = ("go left", "go right")
SPEC = SequenceSpec((("eye", 16, 32),), (("joint_positions", 2), ("joint_targets", 2)), actions=2, window=2)
SCALE = ValueScale(np.full(2, -2.0), np.full(2, 2.0))
CODEC = Codec(
    {"joint_positions": SCALE, "joint_targets": SCALE},
    ValueScale(np.array([-0.1, -2.0]), np.array([0.1, 2.0])),
    np.array([True, False]),
)
CPU = torch.device("cpu")


pytestmark = pytest.mark.usefixtures("one_thread")


def write(folder: Path, *, episodes: int = 2, fps: int = 20, camera: tuple[int, int] = (16, 32)) -> Dataset:
    """Episodes in which the pan joint goes the way that the task says, 12 steps each."""
    rng = np.random.default_rng(0)
    with DatasetWriter(folder, fps=fps, images={"eye": camera}, joint_names=JOINTS, robot_type="toy") as writer:
        for index in range(episodes):
            way = 0.05 * (-1, 1)[index % 2]
            targets = np.column_stack([way * np.arange(12), np.full(12, 0.5)])
            images = [encode_png(rng.integers(0, 256, (*camera, 3), dtype=np.uint8)) for _ in range(12)]
            vectors = [
                values.astype(np.float32) for values in (targets - 0.01, targets, targets + np.array([way, 0.0]))
            ]
            stamps = np.arange(24).reshape(12, 2) * 10**7
            writer.add(Episode(TASKS[index % 2], {"eye": images}, *vectors, stamps=stamps))
    return Dataset(folder)


def network() -> Gato:
    torch.manual_seed(0)
    config = ModelConfig(layers=1, heads=2, head_width=16, feedforward=32, patch_channels=32)
    return Gato(config, SPEC, Text().vocab_size)


def test_the_replay_holds_the_episodes(tmp_path: Path) -> None:
    dataset, text = write(tmp_path), Text()
    replay = load_replay(dataset, SPEC, CODEC, text, CPU, tasks=TASKS)
    assert replay.size == replay.capacity == 24 and replay.streams == 1
    assert replay.first[0].nonzero().flatten().tolist() == [0, 12]
    assert replay.task[0].tolist() == [0] * 12 + [1] * 12
    second = dataset[1]
    np.testing.assert_array_equal(replay.images[0][0, 12:], second.frames("eye"))
    ids = replay.ids[0, 15].long().numpy()
    previous, targets = (second.joint_targets[step].astype(float) for step in (2, 3))
    np.testing.assert_array_equal(ids[:2], CODEC.action_ids(targets, previous))
    np.testing.assert_array_equal(ids[SPEC.word_places], SPEC.pad_words(text.encode(TASKS[1])))
    np.testing.assert_array_equal(ids[-3:-1], SCALE.encode(targets))
    assert (replay.ids[0, [0, 12], :2] == FILLER).all()
    assert (replay.labels[0, 12:, 0] == -1).all(), "nobody demonstrated the first task in the second episode"
    wanted = CODEC.targets(bins_to_ids(replay.labels[0, 15, 1].long().numpy()), targets)
    np.testing.assert_allclose(wanted, second.actions[3], atol=0.003)
    assert replay.truth.isnan().all() and replay.pixels.isnan().all()


def test_the_loss_falls_and_a_checkpoint_is_left(tmp_path: Path) -> None:
    write(tmp_path / "data")
    reports: list[dict[str, float]] = []
    details = imitate(
        tmp_path / "data",
        tmp_path / "out",
        40,
        network(),
        CODEC,
        Text(),
        rate=20,
        config=TrainConfig(batch=16, learning_rate=2e-3, warmup=5, average=0.9),
        report=reports.append,
        report_every=0.0,
    )
    losses = [measures["loss"] for measures in reports]
    assert len(losses) == 40 and np.isfinite(losses).all()
    assert np.mean(losses[-10:]) < 0.75 * np.mean(losses[:5])
    assert details["iterations"] == 40 and details["episodes"] == 2 and details["control_steps"] == 24
    model, saved = load_checkpoint(tmp_path / "out" / "checkpoint.pt")
    assert model.spec == SPEC and saved == details
    assert [measures["iterations"] for measures in reports] == list(range(1, 41))


def test_the_same_seed_is_the_same_training(tmp_path: Path) -> None:
    write(tmp_path / "data")

    def train(out: str, seed: int) -> list[float]:
        reports: list[dict[str, float]] = []
        imitate(
            tmp_path / "data",
            tmp_path / out,
            3,
            network(),
            CODEC,
            Text(),
            rate=20,
            config=TrainConfig(batch=4),
            seed=seed,
            report=reports.append,
            report_every=0.0,
        )
        return [measures["loss"] for measures in reports]

    assert train("one", 1) == train("two", 1) != train("three", 2)


@pytest.mark.parametrize(
    ("made", "tasks", "reason"),
    [
        ({"episodes": 0}, TASKS, "holds no episodes"),
        ({}, TASKS[:1], 'the task "go right" is none of: go left'),
        ({}, (*TASKS, "go on and on " * 9), "shorter sentences"),
    ],
)
def test_a_dataset_that_does_not_fit_is_refused_in_a_line(
    tmp_path: Path, made: dict[str, Any], tasks: tuple[str, ...], reason: str
) -> None:
    dataset = write(tmp_path, **made)
    with pytest.raises(DatasetError, match=reason) as caught:
        load_replay(dataset, SPEC, CODEC, Text(), CPU, tasks=tasks)
    assert "\n" not in str(caught.value)


def test_another_number_of_joints_or_another_camera_is_refused(tmp_path: Path) -> None:
    dataset = write(tmp_path)
    more = SequenceSpec(SPEC.cameras, SPEC.tensors, actions=3)
    with pytest.raises(DatasetError, match="has 2 joints, the policy moves 3"):
        load_replay(dataset, more, CODEC, Text(), CPU, tasks=TASKS)
    other = SequenceSpec((("wrist", 16, 16),), SPEC.tensors, actions=2)
    with pytest.raises(DatasetError, match="sees a camera wrist, the dataset has eye"):
        load_replay(dataset, other, CODEC, Text(), CPU, tasks=TASKS)


def test_another_rate_is_refused_and_nothing_is_written(tmp_path: Path) -> None:
    write(tmp_path / "data", fps=30)
    with pytest.raises(DatasetError, match="at 30 Hz, the policy acts at 20 Hz"):
        imitate(tmp_path / "data", tmp_path / "out", 1, network(), CODEC, Text(), rate=20)
    assert not (tmp_path / "out").exists()


def test_images_of_another_size_are_resized(tmp_path: Path) -> None:
    dataset = write(tmp_path, camera=(64, 128))
    replay = load_replay(dataset, SPEC, CODEC, Text(), CPU, tasks=TASKS)
    seen = replay.images[0][0, 3].numpy().astype(int)
    whole = dataset[0].frames("eye")[3].astype(float)
    assert np.abs(seen - whole.reshape(16, 4, 32, 4, 3).mean(axis=(1, 3))).max() <= 1


def test_the_best_on_held_out_episodes_is_kept(tmp_path: Path) -> None:
    write(tmp_path / "data", episodes=10)
    reports: list[dict[str, float]] = []
    said = imitate(
        tmp_path / "data",
        tmp_path / "out",
        40,
        network(),
        CODEC,
        Text(),
        rate=20,
        held_out=0.2,
        began_from="something",
        config=TrainConfig(batch=16, learning_rate=2e-3, warmup=5, average=0.9),
        report=reports.append,
        report_every=0.0,
    )
    assert said["episodes"] == 8 and said["held_out_episodes"] == 2 and said["control_steps"] == 96
    assert said["began_from"] == "something" and said["dataset"] == "data"
    best = min(measures["held_out_loss"] for measures in reports if "held_out_loss" in measures)
    assert reports[-1]["best_loss"] == best < reports[3]["held_out_loss"]
    _, details = load_checkpoint(tmp_path / "out" / "checkpoint.pt")
    assert 0 < details["iterations"] <= 40 and details["held_out_bins"] == said["held_out_bins"]


def test_other_units_are_refused(tmp_path: Path) -> None:
    dataset = write(tmp_path)
    dataset.rows[1]["stats/action/max"] = [90.0, 1.0]
    with pytest.raises(DatasetError, match="90 is no angle in rad"):
        load_replay(dataset, SPEC, CODEC, Text(), CPU, tasks=TASKS)
