"""Demonstrations on disk: a LeRobotDataset v3.0 folder, written episode by episode and read back.

    writer = DatasetWriter(folder, fps=20, images={"fixed": (64, 64)}, joint_names=names, robot_type="so101")
    writer.add(episode); …; writer.close()
    for episode in Dataset(folder): …

An episode is durable when `add` returns: it lies in `staging/` as a parquet file of its own until `close`, or 100 MB,
packs it into a data file. A writer opened on a folder that a crash left behind packs what is staged there, and appends.

Images are lossless PNG. Knows no simulator and no robot; pyarrow is the only dataset library it needs.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from policies import dataset_format as fmt

ACTION = "action"
STATE = "observation.state"
TARGETS = "observation.joint_targets"
STAGING = "staging"


class DatasetError(Exception):
    """The dataset folder cannot be used; the message says what, where and what to do."""


@dataclass(frozen=True)
class Episode:
    """One episode of T control steps.

    `actions` are the joint targets that the demonstrator wants in each state (rad); `joint_targets` the command that
    was in force when the state was observed (rad), so what was executed at step t, noise included, is
    `joint_targets[t + 1]`. `extra` holds further observation vectors (T, k), for example the privileged
    "environment_state".
    """

    task: str
    images: Mapping[str, Sequence[bytes]]  # camera name -> T PNG images
    joint_positions: NDArray[np.float32]  # measured, rad, (T, n)
    joint_targets: NDArray[np.float32]  # rad, (T, n)
    actions: NDArray[np.float32]  # rad, (T, n)
    extra: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.actions)

    def frames(self, camera: str) -> NDArray[np.uint8]:
        """The decoded images of one camera, (T, H, W, 3) RGB."""
        return np.stack([decode_png(image) for image in self.images[camera]])


def encode_png(image: NDArray[np.uint8]) -> bytes:
    """An (H, W, 3) RGB image as PNG."""
    import cv2

    done, data = cv2.imencode(".png", image[..., ::-1])
    if not done:
        raise DatasetError(f"an image of shape {image.shape} and type {image.dtype} could not be encoded as PNG")
    return bytes(data.tobytes())


def decode_png(data: bytes) -> NDArray[np.uint8]:
    """The (H, W, 3) RGB image of `encode_png`."""
    import cv2

    image = cv2.imdecode(np.frombuffer(data, dtype=np.uint8), cv2.IMREAD_COLOR)
    if image is None:
        raise DatasetError("an image in the dataset is not a PNG; the data file is damaged")
    return np.ascontiguousarray(image[..., ::-1], dtype=np.uint8)


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
    ) -> None:
        """`images` maps camera name to (height, width), `extra` an observation name to its components' names.
        Raises `DatasetError` when the folder holds a dataset of other features or rate."""
        self.folder = folder
        self._extra = dict(extra or {})
        vectors = {STATE: joint_names, TARGETS: joint_names, ACTION: joint_names}
        vectors |= {f"observation.{name}": components for name, components in self._extra.items()}
        self.features = fmt.make_features(images, vectors)
        self._schema = fmt.arrow_schema(self.features)
        self._cameras = tuple(images)
        self._fps = fps
        self._robot_type = robot_type
        self._tasks: list[str] = []
        self._rows: list[dict[str, Any]] = []  # of the episodes table, packed episodes only
        self._staged: list[Path] = []
        if (folder / fmt.INFO_PATH).exists():
            self._continue()
        self._staging = folder / STAGING
        self._staging.mkdir(parents=True, exist_ok=True)
        for path in sorted(self._staging.glob("episode-*.parquet")):
            if int(path.stem.split("-")[1]) < len(self._rows):
                path.unlink()  # packed before the crash
            else:
                self._staged.append(path)

    def __enter__(self) -> DatasetWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __len__(self) -> int:
        return len(self._rows) + len(self._staged)

    def _continue(self) -> None:
        present = Dataset(self.folder)
        if present.features != self.features or present.fps != self._fps:
            raise DatasetError(f"{self.folder} holds a dataset of other features or another rate; choose a new folder")
        self._tasks = list(present.tasks)
        self._rows = present.rows

    def add(self, episode: Episode) -> int:
        """Store an episode; returns its index. Durable on return. Raises `DatasetError` when it does not fit."""
        self._check(episode)
        index = len(self)
        path = self._staging / f"episode-{index:06d}.parquet"
        table = self._table(episode)
        fmt.write_parquet(path, [table.replace_schema_metadata({**table.schema.metadata, b"task": episode.task})])
        self._staged.append(path)
        if sum(staged.stat().st_size for staged in self._staged) >= fmt.DATA_FILE_MB * 2**20:
            self._pack()
        return index

    def close(self) -> None:
        """Pack what is staged and write the metadata; may be called more than once."""
        if self._staged or not (self.folder / fmt.INFO_PATH).exists():
            self._pack()
        if self._staging.exists() and not any(self._staging.iterdir()):
            self._staging.rmdir()

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
    def _vectors(episode: Episode) -> dict[str, NDArray[np.float32]]:
        vectors = {STATE: episode.joint_positions, TARGETS: episode.joint_targets, ACTION: episode.actions}
        return vectors | {f"observation.{name}": values for name, values in episode.extra.items()}

    def _table(self, episode: Episode) -> pa.Table:
        """The episode's rows; `index`, `episode_index` and `task_index` stay 0 until it is packed."""
        length = len(episode)
        steps = np.arange(length)
        columns: dict[str, pa.Array] = {}
        for name, values in self._vectors(episode).items():
            flat = pa.array(np.ascontiguousarray(values, dtype=np.float32).ravel())
            columns[name] = pa.FixedSizeListArray.from_arrays(flat, values.shape[1])
        for camera in self._cameras:
            images = [{"bytes": image, "path": f"frame-{i:06d}.png"} for i, image in enumerate(episode.images[camera])]
            columns[fmt.IMAGE_PREFIX + camera] = pa.array(images, fmt.IMAGE_TYPE)
        columns["timestamp"] = pa.array((steps / self._fps).astype(np.float32))
        columns["frame_index"] = pa.array(steps.astype(np.int64))
        for name in ("episode_index", "index", "task_index"):
            columns[name] = pa.array(np.zeros(length, dtype=np.int64))
        return pa.table(columns, schema=self._schema)

    def _pack(self) -> None:
        """Move staged episodes into one data file. info.json is written last: until then the old dataset stands, and
        a writer that finds the staged files again writes the same files over."""
        file = 1 + max(
            (row["data/chunk_index"] * fmt.FILES_PER_CHUNK + row["data/file_index"] for row in self._rows), default=-1
        )
        where = dict(zip(("chunk_index", "file_index"), divmod(file, fmt.FILES_PER_CHUNK), strict=True))
        tables: list[pa.Table] = []
        rows: list[dict[str, Any]] = []
        start = self._rows[-1]["dataset_to_index"] if self._rows else 0
        for path in self._staged:
            staged = pq.read_table(path)
            task = staged.schema.metadata[b"task"].decode()
            if task not in self._tasks:
                self._tasks.append(task)
            numbers = {
                "index": np.arange(start, start + staged.num_rows),
                "episode_index": np.full(staged.num_rows, len(self._rows) + len(rows)),
                "task_index": np.full(staged.num_rows, self._tasks.index(task)),
            }
            for name, values in numbers.items():
                position = staged.schema.get_field_index(name)
                staged = staged.set_column(position, name, pa.array(values.astype(np.int64)))
            table = staged.replace_schema_metadata(self._schema.metadata)
            tables.append(table)
            rows.append(
                {
                    "episode_index": len(self._rows) + len(rows),
                    "tasks": [task],
                    "length": table.num_rows,
                    "dataset_from_index": start,
                    "dataset_to_index": start + table.num_rows,
                    **{f"data/{key}": value for key, value in where.items()},
                    **{f"meta/episodes/{key}": value for key, value in where.items()},
                    **fmt.flatten(self._stats(table)),
                }
            )
            start += table.num_rows
        if tables:
            fmt.write_parquet(self.folder / fmt.DATA_PATH.format(**where), tables)
            fmt.write_parquet(self.folder / fmt.EPISODES_PATH.format(**where), [pa.Table.from_pylist(rows)])
            self._rows += rows
            fmt.write_json(self.folder / fmt.STATS_PATH, fmt.pool_rows(self._rows, self.features))
        fmt.write_parquet(self.folder / fmt.TASKS_PATH, [fmt.tasks_table(self._tasks)])
        fmt.write_json(self.folder / fmt.INFO_PATH, self._info())
        for path in self._staged:
            path.unlink()
        self._staged.clear()

    def _stats(self, table: pa.Table) -> fmt.Stats:
        stats: fmt.Stats = {}
        for name, feature in self.features.items():
            column = table[name]
            if feature["dtype"] == "image":
                # A tenth of the frames is enough for colour statistics, and decoding is most of the cost.
                sample = [decode_png(column[i]["bytes"].as_py()) for i in range(0, len(column), 10)]
                stats[name] = fmt.describe_images(np.stack(sample))
            else:
                values = np.asarray(column.to_pylist())
                stats[name] = fmt.describe(values if values.ndim > 1 else values[:, None])
        return stats

    def _info(self) -> dict[str, Any]:
        frames = self._rows[-1]["dataset_to_index"] if self._rows else 0
        return {
            "codebase_version": fmt.CODEBASE_VERSION,
            "robot_type": self._robot_type,
            "total_episodes": len(self._rows),
            "total_frames": frames,
            "total_tasks": len(self._tasks),
            "chunks_size": fmt.FILES_PER_CHUNK,
            "data_files_size_in_mb": fmt.DATA_FILE_MB,
            "video_files_size_in_mb": 500,
            "fps": self._fps,
            "splits": {"train": f"0:{len(self._rows)}"},
            "data_path": fmt.DATA_PATH,
            "video_path": None,
            "features": self.features,
        }


class Dataset:
    """A dataset folder, opened for reading. Iterating yields episodes in order; one is in memory at a time."""

    def __init__(self, folder: Path) -> None:
        """Raises `DatasetError` when `folder` holds no dataset of this version."""
        self.folder = folder
        path = folder / fmt.INFO_PATH
        if not path.exists():
            raise DatasetError(f"{folder} holds no dataset ({fmt.INFO_PATH} is missing); make one: gato-arm collect")
        self.info: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        version = self.info.get("codebase_version")
        if version != fmt.CODEBASE_VERSION:
            raise DatasetError(
                f"{folder} is a LeRobot dataset of version {version}, expected {fmt.CODEBASE_VERSION}; "
                "convert it with lerobot's converter"
            )
        self.features: fmt.Features = self.info["features"]
        self.fps = int(self.info["fps"])
        self.tasks: tuple[str, ...] = tuple(pq.read_table(folder / fmt.TASKS_PATH)["task"].to_pylist())
        rows: list[dict[str, Any]] = []
        for file in sorted((folder / "meta" / "episodes").glob("*/*.parquet")):
            rows += pq.read_table(file).to_pylist()
        rows.sort(key=lambda row: int(row["episode_index"]))
        self.rows = rows[: self.info["total_episodes"]]  # more rows mean that packing was cut short

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[Episode]:
        for index in range(len(self)):
            yield self[index]

    def __getitem__(self, index: int) -> Episode:
        """Episode `index`, read from its data file. Raises IndexError."""
        row = self.rows[index]
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
        images: dict[str, Sequence[bytes]] = {}
        extra: dict[str, NDArray[np.float32]] = {}
        for name, feature in self.features.items():
            if feature["dtype"] == "image":
                column = table[name].combine_chunks()
                images[name.removeprefix(fmt.IMAGE_PREFIX)] = pc.struct_field(column, "bytes").to_pylist()
            elif name.startswith("observation.") and name not in (STATE, TARGETS):
                extra[name.removeprefix("observation.")] = _matrix(table, name)
        return Episode(
            row["tasks"][0], images, _matrix(table, STATE), _matrix(table, TARGETS), _matrix(table, ACTION), extra
        )


def _matrix(table: pa.Table, name: str) -> NDArray[np.float32]:
    column = table[name].combine_chunks()
    return np.asarray(column.flatten(), dtype=np.float32).reshape(table.num_rows, -1)
