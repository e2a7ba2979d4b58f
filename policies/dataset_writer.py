"""Writes a LeRobotDataset v3.0 folder, episode by episode; whatever ends the writer, every finished episode loads.

    with DatasetWriter(folder, fps=20, images={"fixed": (64, 64)}, joint_names=names, robot_type="so101") as writer:
        writer.add(episode)

The folder is a whole dataset at every moment. An episode's rows are appended to the last data file by writing it anew
and putting it in the old one's place, then its row to the episodes table in the same way, and info.json, which says how
many episodes there are, comes last: what was not finished stands behind the end and is written over by the next
episode (until then stats.json may count it). So that little is written twice, a file is added to up to `GROWTH_MB`
only; a video is a file of its own.
"""

from __future__ import annotations

import hashlib
import importlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from policies import dataset_format as fmt
from policies.dataset import Dataset, Episode
from policies.dataset_format import ACTION, STAMPS, STATE, TARGETS, DatasetError
from policies.dataset_images import decoded, encoded, write_video
from policies.dataset_stats import Stats, describe, describe_images, flatten, pool, pool_rows

GROWTH_MB = 8
SAMPLE = 10  # an episode's image statistics look at every tenth image: decoding is most of their cost


class DatasetWriter:
    """Appends episodes to a folder, new or existing. One writer a folder; not thread-safe."""

    def __init__(
        self,
        folder: Path,
        *,
        fps: int,
        images: Mapping[str, tuple[int, int]],
        joint_names: Sequence[str],
        robot_type: str,
        extra: Mapping[str, Sequence[str]] | None = None,
        videos: bool = False,
    ) -> None:
        """`images` maps camera name to (height, width), `extra` an observation name to its components' names; with
        `videos` the cameras are kept as H.264 instead of lossless PNG.

        Raises `DatasetError` when the folder holds a dataset of other features or rate, and ModuleNotFoundError when
        `videos` are asked for without the video library."""
        if videos:
            importlib.import_module("av")  # that it is there is known before anybody has recorded anything
        self.folder = folder
        self._cameras = tuple(sorted(images))
        self._extra = dict(extra or {})
        vectors = {STATE: joint_names, TARGETS: joint_names, ACTION: joint_names}
        vectors |= {f"observation.{name}": components for name, components in self._extra.items()}
        sizes = {camera: images[camera] for camera in self._cameras}
        stamps = ("joints", *self._cameras)
        self.features = fmt.make_features(sizes, vectors, stamps=stamps, videos=videos, fps=fps)
        self._schema = fmt.arrow_schema(self.features)
        self._episodes_schema = fmt.episodes_schema(self.features)
        self._fps = fps
        self._robot_type = robot_type
        self._videos = videos
        self._tasks: list[str] = []
        self._rows: list[dict[str, Any]] = []
        self._stats: Stats = {}
        if (folder / fmt.INFO_PATH).exists():
            self._continue()
        else:
            self._write_info()

    def __enter__(self) -> DatasetWriter:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing is left to do: every episode is on the disk."""

    def __len__(self) -> int:
        return len(self._rows)

    def _continue(self) -> None:
        present = Dataset(self.folder)
        if present.features != self.features or present.fps != self._fps:
            raise DatasetError(f"{self.folder} holds a dataset of other features or another rate; choose a new folder")
        self._tasks = list(present.tasks)
        self._rows = present.rows
        if self._rows:
            self._stats = pool_rows(self._rows, list(self.features))
        self._forget_unfinished("data", fmt.DATA_PATH)
        self._forget_unfinished("meta/episodes", fmt.EPISODES_PATH)

    def _forget_unfinished(self, kind: str, template: str) -> None:
        """Remove what a killed writer left behind the last episode that counts."""
        last = max((_number(row, kind) for row in self._rows), default=-1)
        for path in (self.folder / kind).glob("chunk-*/file-*.parquet"):
            chunk, file = (int(part.rpartition("-")[2]) for part in (path.parent.name, path.stem))
            if chunk * fmt.FILES_PER_CHUNK + file > last:
                path.unlink()
        kept = sum(_number(row, kind) == last for row in self._rows)
        if kept:
            path = self.folder / template.format(**fmt.place(last))
            with pq.ParquetFile(path) as present:
                unfinished = present.num_row_groups > kept
            if unfinished:
                fmt.write_parquet(path, _groups(path, kept))

    def add_robot(self, description: Mapping[str, Any]) -> str:
        """Keep a robot's description (plain values); returns the fingerprint that `Facts.robot` is to name."""
        text = json.dumps(description, sort_keys=True)
        fingerprint = hashlib.sha256(text.encode()).hexdigest()[:12]
        path = self.folder / fmt.ROBOTS_PATH.format(fingerprint=fingerprint)
        if not path.exists():
            fmt.write_json(path, description)
        return fingerprint

    def add(self, episode: Episode) -> int:
        """Store an episode; returns its index. Durable on return. Raises `DatasetError` when it does not fit."""
        self._check(episode)
        index = len(self._rows)
        if episode.task not in self._tasks:
            self._tasks.append(episode.task)
            fmt.write_parquet(self.folder / fmt.TASKS_PATH, [fmt.tasks_table(self._tasks)])
        start = self._rows[-1]["dataset_to_index"] if self._rows else 0
        table = self._table(episode, index, start)
        row = {
            "episode_index": index,
            "tasks": [episode.task],
            "length": len(episode),
            "dataset_from_index": start,
            "dataset_to_index": start + len(episode),
            **self._append("data", fmt.DATA_PATH, table),
            **{fmt.FACT_PREFIX + name: value for name, value in asdict(episode.facts).items()},
        }
        if self._videos:
            row |= self._write_videos(episode, index)
        stats = self._describe(episode, table)
        row |= flatten(stats)
        row |= self._append("meta/episodes", fmt.EPISODES_PATH, self._episodes_table(row))
        self._stats = {name: pool([self._stats[name], stats[name]]) for name in stats} if self._rows else stats
        self._rows.append(row)
        fmt.write_json(self.folder / fmt.STATS_PATH, self._stats)
        self._write_info()
        return index

    def _episodes_table(self, row: Mapping[str, Any]) -> pa.Table:
        """`row` as a table; where it will lie is filled in by `_append`."""
        zeros = {"meta/episodes/chunk_index": 0, "meta/episodes/file_index": 0}
        return pa.Table.from_pylist([{**row, **zeros}], schema=self._episodes_schema)

    def _append(self, kind: str, template: str, table: pa.Table) -> dict[str, int]:
        """Add a row group to the last file of `kind`, or begin the next; returns the columns that say where it lies."""
        keys = (f"{kind}/chunk_index", f"{kind}/file_index")
        number, kept = 0, 0
        if self._rows:
            number = _number(self._rows[-1], kind)
            kept = sum(_number(row, kind) == number for row in self._rows)
            path = self.folder / template.format(**fmt.place(number))
            if path.stat().st_size + table.nbytes > GROWTH_MB * 2**20:
                number, kept = number + 1, 0
        where = fmt.place(number)
        for key, value in zip(keys, where.values(), strict=True):
            if key in table.column_names:
                table = table.set_column(table.schema.get_field_index(key), key, pa.array([value], pa.int64()))
        path = self.folder / template.format(**where)
        groups = _groups(path, kept) if kept else []
        fmt.write_parquet(path, [*(group.cast(table.schema) for group in groups), table])
        return dict(zip(keys, where.values(), strict=True))

    def _check(self, episode: Episode) -> None:
        if len(episode) == 0:
            raise DatasetError("an episode without steps cannot be stored")
        if set(episode.images) != set(self._cameras) or set(episode.extra) != set(self._extra):
            raise DatasetError(
                f"the episode has cameras {sorted(episode.images)} and extras {sorted(episode.extra)}, "
                f"{self.folder} expects {sorted(self._cameras)} and {sorted(self._extra)}"
            )
        for name, values in self._vectors(episode).items():
            expected = (len(episode), self.features[name]["shape"][0])
            if values.shape != expected:
                raise DatasetError(f"{name} has shape {values.shape}, expected {expected}")
            if not np.all(np.isfinite(values)):
                raise DatasetError(f"{name} has a value that is not finite")
        for camera, images in episode.images.items():
            if len(images) != len(episode):
                raise DatasetError(f"camera {camera} has {len(images)} images for {len(episode)} steps")

    @staticmethod
    def _vectors(episode: Episode) -> dict[str, NDArray[Any]]:
        if episode.stamps is None:
            raise DatasetError("an episode without capture stamps cannot be stored: say when each step was observed")
        vectors: dict[str, NDArray[Any]] = {
            STATE: episode.joint_positions,
            TARGETS: episode.joint_targets,
            ACTION: episode.actions,
            STAMPS: episode.stamps,
        }
        return vectors | {f"observation.{name}": values for name, values in episode.extra.items()}

    def _table(self, episode: Episode, index: int, start: int) -> pa.Table:
        length = len(episode)
        steps = np.arange(length)
        columns: dict[str, pa.Array] = {}
        for name, values in self._vectors(episode).items():
            width = values.shape[1]
            flat = pa.array(np.ascontiguousarray(values, dtype=self.features[name]["dtype"]).ravel())
            columns[name] = flat if width == 1 else pa.FixedSizeListArray.from_arrays(flat, width)
        if not self._videos:
            for camera in self._cameras:
                images = [
                    {"bytes": image, "path": f"frame-{i:06d}.png"}
                    for i, image in enumerate(encoded(episode.images[camera]))
                ]
                columns[fmt.IMAGE_PREFIX + camera] = pa.array(images, fmt.IMAGE_TYPE)
        columns["timestamp"] = pa.array((steps / self._fps).astype(np.float32))
        columns["frame_index"] = pa.array(steps)
        columns["episode_index"] = pa.array(np.full(length, index))
        columns["index"] = pa.array(start + steps)
        columns["task_index"] = pa.array(np.full(length, self._tasks.index(episode.task)))
        return pa.table(columns, schema=self._schema)

    def _write_videos(self, episode: Episode, index: int) -> dict[str, Any]:
        """A file a camera; returns the columns that say where they lie."""
        columns: dict[str, Any] = {}
        where = fmt.place(index)
        for camera in self._cameras:
            name = fmt.IMAGE_PREFIX + camera
            path = self.folder / fmt.VIDEO_PATH.format(video_key=name, **where)
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary = path.with_name(f"writing-{path.name}")
            write_video(temporary, decoded(episode.images[camera]), self._fps)
            fmt.settle(temporary, path)
            columns |= {f"videos/{name}/{key}": value for key, value in where.items()}
            columns |= {
                f"videos/{name}/from_timestamp": 0.0,
                f"videos/{name}/to_timestamp": len(episode) / self._fps,
            }
        return columns

    def _describe(self, episode: Episode, table: pa.Table) -> Stats:
        stats: Stats = {}
        vectors = self._vectors(episode)
        for name in self.features:
            if name.startswith(fmt.IMAGE_PREFIX):
                images = episode.images[name.removeprefix(fmt.IMAGE_PREFIX)]
                stats[name] = describe_images(decoded(images[::SAMPLE]))
            elif name in vectors:
                stats[name] = describe(vectors[name])
            else:
                stats[name] = describe(table[name].to_numpy()[:, None])
        return stats

    def _write_info(self) -> None:
        frames = self._rows[-1]["dataset_to_index"] if self._rows else 0
        fmt.write_json(
            self.folder / fmt.INFO_PATH,
            {
                "codebase_version": fmt.CODEBASE_VERSION,
                "robot_type": self._robot_type,
                "total_episodes": len(self._rows),
                "total_frames": frames,
                "total_tasks": len(self._tasks),
                "chunks_size": fmt.FILES_PER_CHUNK,
                "data_files_size_in_mb": fmt.DATA_FILE_MB,
                "video_files_size_in_mb": fmt.VIDEO_FILE_MB,
                "fps": self._fps,
                "splits": {"train": f"0:{len(self._rows)}"},
                "data_path": fmt.DATA_PATH,
                "video_path": fmt.VIDEO_PATH if self._videos else None,
                "features": self.features,
            },
        )


def _number(row: Mapping[str, Any], kind: str) -> int:
    """The running number of the file of `kind` in which an episode lies."""
    return int(row[f"{kind}/chunk_index"]) * fmt.FILES_PER_CHUNK + int(row[f"{kind}/file_index"])


def _groups(path: Path, count: int) -> list[pa.Table]:
    """The first row groups of a file."""
    with pq.ParquetFile(path) as present:
        return [present.read_row_group(index) for index in range(count)]
