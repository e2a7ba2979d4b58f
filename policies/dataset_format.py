"""What a LeRobotDataset v3.0 folder looks like on disk: paths, features and schemas, with pyarrow only.

Knows no episodes in memory and no robot; `policies.dataset` reads with it and `policies.dataset_writer` writes. The
format is that of huggingface/lerobot at codebase version v3.0 (its releases 0.4.4 and 0.6.1 were read for it): several
episodes a parquet file, one row group each; images as MP4 beside the tables, or as PNG in struct<bytes, path> columns.
`make lerobot` has both releases load what is written here.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from policies.dataset_stats import NAMES

CODEBASE_VERSION = "v3.0"
FILES_PER_CHUNK = 1000
DATA_FILE_MB = 100
VIDEO_FILE_MB = 200
INFO_PATH = Path("meta/info.json")
STATS_PATH = Path("meta/stats.json")
TASKS_PATH = Path("meta/tasks.parquet")
ROBOTS_PATH = "meta/robots/{fingerprint}.json"  # ours, which LeRobot does not look at
DATA_PATH = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
EPISODES_PATH = "meta/episodes/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
VIDEO_PATH = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"
IMAGE_PREFIX = "observation.images."
IMAGE_TYPE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])

ACTION = "action"
STATE = "observation.state"
TARGETS = "observation.joint_targets"
STAMPS = "capture_stamps"  # not "observation.…", which LeRobot's policies would take for something to look at

BOOKKEEPING = {
    "timestamp": "float32",
    "frame_index": "int64",
    "episode_index": "int64",
    "index": "int64",
    "task_index": "int64",
}  # the columns that every LeRobot dataset has, in its order

FACT_TYPES = {
    "seed": pa.int64(),
    "outcome": pa.string(),
    "robot": pa.string(),
    "demonstrator": pa.string(),
    "recorded": pa.string(),
}
FACT_PREFIX = "gato_arm/"  # of the columns of the episodes table that only we read

Features = dict[str, dict[str, Any]]


class DatasetError(Exception):
    """The dataset folder cannot be used; the message says what, where and what to do."""


def make_features(
    images: Mapping[str, tuple[int, int]],
    vectors: Mapping[str, Sequence[str]],
    *,
    stamps: Sequence[str],
    videos: bool = False,
    fps: int = 20,
) -> Features:
    """The `features` entry of info.json.

    `images` maps camera name to (height, width); `vectors` maps a feature's full name ("action",
    "observation.state") to the names of its components; `stamps` names what is stamped.
    """
    features: Features = {}
    for name, components in vectors.items():
        features[name] = {"dtype": "float32", "shape": [len(components)], "names": list(components)}
    features[STAMPS] = {"dtype": "int64", "shape": [len(stamps)], "names": list(stamps)}
    for camera, (height, width) in images.items():
        feature: dict[str, Any] = {
            "dtype": "video" if videos else "image",
            "shape": [height, width, 3],
            "names": ["height", "width", "channels"],
        }
        if videos:
            feature["info"] = {
                "video.height": height,
                "video.width": width,
                "video.codec": "h264",
                "video.pix_fmt": "yuv420p",
                "video.fps": fps,
                "video.channels": 3,
                "has_audio": False,
                "is_depth_map": False,
            }
        features[IMAGE_PREFIX + camera] = feature
    for name, dtype in BOOKKEEPING.items():
        features[name] = {"dtype": dtype, "shape": [1], "names": None}
    return features


def arrow_schema(features: Features) -> pa.Schema:
    """The schema of a data file: what is video stands elsewhere, and one number is a plain column.

    Carries the `huggingface` metadata by which the datasets library, and with it LeRobot, shows images as images."""
    fields: list[pa.Field] = []
    described: dict[str, Any] = {}
    for name, feature in features.items():
        if feature["dtype"] == "video":
            continue
        if feature["dtype"] == "image":
            fields.append(pa.field(name, IMAGE_TYPE))
            described[name] = {"_type": "Image"}
            continue
        value = {"dtype": feature["dtype"], "_type": "Value"}
        kind, length = pa.type_for_alias(feature["dtype"]), feature["shape"][0]
        if length == 1:
            fields.append(pa.field(name, kind))
            described[name] = value
        else:
            fields.append(pa.field(name, pa.list_(kind, length)))
            described[name] = {"feature": value, "length": length, "_type": "Sequence"}
    return pa.schema(fields, metadata={"huggingface": json.dumps({"info": {"features": described}})})


def episodes_schema(features: Features) -> pa.Schema:
    """The schema of a file of the episodes table, the same whatever the first rows are."""
    fields = [pa.field("episode_index", pa.int64()), pa.field("tasks", pa.list_(pa.string()))]
    numbers = ["length", "dataset_from_index", "dataset_to_index", "data/chunk_index", "data/file_index"]
    numbers += ["meta/episodes/chunk_index", "meta/episodes/file_index"]
    fields += [pa.field(name, pa.int64()) for name in numbers]
    for name, feature in features.items():
        if feature["dtype"] == "video":
            fields += [pa.field(f"videos/{name}/{key}", pa.int64()) for key in ("chunk_index", "file_index")]
            fields += [pa.field(f"videos/{name}/{key}", pa.float64()) for key in ("from_timestamp", "to_timestamp")]
    fields += [pa.field(FACT_PREFIX + name, kind) for name, kind in FACT_TYPES.items()]
    for name, feature in features.items():
        values = pa.list_(pa.float64())
        if feature["dtype"] in ("image", "video"):
            values = pa.list_(pa.list_(values))
        for key in NAMES:
            fields.append(pa.field(f"stats/{name}/{key}", pa.list_(pa.int64()) if key == "count" else values))
    return pa.schema(fields)


def tasks_table(tasks: Sequence[str]) -> pa.Table:
    """meta/tasks.parquet: LeRobot reads it with pandas and expects the task text as index, so the table carries the
    metadata by which pandas restores an index. Row i is task i."""
    text = {"name": "task", "field_name": "task", "pandas_type": "unicode", "numpy_type": "object", "metadata": None}
    number = {
        "name": "task_index",
        "field_name": "task_index",
        "pandas_type": "int64",
        "numpy_type": "int64",
        "metadata": None,
    }
    level = {
        "name": None,
        "field_name": None,
        "pandas_type": "unicode",
        "numpy_type": "object",
        "metadata": {"encoding": "UTF-8"},
    }
    metadata = {
        "index_columns": ["task"],
        "column_indexes": [level],
        "columns": [number, text],
        "creator": {"library": "pyarrow", "version": pa.__version__},
        "pandas_version": "2.0.0",
    }
    table = pa.table({"task_index": pa.array(range(len(tasks)), pa.int64()), "task": pa.array(tasks, pa.string())})
    return table.replace_schema_metadata({"pandas": json.dumps(metadata)})


def place(number: int) -> dict[str, int]:
    """Chunk and file of the file with that running number."""
    return dict(zip(("chunk_index", "file_index"), divmod(number, FILES_PER_CHUNK), strict=True))


def write_json(path: Path, content: object) -> None:
    """Write JSON so that a crash leaves the old file or the new one, never half of one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(content, indent=4, ensure_ascii=False) + "\n", encoding="utf-8")
    settle(temporary, path)


def write_parquet(path: Path, tables: Sequence[pa.Table]) -> None:
    """Write each table as one row group, atomically as `write_json`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    with pq.ParquetWriter(temporary, tables[0].schema, compression="snappy") as writer:
        for table in tables:
            writer.write_table(table, row_group_size=max(1, table.num_rows))
    settle(temporary, path)


def settle(temporary: Path, path: Path) -> None:
    """Put a file that is complete in its place; it is on the disk when this returns."""
    with temporary.open("rb") as file:
        os.fsync(file.fileno())
    os.replace(temporary, path)
