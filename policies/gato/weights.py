"""A trained network from what is at hand: a checkpoint, or an artifact, whose graph holds all that is used.

Knows the names that graph.py gives to what it stores. A network that differs in places only (more words, a longer
instruction) begins with the rows that come nearest to its own.
"""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import numpy_helper
from torch import Tensor

from policies.artifact import Artifact, load_artifact
from policies.gato.config import ModelConfig, config_of
from policies.gato.model import Gato
from policies.gato.sequence import SequenceSpec
from policies.gato.tokens import BINS
from policies.gato.train import load_checkpoint
from policies.onnx_policy import sequence_of
from policies.policy import PolicyError

Stored = dict[str, NDArray[np.generic]]
Weights = dict[str, NDArray[np.float32]]


def begin_from(model: Gato, source: Path) -> None:
    """Copy the weights of a checkpoint file or an artifact folder into `model`.

    `model` may have fewer layers (it gets the first ones), and more or fewer places for words: further places begin as
    the last one there is, which is padding in most instructions. Raises `PolicyError` when the networks differ in
    anything else, or when `source` is neither.
    """
    found = network_from(source)
    weights: dict[str, Tensor] = dict(found.named_parameters())
    weights["text_positions.weight"] = _resized(found.text_positions.weight, 0, found.spec.text, model.spec.text)
    weights["local_positions.weight"] = _resized(found.local_positions.weight, 0, found.spec.words, model.spec.words)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name not in weights or weights[name].shape != parameter.shape:
                raise PolicyError(
                    f"{source}: has no {name} of shape {tuple(parameter.shape)}; begin with another or without"
                )
            parameter.copy_(weights[name])


def network_from(source: Path) -> Gato:
    """The network of a checkpoint file or an artifact folder, fp32 on the CPU, in evaluation mode.

    Raises `PolicyError` when it is neither.
    """
    if source.is_dir():
        return network_of(load_artifact(source))
    try:
        return load_checkpoint(source)[0]
    except (RuntimeError, KeyError, TypeError, EOFError, pickle.UnpicklingError) as error:
        reason = " ".join(str(error).split())[:200]
        raise PolicyError(f"{source}: no checkpoint of this release's gato-arm train: {reason}") from error


def network_of(artifact: Artifact) -> Gato:
    """The artifact's network, fp32 on the CPU, in evaluation mode. Raises `PolicyError` when the graph lacks a part.

    Rows of the head that are no bins decide nothing; the graph lacks them, and they are 0 here.
    """
    config, spec = config_of(artifact.card), sequence_of(artifact.card)
    graph = onnx.load(str(artifact.graph)).graph
    stored: Stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    try:
        weights = _weights(stored, config, spec)
        places = _patch_places(stored, spec.patches, config.width)
    except KeyError as error:
        raise PolicyError(f"{artifact.graph}: holds no {error}: another release wrote it, export it again") from error
    vocabulary = len(weights["table.weight"]) - BINS - 1
    model = Gato(config, spec, vocabulary).eval().requires_grad_(False)
    state = {name: torch.from_numpy(np.array(values, order="C")) for name, values in weights.items()}
    head = torch.zeros_like(model.head.weight)
    start = model.row_map.continuous_row
    head[start : start + BINS] = state.pop("head.bins")
    missing = model.load_state_dict({**state, "head.weight": head}, strict=False)
    unset = set(missing.missing_keys) - {"row_positions.weight", "column_positions.weight"}
    if unset or missing.unexpected_keys:
        raise PolicyError(f"{artifact.graph}: its weights do not fit: {sorted(unset)} {missing.unexpected_keys}")
    _divide(places, model)
    return model


def _weights(stored: Stored, config: ModelConfig, spec: SequenceSpec) -> Weights:
    """Parameters by the names of policies/gato/model.py, and "head.bins"."""
    wide = {name: values.astype(np.float32) for name, values in stored.items()}
    weights = {"head.bins": wide["head.bins"].T}
    same = ["table.weight", "text_positions.weight", "norm.weight", "norm.bias", "patch.out.bias"]
    same += [f"patch.{name}.{kind}" for name in ("stem", "conv1", "conv2") for kind in ("weight", "bias")]
    turned = ["patch.out"]
    for layer in range(config.layers):
        same += [f"layers.{layer}.{norm}.{kind}" for norm in ("norm1", "norm2") for kind in ("weight", "bias")]
        turned += [f"layers.{layer}.{name}" for name in ("qkv", "project", "up", "down")]
    weights |= {name: wide[name] for name in same}
    weights |= {f"{name}.weight": wide[f"{name}.transposed"].T for name in turned}
    for norm in ("norm1", "norm2"):
        weights[f"patch.{norm}.weight"] = wide[f"patch.{norm}.scale"].ravel()
        weights[f"patch.{norm}.bias"] = wide[f"patch.{norm}.shift"].ravel()
    # In the graph: of the executed action, of the observation, of the blanks, which are the action's again.
    places = wide["block_positions"]
    action, observed = np.split(places[: spec.actions + spec.observation], [spec.actions])
    weights["local_positions.weight"] = np.concatenate([observed, action])
    return weights


def _patch_places(stored: Stored, patches: int, width: int) -> NDArray[np.float32]:
    """(patches, width): the only constant of that shape. KeyError when there is none."""
    found = [
        values
        for name, values in stored.items()
        if name.startswith("constant.") and values.shape == (patches, width) and values.dtype == np.float32
    ]
    if len(found) != 1:
        raise KeyError("patch positions")
    return np.array(found[0], dtype=np.float32)


def _divide(places: NDArray[np.float32], model: Gato) -> None:
    """The graph keeps the sum of a patch's row and column; any rows and columns with those sums are as good."""
    rows, row_of = np.unique(model.patch_rows.numpy(), return_inverse=True)
    columns, column_of = np.unique(model.patch_columns.numpy(), return_inverse=True)
    used = np.zeros((len(places), len(rows) + len(columns)))
    used[np.arange(len(places)), row_of] = 1
    used[np.arange(len(places)), len(rows) + column_of] = 1
    found, *_ = np.linalg.lstsq(used, places.astype(np.float64))
    halves = torch.from_numpy(found.astype(np.float32)).split([len(rows), len(columns)])
    model.row_positions.weight[torch.from_numpy(rows)] = halves[0]
    model.column_positions.weight[torch.from_numpy(columns)] = halves[1]


def _resized(table: Tensor, start: int, count: int, wanted: int) -> Tensor:
    """`table` with `wanted` rows in place of the `count` from `start` on: some left out, or the last one repeated."""
    kept = torch.arange(start, start + wanted).clamp_max(start + count - 1)
    rest = torch.arange(start + count, len(table))
    return table[torch.cat([torch.arange(start), kept, rest])]
