"""The same network with less exact weights: how many action tokens stay what they were, and whether the arm stacks.

Rounds what a graph stores, or lets ONNX Runtime quantise it, and compares token by token with the graph as shipped, on
what the rounded one sees while it drives. Needs the ONNX package of the "train" extra.
"""

from __future__ import annotations

import functools
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from policies.gato.tokens import ids_to_bins
from runtime.evaluation.trial import EvaluationError

if TYPE_CHECKING:
    import onnx

    from policies.onnx_policy import OnnxPolicy
    from runtime.loop import EpisodeInfo, EpisodeResult, Step

Matrix = NDArray[np.float32]

MATRIX = 4096  # elements; smaller tensors are biases, norms and constants, which nobody rounds
INT8 = 127  # the largest step of a symmetric signed byte


def to_bf16(weights: Matrix) -> Matrix:
    """Rounded to bfloat16: 8 significant bits, ties to even."""
    bits = np.ascontiguousarray(weights, dtype=np.float32).view(np.uint32)
    rounded = (bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) & np.uint32(0xFFFF0000)
    return rounded.view(np.float32)


def to_int8(weights: Matrix) -> Matrix:
    """Rounded to 255 steps, symmetric about 0, with a scale for each of the last axis's columns."""
    axes = tuple(range(weights.ndim - 1))
    scale = np.abs(weights).max(axis=axes, keepdims=True) / INT8
    return np.asarray(np.rint(weights / np.where(scale > 0, scale, 1)) * scale, dtype=np.float32)


def _dynamic(model: onnx.ModelProto) -> onnx.ModelProto:
    """ONNX Runtime's dynamic quantisation: weights and, at each step, what is multiplied with them, as bytes."""
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with tempfile.TemporaryDirectory() as name:
        whole, quantised = Path(name) / "whole.onnx", Path(name) / "quantised.onnx"
        onnx.save(_folded(model), whole)
        quantize_dynamic(
            whole, quantised, op_types_to_quantize=["MatMul"], weight_type=QuantType.QInt8, per_channel=True
        )
        return onnx.load(str(quantised))


def _folded(model: onnx.ModelProto) -> onnx.ModelProto:
    """The graph with everything that comes from weights alone computed: single-precision matrices in place of
    half-precision ones, of casts and of splits, so that they are seen."""
    import onnx

    with tempfile.TemporaryDirectory() as name:
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
        options.optimized_model_filepath = str(Path(name) / "folded.onnx")
        onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        folded = onnx.load(options.optimized_model_filepath)
    used = {node.domain for node in folded.graph.node}
    for opset in list(folded.opset_import):  # it names every domain that ONNX Runtime has
        if opset.domain not in used:
            folded.opset_import.remove(opset)
    folded.metadata_props.add(
        key="onnx.quant.pre_process", value="onnxruntime.quant"
    )  # or it is told to run this very step
    return folded


def _rounded_by(rounding: Callable[[Matrix], Matrix], model: onnx.ModelProto) -> onnx.ModelProto:
    from onnx import numpy_helper

    for tensor in model.graph.initializer:
        values = numpy_helper.to_array(tensor)
        if values.dtype in (np.float16, np.float32) and values.ndim > 1 and values.size >= MATRIX:
            less = rounding(values.astype(np.float32)).astype(values.dtype)
            tensor.CopyFrom(numpy_helper.from_array(less, tensor.name))
    return model


ROUNDINGS: Mapping[str, Callable[[onnx.ModelProto], onnx.ModelProto]] = {
    "bf16": functools.partial(_rounded_by, to_bf16),
    "int8": functools.partial(_rounded_by, to_int8),
    "int8 dynamic": _dynamic,
}


@functools.lru_cache(maxsize=1)
def rounded_session(folder: Path, weights: str) -> OnnxPolicy:
    """The policy of the artifact in `folder` with its weights rounded; the files are gone when it is open.

    Raises `EvaluationError` for a rounding that is not known, `PolicyError` where ONNX Runtime cannot run it.
    """
    import onnx

    from policies.artifact import load_artifact, write_card
    from policies.card import GRAPH
    from policies.onnx_policy import OnnxPolicy

    if weights not in ROUNDINGS:
        raise EvaluationError(f"no rounding {weights!r}; there are {', '.join(ROUNDINGS)}")
    artifact = load_artifact(folder)
    with tempfile.TemporaryDirectory() as name:
        copy = Path(name)
        onnx.save(ROUNDINGS[weights](onnx.load(str(artifact.graph))), str(copy / GRAPH))
        (copy / artifact.card.text_model).write_bytes(artifact.text_model.read_bytes())
        write_card(copy, artifact.card)
        return OnnxPolicy(load_artifact(copy), threads=1)


class Shadow:
    """A subscriber that asks the graph as shipped what it would have done with everything that the driver saw."""

    def __init__(self, folder: Path, told: str | None) -> None:
        from runtime.evaluate import session

        self._policy, self._told = session(folder), told
        self._apart: Counter[int] = Counter()

    def on_episode_start(self, info: EpisodeInfo) -> None:
        self._policy.reset(self._told)

    def on_step(self, step: Step) -> None:
        ours = ids_to_bins(self._policy.act(step.observation).tokens)
        self._apart.update(np.abs(ours - ids_to_bins(step.action.tokens)).tolist())

    def on_episode_end(self, result: EpisodeResult) -> None:
        """Nothing ends here."""

    def measured(self) -> dict[str, Any]:
        """How many action tokens were so many bins apart."""
        return {"bins_apart": histogram(self._apart)}


def histogram(counts: Counter[int]) -> dict[str, int]:
    """Bins to how often, in order, as JSON has it."""
    return {str(bins): counts[bins] for bins in sorted(counts)}
