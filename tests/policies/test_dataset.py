"""Reading a dataset folder: what was written comes back, and so does what others wrote in other ways."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from policies.dataset import Dataset, DatasetError, Facts
from tests.policies.episodes import make_episode, open_writer, same


def test_episodes_come_back_as_they_were(tmp_path: Path) -> None:
    facts = Facts(3, "success", "0123", "expert", "2026-01-01T00:00:00Z")
    episodes = [make_episode(i, length=5 + i, task=f"task {i % 2}", facts=facts) for i in range(4)]
    with open_writer(tmp_path) as writer:
        assert [writer.add(episode) for episode in episodes] == [0, 1, 2, 3]
    dataset = Dataset(tmp_path)
    assert len(dataset) == 4 and dataset.tasks == ("task 0", "task 1") and dataset.fps == 20
    assert all(same(left, right) for left, right in zip(dataset, episodes, strict=True))
    assert dataset.facts(2) == facts and dataset.image_size("fixed") == (4, 6)
    assert dataset[1].frames("fixed").shape == (6, 4, 6, 3)
    with pytest.raises(IndexError):
        dataset[4]


def test_videos_come_back_as_frames(tmp_path: Path) -> None:
    episodes = [make_episode(i, length=3) for i in range(2)]
    with open_writer(tmp_path, videos=True) as writer:
        for episode in episodes:
            writer.add(episode)
    dataset = Dataset(tmp_path)
    for found, episode in zip(dataset, episodes, strict=True):
        assert found.frames("wrist").shape == (3, 8, 8, 3)
        assert abs(found.frames("wrist").mean() - episode.frames("wrist").mean()) < 12  # noise, in 4:2:0
        assert np.array_equal(found.actions, episode.actions)


def test_columns_that_only_we_write_may_be_missing(tmp_path: Path) -> None:
    with open_writer(tmp_path) as writer:
        writer.add(make_episode(0))
    data = tmp_path / "data/chunk-000/file-000.parquet"
    pq.write_table(pq.read_table(data).drop_columns(["observation.joint_targets", "capture_stamps"]), data)
    rows = tmp_path / "meta/episodes/chunk-000/file-000.parquet"
    table = pq.read_table(rows)
    pq.write_table(table.drop_columns([name for name in table.column_names if name.startswith("gato_arm/")]), rows)
    info = json.loads((tmp_path / "meta/info.json").read_text())
    del info["features"]["observation.joint_targets"], info["features"]["capture_stamps"]
    info["features"]["observation.images.fixed"] |= {"shape": [3, 4, 6], "names": ["channels", "height", "width"]}
    (tmp_path / "meta/info.json").write_text(json.dumps(info))
    dataset = Dataset(tmp_path)
    episode = dataset[0]
    assert episode.stamps is None and episode.facts == Facts() and dataset.image_size("fixed") == (4, 6)
    assert np.array_equal(episode.joint_targets[0], episode.joint_positions[0])
    assert np.array_equal(episode.joint_targets[1:], episode.actions[:-1])


def test_an_index_of_tasks_without_a_name_is_read(tmp_path: Path) -> None:
    with open_writer(tmp_path) as writer:
        writer.add(make_episode(0, task="one"))
    pq.write_table(pa.table({"task_index": [0], "__index_level_0__": ["one"]}), tmp_path / "meta/tasks.parquet")
    assert Dataset(tmp_path).tasks == ("one",)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"codebase_version": "v2.1"}, "of version v2.1, expected v3.0"),
        ({"total_episodes": 5}, "says 5 episodes, meta/episodes lists 1"),
        ({"features": {}}, "has no observation.state: there is nothing to imitate"),
    ],
)
def test_a_folder_that_is_not_whole_is_one_line(tmp_path: Path, change: dict[str, object], reason: str) -> None:
    with open_writer(tmp_path) as writer:
        writer.add(make_episode(0))
    info = tmp_path / "meta/info.json"
    info.write_text(json.dumps(json.loads(info.read_text()) | change))
    with pytest.raises(DatasetError, match=reason):
        Dataset(tmp_path)


def test_a_damaged_data_file_is_one_line(tmp_path: Path) -> None:
    with open_writer(tmp_path) as writer:
        writer.add(make_episode(0))
        writer.add(make_episode(1))
    data = tmp_path / "data/chunk-000/file-000.parquet"
    table = pq.read_table(data)
    pq.write_table(table.slice(0, 20), data)
    dataset = Dataset(tmp_path)
    assert same(dataset[0], make_episode(0))
    with pytest.raises(DatasetError, match="has 8 rows of episode 1, its metadata says 12"):
        dataset[1]
    data.write_bytes(b"PAR1")
    with pytest.raises(DatasetError, match="cannot be read"):
        dataset[0]


def test_an_empty_folder_is_no_dataset(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="gato-arm collect"):
        Dataset(tmp_path)
