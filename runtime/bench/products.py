"""The matrix products of the network, counted from its sizes: what no implementation gets around.

Knows shapes only. Convolutions are counted as the products that they are; norms, activations, embeddings and the
softmax are left out: together they are under a hundredth of the multiply-adds.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from policies.gato.config import ModelConfig
from policies.gato.sequence import SequenceSpec
from policies.gato.tokens import BINS, PATCH

STEM = 4  # side and stride of the patch embedding's first kernel
KERNEL = 3  # side of the others


@dataclass(frozen=True)
class Product:
    """(rows, inner) times (inner, columns), `count` times side by side, `times` times one after the other.

    `weight`: the second factor is a weight that has to be read from memory, and not something just computed.
    """

    rows: int
    inner: int
    columns: int
    count: int = 1
    times: int = 1
    weight: bool = True

    @property
    def multiply_adds(self) -> int:
        return self.rows * self.inner * self.columns * self.count * self.times

    @property
    def weights(self) -> int:
        """Numbers of the second factor that have to be read, all times together."""
        return self.inner * self.columns * self.times if self.weight else 0


def step_products(config: ModelConfig, spec: SequenceSpec, demonstration: int = 0) -> list[Product]:
    """One control step as the graph does it: of the last layer, only the tokens that decode go beyond the cache."""
    tokens, slots = spec.block, spec.cache(demonstration)
    products = patch_products(config, spec.patches)
    products += layer_products(config, tokens, tokens, slots, times=config.layers - 1)
    products += layer_products(config, tokens, spec.actions, slots)
    products.append(Product(spec.actions, config.width, BINS))
    return [product for product in products if product.times]


def window_products(config: ModelConfig, spec: SequenceSpec, blocks: int, batch: int = 1) -> list[Product]:
    """`batch` sequences of an instruction and `blocks` timesteps, everything computed anew, as training does."""
    tokens = spec.text + blocks * spec.block
    products = patch_products(config, batch * blocks * spec.patches)
    products += layer_products(config, tokens, tokens, tokens, times=config.layers, batch=batch)
    products.append(Product(batch * blocks * spec.actions, config.width, BINS))
    return products


def patch_products(config: ModelConfig, patches: int) -> list[Product]:
    """The patch embedding."""
    channels, places = config.patch_channels, (PATCH // STEM) ** 2
    return [
        Product(patches * places, 3 * STEM**2, channels),
        Product(patches * places, channels * KERNEL**2, channels, times=2),
        Product(patches, channels * places, config.width),
    ]


def layer_products(
    config: ModelConfig, tokens: int, asking: int, slots: int, *, times: int = 1, batch: int = 1
) -> list[Product]:
    """Layers in which `tokens` enter the cache and `asking` of them look at `slots` and go on."""
    rows = batch * tokens
    width, heads, head_width = config.width, config.heads, config.head_width
    if asking == tokens:
        entering = [Product(rows, width, 3 * width, times=times)]
    else:
        entering = [Product(rows, width, 2 * width, times=times), Product(batch * asking, width, width, times=times)]
    return [
        *entering,
        Product(asking, head_width, slots, batch * heads, times, weight=False),
        Product(asking, slots, head_width, batch * heads, times, weight=False),
        Product(batch * asking, width, width, times=times),
        Product(batch * asking, width, 2 * config.feedforward, times=times),
        Product(batch * asking, config.feedforward, width, times=times),
    ]


def multiply_adds(products: Iterable[Product]) -> int:
    """Altogether."""
    return sum(product.multiply_adds for product in products)


def bytes_read(products: Iterable[Product], config: ModelConfig, slots: int, width_bytes: int) -> int:
    """What a step reads at least once: the weights of its products, and the cache."""
    cache = 2 * config.layers * slots * config.width
    return (sum(product.weights for product in products) + cache) * width_bytes


def describe(products: Iterable[Product]) -> str:
    """One line for a table's note."""
    listed = list(products)
    return f"{multiply_adds(listed) / 1e6:,.0f} M multiply-adds in {sum(p.count * p.times for p in listed)} products"


def billions(products: Iterable[Product]) -> float:
    """Floating-point operations, 1e9: a multiply-add is two."""
    return 2 * math.fsum(product.multiply_adds for product in products) / 1e9
