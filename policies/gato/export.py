"""Checkpoint to artifact: the graph, the text model, the card, and the proof that graph and network decide alike.

An artifact's weights can be exported again, so that it gets the graph that this release writes.

Knows checkpoints and cards. What a checkpoint does not say, the body it was trained for and an episode to be tried
on, is handed in. Nothing appears under the artifact's name before everything has passed.
"""

from __future__ import annotations

import os
import pickle
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from policies.artifact import CARD, Artifact, ArtifactError, load_artifact, write_card
from policies.card import GRAPH, ActionCard, CameraCard, Card, ProprioceptionCard, SequenceCard
from policies.gato.codec import Codec
from policies.gato.graph import build_graph
from policies.gato.model import Gato, median_bins
from policies.gato.text import MODEL, Text
from policies.gato.tokens import CONTINUOUS_START, ValueScale
from policies.gato.train import load_checkpoint
from policies.gato.weights import network_of
from policies.onnx_policy import OnnxPolicy, codec_of
from policies.policy import Observation

PARITY_STEPS = 60  # at least
TIE = 1e-5  # of probability: what rounding of the logits and of sums of 1,024 terms in fp32 comes to
KEPT = frozenset({"row_positions.weight", "column_positions.weight"})  # which the graph keeps as a sum, in fp32

Ids = NDArray[np.int64]


@dataclass(frozen=True)
class Body:
    """What the policy was trained for, as the card will say it."""

    name: str
    description: str
    joint_names: tuple[str, ...]
    codec: Codec
    rate: float  # Hz
    tasks: tuple[str, ...]


@dataclass(frozen=True)
class Trial:
    """A recorded episode: what it was about and what was sensed at each control step."""

    task: str
    observations: Sequence[Observation]


@dataclass
class Reference:
    """The network itself at work, in fp32 and one step at a time: what the graph has to equal.

    `logits` (A, BINS) are those of the last step, for each step another array.
    """

    model: Gato
    codec: Codec
    text: Text
    _timestep: int = field(default=0, init=False)
    _previous: NDArray[np.float64] | None = field(default=None, init=False)

    @torch.inference_mode()
    def reset(self, task: str) -> None:
        """Begin an episode."""
        spec = self.model.spec
        ids = self.text.encode(task)
        padded, real = spec.pad_text(ids)
        self._words = spec.pad_words(ids)
        self._cache = self.model.new_cache(1)
        self._visible = torch.zeros(1, spec.cache(), dtype=torch.bool)
        self._visible[0, : spec.text] = torch.from_numpy(real)
        self.model.prefill_text(torch.from_numpy(padded)[None], self._cache, self._visible)
        self._timestep, self._previous = 0, None

    @torch.inference_mode()
    def act(self, observation: Observation) -> Ids:
        """Action ids (A,) of one control step."""
        spec, targets = self.model.spec, observation.proprioception["joint_targets"]
        executed = None if self._previous is None else self.codec.action_ids(targets, self._previous)
        block = np.zeros(spec.block_ids, dtype=np.int64)
        spec.write_block(block, executed, self._words, self.codec.sense(observation.proprioception))
        slot = spec.ring_slot(self._timestep)
        self._visible[:, slot : slot + spec.block] = True
        self._visible[:, slot : slot + spec.actions] = executed is not None
        images = [torch.from_numpy(np.array(observation.images[name]))[None] for name, _, _ in spec.cameras]
        position = torch.tensor([spec.position(self._timestep)])
        self._timestep, self._previous = self._timestep + 1, targets
        x = self.model.embed_blocks(images, torch.from_numpy(block)[None])
        hidden = self.model.extend(x, self._cache, slice(slot, slot + spec.block), position, self._visible)
        self.logits: NDArray[np.float32] = self.model.action_logits(hidden[0, -spec.actions :]).numpy()
        ids: Ids = median_bins(torch.from_numpy(self.logits)).numpy() + CONTINUOUS_START
        return ids


def export(
    checkpoint: Path,
    out: Path,
    body: Body,
    trials: Sequence[Trial],
    *,
    created: datetime,
    evaluation: Mapping[str, Any] | None = None,
    text_model: Path = MODEL,
) -> Artifact:
    """Write the artifact `out` from a checkpoint, replacing an artifact that is there.

    Raises `ArtifactError` when `checkpoint` is none, when `out` is something else than an artifact, and when the graph
    decodes another token than the network anywhere in `trials`; then `out` is as it was.
    """
    _refuse_other(out)
    model, details = _load(checkpoint)
    return _write(model, details, out, body, trials, created, evaluation or {}, text_model, checkpoint)


def export_again(
    artifact: Artifact,
    out: Path,
    trials: Sequence[Trial],
    *,
    created: datetime,
    evaluation: Mapping[str, Any] | None = None,
) -> Artifact:
    """The artifact `out` with the weights of another one and the graph that this release writes.

    What is not given is taken from its card, with what was once measured of these weights: `out` decodes the same
    tokens. Raises `ArtifactError` as `export` does, and `PolicyError` when the weights cannot be read back.
    """
    _refuse_other(out)
    card = artifact.card
    model = _rounded(network_of(artifact), artifact.folder)
    joints, tasks = tuple(card.actions.joint_names), tuple(card.tasks)
    body = Body(out.resolve().name, card.description, joints, codec_of(card), card.rate, tasks)
    measured = {**card.evaluation, **(evaluation or {})}
    return _write(model, card.training, out, body, trials, created, measured, artifact.text_model, artifact.folder)


def _refuse_other(out: Path) -> None:
    """Raise `ArtifactError` when there is something at `out` that is no artifact."""
    if out.exists() and not (out / CARD).is_file() and not (out.is_dir() and not any(out.iterdir())):
        raise ArtifactError(f"{out}: exists and is no artifact; name another folder or remove it")


def _write(
    model: Gato,
    details: Mapping[str, Any],
    out: Path,
    body: Body,
    trials: Sequence[Trial],
    created: datetime,
    evaluation: Mapping[str, Any],
    text_model: Path,
    source: Path,
) -> Artifact:
    text = Text(text_model)
    if text.vocab_size != model.vocabulary:
        raise ArtifactError(f"{source}: knows {model.vocabulary} text ids, {text_model.name} has {text.vocab_size}")
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{out.name}.", dir=out.parent) as work:
        folder = Path(work) / "new"
        folder.mkdir()
        weights = {name: parameter.numpy() for name, parameter in model.named_parameters()}
        graph = build_graph(weights, model.config, model.spec, model.vocabulary)
        (folder / GRAPH).write_bytes(graph.SerializeToString(deterministic=True))
        shutil.copyfile(text_model, folder / text_model.name)
        card = make_card(model, details, body, text_model.name, created)
        write_card(folder, card)
        parity = check_parity(OnnxPolicy(load_artifact(folder)), Reference(model, body.codec, text), trials)
        write_card(folder, card.model_copy(update={"evaluation": {**evaluation, **parity}}))
        _replace(folder, out, Path(work) / "old")
    return load_artifact(out)


def make_card(model: Gato, details: Mapping[str, Any], body: Body, text_model: str, created: datetime) -> Card:
    """The card of a network for a body; `files` and `evaluation` are still empty.

    Where the checkpoint says what it was asked in training ("tasks"), that is what the card names, else the body's.
    """
    spec, codec = model.spec, body.codec
    training = dict(details)
    tasks = training.pop("tasks", body.tasks)
    return Card(
        name=body.name,
        created=created.isoformat(timespec="seconds"),
        description=body.description,
        cameras={name: CameraCard(height=h, width=w) for name, h, w in spec.cameras},
        proprioception={
            name: ProprioceptionCard(size=scale.size, companded=scale.companded, **_range(scale))
            for name, scale in codec.tensors.items()
        },
        actions=ActionCard(
            joint_names=list(body.joint_names),
            mode=["delta" if delta else "absolute" for delta in codec.delta],
            **_range(codec.action),
        ),
        rate=body.rate,
        sequence=SequenceCard(
            prompt_tokens=spec.text,
            window=spec.window,
            timestep_tokens=spec.block,
        ),
        text_model=text_model,
        tasks=list(tasks),
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        architecture={"kind": "gato", **asdict(model.config), "weights": "fp16", "arithmetic": "fp32"},
        training=training,
        evaluation={},
    )


def ties(ids: Ids, logits: NDArray[np.float32]) -> NDArray[np.bool_]:
    """(A,) which ids `logits` (A, BINS) might have decoded to as well: half is reached there to within rounding."""
    odds = np.exp(logits.astype(np.float64) - logits.max(-1, keepdims=True))
    reached = np.pad(np.cumsum(odds, axis=-1) / odds.sum(-1, keepdims=True), ((0, 0), (1, 0)))
    rows, bins = np.arange(len(ids)), ids - CONTINUOUS_START
    near: NDArray[np.bool_] = (reached[rows, bins] < 0.5 + TIE) & (reached[rows, bins + 1] > 0.5 - TIE)
    return near


def check_parity(policy: OnnxPolicy, reference: Reference, trials: Sequence[Trial]) -> dict[str, int]:
    """How many tokens were equal, and how many others were ties. Raises `ArtifactError` for the first that is neither.

    In a few tokens in a thousand half of the probability is reached at the border of two bins but for the last bits,
    which hang on the order in which a product is summed up; which of the two is decoded then is as good as drawn.
    """
    steps = sum(len(trial.observations) for trial in trials)
    if steps < PARITY_STEPS:
        raise ArtifactError(f"{steps} control steps to compare graph and network over, a proof needs {PARITY_STEPS}")
    equal = tied = 0
    for trial in trials:
        policy.reset(trial.task)
        reference.reset(trial.task)
        for step, observation in enumerate(trial.observations):
            ours, theirs = policy.act(observation).tokens, reference.act(observation)
            same = ours == theirs
            if not (same | ties(ours, reference.logits)).all():
                raise ArtifactError(
                    f'"{trial.task}", step {step}: the graph decodes {ours.tolist()}, the network {theirs.tolist()}; '
                    "nothing is exported"
                )
            equal, tied = equal + int(same.sum()), tied + int((~same).sum())
    return {"tokens_equal_to_torch": equal, "ties": tied}


def _range(scale: ValueScale) -> dict[str, list[float]]:
    return {"low": scale.low.tolist(), "high": scale.high.tolist()}


def _load(checkpoint: Path) -> tuple[Gato, dict[str, Any]]:
    """The network with its weights rounded to what the graph stores."""
    try:
        model, details = load_checkpoint(checkpoint)
    except (RuntimeError, KeyError, TypeError, EOFError, pickle.UnpicklingError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ArtifactError(f"{checkpoint}: no checkpoint of this release's gato-arm train: {reason}") from error
    return _rounded(model, checkpoint), details


def _rounded(model: Gato, source: Path) -> Gato:
    """`model` with its weights rounded to what the graph stores: fp16, but of a patch's row and column their sum."""
    for name, parameter in model.named_parameters():
        if not torch.isfinite(parameter.half()).all():
            raise ArtifactError(f"{source}: {name} has weights that are not finite in fp16")
        if name not in KEPT:
            parameter.copy_(parameter.half().float())
    return model


def _replace(folder: Path, out: Path, old: Path) -> None:
    """Put `folder` in the place of `out`, or leave `out` as it was."""
    if not out.exists():
        os.rename(folder, out)
        return
    os.rename(out, old)
    try:
        os.rename(folder, out)
    except OSError:
        os.rename(old, out)
        raise
