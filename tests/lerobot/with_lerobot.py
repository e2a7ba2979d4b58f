"""Runs inside an environment that has LeRobot and nothing of ours: reads a folder with it, or writes one.

python with_lerobot.py read FOLDER OUT.npz      every frame of the dataset, as arrays
python with_lerobot.py write FOLDER IN.npz      a dataset of the arrays and features in IN
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
from lerobot.datasets.lerobot_dataset import LeRobotDataset

REPOSITORY = "local/check"


def read(folder: Path, out: Path) -> None:
    """Every frame, in order; images as uint8 (H, W, 3)."""
    dataset = LeRobotDataset(REPOSITORY, root=folder, video_backend="pyav")  # torchcodec wants FFmpeg's own libraries
    columns: dict[str, list[np.ndarray]] = {}
    tasks: list[str] = []
    for index in range(len(dataset)):
        frame = dataset[index]
        tasks.append(frame.pop("task"))
        for name, value in frame.items():
            array = value.numpy()
            if name in dataset.meta.camera_keys:
                array = np.rint(array.transpose(1, 2, 0) * 255).astype(np.uint8)
            columns.setdefault(name, []).append(array)
    meta = {"episodes": dataset.num_episodes, "frames": dataset.num_frames, "fps": dataset.fps}
    stats = {name: np.ravel(entry["mean"]).tolist() for name, entry in dataset.meta.stats.items()}
    np.savez(
        out,
        meta=json.dumps({**meta, "tasks": tasks, "means": stats}),
        **{name: np.stack(values) for name, values in columns.items()},
    )


def write(folder: Path, source: Path) -> None:
    """Arrays of shape (episodes, steps, ...) by feature, as LeRobot's own recording would write them."""
    with np.load(source) as arrays:
        meta = json.loads(str(arrays["meta"]))
        columns = {name: arrays[name] for name in arrays.files if name != "meta"}
    features = {name: {**feature, "shape": tuple(feature["shape"])} for name, feature in meta["features"].items()}
    dataset = LeRobotDataset.create(
        REPOSITORY, fps=meta["fps"], features=features, root=folder, robot_type="test", use_videos=meta["videos"]
    )
    for episode, task in enumerate(meta["tasks"]):
        for step in range(len(next(iter(columns.values()))[episode])):
            dataset.add_frame({**{name: values[episode, step] for name, values in columns.items()}, "task": task})
        dataset.save_episode()
    dataset.finalize()


if __name__ == "__main__":
    {"read": read, "write": write}[sys.argv[1]](Path(sys.argv[2]), Path(sys.argv[3]))
