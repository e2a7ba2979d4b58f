"""The shape of a dataset folder: what LeRobot's writer and ours must have in common."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from policies import dataset_format as fmt
from policies.dataset_stats import NAMES

DESCRIPTION = Path(__file__).with_name("lerobot_v3.json")  # made by `make lerobot`


def folder_shape(folder: Path) -> dict[str, Any]:
    """Files, columns with their types, info.json, and the shapes of the statistics.

    Columns of per-episode statistics are pooled by feature, names that Arrow gives to a list's items are left out, and
    of a video's description only what does not depend on its encoder is kept."""
    info = json.loads((folder / fmt.INFO_PATH).read_text())
    for feature in info["features"].values():
        if "info" in feature:
            kept = ("video.height", "video.width", "video.fps", "video.channels", "has_audio")
            feature["info"] = {key: feature["info"][key] for key in kept}
    stats = json.loads((folder / fmt.STATS_PATH).read_text())
    files = [path.relative_to(folder) for path in folder.rglob("*") if path.is_file()]
    return {
        "files": sorted({re.sub(r"file-\d+", "file-NNN", str(path)) for path in files}),
        "data": _columns(folder / "data/chunk-000/file-000.parquet"),
        "episodes": _columns(folder / "meta/episodes/chunk-000/file-000.parquet"),
        "tasks": _columns(folder / fmt.TASKS_PATH),
        "tasks_index": json.loads(pq.read_schema(folder / fmt.TASKS_PATH).metadata[b"pandas"])["index_columns"],
        "info": info,
        "stats": {name: [len(np.shape(entry[key])) for key in NAMES] for name, entry in stats.items()},
    }


def _columns(path: Path) -> dict[str, Any]:
    columns: dict[str, Any] = {}
    for field in pq.read_schema(path):
        kind = re.sub(r"(fixed_size_)?list<\w+: ", "list<", str(field.type)).replace("large_", "")
        kind = re.sub(r"\[\d+\]", "", kind)
        name = re.sub(r"^(stats/.*)/\w+$", r"\1", field.name)
        if name == field.name:
            columns[name] = kind
        else:
            columns.setdefault(name, set()).add(kind)
    return {name: sorted(kind) if isinstance(kind, set) else kind for name, kind in columns.items()}
