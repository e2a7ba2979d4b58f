"""`gato-arm train --dataset`: behaviour cloning from a dataset folder, from nothing or from a checkpoint.

Wires the SO-101's codec, tasks and symmetries to the learner (policies/gato/imitate.py). Imports torch only when
called.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from policies.policy import PolicyError
from runtime.collect import BLOCK_POSITIONS
from runtime.learn import prepared, stacking_scene
from runtime.so101_policy import CODEC, RATE, SEQUENCE
from sim.tasks import TASKS

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
    report: Callable[[dict[str, float]], None] = lambda measures: None,
) -> dict[str, Any]:
    """Train for `iterations` on the episodes in `dataset`, write `out`/checkpoint.pt and `out`/training.jsonl.

    The network is that of the checkpoint or artifact `init`, or a new one of `size`. Returns what the card should say.
    Raises `DatasetError` for a dataset that this policy cannot learn from and `PolicyError` for a checkpoint of another
    one.
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
    said = learn_from(
        dataset,
        out,
        iterations,
        _network(init, size, text, ranks.device),
        CODEC,
        text,
        rate=RATE,
        tasks=None if scene is None else tuple(task.text for task in TASKS),
        scene=scene,
        config=TrainConfig(batch=batch),
        compiled=compiled,
        seed=seed,
        resume=resume,
        ranks=ranks,
        report=report,
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
