"""`gato-arm train` without a dataset: DAgger in simulation, from nothing, a checkpoint or an artifact to a checkpoint.

Wires the worlds (rollouts.py) to the learner (policies/gato). Imports torch only when called.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runtime.bench.products import billions, window_products
from runtime.mixture import Mixture
from runtime.rollouts import Rollouts
from runtime.so101_policy import (
    CHANNEL_ORDERS,
    MIRRORED_JOINTS,
    MIRRORED_TRUTH,
    ROLES,
    SEQUENCE,
    colour_tasks,
    mirrored_ids,
    named_words,
    trained_phrasings,
)
from runtime.training_log import TrainingLog, peak_of
from sim.tasks import TASKS

if TYPE_CHECKING:
    import torch

    from policies.gato.data import Replay, Scene
    from policies.gato.ranks import Ranks
    from policies.gato.text import Text

SAVE_EVERY = 60.0  # s
PARTS = 2  # of the worlds: one is simulated while the other waits for the policy
STEPS_A_SECOND = 40  # of each world, at most; the replay has room for so many
REPLAY_SHARE = 0.5  # of a GPU's memory
REPLAY_BYTES = 4e9  # without one
BACKWARD = 3  # products of an iteration, for each of the forward pass: itself and two backward


@dataclass(frozen=True)
class LearnSettings:
    """What to train, on what, and for how long."""

    seconds: float
    demonstrate: float  # s at the beginning in which the demonstrator drives
    size: str = "9M"
    workers: int = 2  # processes of each rank that simulate
    worlds: int = 8  # of each of them
    seed: int = 0
    device: str = "auto"
    batch: int = 256
    learning_rate: float = 5e-4
    compiled: bool = False
    init: Path | None = None  # a checkpoint or an artifact's folder
    resume: bool = False  # go on where the folder's last training was saved
    mixture: Mixture | None = None  # the project's own


def stacking_scene(text: Text, *, kept_out: tuple[int, ...] = ()) -> Scene:
    """What the stacking tasks are about, and the symmetries of the simulated table."""
    from policies.gato.data import Scene

    return Scene(
        roles=ROLES,
        names=tuple(
            tuple(named_words(text, task, phrase) for phrase in trained_phrasings(task, text)) for task in TASKS
        ),
        mirrored_ids=mirrored_ids(),
        mirrored_actions=MIRRORED_JOINTS,
        mirrored_truth=MIRRORED_TRUTH,
        channel_orders=CHANNEL_ORDERS,
        colour_tasks=colour_tasks(),
        kept_out=kept_out,
    )


def prepared(device: str, seed: int) -> torch.device:
    """The device to train on ("auto": a GPU where there is one), with torch seeded and fast matrix products allowed."""
    import torch

    torch.manual_seed(seed)
    torch.set_float32_matmul_precision("high")
    return torch.device("cuda" if device == "auto" and torch.cuda.is_available() else device.replace("auto", "cpu"))


def learn(
    out: Path,
    settings: LearnSettings,
    *,
    report: Callable[[dict[str, float]], None] = lambda measures: None,
    say: Callable[[str], None] = lambda line: None,
    clock: Callable[[], float] = time.monotonic,
) -> dict[str, Any]:
    """Train, write `out`/checkpoint.pt, `out`/state.pt to resume from, and logs; return what the card should say.

    With fewer layers than what it begins from, the network takes the first ones, which is where words find what they
    name. Under torchrun every process has a GPU, worlds and a replay of its own; the first one writes and reports. A
    resumed training goes on with weights, optimiser, moving average, schedule and iteration as they were; experience is
    simulated anew, in other worlds. Two runs differ in the order of floating-point sums and in how much simulation
    fits in a second; `seed` fixes everything else. Raises `PolicyError`, and `RolloutError` when the simulation dies.
    """
    from policies.gato.ranks import Ranks

    ranks = Ranks.join(settings.device)
    try:
        said = _learn(out, settings, ranks, report, say, clock)
    finally:
        ranks.leave()
    return said


def _learn(
    out: Path,
    settings: LearnSettings,
    ranks: Ranks,
    report: Callable[[dict[str, float]], None],
    say: Callable[[str], None],
    clock: Callable[[], float],
) -> dict[str, Any]:
    import torch

    from policies.gato.config import SIZES
    from policies.gato.dagger import Course, dagger
    from policies.gato.model import Gato
    from policies.gato.text import Text
    from policies.gato.train import (
        CHECKPOINT_FILE,
        STATE_FILE,
        TrainConfig,
        Trainer,
        load_state,
        save_checkpoint,
        save_state,
    )
    from policies.gato.weights import begin_from

    prepared(settings.device, settings.seed)
    text = Text()
    config = TrainConfig(batch=settings.batch, learning_rate=settings.learning_rate)
    model = Gato(SIZES[settings.size], SEQUENCE, text.vocab_size).to(ranks.device)
    if settings.init is not None and not settings.resume:
        begin_from(model, settings.init)
    trainer = Trainer(model, config, compiled=settings.compiled, ranks=ranks)
    mixture = settings.mixture or Mixture.load()
    about: dict[str, Any] = {"size": settings.size, "mixture": mixture.describe()}
    before: dict[str, Any] = {
        "seconds": 0.0,
        "steps": 0.0,
        "began_from": "nothing" if settings.init is None else settings.init.name,
    }
    if settings.resume:
        before = load_state(out / STATE_FILE, trainer, about)
    begun = float(before["seconds"])
    replay = _replay(settings, mixture, text, ranks.device)
    asked = [task for index, task in enumerate(TASKS) if index not in mixture.kept_out_tasks]
    tasks = [phrase for task in asked for phrase in trained_phrasings(task, text)]
    out.mkdir(parents=True, exist_ok=True)
    saved = clock()

    def save(measures: dict[str, float]) -> None:
        said = details(measures)
        save_checkpoint(out / CHECKPOINT_FILE, trainer.averaged(), said)
        now = {"seconds": measures.get("seconds", begun), "steps": said["control_steps"]}
        save_state(out / STATE_FILE, trainer, {**before, **about, **now})

    def details(measures: dict[str, float]) -> dict[str, Any]:
        return {
            "method": "behaviour cloning and DAgger in simulation",
            "size": settings.size,
            "began_from": before["began_from"],
            "seed": settings.seed,
            "seconds": round(measures.get("seconds", begun)),
            "demonstrated_seconds": settings.demonstrate,
            "iterations": trainer.iterations,
            "control_steps": round(before["steps"] + measures.get("steps", 0)),
            "batch": f"{ranks.count} x {config.batch} sequences of {config.length} timesteps",
            "learning_rate": config.learning_rate,
            "mixture": mixture.describe(),
            "tasks": tasks,
            "auxiliary": "positions of the two named blocks, and which patch shows them (training only)",
            "device": f"{ranks.count} x {_name(ranks.device)}",
            "torch": torch.__version__.split("+")[0],
        }

    tokens = ranks.count * config.batch * (SEQUENCE.text + config.length * SEQUENCE.block)
    work = BACKWARD * 1e9 * billions(window_products(model.config, SEQUENCE, config.length, config.batch))
    peak = peak_of(_name(ranks.device))

    def reported(measures: dict[str, float]) -> None:
        nonlocal saved
        rate = measures["iterations_per_s"]
        measures["tokens_per_s"] = tokens * rate
        if peak is not None:
            measures["mfu"] = work * rate / peak
        if not ranks.first:
            return
        log.add(measures)
        if clock() - saved > SAVE_EVERY:
            save(measures)
            saved = clock()
        report(measures)

    with ExitStack() as stack:
        if ranks.first:
            log = stack.enter_context(TrainingLog(out, resumed=settings.resume, say=say))
        seed = (settings.seed, ranks.rank, round(begun))
        each = max(1, settings.worlds // PARTS)
        sources = [
            stack.enter_context(Rollouts(settings.workers, each, (*seed, part), mixture)) for part in range(PARTS)
        ]
        course = Course(
            settings.seconds,
            settings.demonstrate,
            seed=settings.seed,
            report_every=min(10.0, settings.seconds / 5),
            begun=begun,
        )
        last = dagger(trainer, sources, replay, course, report=reported, clock=clock)
    if ranks.first:
        save(last)
    return details(last)


def _replay(settings: LearnSettings, mixture: Mixture, text: Text, device: torch.device) -> Replay:
    """As much room as the training can fill, or as the device has."""
    import torch

    from policies.gato.data import Replay

    streams = settings.workers * PARTS * max(1, settings.worlds // PARTS)
    image_bytes = sum(3 * height * width for _, height, width in SEQUENCE.cameras)
    step = image_bytes + 4 * SEQUENCE.block_ids + 2 * len(TASKS) * SEQUENCE.actions + 256
    room = REPLAY_BYTES
    if device.type == "cuda":
        room = REPLAY_SHARE * torch.cuda.get_device_properties(device).total_memory
    capacity = min(int(settings.seconds * STEPS_A_SECOND) + 200, int(room / (streams * step)))
    texts = [[text.encode(phrase) for phrase in trained_phrasings(task, text)] for task in TASKS]
    scene = stacking_scene(text, kept_out=mixture.kept_out_tasks)
    return Replay(SEQUENCE, texts, streams, capacity, device, scene, parts=PARTS)


def _name(device: torch.device) -> str:
    import torch

    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
