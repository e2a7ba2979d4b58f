"""Behaviour cloning from a dataset: episodes on disk to a `Replay` of one stream, then a number of iterations on it.

Knows no simulator: the robot's codec, rate, tasks and symmetries are passed in. A dataset holds one demonstrated task a
step and no truth about the scene, so only that task is learned and the auxiliary losses are silent.
"""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from policies.dataset import Dataset, DatasetError, Episode
from policies.dataset_format import ACTION, STATE
from policies.gato.codec import Codec
from policies.gato.data import Replay, Scene
from policies.gato.handling import handled
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
    load_checkpoint,
    load_state,
    save_checkpoint,
    save_state,
)
from policies.gato.validation import Validation, split

SAVE_EVERY = 60.0  # s
CHECKS = 20  # times that held-out episodes are looked at in a training


def load_replay(
    dataset: Dataset,
    spec: SequenceSpec,
    codec: Codec,
    text: Text,
    device: torch.device,
    *,
    tasks: Sequence[str],
    scene: Scene | None = None,
    episodes: Sequence[int] | None = None,
) -> Replay:
    """Every step of the `episodes` of `dataset` (None: all) on `device`, labels of its own task only; `tasks` are all
    that `scene` is about. Images of another size are resized.

    Raises `DatasetError` when the dataset has no episodes, other tasks, other cameras or another number of joints.
    """
    _check(dataset, spec, tasks)
    chosen = range(len(dataset)) if episodes is None else episodes
    try:
        texts = tuple((text.encode(task),) for task in tasks)
        capacity = sum(int(dataset.rows[index]["length"]) for index in chosen)
        replay = Replay(spec, texts, 1, capacity, device, scene or Scene())
    except ValueError as error:
        raise DatasetError(f"{dataset.folder}: {error}; give the tasks shorter sentences") from error
    fill(replay, (_Resized(dataset[index], spec) for index in chosen), codec, tasks)
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


class _Resized:
    """An episode whose images have the sizes that the policy sees."""

    def __init__(self, episode: Episode, spec: SequenceSpec) -> None:
        self.task, self._episode = episode.task, episode
        self.joint_positions, self.joint_targets, self.actions = (
            episode.joint_positions,
            episode.joint_targets,
            episode.actions,
        )
        self._sizes = {name: (height, width) for name, height, width in spec.cameras}

    def frames(self, camera: str) -> NDArray[np.uint8]:
        frames, (height, width) = self._episode.frames(camera), self._sizes[camera]
        if frames.shape[1:3] == (height, width):
            return frames
        import cv2

        smaller = [cv2.resize(frame, (width, height), interpolation=cv2.INTER_AREA) for frame in frames]
        return np.stack(smaller).astype(np.uint8)


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


def fit(
    trainer: Trainer, replay: Replay, iterations: int, *, seed: int, handling: bool = False
) -> Iterator[dict[str, torch.Tensor]]:
    """Train up to `iterations` in all, those included that `trainer` has behind it; yields each one's measures.

    With `handling` images vary as those of one real rig do (policies/gato/handling.py).

    A batch hangs on the seed, the rank and the iteration alone, so a training that is resumed goes on as it would have.
    """
    config, rank = trainer.config, trainer.ranks.rank
    generator = torch.Generator(device=replay.device)
    while trainer.iterations < iterations:
        generator.manual_seed(batch_seed(seed, rank, trainer.iterations))
        torch.manual_seed(batch_seed(seed + 1, rank, trainer.iterations))  # what the network itself draws
        batch = replay.sample(config.batch, config.length, config.demonstration, generator)
        if handling:
            batch.images = [handled(image, config.batch, generator) for image in batch.images]
        yield trainer.update(batch, trainer.iterations / iterations)


def _check(dataset: Dataset, spec: SequenceSpec, tasks: Sequence[str]) -> None:
    folder, features = dataset.folder, dataset.features
    if len(dataset) == 0:
        raise DatasetError(f"{folder} holds no episodes; add some: gato-arm collect {folder}")
    if strange := [task for task in dataset.tasks if task not in tasks]:
        raise DatasetError(f'{folder}: the task "{strange[0]}" is none of: {"; ".join(tasks)}')
    for name, _, _ in spec.cameras:
        if name not in dataset.cameras:
            known = ", ".join(sorted(dataset.cameras)) or "none"
            raise DatasetError(f"{folder}: the policy sees a camera {name}, the dataset has {known}")
    joints = features[STATE]["shape"][0]
    if joints != spec.actions:
        raise DatasetError(f"{folder}: the dataset has {joints} joints, the policy moves {spec.actions}")
    widest = max(np.abs(row[f"stats/{ACTION}/{end}"]).max() for row in dataset.rows for end in ("min", "max"))
    if widest > 2 * np.pi:
        raise DatasetError(f"{folder}: an action of {widest:.0f} is no angle in rad; convert the dataset's units")


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
    held_out: float = 0.0,
    began_from: str = "nothing",
    compiled: bool = False,
    seed: int = 0,
    resume: bool = False,
    ranks: Ranks | None = None,
    report: Callable[[dict[str, float]], None] = lambda measures: None,
    report_every: float = 10.0,
) -> dict[str, Any]:
    """Train `model` on the dataset in `folder` for `iterations`; write `out`/checkpoint.pt and state.pt.

    `rate` (Hz) is the policy's, `tasks` the sentences that `scene` is about (default: those of the dataset); without a
    scene images vary as those of a real rig do. `began_from` names where the network's weights come from. Of
    `held_out`, a share of the episodes, nothing is learned: the checkpoint is then the network that did best on them,
    and not the last one. `report` gets means since its last call, every `report_every` s and at the end. On one machine
    the same `seed` gives the same batches, also where `resume` goes on from `out`/state.pt. Returns what the card
    should say. Raises `DatasetError` before anything is trained or written, `PolicyError` when there is nothing to
    resume.
    """
    dataset = Dataset(folder)
    if dataset.fps != rate:
        raise DatasetError(f"{folder} was recorded at {dataset.fps} Hz, the policy acts at {rate:g} Hz; record it anew")
    device = next(model.parameters()).device
    told = tuple(tasks or dataset.tasks)
    learned, kept = split(len(dataset), held_out, seed)
    load = functools.partial(load_replay, dataset, model.spec, codec, text, device, tasks=told, scene=scene)
    replay = load(episodes=learned)
    trainer = Trainer(model, config or TrainConfig(), compiled=compiled, ranks=ranks)
    about = {"dataset": folder.name, "seed": seed}
    if resume:
        load_state(out / STATE_FILE, trainer, about)
    out.mkdir(parents=True, exist_ok=True)
    best = _Best(out / CHECKPOINT_FILE, Validation(load(episodes=kept), trainer.config, seed) if kept else None, resume)

    def details() -> dict[str, Any]:
        said = {
            "method": "behaviour cloning on a dataset",
            "began_from": began_from,
            "seed": seed,
            "iterations": trainer.iterations,
            "dataset": folder.resolve().name,
            "episodes": len(learned),
            "control_steps": replay.size,
            "batch": f"{trainer.config.batch} sequences of {trainer.config.length} timesteps",
            "learning_rate": trainer.config.learning_rate,
            "images": "varied as those of a real rig" if scene is None else "mirrored and recoloured",
            "device": torch.cuda.get_device_name() if device.type == "cuda" else "cpu",
            "torch": torch.__version__.split("+")[0],
        }
        return said | ({"held_out_episodes": len(kept), "held_out_bins": round(best.bins, 2)} if kept else {})

    started = reported = saved = time.monotonic()
    measures: list[dict[str, torch.Tensor]] = []
    every = max(1, iterations // CHECKS)
    for fresh in fit(trainer, replay, iterations, seed=seed, handling=scene is None):
        measures.append(fresh)
        now = time.monotonic()
        last = trainer.iterations == iterations
        if trainer.ranks.first and (last or trainer.iterations % every == 0):
            best.offer(trainer.averaged(), details)
        if now - reported >= report_every or last:
            means = {key: float(torch.stack([m[key] for m in measures]).mean()) for key in ("loss", "bins")}
            means |= {
                "iterations": trainer.iterations,
                "iterations_per_s": len(measures) / max(now - reported, 1e-9),
                "seconds": now - started,
                **best.measures,
            }
            if trainer.ranks.first:
                report(means)
            measures, reported = [], now
        if trainer.ranks.first and (last or now - saved >= SAVE_EVERY):
            save_state(out / STATE_FILE, trainer, about)
            saved = now
    return details()


class _Best:
    """Keeps the network that does best on held-out episodes, or without any the last one that it was offered."""

    def __init__(self, checkpoint: Path, validation: Validation | None, resumed: bool) -> None:
        self._checkpoint, self._validation = checkpoint, validation
        self.measures: dict[str, float] = {}
        self.bins = self._loss = math.inf
        if validation is not None and resumed and checkpoint.exists():
            network, _ = load_checkpoint(checkpoint)
            self._judge(validation, network)

    def offer(self, network: Gato, details: Callable[[], dict[str, Any]]) -> None:
        """Save `network` if it is the best so far; `details` are asked for once that is known."""
        if self._validation is None or self._judge(self._validation, network):
            save_checkpoint(self._checkpoint, network, details())

    def _judge(self, validation: Validation, network: Gato) -> bool:
        found = validation(network)
        better = found["action"] < self._loss
        if better:
            self._loss, self.bins = found["action"], found["bins"]
        self.measures = {"held_out_loss": found["action"], "held_out_bins": found["bins"], "best_loss": self._loss}
        return better
