"""A network small enough to be exported in a test, for an arm with three joints, and episodes for it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch

from policies.artifact import Artifact
from policies.gato.codec import Codec
from policies.gato.config import SIZES
from policies.gato.export import Body, Trial, export
from policies.gato.model import Gato
from policies.gato.sequence import SequenceSpec
from policies.gato.text import Text
from policies.gato.tokens import ValueScale
from policies.gato.train import save_checkpoint
from policies.policy import Observation

SPEC = SequenceSpec((("left", 32, 32), ("right", 16, 32)), (("joint_positions", 3), ("joint_targets", 3)), actions=3)
RANGE = ValueScale(np.full(3, -2.0), np.full(3, 2.0))
CODEC = Codec(
    {"joint_positions": RANGE, "joint_targets": RANGE},
    ValueScale(np.array([-0.1, -0.1, 0.0]), np.array([0.1, 0.1, 1.5])),
    np.array([True, True, False]),
)
TASKS = ("stack the red block on the blue block", "stack the blue block on the red block")
BODY = Body("tiny", "For tests.", ("a", "b", "c"), CODEC, 20.0, TASKS)
CREATED = datetime(2026, 1, 1, tzinfo=UTC)


def network(seed: int = 0, spec: SequenceSpec = SPEC) -> Gato:
    """A network with random weights that fp16 holds exactly, so large that every token hangs on all that is seen."""
    torch.manual_seed(seed)
    model = Gato(SIZES["tiny"], spec, Text().vocab_size).eval().requires_grad_(False)
    for name, parameter in model.named_parameters():
        gain = 4 if name.endswith(("project.weight", "down.weight")) else 3 if name.endswith("qkv.weight") else 1
        parameter.copy_((gain * parameter).half().float())
    return model


def observations(count: int, seed: int = 0) -> list[Observation]:
    """`count` steps of an arm that wanders about before two cameras that see noise."""
    rng = np.random.default_rng(seed)
    targets = np.cumsum(rng.uniform(-0.05, 0.05, (count, 3)), axis=0).clip(-1.5, 1.5)
    return [
        Observation(
            stamp=step,
            images={name: rng.integers(0, 256, (h, w, 3), dtype=np.uint8) for name, h, w in SPEC.cameras},
            proprioception={"joint_positions": targets[max(0, step - 1)], "joint_targets": targets[step]},
        )
        for step in range(count)
    ]


def trials(count: int = 60) -> list[Trial]:
    return [Trial(task, observations(count // 2, seed)) for seed, task in enumerate(TASKS)]


def exported(folder: Path, model: Gato | None = None, tried: Sequence[Trial] | None = None) -> Artifact:
    """The artifact `folder`/tiny of `model`."""
    save_checkpoint(folder / "checkpoint.pt", model or network(), {"seed": 0})
    return export(folder / "checkpoint.pt", folder / "tiny", BODY, tried or trials(), created=CREATED)
