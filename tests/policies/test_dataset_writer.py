"""What the writer leaves: LeRobot's layout, and a whole dataset at every moment."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from policies import dataset_format as fmt
from policies import dataset_writer
from policies.dataset import Dataset, DatasetError
from tests.lerobot import check
from tests.policies.episodes import make_episode, open_writer, same
from tests.policies.folder_shape import DESCRIPTION, folder_shape


@pytest.mark.parametrize("videos", [False, True], ids=["images", "videos"])
def test_the_folder_is_what_lerobot_writes(tmp_path: Path, videos: bool) -> None:
    """Against what LeRobot itself left for the same features; only the columns of facts are ours alone."""
    with check.open_writer(tmp_path, videos) as writer:
        for i in range(check.EPISODES):
            writer.add(check.make_episode(i))
    ours = json.loads(json.dumps(folder_shape(tmp_path)))
    theirs = json.loads(DESCRIPTION.read_text())["videos" if videos else "images"]
    facts = {name for name in ours["episodes"] if name.startswith(fmt.FACT_PREFIX)}
    assert {name.removeprefix(fmt.FACT_PREFIX) for name in facts} == set(fmt.FACT_TYPES)
    for name in facts:
        del ours["episodes"][name]
    assert ours == theirs


def test_rows_are_numbered_through_and_an_episode_is_a_row_group(tmp_path: Path) -> None:
    with open_writer(tmp_path) as writer:
        for i in range(3):
            writer.add(make_episode(i, length=4, task=f"task {i % 2}"))
    info = json.loads((tmp_path / "meta/info.json").read_text())
    assert info["total_episodes"] == 3 and info["total_frames"] == 12 and info["splits"] == {"train": "0:3"}
    data = pq.ParquetFile(tmp_path / "data/chunk-000/file-000.parquet")
    assert data.num_row_groups == 3
    table = data.read()
    assert table["index"].to_pylist() == list(range(12))
    assert table["episode_index"].to_pylist() == [0] * 4 + [1] * 4 + [2] * 4
    assert table["task_index"].to_pylist() == [0] * 4 + [1] * 4 + [0] * 4
    assert table["timestamp"].to_pylist()[:3] == pytest.approx([0.0, 0.05, 0.1])
    assert b"huggingface" in table.schema.metadata
    rows = pq.read_table(tmp_path / "meta/episodes/chunk-000/file-000.parquet").to_pylist()
    assert [(row["dataset_from_index"], row["dataset_to_index"]) for row in rows] == [(0, 4), (4, 8), (8, 12)]
    assert rows[2]["tasks"] == ["task 0"] and rows[2]["gato_arm/seed"] == 2


def test_statistics_pool_to_those_of_all_steps(tmp_path: Path) -> None:
    episodes = [make_episode(i, length=3 + 5 * i) for i in range(3)]
    with open_writer(tmp_path) as writer:
        writer.add(episodes[0])
    with open_writer(tmp_path) as writer:
        for episode in episodes[1:]:
            writer.add(episode)
    stats = json.loads((tmp_path / "meta/stats.json").read_text())["action"]
    actions = np.concatenate([episode.actions for episode in episodes]).astype(np.float64)
    assert stats["mean"] == pytest.approx(actions.mean(axis=0), abs=1e-6)
    assert stats["std"] == pytest.approx(actions.std(axis=0), abs=1e-6)
    assert stats["min"] == pytest.approx(actions.min(axis=0)) and stats["count"] == [len(actions)]


def test_a_full_file_is_followed_by_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    episodes = [make_episode(i) for i in range(5)]
    size = 2**-20 * 16_000  # some episodes
    monkeypatch.setattr(dataset_writer, "GROWTH_MB", size)
    with open_writer(tmp_path) as writer:
        for episode in episodes[:3]:
            writer.add(episode)
    with open_writer(tmp_path) as writer:
        for episode in episodes[3:]:
            writer.add(episode)
    dataset = Dataset(tmp_path)
    assert len({row["data/file_index"] for row in dataset.rows}) > 1
    assert len({row["meta/episodes/file_index"] for row in dataset.rows}) > 1
    assert all(same(left, right) for left, right in zip(dataset, episodes, strict=True))


def test_a_robot_is_described_once(tmp_path: Path) -> None:
    writer = open_writer(tmp_path)
    first = writer.add_robot({"name": "x", "joints": [1, 2]})
    assert writer.add_robot({"joints": [1, 2], "name": "x"}) == first != writer.add_robot({"name": "y"})
    assert Dataset(tmp_path).robot(first)["name"] == "x"
    with pytest.raises(DatasetError, match="is missing"):
        Dataset(tmp_path).robot("0123")


class Killed(BaseException):
    """Stands in for a power cut."""


@pytest.mark.parametrize("videos", [False, True], ids=["images", "videos"])
@pytest.mark.parametrize("survived", range(5 + 2))
def test_a_crash_between_any_two_files_costs_only_the_episode_that_was_not_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, survived: int, videos: bool
) -> None:
    """Each file that `add` puts in its place is the last one in turn; a smaller episode follows."""
    monkeypatch.setattr(dataset_writer, "GROWTH_MB", 2**-20 * 12_000)
    with open_writer(tmp_path, videos=videos) as writer:
        writer.add(make_episode(0))
        writer.add(make_episode(1, length=4))
    writer = open_writer(tmp_path, videos=videos)
    settled = 0

    def settle(temporary: Path, path: Path) -> None:
        nonlocal settled
        if settled == survived:
            raise Killed
        settled += 1
        os.replace(temporary, path)

    with monkeypatch.context() as patch:
        patch.setattr(fmt, "settle", settle)
        if survived >= 5 + 2 * videos:
            writer.add(make_episode(2, task="another"))
        else:
            with pytest.raises(Killed):
                writer.add(make_episode(2, task="another"))
    finished = 2 + (survived >= 5 + 2 * videos)
    assert len(Dataset(tmp_path)) == finished
    with open_writer(tmp_path, videos=videos) as writer:
        assert writer.add(make_episode(7, length=3)) == finished
    dataset = Dataset(tmp_path)
    assert [episode.facts.seed for episode in dataset] == [*(0, 1, 2)[:finished], 7]
    indices = [
        index
        for path in sorted((tmp_path / "data").rglob("*.parquet"))
        for index in pq.read_table(path)["index"].to_pylist()
    ]
    assert indices == list(range(dataset.info["total_frames"])), "whoever reads all files sees every step once"


WRITE = """
import sys
from pathlib import Path
from tests.policies.episodes import make_episode, open_writer
with open_writer(Path(sys.argv[1])) as writer:
    for i in range(10**6):
        writer.add(make_episode(i, length=40))
        print(i, flush=True)
"""


def test_a_killed_writer_leaves_every_finished_episode(tmp_path: Path) -> None:
    root = Path(__file__).parents[2]
    process = subprocess.Popen(
        [sys.executable, "-c", WRITE, str(tmp_path)],
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": str(root)},
        text=True,
    )
    assert process.stdout is not None
    written = [int(process.stdout.readline()) for _ in range(3)]
    process.send_signal(signal.SIGKILL)
    written += [int(line) for line in process.communicate()[0].split()]
    dataset = Dataset(tmp_path)
    assert len(dataset) in (len(written), len(written) + 1)
    assert all(same(dataset[i], make_episode(i, length=40)) for i in range(len(dataset)))


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    writer = open_writer(tmp_path)
    good = make_episode(0)
    bad = make_episode(0)
    bad.actions[3, 1] = np.nan
    with pytest.raises(DatasetError, match="action has a value that is not finite"):
        writer.add(bad)
    with pytest.raises(DatasetError, match="camera wrist has 11 images for 12 steps"):
        writer.add(replace(good, images={**good.images, "wrist": good.images["wrist"][1:]}))
    with pytest.raises(DatasetError, match="expects"):
        writer.add(replace(good, images={"fixed": good.images["fixed"]}))
    with pytest.raises(DatasetError, match="without capture stamps"):
        writer.add(replace(good, stamps=None))
    with pytest.raises(DatasetError, match=r"capture_stamps has shape \(12, 2\), expected \(12, 3\)"):
        writer.add(replace(good, stamps=good.stamps[:, :2]))
    with pytest.raises(DatasetError, match="another rate"):
        open_writer(tmp_path, fps=30)
    with pytest.raises(DatasetError, match="other features"):
        open_writer(tmp_path, videos=True)
    assert len(Dataset(tmp_path)) == 0


def test_one_joint_is_a_plain_column(tmp_path: Path) -> None:
    """As the datasets library has it, which LeRobot loads with."""
    with dataset_writer.DatasetWriter(tmp_path, fps=20, images={}, joint_names=["a"], robot_type="t") as writer:
        episode = replace(make_episode(0), images={}, extra={})
        one = {name: getattr(episode, name)[:, :1] for name in ("joint_positions", "joint_targets", "actions")}
        writer.add(replace(episode, **one, stamps=episode.stamps[:, :1]))
    assert pq.read_schema(tmp_path / "data/chunk-000/file-000.parquet").field("action").type == pa.float32()
    assert np.array_equal(Dataset(tmp_path)[0].actions, one["actions"])
