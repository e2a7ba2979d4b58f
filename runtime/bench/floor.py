"""The floor under a control step: how fast this machine multiplies matrices of these shapes, and reads its memory.

The step's matrix products and its weights are given (products.py). Each shape is multiplied alone, many times, and the
best time counts. ONNX Runtime multiplies where the package onnx is there to write graphs with, weights laid out as it
likes them best; NumPy does elsewhere.

The floor is the larger of the two times, not their sum: a processor fetches the next weights while it multiplies, and
a product that is measured alone, its weights in the cache, waits for none. So no implementation with these kernels
can be below it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.bench.products import Product

CALL = 20_000_000  # multiply-adds in one call, about: so many that calling costs nothing, so few that none disturbs
REPEATS_MAX = 16
READS = 3  # times that memory is read in one look

Singles = NDArray[np.float32]
Multiply = Callable[[], object]  # `repeats` products of one shape


@dataclass
class Floor:
    """Best times so far; `look` once a round, while others are timed."""

    products: Sequence[Product]
    bytes: int  # that have to be read
    threads: int
    kernels: str = "numpy"
    best: dict[Product, float] = field(default_factory=dict)  # s, of one product of each `shape`
    bandwidth: float = 0.0  # bytes / s
    _multiply: dict[Product, Multiply] = field(default_factory=dict, repr=False)
    _memory: list[Singles] = field(default_factory=list, repr=False)

    @classmethod
    def of(cls, products: Sequence[Product], size: int, threads: int) -> Floor:
        """The floor under `products` that read `size` bytes."""
        rng = np.random.default_rng(0)
        floor = cls(products, size, threads)
        make = _with_numpy
        if find_spec("onnx") is not None:
            make, floor.kernels = _with_onnxruntime, "ONNX Runtime"
        floor._multiply = {shape: make(shape, threads, rng) for shape in map(shape_of, products)}
        # As large as what is read: what a cache keeps of it from step to step, it keeps here too.
        floor._memory = np.array_split(np.ones(max(threads, size // 4), dtype=np.float32), threads)
        return floor

    def look(self) -> None:
        """Try everything once more."""
        for product, multiply in self._multiply.items():
            started = perf_counter()
            multiply()
            taken = (perf_counter() - started) / repeats(product)
            self.best[product] = min(taken, self.best.get(product, np.inf))
        with ThreadPoolExecutor(self.threads) as pool:
            for _ in range(READS):
                started = perf_counter()
                list(pool.map(_read, self._memory))
                self.bandwidth = max(self.bandwidth, self.bytes / (perf_counter() - started))

    @property
    def matrix_ms(self) -> float:
        """All products, each at its best."""
        return 1000 * sum(product.times * self.best[shape_of(product)] for product in self.products)

    @property
    def memory_ms(self) -> float:
        """Everything read once."""
        return 1000 * self.bytes / self.bandwidth

    @property
    def ms(self) -> float:
        return max(self.matrix_ms, self.memory_ms)

    def to_json(self) -> dict[str, Any]:
        operations = 2 * sum(product.multiply_adds for product in self.products)
        return {
            "ms": self.ms,
            "matrix_ms": self.matrix_ms,
            "memory_ms": self.memory_ms,
            "kernels": self.kernels,
            "threads": self.threads,
            "multiply_adds": operations // 2,
            "bytes": self.bytes,
            "gflops": operations / self.matrix_ms / 1e6,
            "gbytes_per_s": self.bandwidth / 1e9,
            "products": [
                {
                    "rows": p.rows,
                    "inner": p.inner,
                    "columns": p.columns,
                    "count": p.count,
                    "times": p.times,
                    "us": 1e6 * self.best[shape_of(p)],
                    "gflops": 2 * p.multiply_adds / p.times / self.best[shape_of(p)] / 1e9,
                }
                for p in self.products
            ],
        }


def shape_of(product: Product) -> Product:
    """One product of its shape."""
    return replace(product, times=1)


def repeats(product: Product) -> int:
    """How many products of a shape are multiplied in one call."""
    return max(1, min(REPEATS_MAX, CALL // shape_of(product).multiply_adds))


def _read(part: Singles) -> float:
    return float(np.dot(part, part))


def _factors(product: Product, rng: np.random.Generator) -> tuple[Singles, Singles]:
    side_by_side = () if product.weight else (product.count,)
    first = (*side_by_side, product.rows, product.inner)
    second = (*side_by_side, product.inner, product.columns)
    a, b = (rng.standard_normal(shape).astype(np.float32) for shape in (first, second))
    return a, b


def _with_numpy(product: Product, threads: int, rng: np.random.Generator) -> Multiply:
    """As many threads as NumPy's BLAS takes, which is all cores."""
    a, b = _factors(product, rng)
    out, count = np.matmul(a, b), repeats(product)

    def multiply() -> None:
        for _ in range(count):
            np.matmul(a, b, out=out)

    return multiply


def _with_onnxruntime(product: Product, threads: int, rng: np.random.Generator) -> Multiply:
    """A graph of such products, a weight each, nothing optimised away."""
    import onnxruntime

    from policies.gato.graph_ops import GraphBuilder

    a, b = _factors(product, rng)
    graph = GraphBuilder(np.float32)
    inputs = {graph.input("a", "float32", a.shape): a}
    if not product.weight:
        inputs[graph.input("b", "float32", b.shape)] = b
    outputs = []
    for index in range(repeats(product)):
        second = graph.number(b + np.float32(index)) if product.weight else "b"
        outputs.append(graph.op("MatMul", "a", second, outputs=(f"c{index}",)))
        graph.output(outputs[-1], "float32", (*a.shape[:-1], b.shape[-1]))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.add_session_config_entry("session.force_spinning_stop", "1")
    model = graph.model("product", "").SerializeToString()
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    binding = session.io_binding()
    kept = [(name, onnxruntime.OrtValue.ortvalue_from_numpy(array)) for name, array in inputs.items()]
    for name, value in kept:
        binding.bind_ortvalue_input(name, value)
    for name in outputs:
        empty = np.zeros((*a.shape[:-1], b.shape[-1]), dtype=np.float32)
        kept.append((name, onnxruntime.OrtValue.ortvalue_from_numpy(empty)))
        binding.bind_ortvalue_output(name, kept[-1][1])

    def multiply() -> list[tuple[str, Any]]:
        session.run_with_iobinding(binding)
        return kept  # what is bound has to live as long

    return multiply
