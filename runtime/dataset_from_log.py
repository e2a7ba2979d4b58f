"""`gato-arm dataset from-log`: episodes of flight recordings as a dataset.

A recording holds what every control step saw and wanted, so an episode of it is a demonstration by the policy that
drove, and the stamps are the true ones. Images come as JPEG left them. Knows no command line.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from policies.dataset import Episode, Facts
from policies.dataset_images import decode_png
from policies.dataset_writer import DatasetWriter
from runtime.clock import SECOND
from runtime.demonstration import JOINTS, TARGETS
from runtime.recording import Recording, RecordingError
from runtime.report import SUCCESS, UNJUDGED

CAMERA = "/camera/"


@dataclass(frozen=True)
class Converted:
    """What came of the recordings."""

    kept: int
    left_out: dict[str, int]  # outcome -> episodes


@dataclass
class _Open:
    """An episode that is being read."""

    index: int
    task: str
    policy: str
    outcome: str | None = None
    images: dict[str, list[bytes]] = field(default_factory=dict)
    positions: list[list[float]] = field(default_factory=list)
    targets: list[list[float]] = field(default_factory=list)
    actions: list[list[float]] = field(default_factory=list)
    stamps: list[list[int]] = field(default_factory=list)
    times: list[int] = field(default_factory=list)


def convert(
    files: Sequence[Path],
    out: Path,
    *,
    keep_failures: bool = False,
    on_position: Callable[[int], None] | None = None,
) -> Converted:
    """Append the successful and the unjudged episodes of `files` to the dataset in `out`; with `keep_failures` all that
    have steps.

    Raises `RecordingError` for a file that is no recording of control steps, `DatasetError` when it does not fit the
    dataset.
    """
    writer: DatasetWriter | None = None
    kept, left_out = 0, dict[str, int]()
    for file in files:
        recording = Recording(file)
        told = recording.metadata()
        joints = [name for name in told.get("joints", "").split(",") if name]
        if not joints:
            raise RecordingError(f"{file}: does not name the arm's joints: it is no recording of gato-arm run")
        for opened in _episodes(recording, on_position):
            outcome = opened.outcome or "cut off"
            if not opened.actions or not (keep_failures or outcome in (SUCCESS, UNJUDGED)):
                left_out[outcome] = left_out.get(outcome, 0) + 1
                continue
            if writer is None:
                sizes = {name: decode_png(images[0]).shape for name, images in opened.images.items()}
                writer = DatasetWriter(
                    out,
                    fps=_rate(opened.times),
                    images={name: (shape[0], shape[1]) for name, shape in sizes.items()},
                    joint_names=joints,
                    robot_type=told.get("robot", "unknown"),
                )
            robot = writer.add_robot({"name": told.get("robot", "unknown"), "joints": [{"name": n} for n in joints]})
            writer.add(_episode(opened, told, outcome, robot))
            kept += 1
    return Converted(kept, left_out)


def _episodes(recording: Recording, on_position: Callable[[int], None] | None) -> Iterator[_Open]:
    """Each episode once its verdict is known, or the file ends."""
    opened: _Open | None = None
    images: dict[str, bytes] = {}
    joints = 0
    for message in recording.messages(on_position=on_position):
        data = message.data
        try:
            if message.topic.startswith(CAMERA):
                images[message.topic.removeprefix(CAMERA)] = base64.b64decode(data["data"])
            elif message.topic == "/joints":
                joints = _nanoseconds(data["timestamp"])
            elif message.topic == "/episode" and data["event"] == "start":
                if opened is not None:
                    yield opened
                opened = _Open(data["index"], data["task"], data["policy"])
            elif message.topic == "/episode" and opened is not None:
                opened.outcome = data["outcome"]
            elif message.topic == "/step" and opened is not None and opened.outcome is None:
                _add(opened, data, images, joints)
        except (KeyError, TypeError, ValueError) as error:
            where = f"{recording.path}: {message.topic}"
            raise RecordingError(f"{where} is not as gato-arm writes it ({error!r})") from error
    if opened is not None:
        yield opened


def _add(opened: _Open, data: dict[str, Any], images: dict[str, bytes], joints: int) -> None:
    for camera, image in images.items():
        opened.images.setdefault(camera, []).append(image)
    opened.positions.append(data["proprioception"][JOINTS])
    opened.targets.append(data["proprioception"][TARGETS])
    opened.actions.append(data["targets"])
    opened.stamps.append([joints, *(_nanoseconds(data["frames"][name]) for name in sorted(images))])
    opened.times.append(_nanoseconds(data["timestamp"]))


def _nanoseconds(time: dict[str, int]) -> int:
    return time["sec"] * SECOND + time["nsec"]


def _rate(times: list[int]) -> int:
    """Control steps a second."""
    return round(SECOND / float(np.median(np.diff(times)))) if len(times) > 1 else 20


def _episode(opened: _Open, told: dict[str, str], outcome: str, robot: str) -> Episode:
    def matrix(rows: list[list[float]]) -> np.ndarray[Any, np.dtype[np.float32]]:
        return np.array(rows, dtype=np.float32)

    seed = int(told["seed"]) + opened.index if told.get("seed", "").isdigit() else None
    return Episode(
        opened.task,
        {name: np.stack([decode_png(image) for image in images]) for name, images in opened.images.items()},
        matrix(opened.positions),
        matrix(opened.targets),
        matrix(opened.actions),
        stamps=np.array(opened.stamps, dtype=np.int64),
        facts=Facts(seed, outcome, robot, opened.policy),
    )
