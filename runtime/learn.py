"""`gato-arm train` without a dataset: DAgger in simulation, from nothing to a checkpoint.

Wires the worlds (rollouts.py) to the learner (policies/gato). Imports torch only when called.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runtime.rollouts import Rollouts
from runtime.so101_policy import CHANNEL_ORDERS, MIRRORED_JOINTS, ROLES, SEQUENCE, colour_tasks, mirrored_ids
from sim.tasks import TASKS, Task

if TYPE_CHECKING:
    import torch

    from policies.gato.data import Scene
    from policies.gato.text import Text


def named_words(text: Text, task: Task) -> tuple[int, int]:
    """Which of the instruction's tokens name the moved and the base block; each colour is one token."""
    ids = text.encode(task.text).tolist()
    first, second = (ids.index(int(text.encode(f"the {colour}")[-1])) for colour in (task.moved, task.base))
    return first, second


def stacking_scene(text: Text) -> Scene:
    """What the stacking tasks are about, and the symmetries of the simulated table."""
    from policies.gato.data import Scene

    return Scene(
        roles=ROLES,
        names=tuple(named_words(text, task) for task in TASKS),
        mirrored_ids=mirrored_ids(),
        mirrored_actions=MIRRORED_JOINTS,
        mirrored_truth=(1, 4),
        channel_orders=CHANNEL_ORDERS,
        colour_tasks=colour_tasks(),
    )


def prepared(device: str, seed: int) -> torch.device:
    """The device to train on ("auto": a GPU where there is one), with torch seeded and fast matrix products allowed."""
    import torch

    torch.manual_seed(seed)
    torch.set_float32_matmul_precision("high")
    return torch.device("cuda" if device == "auto" and torch.cuda.is_available() else device.replace("auto", "cpu"))


def learn(
    out: Path,
    *,
    seconds: float,
    demonstrate: float,
    size: str = "9M",
    workers: int = 2,
    worlds: int = 8,
    seed: int = 0,
    device: str = "auto",
    batch: int = 256,
    compiled: bool = False,
    init: Path | None = None,
    report: Callable[[dict[str, float]], None] = lambda measures: None,
) -> dict[str, Any]:
    """Train for `seconds`, write `out`/checkpoint.pt and `out`/training.jsonl, return what the card should say.

    The network begins with the weights of the checkpoint or artifact `init`; of more layers than it has itself it
    takes the first ones, which is where words find what they name. `workers` processes simulate `worlds` worlds each.
    Two runs differ in the order of floating-point sums and in how much simulation fits in a second; `seed` fixes
    everything else.
    """
    import torch

    from policies.gato.config import SIZES
    from policies.gato.dagger import dagger
    from policies.gato.data import Replay
    from policies.gato.model import Gato
    from policies.gato.text import Text
    from policies.gato.train import TrainConfig, Trainer, save_checkpoint
    from policies.gato.weights import begin_from

    out.mkdir(parents=True, exist_ok=True)
    chosen = prepared(device, seed)
    text = Text()
    config = TrainConfig(batch=batch)
    model = Gato(SIZES[size], SEQUENCE, text.vocab_size).to(chosen)
    if init is not None:
        begin_from(model, init)
    trainer = Trainer(model, config, compiled=compiled)
    streams = workers * worlds
    capacity = int(seconds * 25) + 200
    texts = tuple(text.encode(task.text) for task in TASKS)
    replay = Replay(SEQUENCE, texts, streams, capacity, chosen, stacking_scene(text))
    log = out / "training.jsonl"
    log.write_text("")
    saved = time.monotonic()

    def reported(measures: dict[str, float]) -> None:
        nonlocal saved
        with log.open("a") as file:
            file.write(json.dumps(measures) + "\n")
        if time.monotonic() - saved > 60:
            save_checkpoint(out / "checkpoint.pt", trainer.averaged(), details(measures))
            saved = time.monotonic()
        report(measures)

    def details(measures: dict[str, float]) -> dict[str, Any]:
        return {
            "method": "behaviour cloning and DAgger in simulation",
            "size": size,
            "began_from": "nothing" if init is None else init.name,
            "seed": seed,
            "seconds": round(measures.get("seconds", 0)),
            "demonstrated_seconds": demonstrate,
            "iterations": trainer.iterations,
            "control_steps": replay.size * streams,
            "batch": f"{config.batch} sequences of {config.length} timesteps",
            "auxiliary": "positions of the two named blocks, and which patch shows them (training only)",
            "device": torch.cuda.get_device_name() if chosen.type == "cuda" else "cpu",
            "torch": torch.__version__.split("+")[0],
        }

    with Rollouts(workers, worlds, seed) as rollouts:
        last = dagger(
            trainer,
            rollouts,
            replay,
            seconds=seconds,
            demonstrate=demonstrate,
            seed=seed,
            report=reported,
            report_every=min(10.0, seconds / 5),
        )
    said = details(last)
    save_checkpoint(out / "checkpoint.pt", trainer.averaged(), said)
    return said
