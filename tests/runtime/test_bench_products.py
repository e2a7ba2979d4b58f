"""The multiply-adds that are counted are those of the graph, node by node."""

from __future__ import annotations

import math
from dataclasses import replace

import onnx
import pytest

from policies.gato.config import SIZES, ModelConfig
from policies.gato.graph import build_graph
from policies.gato.model import Gato
from policies.gato.sequence import SequenceSpec
from runtime.bench.products import (
    Product,
    billions,
    bytes_read,
    multiply_adds,
    step_products,
    window_products,
)
from runtime.so101_policy import SEQUENCE
from tests.policies.gato.tiny import SPEC

TINY = SIZES["tiny"]


def graph_of(config: ModelConfig, spec: SequenceSpec) -> onnx.GraphProto:
    model = Gato(config, spec, 1024).requires_grad_(False)
    weights = {name: parameter.numpy() for name, parameter in model.named_parameters()}
    graph = build_graph(weights, config, spec, 1024)
    for entry in (*graph.graph.input, *graph.graph.output):
        for dimension in entry.type.tensor_type.shape.dim:
            if dimension.dim_param:
                dimension.dim_value = spec.cache()
    return onnx.shape_inference.infer_shapes(graph).graph


def counted(graph: onnx.GraphProto) -> tuple[int, int]:
    """Multiply-adds of every product and convolution of a graph, and the weights that they read."""
    shapes = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    for entry in (*graph.input, *graph.output, *graph.value_info):
        shapes[entry.name] = tuple(d.dim_value for d in entry.type.tensor_type.shape.dim)
    operations = weights = 0
    for node in graph.node:
        given = [shapes.get(name, ()) for name in node.input]
        if node.op_type in ("MatMul", "Gemm"):
            operations += math.prod(given[0]) * given[1][-1]
            weights += math.prod(given[1]) if len(given[1]) == 2 else 0  # of attention's, both factors have heads
        elif node.op_type == "Conv":
            operations += math.prod(shapes[node.output[0]]) * math.prod(given[1][1:])
            weights += math.prod(given[1])
    return operations, weights


@pytest.mark.parametrize("config", [TINY, replace(TINY, layers=1, heads=3)])
@pytest.mark.parametrize("spec", [SPEC, SEQUENCE])
def test_a_step_is_counted_as_the_graph_does_it(config: ModelConfig, spec: SequenceSpec) -> None:
    products = step_products(config, spec)
    operations, weights = counted(graph_of(config, spec))
    assert multiply_adds(products) == operations
    assert sum(product.weights for product in products) == weights


def test_what_is_read_are_weights_and_cache() -> None:
    products = step_products(TINY, SPEC)
    cache = 2 * TINY.layers * SPEC.cache() * TINY.width
    weights = sum(product.weights for product in products)
    assert bytes_read(products, TINY, SPEC.cache(), 2) == 2 * (weights + cache)


def test_a_training_sequence_is_counted_as_often_as_it_is_there() -> None:
    one, four = (multiply_adds(window_products(TINY, SPEC, 3, batch)) for batch in (1, 4))
    assert four == 4 * one


def test_a_window_of_one_block_is_a_step_that_computes_everything() -> None:
    spec = replace(SPEC, window=1)
    whole, step = multiply_adds(window_products(TINY, spec, 1)), multiply_adds(step_products(TINY, spec))
    assert whole > step


def test_products_repeat() -> None:
    product = Product(2, 3, 5, count=7, times=11)
    assert product.multiply_adds == 2 * 3 * 5 * 7 * 11
    assert product.weights == 3 * 5 * 11
    assert replace(product, weight=False).weights == 0
    assert billions([product]) == pytest.approx(2 * product.multiply_adds / 1e9)
