"""Statistics of a dataset's features: of an episode, and of many episodes from those of each.

Those that LeRobot keeps, in its shapes: one number a component, and (3, 1, 1) for images, scaled to [0, 1]. Quantiles
of many episodes are the weighted means of theirs, as LeRobot pools them; the other figures pool exactly.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Stats = dict[str, dict[str, Any]]  # feature -> statistic -> nested lists

QUANTILES = {"q01": 0.01, "q10": 0.1, "q50": 0.5, "q90": 0.9, "q99": 0.99}
NAMES = ("min", "max", "mean", "std", "count", *QUANTILES)


def describe(values: NDArray[Any]) -> dict[str, Any]:
    """Statistics over the first axis of `values` (T, k)."""
    data = np.asarray(values, dtype=np.float64)
    quantiles = np.quantile(data, list(QUANTILES.values()), axis=0)
    return {
        "min": data.min(axis=0).tolist(),
        "max": data.max(axis=0).tolist(),
        "mean": data.mean(axis=0).tolist(),
        "std": data.std(axis=0).tolist(),
        "count": [len(data)],
        **{name: quantile.tolist() for name, quantile in zip(QUANTILES, quantiles, strict=True)},
    }


def describe_images(frames: NDArray[np.uint8]) -> dict[str, Any]:
    """Statistics of (T, H, W, 3) images by channel; `count` is the number of images."""
    found = describe(frames.reshape(-1, 3) / 255.0)
    shaped = {name: [[[value]] for value in values] for name, values in found.items()}
    return shaped | {"count": [len(frames)]}


def pool(parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """One feature's statistics over several episodes, from the statistics of each (parallel variance)."""
    counts = np.array([part["count"][0] for part in parts], dtype=np.float64)

    def stacked(name: str) -> NDArray[np.float64]:
        return np.stack([np.asarray(part[name], dtype=np.float64) for part in parts])

    means = stacked("mean")
    weights = (counts / counts.sum()).reshape((-1,) + (1,) * (means.ndim - 1))
    mean = (weights * means).sum(axis=0)
    variance = (weights * (stacked("std") ** 2 + (means - mean) ** 2)).sum(axis=0)
    return {
        "min": stacked("min").min(axis=0).tolist(),
        "max": stacked("max").max(axis=0).tolist(),
        "mean": mean.tolist(),
        "std": np.sqrt(variance).tolist(),
        "count": [int(counts.sum())],
        **{name: (weights * stacked(name)).sum(axis=0).tolist() for name in QUANTILES},
    }


def flatten(stats: Stats) -> dict[str, Any]:
    """Nested statistics as the columns "stats/<feature>/<statistic>" of the episodes table."""
    return {f"stats/{name}/{key}": value for name, entry in stats.items() for key, value in entry.items()}


def pool_rows(rows: Sequence[Mapping[str, Any]], features: Sequence[str]) -> Stats:
    """meta/stats.json from the rows of the episodes table."""
    return {
        feature: pool([{name: row[f"stats/{feature}/{name}"] for name in NAMES} for row in rows])
        for feature in features
    }
