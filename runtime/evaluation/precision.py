"""The same network with less exact weights: how many action tokens stay what they were, and whether the arm stacks.

Rounds what a graph stores, or lets ONNX Runtime quantise it, and compares token by token with the graph as shipped, on
what the rounded one sees while it drives. Knows how graphs here store matrices: in half precision behind a Cast, or in
single precision. Needs the ONNX package of the "train" extra.
"""

from __future__ import annotations

import functools
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
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
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "quantised.onnx"
        quantize_dynamic(
            _widened(model), out, op_types_to_quantize=["MatMul"], weight_type=QuantType.QInt8, per_channel=True
        )
        import onnx

        return onnx.load(str(out))


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


def _widened(model: onnx.ModelProto) -> onnx.ModelProto:
    """Half-precision weights as single-precision ones, without the Casts behind them."""
    import onnx
    from onnx import numpy_helper

    halves = {t.name: t for t in model.graph.initializer if t.data_type == onnx.TensorProto.FLOAT16}
    casts = [node for node in model.graph.node if node.op_type == "Cast" and node.input[0] in halves]
    for node in casts:
        values = numpy_helper.to_array(halves[node.input[0]]).astype(np.float32)
        model.graph.initializer.append(numpy_helper.from_array(values, node.output[0]))
        model.graph.node.remove(node)
    still_used = {name for node in model.graph.node for name in node.input}
    for name, tensor in halves.items():
        if name not in still_used:
            model.graph.initializer.remove(tensor)
    return model


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
