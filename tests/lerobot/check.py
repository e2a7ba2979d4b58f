"""`make lerobot`: LeRobot loads every frame of what we write, and we load every frame of what LeRobot writes.

    python -m tests.lerobot.check PYTHON [PYTHON ...] [--describe]

Each PYTHON is the interpreter of an environment that has a release of LeRobot. With `--describe` the shape of what the
last of them writes is kept as tests/policies/lerobot_v3.json, against which `make test` holds our writer.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from policies.dataset import Dataset, Episode
from policies.dataset_format import BOOKKEEPING, IMAGE_PREFIX, INFO_PATH
from policies.dataset_images import encode_png
from policies.dataset_writer import DatasetWriter
from tests.policies.folder_shape import DESCRIPTION, folder_shape

HELPER = Path(__file__).with_name("with_lerobot.py")
CAMERAS = {"fixed": (64, 64), "wrist": (48, 64)}
JOINTS = ("shoulder_pan", "gripper")
TASKS = ("stack the red block on the blue block", "stack the blue block on the red block", "another task")
EPISODES, STEPS, FPS = 3, 25, 20
VIDEO_TOLERANCE = 2.0  # levels, mean: two decoders need not round 4:2:0 to RGB alike


def picture(episode: int, step: int, size: tuple[int, int]) -> np.ndarray:
    """A bar that moves over a ground that an episode has for itself: a frame is told from every other."""
    image = np.full((*size, 3), 60 + 50 * episode, dtype=np.uint8)
    image[2 * (step % 20) : 2 * (step % 20) + 6, :, episode % 3] = 220
    return image


def make_episode(index: int) -> Episode:
    """Numbers and pictures that are told apart."""
    rng = np.random.default_rng(index)
    state, targets, actions = rng.normal(size=(3, STEPS, len(JOINTS))).astype(np.float32)
    images = {
        name: np.stack([picture(index, step, size) for step in range(STEPS)]) for name, size in sorted(CAMERAS.items())
    }
    stamps = 10**15 + np.cumsum(rng.integers(1, 10**8, (STEPS, 1 + len(CAMERAS))), axis=0)
    extra = {"environment_state": rng.normal(size=(STEPS, 3)).astype(np.float32)}
    files = {name: [encode_png(frame) for frame in frames] for name, frames in images.items()}
    return Episode(TASKS[index % 3], files, state, targets, actions, extra, stamps)


def open_writer(folder: Path, videos: bool) -> DatasetWriter:
    return DatasetWriter(
        folder,
        fps=FPS,
        images=CAMERAS,
        joint_names=JOINTS,
        robot_type="test",
        extra={"environment_state": ["x", "y", "z"]},
        videos=videos,
    )


def columns_of(episode: Episode) -> dict[str, np.ndarray]:
    """An episode's features by their full names."""
    assert episode.stamps is not None
    columns = {
        "observation.state": episode.joint_positions,
        "observation.joint_targets": episode.joint_targets,
        "action": episode.actions,
        "capture_stamps": episode.stamps,
    }
    columns |= {f"observation.{name}": values for name, values in episode.extra.items()}
    return columns | {IMAGE_PREFIX + name: episode.frames(name) for name in episode.images}


def lerobot(python: Path, *words: str, home: Path) -> str:
    """Run the helper in LeRobot's environment, away from the network and from our own modules."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment |= {"HF_HUB_OFFLINE": "1", "HF_HOME": str(home), "HF_DATASETS_DISABLE_PROGRESS_BARS": "1"}
    done = subprocess.run([str(python), *words], env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{python} {' '.join(words)}:\n{done.stderr}")
    return done.stdout


def compare(name: str, ours: np.ndarray, theirs: np.ndarray, video: bool) -> None:
    """Equal to the last bit; videos within what two decoders may differ by."""
    if ours.shape != theirs.shape:
        raise SystemExit(f"{name}: shape {ours.shape} here, {theirs.shape} there")
    if video:
        off = np.abs(ours.astype(int) - theirs.astype(int)).mean(axis=(1, 2, 3)).max()
        if off > VIDEO_TOLERANCE:
            raise SystemExit(f"{name}: a frame differs by {off:.1f} levels on average")
    elif not np.array_equal(ours, theirs):
        raise SystemExit(f"{name}: differs")


def they_read_ours(python: Path, folder: Path, videos: bool) -> int:
    """Frames that LeRobot loaded from a folder of ours, with an episode behind it that was being written."""
    with open_writer(folder / "ours", videos) as writer:
        episodes = [make_episode(index) for index in range(EPISODES)]
        for episode in episodes:
            writer.add(episode)
        info = (folder / "ours" / INFO_PATH).read_bytes()
        unfinished = make_episode(EPISODES)
        writer.add(unfinished)
    (folder / "ours" / INFO_PATH).write_bytes(info)  # as after a power cut, just before the last file
    lerobot(python, str(HELPER), "read", str(folder / "ours"), str(folder / "read.npz"), home=folder)
    dataset = Dataset(folder / "ours")
    with np.load(folder / "read.npz") as found:
        meta = json.loads(str(found["meta"]))
        assert meta["episodes"] == EPISODES and meta["frames"] == EPISODES * STEPS and meta["fps"] == FPS
        assert meta["tasks"] == [task for episode in episodes for task in [episode.task] * STEPS]
        for name in columns_of(episodes[0]):
            ours = np.concatenate([columns_of(episode)[name] for episode in dataset])
            compare(name, ours, found[name], videos and name.startswith(IMAGE_PREFIX))
            if not name.startswith(IMAGE_PREFIX):
                compare(name, np.concatenate([columns_of(episode)[name] for episode in episodes]), found[name], False)
                # stats.json is written before info.json: it knows the unfinished episode until the next one is added.
                written = np.concatenate([ours, columns_of(unfinished)[name]])
                np.testing.assert_allclose(meta["means"][name], written.mean(axis=0, dtype=np.float64), rtol=1e-5)
        assert np.array_equal(found["index"], np.arange(EPISODES * STEPS))
    return EPISODES * STEPS


def we_read_theirs(python: Path, folder: Path, videos: bool) -> int:
    """Frames that we loaded from a folder of LeRobot's."""
    episodes = [columns_of(make_episode(index)) for index in range(EPISODES)]
    features = open_writer(folder / "features", videos).features
    features = {name: feature for name, feature in features.items() if name not in BOOKKEEPING}
    for feature in features.values():
        feature.pop("info", None)  # LeRobot looks into the files for it
    meta = {"features": features, "videos": videos, "fps": FPS, "tasks": TASKS}
    arrays: dict[str, Any] = {name: np.stack([columns[name] for columns in episodes]) for name in episodes[0]}
    np.savez(folder / "in.npz", meta=json.dumps(meta), **arrays)
    lerobot(python, str(HELPER), "write", str(folder / "theirs"), str(folder / "in.npz"), home=folder)
    lerobot(python, str(HELPER), "read", str(folder / "theirs"), str(folder / "again.npz"), home=folder)
    dataset = Dataset(folder / "theirs")
    assert len(dataset) == EPISODES and sorted(dataset.tasks) == sorted(TASKS)
    with np.load(folder / "again.npz") as again:
        for name in episodes[0]:
            ours = np.concatenate([columns_of(episode)[name] for episode in dataset])
            video = videos and name.startswith(IMAGE_PREFIX)
            compare(name, ours, again[name], video)
            if not video:
                compare(name, ours, np.concatenate([columns[name] for columns in episodes]), False)
    return EPISODES * STEPS


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pythons", type=Path, nargs="+", metavar="PYTHON")
    parser.add_argument("--describe", action="store_true")
    options = parser.parse_args(arguments)
    shapes: dict[str, Any] = {}
    version = ""
    for python in options.pythons:
        say = "from importlib.metadata import version; print(version('lerobot'))"
        version = lerobot(python, "-c", say, home=Path("/nowhere")).strip()
        for videos in (False, True):
            with tempfile.TemporaryDirectory() as name:
                folder = Path(name)
                read = they_read_ours(python, folder, videos)
                written = we_read_theirs(python, folder, videos)
                kind = "videos" if videos else "images"
                shapes[kind] = folder_shape(folder / "theirs")
            print(f"lerobot {version}, {kind}: it read {read} frames of ours, we read {written} of its own")
    if options.describe:
        DESCRIPTION.write_text(json.dumps({"lerobot": version, **shapes}, indent=1, sort_keys=True) + "\n")
        print(f"described {DESCRIPTION}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
