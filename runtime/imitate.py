"""`gato-arm train --dataset`: behaviour cloning from a dataset folder, from nothing or from a checkpoint.

Wires the SO-101's codec, tasks and symmetries to the learner (policies/gato/imitate.py). Imports torch only when
called.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from policies.policy import PolicyError
from runtime.collect import BLOCK_POSITIONS
from runtime.learn import prepared, stacking_scene
from runtime.so101_policy import CODEC, RATE, SEQUENCE
from runtime.training_log import TrainingLog
from sim.tasks import TASKS

HELD_OUT = 0.1  # of the episodes
FRESH, ADAPTING = 5e-4, 1e-4  # learning rates: of a new network, and of one that begins with what it knows

if TYPE_CHECKING:
    import torch

    from policies.dataset import Dataset
    from policies.gato.data import Scene
    from policies.gato.model import Gato
    from policies.gato.text import Text


def imitate(
    dataset: Path,
    out: Path,
    iterations: int,
    *,
    init: Path | None = None,
    size: str = "9M",
    device: str = "auto",
    batch: int = 128,
    compiled: bool = False,
    seed: int = 0,
    resume: bool = False,
    learning_rate: float | None = None,
    held_out: float = HELD_OUT,
    report: Callable[[dict[str, float]], None] = lambda measures: None,
    say: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Train for `iterations` on the episodes in `dataset`; write `out`/checkpoint.pt, state.pt and logs.

    The network is that of the checkpoint or artifact `init`, or a new one of `size`; `learning_rate` None is a fifth as
    fast where it only has to be adapted. Of the share `held_out` of the episodes nothing is learned; the checkpoint is
    the network that did best on them. Returns what the card should say. Raises `DatasetError` for a dataset that this
    policy cannot learn from and `PolicyError` for a checkpoint of another one.
    """
    from policies.dataset import Dataset
    from policies.gato.imitate import imitate as learn_from
    from policies.gato.ranks import Ranks
    from policies.gato.text import Text
    from policies.gato.train import TrainConfig

    prepared(device, seed)
    ranks = Ranks.join(device)
    text = Text()
    scene = _scene(Dataset(dataset), text)
    network = _network(init, size, text, ranks.device)
    config = TrainConfig(batch=batch, learning_rate=learning_rate or (FRESH if init is None else ADAPTING))
    with ExitStack() as stack:
        logs: list[TrainingLog] = []

        def told(measures: dict[str, float]) -> None:
            if not logs:  # only now: nothing is written before the dataset is known to fit
                logs.append(stack.enter_context(TrainingLog(out, resumed=resume, say=say)))
            logs[0].add(measures)
            report(measures)

        said = learn_from(
            dataset,
            out,
            iterations,
            network,
            CODEC,
            text,
            rate=RATE,
            tasks=None if scene is None else tuple(task.text for task in TASKS),
            scene=scene,
            config=config,
            held_out=held_out,
            began_from="nothing" if init is None else init.resolve().name,
            compiled=compiled,
            seed=seed,
            resume=resume,
            ranks=ranks,
            report=told,
        )
    ranks.leave()
    return said


def _scene(dataset: Dataset, text: Text) -> Scene | None:
    """The symmetries of the simulated table, for demonstrations from there: they alone know where the blocks are.

    None for any other dataset: a real table is not the same when it is mirrored, nor with other colours.
    """
    simulated = f"observation.{BLOCK_POSITIONS}" in dataset.features
    if not simulated or not {task.text for task in TASKS}.issuperset(dataset.tasks):
        return None
    return stacking_scene(text)


def _network(init: Path | None, size: str, text: Text, device: torch.device) -> Gato:
    from policies.gato.config import SIZES
    from policies.gato.model import Gato
    from policies.gato.weights import begin_from, network_from

    if init is None:
        return Gato(SIZES[size], SEQUENCE, text.vocab_size).to(device)
    found = network_from(init)
    same = replace(found.spec, words=SEQUENCE.words, text=SEQUENCE.text) == SEQUENCE
    if not same or found.vocabulary != text.vocab_size:
        raise PolicyError(f"{init}: trained for other sequences than this robot's; train from nothing instead")
    model = Gato(found.config, SEQUENCE, text.vocab_size)
    begin_from(model, init)
    return model.to(device)
