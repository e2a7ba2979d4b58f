"""Images to patch tokens, as nodes of a graph: the same function as `Gato.embed_images` of model.py.

Knows parameters and sizes, not what happens to the tokens. Shapes: P patches of all cameras, D width.

Nothing is laid out anew that need not be. A patch is cut out of an image in rows of pixels, their colours side by side:
for the stem that is one channel and a kernel of 4 by 12. The patches of all cameras go through in one batch.
Group normalisation is layer normalisation of each patch's groups, scaled and shifted in the same operator. The last
product starts from what is added to it: its bias, the patch's row and column, and its place in the block.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from policies.gato.config import ModelConfig
from policies.gato.graph_ops import Parameters
from policies.gato.sequence import SequenceSpec
from policies.gato.tokens import PATCH, patch_grid

GROUPS = 32  # of the group normalisations, as in model.py
SUBPATCH = 4  # side and stride of the stem's kernel
SIDE = PATCH // SUBPATCH  # of what the stem leaves of a patch
HALF = 127.5  # of the range of a pixel


def embed_patches(
    parameters: Parameters, config: ModelConfig, spec: SequenceSpec, images: Sequence[str], places: str
) -> str:
    """(P, D) of images (h, w, 3) uint8, one a camera, with their row and column positions and `places` (P, D)."""
    p, g = parameters, parameters.graph
    x = _stem(p, config.patch_channels, spec, images)
    y = _convolve(p, _group_norm(p, config.patch_channels, x, "patch.norm1"), "patch.conv1")
    y = _convolve(p, _group_norm(p, config.patch_channels, y, "patch.norm2"), "patch.conv2")
    row, column = spec.patch_positions()
    position = p.array("row_positions.weight")[row] + p.array("column_positions.weight")[column]
    shift = g.op("Add", p.weight("patch.out.bias"), g.op("Add", g.number(position), places))
    return g.op("Gemm", g.op("Flatten", g.op("Add", x, y), axis=1), p.turned("patch.out"), shift)


def _stem(p: Parameters, channels: int, spec: SequenceSpec, images: Sequence[str]) -> str:
    """(P, channels, 4, 4)."""
    g = p.graph
    kernel = g.op("Transpose", p.weight("patch.stem.weight"), perm=[0, 2, 3, 1])
    kernel = g.op("Reshape", kernel, g.constant([channels, 1, SUBPATCH, 3 * SUBPATCH]))
    tiles = []
    for image, (_, height, width) in zip(images, spec.cameras, strict=True):
        rows, columns = patch_grid(height, width)
        x = g.op("Reshape", image, g.constant([rows, PATCH, columns, 3 * PATCH]))
        x = g.op("Transpose", x, perm=[0, 2, 1, 3])
        tiles.append(g.op("Reshape", x, g.constant([rows * columns, 1, PATCH, 3 * PATCH])))
    x = g.op("Concat", *tiles, axis=0) if len(tiles) > 1 else tiles[0]
    x = g.op("Sub", g.op("Cast", x, to=g.kind), g.number(HALF))
    x = g.op("Mul", x, g.number(1 / (HALF * np.sqrt(PATCH))))
    return g.op("Conv", x, kernel, p.weight("patch.stem.bias"), strides=[SUBPATCH, 3 * SUBPATCH])


def _convolve(p: Parameters, x: str, name: str) -> str:
    return p.graph.op("Conv", x, p.weight(f"{name}.weight"), p.weight(f"{name}.bias"), pads=[1, 1, 1, 1])


def _group_norm(p: Parameters, channels: int, x: str, name: str) -> str:
    """(P, channels, 4, 4) normalised, through the GELU."""
    g, size = p.graph, channels // GROUPS * SIDE * SIDE
    by_group = []
    for what, parameter in (("scale", "weight"), ("shift", "bias")):
        by_channel = g.weight(f"{name}.{what}", p.array(f"{name}.{parameter}").reshape(channels, 1, 1))
        spread = g.op("Expand", by_channel, g.constant([channels, SIDE, SIDE]))
        by_group.append(g.op("Reshape", spread, g.constant([1, GROUPS, size])))
    x = g.op("Reshape", x, g.constant([-1, GROUPS, size]))
    x = g.op("Gelu", g.op("LayerNormalization", x, *by_group, axis=-1))
    return g.op("Reshape", x, g.constant([-1, channels, SIDE, SIDE]))
