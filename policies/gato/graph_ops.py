"""A few words to write ONNX graphs with: nodes, weights stored in half precision, constants, parameters by name.

Knows no model. ONNX alone, no torch: a graph is described, never traced. Real numbers are computed with as fp32 or as
fp16; a graph beyond the 2 GB that one file may have keeps its weights in a file beside it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

OPSET = 24  # the first with TensorScatter and Attention on a cache that is written in place
IR_VERSION = 11  # of opset 24's time

VENDOR = "com.microsoft"
FUSED = frozenset({"MultiHeadAttention", "SkipLayerNormalization"})

IN_THE_GRAPH = 1 << 20  # bytes; smaller tensors stay in the graph
ALIGNED = 4096  # bytes; so that the file can be mapped

TYPES = {
    "bool": TensorProto.BOOL,
    "float16": TensorProto.FLOAT16,
    "float32": TensorProto.FLOAT,
    "int64": TensorProto.INT64,
    "uint8": TensorProto.UINT8,
}


class GraphBuilder:
    """Collects the parts of one graph. A value is named by a string; every method that computes returns such names."""

    def __init__(
        self, real: type[np.floating] = np.float32, beside: Path | None = None, *, fused: bool = False
    ) -> None:
        """`real` is what real numbers are computed with; weights go into the file `beside`, if there is one.

        With `fused` the graph may have operators of ONNX Runtime's own, which do the work of several.
        """
        self.real, self.fused = real, fused
        self.kind = TYPES[np.dtype(real).name]
        self._beside = beside
        self._file: BinaryIO | None = None if beside is None else beside.open("wb")
        self._nodes: list[onnx.NodeProto] = []
        self._initializers: dict[str, onnx.TensorProto] = {}
        self._inputs: list[onnx.ValueInfoProto] = []
        self._outputs: list[onnx.ValueInfoProto] = []

    def input(self, name: str, kind: str, shape: Sequence[int | str]) -> str:
        """An input of the graph; a word in `shape` is a dimension that may vary."""
        self._inputs.append(helper.make_tensor_value_info(name, TYPES[kind], list(shape)))
        return name

    def output(self, name: str, kind: str, shape: Sequence[int | str]) -> None:
        """Make the value `name` an output of the graph."""
        self._outputs.append(helper.make_tensor_value_info(name, TYPES[kind], list(shape)))

    def weight(self, name: str, values: NDArray[np.floating]) -> str:
        """`values` kept as fp16; where fp32 is computed with, the runtime widens them once, when it loads the graph."""
        if name not in self._initializers:
            self._store(name, values.astype(np.float16))
            if self.real is np.float32:
                self.op("Cast", name, to=TensorProto.FLOAT, outputs=(f"{name}.wide",))
        return f"{name}.wide" if self.real is np.float32 else name

    def number(self, values: object) -> str:
        """A constant real number, or some."""
        return self.constant(values, self.real)

    def constant(self, values: object, dtype: type[np.generic] = np.int64) -> str:
        """A constant of a few numbers, as they are; equal ones are stored once."""
        array = np.asarray(values, dtype=dtype)
        name = f"constant.{array.dtype}.{'x'.join(map(str, array.shape))}.{array.tobytes().hex()[:64]}"
        if array.nbytes > 32:
            name += f".{len(self._initializers)}"
        if name not in self._initializers:
            self._store(name, array)
        return name

    def op(self, kind: str, *inputs: str, outputs: Sequence[str] = (), **attributes: Any) -> str:
        """A node with one output, whose name is returned; an empty input is one that is left out."""
        return self.split(kind, 1, *inputs, outputs=outputs, **attributes)[0]

    def split(self, kind: str, count: int, *inputs: str, outputs: Sequence[str] = (), **attributes: Any) -> list[str]:
        """A node with `count` outputs; `outputs` names them where the name matters."""
        index = len(self._nodes)
        names = list(outputs) or [f"{kind}.{index}.{i}" for i in range(count)]
        if kind in FUSED:
            attributes["domain"] = VENDOR
        self._nodes.append(helper.make_node(kind, list(inputs), names, name=f"{kind}.{index}", **attributes))
        return names

    def model(self, name: str, description: str) -> onnx.ModelProto:
        """The finished graph, checked against the standard."""
        graph = helper.make_graph(
            self._nodes, name, self._inputs, self._outputs, list(self._initializers.values()), doc_string=description
        )
        domains = [helper.make_opsetid("", OPSET), *([helper.make_opsetid(VENDOR, 1)] if self.fused else [])]
        model = helper.make_model(graph, opset_imports=domains, producer_name="gato-arm")
        model.ir_version = IR_VERSION
        if self._file is not None:
            self._file.close()
        elif not self.fused:  # the checker knows the standard alone
            onnx.checker.check_model(model)
        return model

    def _store(self, name: str, array: NDArray[np.generic]) -> None:
        array = np.asarray(array, order="C")
        if self._file is None or self._beside is None or array.nbytes < IN_THE_GRAPH:
            self._initializers[name] = numpy_helper.from_array(array, name)
            return
        self._file.seek(-self._file.tell() % ALIGNED, 1)
        tensor = TensorProto(name=name, dims=array.shape, data_type=helper.np_dtype_to_tensor_dtype(array.dtype))
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in (("location", self._beside.name), ("offset", self._file.tell()), ("length", array.nbytes)):
            tensor.external_data.add(key=key, value=str(value))
        array.tofile(self._file)
        self._initializers[name] = tensor


class Parameters:
    """A network's parameters by the names that model.py gives them, as values of a graph.

    Each is stored once, under a name that says how it lies there. A value that is computed from stored ones alone is
    computed by the runtime when it loads the graph.
    """

    def __init__(self, graph: GraphBuilder, arrays: Mapping[str, NDArray[np.float32]]) -> None:
        self.graph, self._arrays = graph, arrays

    def array(self, name: str) -> NDArray[np.float32]:
        """The numbers themselves."""
        return self._arrays[name]

    def weight(self, name: str) -> str:
        """As it is."""
        return self.graph.weight(name, self._arrays[name])

    def turned(self, name: str) -> str:
        """(in, out), the weight of a linear map; torch keeps (out, in)."""
        return self.graph.weight(f"{name}.transposed", self._arrays[f"{name}.weight"].T)

    def linear(self, x: str, name: str) -> str:
        """A linear map without a bias."""
        return self.graph.op("MatMul", x, self.turned(name))

    def linear_parts(self, x: str, name: str, count: int) -> list[str]:
        """A linear map whose output is `count` things of equal width, the things one by one.

        On a CPU a product for each spares the copies; on a GPU fewer products are faster.
        """
        g = self.graph
        if g.fused:
            return g.split("Split", count, self.linear(x, name), axis=-1, num_outputs=count)
        return [g.op("MatMul", x, part) for part in self.turned_parts(name, count)]

    def turned_parts(self, name: str, count: int) -> list[str]:
        """`turned` in `count` parts of equal width."""
        return self.graph.split("Split", count, self.turned(name), axis=1, num_outputs=count)
