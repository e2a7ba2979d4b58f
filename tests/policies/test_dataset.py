"""The dataset folder: what is written is read back, in LeRobot's layout, and a crash costs no finished episode."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from policies import dataset_format as fmt
from policies.dataset import Dataset, DatasetError, DatasetWriter, Episode, decode_png, encode_png

JOINTS = ("a", "b")
IMAGES = {"fixed": (4, 6), "wrist": (8, 8)}


def make_episode(seed: int, length: int = 12, task: str = "stack the red block on the blue block") -> Episode:
    rng = np.random.default_rng(seed)
    images = {
        camera: [encode_png(rng.integers(0, 256, (*size, 3), dtype=np.uint8)) for _ in range(length)]
        for camera, size in IMAGES.items()
    }
    vectors = rng.normal(size=(3, length, len(JOINTS))).astype(np.float32)
    return Episode(task, images, *vectors, extra={"environment_state": rng.normal(size=(length, 3)).astype(np.float32)})


def open_writer(folder: Path, fps: int = 20) -> DatasetWriter:
    return DatasetWriter(
        folder,
        fps=fps,
        images=IMAGES,
        joint_names=JOINTS,
        robot_type="test",
        extra={"environment_state": ("x", "y", "z")},
    )


def same(left: Episode, right: Episode) -> bool:
    return (
        left.task == right.task
        and all(list(left.images[camera]) == list(right.images[camera]) for camera in IMAGES)
        and np.array_equal(left.joint_positions, right.joint_positions)
        and np.array_equal(left.joint_targets, right.joint_targets)
        and np.array_equal(left.actions, right.actions)
        and np.array_equal(left.extra["environment_state"], right.extra["environment_state"])
    )


@given(arrays(np.uint8, (5, 7, 3)))
def test_png_is_lossless(image: np.ndarray) -> None:
    assert np.array_equal(decode_png(encode_png(image)), image)


def test_episodes_come_back_as_they_were(tmp_path: Path) -> None:
    episodes = [make_episode(i, length=5 + i, task=f"task {i % 2}") for i in range(4)]
    with open_writer(tmp_path) as writer:
        assert [writer.add(episode) for episode in episodes] == [0, 1, 2, 3]
    dataset = Dataset(tmp_path)
    assert len(dataset) == 4 and dataset.tasks == ("task 0", "task 1") and dataset.fps == 20
    assert all(same(left, right) for left, right in zip(dataset, episodes, strict=True))
    assert dataset[1].frames("fixed").shape == (6, 4, 6, 3)


def test_layout_is_lerobot_v3(tmp_path: Path) -> None:
    with open_writer(tmp_path) as writer:
        for i in range(3):
            writer.add(make_episode(i, length=4, task=f"task {i % 2}"))
    info = json.loads((tmp_path / "meta/info.json").read_text())
    assert info["codebase_version"] == "v3.0" and info["total_episodes"] == 3 and info["total_frames"] == 12
    assert info["features"]["observation.images.fixed"] == {
        "dtype": "image",
        "shape": [4, 6, 3],
        "names": ["height", "width", "channels"],
    }
    data = pq.ParquetFile(tmp_path / "data/chunk-000/file-000.parquet")
    assert data.num_row_groups == 3
    table = data.read()
    assert table["index"].to_pylist() == list(range(12))
    assert table["episode_index"].to_pylist() == [0] * 4 + [1] * 4 + [2] * 4
    assert table["task_index"].to_pylist() == [0] * 4 + [1] * 4 + [0] * 4
    assert table["timestamp"].to_pylist()[:3] == pytest.approx([0.0, 0.05, 0.1])
    assert table.schema.field("observation.images.fixed").type == fmt.IMAGE_TYPE
    assert b"huggingface" in table.schema.metadata
    tasks = pq.read_table(tmp_path / "meta/tasks.parquet")
    assert json.loads(tasks.schema.metadata[b"pandas"])["index_columns"] == ["task"]
    rows = pq.read_table(tmp_path / "meta/episodes/chunk-000/file-000.parquet").to_pylist()
    assert [(row["dataset_from_index"], row["dataset_to_index"]) for row in rows] == [(0, 4), (4, 8), (8, 12)]
    assert rows[2]["tasks"] == ["task 0"] and rows[2]["meta/episodes/file_index"] == 0
    assert np.shape(rows[0]["stats/observation.images.wrist/mean"]) == (3, 1, 1)


def test_statistics_pool_to_those_of_all_steps(tmp_path: Path) -> None:
    episodes = [make_episode(i, length=3 + 5 * i) for i in range(3)]
    with open_writer(tmp_path) as writer:
        for episode in episodes:
            writer.add(episode)
    stats = json.loads((tmp_path / "meta/stats.json").read_text())["action"]
    actions = np.concatenate([episode.actions for episode in episodes]).astype(np.float64)
    assert stats["mean"] == pytest.approx(actions.mean(axis=0), abs=1e-6)
    assert stats["std"] == pytest.approx(actions.std(axis=0), abs=1e-6)
    assert stats["min"] == pytest.approx(actions.min(axis=0)) and stats["count"] == [len(actions)]


@given(
    st.lists(
        arrays(np.float64, st.tuples(st.integers(1, 9), st.just(2)), elements=st.floats(-9, 9)), min_size=1, max_size=4
    )
)
def test_pool_equals_one_pass(parts: list[np.ndarray]) -> None:
    pooled = fmt.pool([fmt.describe(part) for part in parts])
    everything = np.concatenate(parts)
    assert pooled["mean"] == pytest.approx(everything.mean(axis=0), abs=1e-9)
    assert pooled["std"] == pytest.approx(everything.std(axis=0), abs=1e-6)


def test_a_crash_keeps_finished_episodes(tmp_path: Path) -> None:
    episodes = [make_episode(i) for i in range(4)]
    with open_writer(tmp_path) as first:
        first.add(episodes[0])
    crashed = open_writer(tmp_path)
    crashed.add(episodes[1])
    crashed.add(episodes[2])
    del crashed  # never closed
    assert len(Dataset(tmp_path)) == 1
    with open_writer(tmp_path) as again:
        assert len(again) == 3
        again.add(episodes[3])
    dataset = Dataset(tmp_path)
    assert all(same(left, right) for left, right in zip(dataset, episodes, strict=True))
    assert dataset.rows[3]["data/file_index"] == 1
    assert not (tmp_path / "staging").exists()


def test_a_crash_between_packing_and_info_packs_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with open_writer(tmp_path) as writer:
        writer.add(make_episode(0))
    writer = open_writer(tmp_path)
    writer.add(make_episode(1))

    def killed() -> dict[str, object]:
        raise KeyboardInterrupt

    monkeypatch.setattr(writer, "_info", killed)
    with pytest.raises(KeyboardInterrupt):
        writer.close()
    assert len(Dataset(tmp_path)) == 1
    open_writer(tmp_path).close()
    dataset = Dataset(tmp_path)
    assert len(dataset) == 2 and same(dataset[1], make_episode(1))
    assert len(list((tmp_path / "data").rglob("*.parquet"))) == 2


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    writer = open_writer(tmp_path)
    good = make_episode(0)
    bad = make_episode(0)
    bad.actions[3, 1] = np.nan
    with pytest.raises(DatasetError, match="action has a value that is not finite"):
        writer.add(bad)
    with pytest.raises(DatasetError, match="camera wrist has 11 images for 12 steps"):
        writer.add(
            Episode(
                good.task,
                {**good.images, "wrist": good.images["wrist"][1:]},
                good.joint_positions,
                good.joint_targets,
                good.actions,
                good.extra,
            )
        )
    with pytest.raises(DatasetError, match="expects"):
        writer.add(
            Episode(
                good.task,
                {"fixed": good.images["fixed"]},
                good.joint_positions,
                good.joint_targets,
                good.actions,
                good.extra,
            )
        )
    writer.close()
    with pytest.raises(DatasetError, match="another rate"):
        open_writer(tmp_path, fps=30)


def test_an_empty_folder_is_no_dataset(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="gato-arm collect"):
        Dataset(tmp_path)
