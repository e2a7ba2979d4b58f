"""Small episodes and writers for the tests of the dataset."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from policies.dataset import Episode, Facts
from policies.dataset_images import encode_png
from policies.dataset_writer import DatasetWriter

JOINTS = ("a", "b")
IMAGES = {"fixed": (4, 6), "wrist": (8, 8)}
TASK = "stack the red block on the blue block"


def make_episode(seed: int, length: int = 12, task: str = TASK, facts: Facts | None = None) -> Episode:
    """An episode of noise."""
    rng = np.random.default_rng(seed)
    images = {
        camera: [encode_png(rng.integers(0, 256, (*size, 3), dtype=np.uint8)) for _ in range(length)]
        for camera, size in IMAGES.items()
    }
    vectors = rng.normal(size=(3, length, len(JOINTS))).astype(np.float32)
    stamps = 10**15 + seed * 10**9 + np.cumsum(rng.integers(1, 10**8, (length, 3)), axis=0)
    extra = {"environment_state": rng.normal(size=(length, 3)).astype(np.float32)}
    return Episode(task, images, *vectors, extra=extra, stamps=stamps, facts=facts or Facts(seed=seed))


def open_writer(folder: Path, fps: int = 20, videos: bool = False) -> DatasetWriter:
    """A writer for such episodes."""
    return DatasetWriter(
        folder,
        fps=fps,
        images=IMAGES,
        joint_names=JOINTS,
        robot_type="test",
        extra={"environment_state": ("x", "y", "z")},
        videos=videos,
    )


def same(left: Episode, right: Episode) -> bool:
    """To the last bit, images as files included."""
    return (
        left.task == right.task
        and all(list(left.images[camera]) == list(right.images[camera]) for camera in IMAGES)
        and np.array_equal(left.joint_positions, right.joint_positions)
        and np.array_equal(left.joint_targets, right.joint_targets)
        and np.array_equal(left.actions, right.actions)
        and np.array_equal(left.extra["environment_state"], right.extra["environment_state"])
        and np.array_equal(left.stamps, right.stamps)
        and left.facts == right.facts
    )
