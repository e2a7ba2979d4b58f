"""What a LeRobotDataset v3.0 folder looks like on disk: paths, schemas and statistics, with pyarrow only.

Knows no episodes in memory and no robot; `policies.dataset` writes and reads with it. The format is that of
huggingface/lerobot at codebase version v3.0: many episodes a parquet file, one row group each; images either as
video or, as here, as lossless PNG in struct<bytes, path> columns.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

CODEBASE_VERSION = "v3.0"
FILES_PER_CHUNK = 1000
DATA_FILE_MB = 100
INFO_PATH = Path("meta/info.json")
STATS_PATH = Path("meta/stats.json")
TASKS_PATH = Path("meta/tasks.parquet")
DATA_PATH = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
EPISODES_PATH = "meta/episodes/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
IMAGE_PREFIX = "observation.images."
IMAGE_TYPE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])

BOOKKEEPING = {
    "timestamp": "float32",
    "frame_index": "int64",
    "episode_index": "int64",
    "index": "int64",
    "task_index": "int64",
}  # the columns that every LeRobot dataset has, in its order

Features = dict[str, dict[str, Any]]
Stats = dict[str, dict[str, Any]]


def make_features(images: Mapping[str, tuple[int, int]], vectors: Mapping[str, Sequence[str]]) -> Features:
    """The `features` entry of info.json.

    `images` maps camera name to (height, width); `vectors` maps a feature's full name ("action",
    "observation.state") to the names of its components.
    """
    features: Features = {}
    for name, components in vectors.items():
        features[name] = {"dtype": "float32", "shape": [len(components)], "names": list(components)}
    for camera, (height, width) in images.items():
        features[IMAGE_PREFIX + camera] = {
            "dtype": "image",
            "shape": [height, width, 3],
            "names": ["height", "width", "channels"],
        }
    for name, dtype in BOOKKEEPING.items():
        features[name] = {"dtype": dtype, "shape": [1], "names": None}
    return features


def arrow_schema(features: Features) -> pa.Schema:
    """The schema of a data file. Carries the `huggingface` metadata by which the datasets library, and with it
    LeRobot, shows images as images."""
    fields: list[pa.Field] = []
    described: dict[str, Any] = {}
    for name, feature in features.items():
        if feature["dtype"] == "image":
            fields.append(pa.field(name, IMAGE_TYPE))
            described[name] = {"_type": "Image"}
            continue
        value = {"dtype": feature["dtype"], "_type": "Value"}
        if name in BOOKKEEPING:
            fields.append(pa.field(name, pa.type_for_alias(feature["dtype"])))
            described[name] = value
        else:
            length = feature["shape"][0]
            fields.append(pa.field(name, pa.list_(pa.type_for_alias(feature["dtype"]), length)))
            described[name] = {"feature": value, "length": length, "_type": "Sequence"}
    return pa.schema(fields, metadata={"huggingface": json.dumps({"info": {"features": described}})})


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


def describe(values: NDArray[Any]) -> dict[str, Any]:
    """Statistics of one feature over one episode; `values` is (T, ...), statistics are taken over T."""
    data = np.asarray(values, dtype=np.float64)
    return {
        "min": data.min(axis=0).tolist(),
        "max": data.max(axis=0).tolist(),
        "mean": data.mean(axis=0).tolist(),
        "std": data.std(axis=0).tolist(),
        "count": [len(data)],
    }


def describe_images(frames: NDArray[np.uint8]) -> dict[str, Any]:
    """Statistics of (T, H, W, 3) images by channel, scaled to [0, 1] and shaped (3, 1, 1), as LeRobot has them."""
    scaled = frames.astype(np.float64) / 255.0

    def shaped(values: NDArray[np.float64]) -> list[list[list[float]]]:
        return [[[float(value)]] for value in values]

    axes = (0, 1, 2)
    return {
        "min": shaped(scaled.min(axis=axes)),
        "max": shaped(scaled.max(axis=axes)),
        "mean": shaped(scaled.mean(axis=axes)),
        "std": shaped(scaled.std(axis=axes)),
        "count": [len(frames)],
    }


def pool(parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """One feature's statistics over several episodes, from the statistics of each (parallel variance)."""
    counts = np.array([part["count"][0] for part in parts], dtype=np.float64)
    means = np.stack([np.asarray(part["mean"], dtype=np.float64) for part in parts])
    stds = np.stack([np.asarray(part["std"], dtype=np.float64) for part in parts])
    weights = (counts / counts.sum()).reshape((-1,) + (1,) * (means.ndim - 1))
    mean = (weights * means).sum(axis=0)
    variance = (weights * (stds**2 + (means - mean) ** 2)).sum(axis=0)
    low = np.min([np.asarray(part["min"]) for part in parts], axis=0)
    high = np.max([np.asarray(part["max"]) for part in parts], axis=0)
    return {
        "min": low.tolist(),
        "max": high.tolist(),
        "mean": mean.tolist(),
        "std": np.sqrt(variance).tolist(),
        "count": [int(counts.sum())],
    }


def flatten(stats: Stats) -> dict[str, Any]:
    """Nested statistics as the columns "stats/<feature>/<statistic>" of the episodes table."""
    return {f"stats/{name}/{key}": value for name, entry in stats.items() for key, value in entry.items()}


def pool_rows(rows: Sequence[Mapping[str, Any]], features: Features) -> Stats:
    """meta/stats.json from the rows of the episodes table."""
    pooled: Stats = {}
    for name in features:
        parts = [{key: row[f"stats/{name}/{key}"] for key in ("min", "max", "mean", "std", "count")} for row in rows]
        pooled[name] = pool(parts)
    return pooled


def write_json(path: Path, content: object) -> None:
    """Write JSON so that a crash leaves the old file or the new one, never half of one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(content, indent=4, ensure_ascii=False) + "\n", encoding="utf-8")
    os.replace(temporary, path)


def write_parquet(path: Path, tables: Sequence[pa.Table]) -> None:
    """Write each table as one row group, atomically as `write_json`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    with pq.ParquetWriter(temporary, tables[0].schema, compression="snappy") as writer:
        for table in tables:
            writer.write_table(table, row_group_size=max(1, table.num_rows))
    os.replace(temporary, path)
