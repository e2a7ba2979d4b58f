"""Behaviour cloning from a dataset: episodes on disk to a `Replay` of one stream, then a number of iterations on it.

Knows no simulator: the robot's codec, rate, tasks and symmetries are passed in. A dataset holds one demonstrated task a
step and no truth about the scene, so only that task is learned and the auxiliary losses are silent.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from policies.dataset import Dataset, DatasetError
from policies.dataset_format import IMAGE_PREFIX, STATE
from policies.gato.codec import Codec
from policies.gato.data import Replay, Scene
from policies.gato.model import Gato
from policies.gato.ranks import Ranks
from policies.gato.sequence import SequenceSpec
from policies.gato.text import Text
from policies.gato.train import (
    CHECKPOINT_FILE,
    STATE_FILE,
    TrainConfig,
    Trainer,
    batch_seed,
    load_state,
    save_checkpoint,
    save_state,
)

SAVE_EVERY = 60.0  # s


def load_replay(
    dataset: Dataset,
    spec: SequenceSpec,
    codec: Codec,
    text: Text,
    device: torch.device,
    *,
    tasks: Sequence[str],
    scene: Scene | None = None,
) -> Replay:
    """Every step of `dataset` on `device`, labels of its own task only; `tasks` are all that `scene` is about.

    Raises `DatasetError` when the dataset has no episodes, other tasks, other cameras or another number of joints.
    """
    _check(dataset, spec, tasks)
    try:
        texts = tuple((text.encode(task),) for task in tasks)
        capacity = sum(int(row["length"]) for row in dataset.rows)
        replay = Replay(spec, texts, 1, capacity, device, scene or Scene())
    except ValueError as error:
        raise DatasetError(f"{dataset.folder}: {error}; give the tasks shorter sentences") from error
    fill(replay, dataset, codec, tasks)
    return replay


class Demonstrated(Protocol):
    """One episode of T control steps, as `policies.dataset.Episode` is one."""

    @property
    def task(self) -> str: ...

    @property
    def joint_positions(self) -> NDArray[np.floating]: ...

    @property
    def joint_targets(self) -> NDArray[np.floating]: ...

    @property
    def actions(self) -> NDArray[np.floating]: ...

    def frames(self, camera: str) -> NDArray[np.uint8]: ...


def fill(replay: Replay, episodes: Iterable[Demonstrated], codec: Codec, tasks: Sequence[str]) -> None:
    """Put whole episodes into a replay of one stream; each is about one of `tasks`, the replay's in its order."""
    spec, words = replay.spec, replay.words[:, 0].cpu().numpy()
    ids = np.zeros((1, spec.block_ids), dtype=np.int64)
    for number, episode in enumerate(episodes):
        task, start = tasks.index(episode.task), replay.size
        frames = [episode.frames(name) for name, _, _ in spec.cameras]
        positions, targets, actions = (
            values.astype(np.float64) for values in (episode.joint_positions, episode.joint_targets, episode.actions)
        )
        for step in range(len(actions)):
            sensed = {"joint_positions": positions[step], "joint_targets": targets[step]}
            executed = codec.action_ids(targets[step], targets[step - 1]) if step else None
            spec.write_block(ids[0], executed, words[task], codec.sense(sensed))
            labels = np.full((1, len(tasks), spec.actions), -1, dtype=np.int64)
            labels[0, task] = codec.action_bins(actions[step], targets[step])
            replay.append(
                [camera[step : step + 1] for camera in frames],
                ids,
                labels,
                np.array([task]),
                np.array([number]),
                np.array([step == 0]),
            )
        replay.demonstrations.add(task, 0, start, replay.size)


def fit(trainer: Trainer, replay: Replay, iterations: int, *, seed: int) -> Iterator[dict[str, torch.Tensor]]:
    """Train up to `iterations` in all, those included that `trainer` has behind it; yields each one's measures.

    A batch hangs on the seed, the rank and the iteration alone, so a training that is resumed goes on as it would have.
    """
    config, rank = trainer.config, trainer.ranks.rank
    generator = torch.Generator(device=replay.device)
    while trainer.iterations < iterations:
        generator.manual_seed(batch_seed(seed, rank, trainer.iterations))
        torch.manual_seed(batch_seed(seed + 1, rank, trainer.iterations))  # what the network itself draws
        batch = replay.sample(config.batch, config.length, config.demonstration, generator)
        yield trainer.update(batch, trainer.iterations / iterations)


def _check(dataset: Dataset, spec: SequenceSpec, tasks: Sequence[str]) -> None:
    folder, features = dataset.folder, dataset.features
    if len(dataset) == 0:
        raise DatasetError(f"{folder} holds no episodes; add some: gato-arm collect {folder}")
    if strange := [task for task in dataset.tasks if task not in tasks]:
        raise DatasetError(f'{folder}: the task "{strange[0]}" is none of: {"; ".join(tasks)}')
    for name, height, width in spec.cameras:
        found = features.get(IMAGE_PREFIX + name, {}).get("shape")
        if found != [height, width, 3]:
            has = "has none" if found is None else f"has {found}"
            raise DatasetError(f"{folder}: the policy sees camera {name} at {[height, width, 3]}, the dataset {has}")
    joints = features[STATE]["shape"][0]
    if joints != spec.actions:
        raise DatasetError(f"{folder}: the dataset has {joints} joints, the policy moves {spec.actions}")


def imitate(
    folder: Path,
    out: Path,
    iterations: int,
    model: Gato,
    codec: Codec,
    text: Text,
    *,
    rate: float,
    tasks: Sequence[str] | None = None,
    scene: Scene | None = None,
    config: TrainConfig | None = None,
    compiled: bool = False,
    seed: int = 0,
    resume: bool = False,
    ranks: Ranks | None = None,
    report: Callable[[dict[str, float]], None] = lambda measures: None,
    report_every: float = 10.0,
) -> dict[str, Any]:
    """Train `model` on the dataset in `folder` for `iterations`; write `out`/checkpoint.pt, state.pt, training.jsonl.

    `rate` (Hz) is the policy's, `tasks` the sentences that `scene` is about (default: those of the dataset). `report`
    gets means since its last call, every `report_every` s and at the end. On one machine the same `seed` gives the same
    batches, also where `resume` goes on from `out`/state.pt: what is interrupted and resumed ends as it would have.
    Returns what the card should say. Raises `DatasetError` before anything is trained or written, `PolicyError` when
    there is nothing to resume.
    """
    dataset = Dataset(folder)
    if dataset.fps != rate:
        raise DatasetError(f"{folder} was recorded at {dataset.fps} Hz, the policy acts at {rate:g} Hz; record it anew")
    device = next(model.parameters()).device
    told = tuple(tasks or dataset.tasks)
    replay = load_replay(dataset, model.spec, codec, text, device, tasks=told, scene=scene)
    trainer = Trainer(model, config or TrainConfig(), compiled=compiled, ranks=ranks)
    if resume:
        load_state(out / STATE_FILE, trainer, {"dataset": folder.name, "seed": seed})
    out.mkdir(parents=True, exist_ok=True)

    def details() -> dict[str, Any]:
        return {
            "method": "behaviour cloning on a dataset",
            "seed": seed,
            "iterations": trainer.iterations,
            "episodes": len(dataset),
            "control_steps": replay.size,
            "batch": f"{trainer.config.batch} sequences of {trainer.config.length} timesteps",
            "device": torch.cuda.get_device_name() if device.type == "cuda" else "cpu",
            "torch": torch.__version__.split("+")[0],
        }

    def save() -> None:
        if trainer.ranks.first:
            save_checkpoint(out / CHECKPOINT_FILE, trainer.averaged(), details())
            save_state(out / STATE_FILE, trainer, {"dataset": folder.name, "seed": seed})

    started = reported = saved = time.monotonic()
    measures: list[dict[str, torch.Tensor]] = []
    name = "training.jsonl" if trainer.ranks.first else os.devnull
    with (out / name).open("a" if resume else "w") as log:
        for fresh in fit(trainer, replay, iterations, seed=seed):
            measures.append(fresh)
            now = time.monotonic()
            if now - reported >= report_every or trainer.iterations == iterations:
                means = {key: float(torch.stack([m[key] for m in measures]).mean()) for key in ("loss", "bins")}
                means |= {
                    "iterations": trainer.iterations,
                    "iterations_per_s": len(measures) / max(now - reported, 1e-9),
                    "seconds": now - started,
                }
                log.write(json.dumps(means) + "\n")
                log.flush()
                if trainer.ranks.first:
                    report(means)
                measures, reported = [], now
            if now - saved >= SAVE_EVERY:
                save()
                saved = now
    save()
    return details()
