"""Demonstrations in memory, and a LeRobotDataset v3.0 folder read back as such.

    for episode in Dataset(folder): …

`policies.dataset_writer` writes such folders. What LeRobot's own writer leaves is read too, PNG or video, as long as it
has a state and an action. Knows no simulator and no robot.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from policies import dataset_format as fmt
from policies.dataset_format import ACTION, STAMPS, STATE, TARGETS, DatasetError
from policies.dataset_images import Frames, Images, decoded, read_video

__all__ = ["Dataset", "DatasetError", "Episode", "Facts"]

SUCCESS = "success"  # of `Facts.outcome`


@dataclass(frozen=True)
class Facts:
    """What is known about an episode besides its steps; None where nobody said."""

    seed: int | None = None  # of the scene's layout, where a simulator laid it out
    outcome: str | None = None  # "success", or what came of it instead
    robot: str | None = None  # fingerprint of the robot as it was: its file is meta/robots/<fingerprint>.json
    demonstrator: str | None = None  # the expert, a policy's name, or the leader
    recorded: str | None = None  # when, ISO 8601


@dataclass(frozen=True)
class Episode:
    """One episode of T control steps.

    `actions` are the joint targets that the demonstrator wants in each state (rad); `joint_targets` the command that
    was in force when the state was observed (rad), so what was executed at step t, noise included, is
    `joint_targets[t + 1]`. `extra` holds further observation vectors (T, k), for example the privileged
    "environment_state". `stamps` says when what a step shows was captured (monotonic ns): a column for the joints, then
    one for each camera in the order of their names; None where nobody kept them.
    """

    task: str
    images: Mapping[str, Images]  # camera name -> T images
    joint_positions: NDArray[np.float32]  # measured, rad, (T, n)
    joint_targets: NDArray[np.float32]  # rad, (T, n)
    actions: NDArray[np.float32]  # rad, (T, n)
    extra: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)
    stamps: NDArray[np.int64] | None = None  # (T, 1 + cameras)
    facts: Facts = field(default_factory=Facts)

    def __len__(self) -> int:
        return len(self.actions)

    def frames(self, camera: str) -> Frames:
        """The decoded images of one camera, (T, H, W, 3) RGB."""
        return decoded(self.images[camera])


class Dataset:
    """A dataset folder, opened for reading. Iterating yields episodes in order; one is in memory at a time.

    `rows` is the episodes table, `cameras` maps each camera's name to its feature's.
    """

    def __init__(self, folder: Path) -> None:
        """Raises `DatasetError` when `folder` holds no dataset of this version."""
        self.folder = folder
        path = folder / fmt.INFO_PATH
        if not path.exists():
            raise DatasetError(
                f"{folder} holds no dataset ({fmt.INFO_PATH} is missing); make one: gato-arm record or gato-arm collect"
            )
        self.info: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        version = self.info.get("codebase_version")
        if version != fmt.CODEBASE_VERSION:
            raise DatasetError(
                f"{folder} is a LeRobot dataset of version {version}, expected {fmt.CODEBASE_VERSION}; "
                "convert it with lerobot's converter"
            )
        self.features: fmt.Features = self.info["features"]
        if missing := [name for name in (STATE, ACTION) if name not in self.features]:
            raise DatasetError(f"{folder} has no {missing[0]}: there is nothing to imitate in it")
        self.fps = int(self.info["fps"])
        self.cameras = {camera_name(name): name for name, feature in self.features.items() if is_camera(feature)}
        self.tasks = self._read_tasks()
        self.rows = self._read_rows()

    def _read_tasks(self) -> tuple[str, ...]:
        if not self.info["total_episodes"]:
            return ()
        table = pq.read_table(self.folder / fmt.TASKS_PATH)
        text = "task" if "task" in table.column_names else "__index_level_0__"  # pandas' name for a nameless index
        by_index = sorted(zip(table["task_index"].to_pylist(), table[text].to_pylist(), strict=True))
        return tuple(task for _, task in by_index)

    def _read_rows(self) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = []
        for file in sorted((self.folder / "meta" / "episodes").glob("*/*.parquet")):
            rows += pq.read_table(file).to_pylist()
        rows.sort(key=lambda row: int(row["episode_index"]))
        total = int(self.info["total_episodes"])
        if len(rows) < total:
            raise DatasetError(f"{self.folder}: info.json says {total} episodes, meta/episodes lists {len(rows)}")
        return rows[:total]  # more rows mean that an episode was being written when the writer was killed

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[Episode]:
        for index in range(len(self)):
            yield self[index]

    def image_size(self, camera: str) -> tuple[int, int]:
        """(height, width) of a camera's images."""
        feature = self.features[self.cameras[camera]]
        names = feature.get("names") or ["height", "width", "channels"]
        sizes = {name[0]: int(size) for name, size in zip(names, feature["shape"], strict=True)}
        return sizes["h"], sizes["w"]

    def facts(self, index: int) -> Facts:
        """What the episodes table says about episode `index`, which need not be read for it."""
        row = self.rows[index]
        return Facts(**{each.name: row.get(fmt.FACT_PREFIX + each.name) for each in fields(Facts)})

    def robot(self, fingerprint: str) -> dict[str, Any]:
        """The robot of that fingerprint as it was described when it recorded. Raises `DatasetError`."""
        path = self.folder / fmt.ROBOTS_PATH.format(fingerprint=fingerprint)
        if not path.exists():
            raise DatasetError(f"{path} is missing: the robot of that recording is not known")
        description: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return description

    def __getitem__(self, index: int) -> Episode:
        """Episode `index`, read from its files. Raises IndexError, and `DatasetError` for a damaged file."""
        row = self.rows[index]
        table = self._table(row)
        images: dict[str, Images] = {}
        for camera, name in self.cameras.items():
            if self.features[name]["dtype"] == "video":
                images[camera] = self._video(row, name)
            else:
                images[camera] = self._pictures(table, name)
        own = (STATE, TARGETS)
        extra = {
            name.removeprefix("observation."): _matrix(table, name).astype(np.float32)
            for name, feature in self.features.items()
            if name.startswith("observation.") and name not in own and feature["dtype"].startswith(("float", "int"))
        }
        state, actions = _matrix(table, STATE).astype(np.float32), _matrix(table, ACTION).astype(np.float32)
        if TARGETS in self.features:
            targets = _matrix(table, TARGETS).astype(np.float32)
        else:  # what was wanted a step ago is in force now
            targets = np.concatenate([state[:1], actions[:-1]])
        stamps = _matrix(table, STAMPS).astype(np.int64) if STAMPS in self.features else None
        return Episode(row["tasks"][0], images, state, targets, actions, extra, stamps, self.facts(index))

    def _table(self, row: Mapping[str, Any]) -> pa.Table:
        path = self.folder / self.info["data_path"].format(
            chunk_index=row["data/chunk_index"], file_index=row["data/file_index"]
        )
        try:
            table = pq.read_table(path, filters=[("episode_index", "=", row["episode_index"])])
        except (OSError, pa.ArrowInvalid) as error:
            raise DatasetError(f"{os.fspath(path)} cannot be read: {error}") from error
        if table.num_rows != row["length"]:
            raise DatasetError(
                f"{path} has {table.num_rows} rows of episode {row['episode_index']}, "
                f"its metadata says {row['length']}; the file is damaged"
            )
        return table

    def _video(self, row: Mapping[str, Any], name: str) -> Frames:
        path = self.folder / self.info["video_path"].format(
            video_key=name,
            chunk_index=row[f"videos/{name}/chunk_index"],
            file_index=row[f"videos/{name}/file_index"],
        )
        return read_video(path, row[f"videos/{name}/from_timestamp"], row["length"], self.fps)

    def _pictures(self, table: pa.Table, name: str) -> list[bytes]:
        """The encoded images of a column; one that is not in the table lies beside it."""
        column = table[name].combine_chunks()
        contents = pc.struct_field(column, "bytes").to_pylist()
        paths = pc.struct_field(column, "path").to_pylist()
        return [
            (self.folder / path).read_bytes() if content is None else content
            for content, path in zip(contents, paths, strict=True)
        ]


def is_camera(feature: Mapping[str, Any]) -> bool:
    """Whether a feature is a camera's."""
    return feature["dtype"] in ("image", "video")


def camera_name(feature: str) -> str:
    """The camera behind a feature's name: "observation.images.wrist" is "wrist"."""
    return feature.removeprefix(fmt.IMAGE_PREFIX).removeprefix("observation.")


def _matrix(table: pa.Table, name: str) -> NDArray[Any]:
    """A column of vectors, or of single numbers, as (T, k)."""
    column = table[name].combine_chunks()
    values = column if pa.types.is_primitive(column.type) else column.flatten()
    return np.asarray(values).reshape(table.num_rows, -1)
