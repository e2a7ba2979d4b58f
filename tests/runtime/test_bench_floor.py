"""The floor: every shape at its best, memory read once, the larger of both."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from runtime.bench import floor as module
from runtime.bench.floor import Floor, repeats, shape_of
from runtime.bench.products import Product

PRODUCTS = (Product(4, 8, 16, times=3), Product(4, 8, 16), Product(5, 6, 7, count=2, weight=False))


@pytest.mark.parametrize("kernels", ["numpy", "ONNX Runtime"])
def test_a_floor_is_measured_with_either_kernels(kernels: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if kernels == "numpy":
        monkeypatch.setattr(module, "find_spec", lambda name: None)
    floor = Floor.of(PRODUCTS, 1 << 16, threads=1)
    floor.look()
    first = floor.ms
    floor.look()
    assert floor.kernels == kernels
    assert 0 < floor.ms <= first
    assert floor.ms == max(floor.matrix_ms, floor.memory_ms)
    assert set(floor.best) == {shape_of(product) for product in PRODUCTS}  # equal shapes are measured once
    content = floor.to_json()
    assert content["multiply_adds"] == sum(product.multiply_adds for product in PRODUCTS)
    assert len(content["products"]) == 3


def test_the_best_time_counts_as_often_as_the_product_is_there() -> None:
    floor = Floor(PRODUCTS, bytes=1000, threads=1, bandwidth=1e6)
    floor.best = {shape_of(PRODUCTS[0]): 0.002, shape_of(PRODUCTS[2]): 0.01}
    assert floor.matrix_ms == pytest.approx(3 * 2 + 2 + 10)
    assert floor.memory_ms == pytest.approx(1.0)
    assert floor.ms == floor.matrix_ms
    floor.bandwidth = 1e3
    assert floor.ms == pytest.approx(1000.0)


@pytest.mark.parametrize("make", [module._with_numpy, module._with_onnxruntime])
def test_small_products_are_repeated_and_large_ones_are_not(make: Callable[..., Callable[[], object]]) -> None:
    assert repeats(PRODUCTS[0]) == module.REPEATS_MAX
    assert repeats(Product(1000, 1000, 1000)) == 1
    for product in PRODUCTS:
        make(shape_of(product), 1, np.random.default_rng(0))()
