"""The network of an artifact in PyTorch, its weights read back from the graph: no checkpoint is needed.

Knows the names that policies/gato/graph.py gives to what it stores. Imports torch and onnx when called.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from policies.artifact import Artifact
from policies.card import Card
from policies.gato.config import ModelConfig
from policies.gato.sequence import SequenceSpec
from policies.gato.tokens import BINS
from policies.onnx_policy import sequence_of
from runtime.bench.figures import BenchError

if TYPE_CHECKING:
    from policies.gato.model import Gato

Stored = dict[str, NDArray[np.generic]]
Weights = dict[str, NDArray[np.float32]]

FURTHER = ("kind", "weights", "arithmetic")  # what a card's architecture says besides the sizes


def config_of(card: Card) -> ModelConfig:
    """The sizes of a card's network. Raises `BenchError` for another kind of network."""
    said = card.architecture
    if said.get("kind") != "gato":
        raise BenchError(f"policy {card.name} is no Gato but {said.get('kind')!r}: its floor cannot be counted")
    return ModelConfig(**{key: value for key, value in said.items() if key not in FURTHER})


def network_of(artifact: Artifact) -> Gato:
    """The artifact's network, fp32 on the CPU, in evaluation mode. Raises `BenchError` when the graph lacks a part."""
    import onnx
    import torch
    from onnx import numpy_helper

    from policies.gato.model import Gato

    config, spec = config_of(artifact.card), sequence_of(artifact.card)
    graph = onnx.load(str(artifact.graph)).graph
    stored: Stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    try:
        weights = _weights(stored, config, spec)
        places = _patch_places(stored, spec.patches, config.width)
    except KeyError as error:
        raise BenchError(f"{artifact.graph}: holds no {error}: another release wrote it, export it again") from error
    vocabulary = len(weights["table.weight"]) - BINS - 1
    model = Gato(config, spec, vocabulary).eval().requires_grad_(False)
    state = {name: torch.from_numpy(np.array(values, order="C")) for name, values in weights.items()}
    head = torch.zeros_like(model.head.weight)
    start = model.row_map.continuous_row
    head[start : start + BINS] = state.pop("head.bins")
    missing = model.load_state_dict({**state, "head.weight": head}, strict=False)
    unset = set(missing.missing_keys) - {"row_positions.weight", "column_positions.weight"}
    if unset or missing.unexpected_keys:
        raise BenchError(f"{artifact.graph}: its weights do not fit: {sorted(unset)} {missing.unexpected_keys}")
    # The graph keeps the sum of a patch's row and column: as rows of their own they give the same.
    model.row_positions.weight[: spec.patches] = torch.from_numpy(places)
    model.column_positions.weight.zero_()
    model.patch_rows.copy_(torch.arange(spec.patches))
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
