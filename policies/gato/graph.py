"""The control step as one ONNX graph: images and ids in, action ids out, the cache written where it stands.

The same function as `Gato.prefill_text` and `Gato.step` of model.py, and the same names for shapes: N tokens, D width,
S cache slots, A action tokens. It is written node by node, because what matters is what an exporter does not know:

- every layer's keys and values are one tensor (1, S, D) that enters as an input and leaves as an output. A caller that
  binds one piece of memory to both has a cache that is written in place and never copied; `cache_output` names them.
- of the last layer, keys and values are needed of every token, the rest of the A tokens that decode the action only.
- S is no number in the graph, so that a prompt with a demonstration takes the same file.
- The instruction goes through the same nodes: with `prompt` true the block's tokens are the text in front and rubbish
  behind, which no mask ever shows, and the ids that come out mean nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from policies.gato.config import ModelConfig
from policies.gato.graph_ops import TYPES, GraphBuilder
from policies.gato.sequence import FILLER, PERIOD, SequenceSpec, rotary_multiples
from policies.gato.tokens import BINS, CONTINUOUS_START, PATCH, RowMap, patch_grid

Weights = Mapping[str, NDArray[np.float32]]

GROUPS = 32  # of the group normalisations, as in model.py
SUBPATCH = 4  # side and stride of the stem's kernel


def cache_inputs(layers: int) -> list[str]:
    """Names of the cache's tensors, (1, S, D) each."""
    return [f"{what}_{layer}" for layer in range(layers) for what in ("keys", "values")]


def cache_output(name: str) -> str:
    """The output that is the cache input `name`, a block fuller."""
    return f"{name}_after"


def image_input(camera: str) -> str:
    """Name of a camera's input, (h, w, 3) uint8."""
    return f"image_{camera}"


@dataclass(frozen=True)
class _Place:
    """Where the block's tokens are written, how they are turned, and what they see."""

    slot: str  # (1,) int64
    cosines: str  # (1, N, C / 2)
    sines: str
    mask: str  # (1, S), added to scores


def build_graph(
    weights: Weights,
    config: ModelConfig,
    spec: SequenceSpec,
    vocabulary: int,
    *,
    real: type[np.floating] = np.float32,
    beside: Path | None = None,
    fused: bool = False,
) -> onnx.ModelProto:
    """The graph of a network whose parameters are `weights`, named as in model.py, computing with `real` numbers.

    With `beside` the weights go into that file, which has to lie beside the graph's. With `fused`, attention and
    residual normalisation are operators of ONNX Runtime's own: on a GPU 3.1 ms become 2.6 for 1.02 billion parameters,
    on a CPU nothing is gained.

    Inputs: an image a camera, `ids` (block_ids,), `text` (text,), `prompt` () bool, `slot` and `position` (1,) int64,
    `visible` (S,) bool, the cache. Outputs: `action` (A,) ids, then the cache. ValueError when the instruction
    has more places than a block.
    """
    if spec.text > spec.block:
        raise ValueError(f"an instruction of {spec.text} tokens does not pass through a block of {spec.block}")
    return _Network(weights, config, spec, vocabulary, GraphBuilder(real, beside, fused=fused)).build()


class _Network:
    def __init__(
        self, weights: Weights, config: ModelConfig, spec: SequenceSpec, vocabulary: int, builder: GraphBuilder
    ) -> None:
        self.weights, self.config, self.spec = weights, config, spec
        self.row_map = RowMap(vocabulary)
        self.g = builder
        self.kind = np.dtype(builder.real).name

    def build(self) -> onnx.ModelProto:
        g, spec = self.g, self.spec
        images = [g.input(image_input(name), "uint8", (h, w, 3)) for name, h, w in spec.cameras]
        ids = g.input("ids", "int64", (spec.block_ids,))
        text = g.input("text", "int64", (spec.text,))
        prompt = g.input("prompt", "bool", ())
        slot = g.input("slot", "int64", (1,))
        position = g.input("position", "int64", (1,))
        visible = g.input("visible", "bool", ("S",))
        cache = cache_inputs(self.config.layers)
        for name in cache:
            g.input(name, self.kind, (1, "S", self.config.width))
        place = _Place(slot, *self._angles(position), self._mask(visible))
        x = g.op("Where", prompt, self._text(text), self._block(images, ids))
        x = g.op("Unsqueeze", x, g.constant([0]))
        branch: str | None = None
        for layer in range(self.config.layers):
            x, branch = self._layer(x, branch, layer, place)
        g.op(
            "Add",
            self._choose(self._add_and_norm(x, branch, "norm")[1]),
            g.constant(CONTINUOUS_START),
            outputs=("action",),
        )
        g.output("action", "int64", (spec.actions,))
        for name in cache:
            g.output(cache_output(name), self.kind, (1, "S", self.config.width))
        return g.model("control_step", __doc__ or "")

    # What goes in

    def _block(self, images: list[str], ids: str) -> str:
        """(block, D): executed action and words, patches, proprioception and separator, blanks; `Gato.embed_blocks`."""
        g, spec = self.g, self.spec
        before = spec.actions + spec.words
        sizes = self._sizes(before, spec.block_ids - before)
        front, rear = g.split("Split", 2, self._embed(ids), sizes, axis=0)
        table, local = self._array("table.weight"), self._array("local_positions.weight")
        observed, action = local[: spec.observation], local[spec.observation :]
        filler = table[self.row_map.continuous_row + FILLER - CONTINUOUS_START]
        blanks = g.number(np.repeat(filler[None], spec.blanks, axis=0))
        tokens = g.op("Concat", front, self._patches(images), rear, blanks, axis=0)
        places = np.concatenate([action, observed, action[: spec.blanks]])
        return g.op("Add", tokens, g.weight("block_positions", places))

    def _text(self, text: str) -> str:
        """(block, D): the instruction, then zeros; `Gato.prefill_text`."""
        g, spec = self.g, self.spec
        x = g.op("Add", self._embed(text), self._weight("text_positions.weight"))
        return g.op("Pad", x, g.constant([0, 0, spec.block - spec.text, 0]))

    def _embed(self, ids: str) -> str:
        g = self.g
        low = g.op("Less", ids, g.constant(CONTINUOUS_START))
        high = g.op("Sub", ids, g.constant(CONTINUOUS_START - self.row_map.continuous_row))
        return g.op("Gather", self._weight("table.weight"), g.op("Where", low, ids, high))

    def _patches(self, images: list[str]) -> str:
        """(P, D), with their row and column positions; `Gato.embed_images`."""
        g = self.g
        tiles = []
        for image, (_, height, width) in zip(images, self.spec.cameras, strict=True):
            rows, columns = patch_grid(height, width)
            x = g.op("Reshape", image, g.constant([rows, PATCH, columns, PATCH, 3]))
            x = g.op("Transpose", x, perm=[0, 2, 4, 1, 3])
            tiles.append(g.op("Reshape", x, g.constant([rows * columns, 3, PATCH, PATCH])))
        x = g.op("Concat", *tiles, axis=0) if len(tiles) > 1 else tiles[0]
        x = g.op("Cast", x, to=TYPES[self.kind])
        x = g.op("Sub", g.op("Div", x, g.number(127.5)), g.number(1.0))
        x = g.op("Div", x, g.number(np.sqrt(PATCH)))
        x = self._convolve(x, "patch.stem", strides=[SUBPATCH, SUBPATCH])
        y = self._convolve(g.op("Gelu", self._group_norm(x, "patch.norm1")), "patch.conv1", pads=[1, 1, 1, 1])
        y = self._convolve(g.op("Gelu", self._group_norm(y, "patch.norm2")), "patch.conv2", pads=[1, 1, 1, 1])
        x = g.op("Flatten", g.op("Add", x, y), axis=1)
        x = g.op("Add", self._linear(x, "patch.out"), self._weight("patch.out.bias"))
        row, column = self.spec.patch_positions()
        place = self._array("row_positions.weight")[row] + self._array("column_positions.weight")[column]
        return g.op("Add", x, g.number(place))

    def _convolve(self, x: str, name: str, **attributes: Any) -> str:
        return self.g.op("Conv", x, self._weight(f"{name}.weight"), self._weight(f"{name}.bias"), **attributes)

    def _group_norm(self, x: str, name: str) -> str:
        """Layer normalisation of each patch's groups, then a scale and a shift for each channel."""
        g, channels = self.g, self.config.patch_channels
        side = PATCH // SUBPATCH
        size = channels // GROUPS * side * side
        ones, zeros = g.number(np.ones(size)), g.number(np.zeros(size))
        x = g.op("Reshape", x, g.constant([-1, GROUPS, size]))
        x = g.op("LayerNormalization", x, ones, zeros, axis=-1)
        x = g.op("Reshape", x, g.constant([-1, channels, side, side]))
        by_channel = (channels, 1, 1)
        scale = g.weight(f"{name}.scale", self._array(f"{name}.weight").reshape(by_channel))
        shift = g.weight(f"{name}.shift", self._array(f"{name}.bias").reshape(by_channel))
        return g.op("Add", g.op("Mul", x, scale), shift)

    # Where it goes, and what it sees

    def _angles(self, position: str) -> tuple[str, str]:
        """(1, N, C / 2) cosines and sines of the block's places, as `model.rotary_table` has them."""
        g = self.g
        places = g.op("Add", position, g.constant(np.arange(self.spec.block)))
        multiples = rotary_multiples(self.config.head_width)
        turned = g.op("Mul", g.op("Unsqueeze", places, g.constant([1])), g.constant(multiples))
        phases = g.op("Unsqueeze", g.op("Mod", turned, g.constant(PERIOD)), g.constant([0]))
        circle = 2 * np.pi * np.arange(PERIOD) / PERIOD
        cosines, sines = (g.number(f(circle)) for f in (np.cos, np.sin))
        return g.op("Gather", cosines, phases), g.op("Gather", sines, phases)

    def _mask(self, visible: str) -> str:
        """(1, S): 0 where a slot is visible, else the lowest number."""
        g = self.g
        shut = g.number(np.finfo(g.real).min)
        return g.op("Unsqueeze", g.op("Where", visible, g.number(0), shut), g.constant([0]))

    # The layers

    def _layer(self, x: str, branch: str | None, layer: int, at: _Place) -> tuple[str, str]:
        """Tokens (1, N, D) through a layer, into the cache; of the last layer, (1, A, D) of those that decode.

        In and out: the residual stream, and the branch that is still to be added to it.
        """
        g, heads, width = self.g, self.config.heads, self.config.width
        name = f"layers.{layer}"
        x, normed = self._add_and_norm(x, branch, f"{name}.norm1")
        qkv = self._linear(normed, f"{name}.qkv")
        turned, v = g.split("Split", 2, qkv, self._sizes(2 * width, width), axis=2)
        turned = g.op("RotaryEmbedding", turned, at.cosines, at.sines, num_heads=2 * heads)
        q, k = g.split("Split", 2, turned, axis=2, num_outputs=2)
        keys, values = (
            g.op("TensorScatter", what, update, at.slot, axis=1, outputs=(cache_output(what),))
            for what, update in ((f"keys_{layer}", k), (f"values_{layer}", v))
        )
        count = self.spec.block
        if layer == self.config.layers - 1:
            count = self.spec.actions
            ends = g.constant([-count]), g.constant([np.iinfo(np.int64).max]), g.constant([1])
            q, x = g.op("Slice", q, *ends), g.op("Slice", x, *ends)
        mask = g.op("Expand", at.mask, g.constant([count, 1]))
        if g.fused:
            bias = g.op("Unsqueeze", mask, g.constant([0, 1]))
            attended = g.op("MultiHeadAttention", q, keys, values, "", "", bias, num_heads=heads)
        else:
            attended = g.op("Attention", q, keys, values, mask, q_num_heads=heads, kv_num_heads=heads)
        x, normed = self._add_and_norm(x, self._linear(attended, f"{name}.project"), f"{name}.norm2")
        gate, value = g.split("Split", 2, self._linear(normed, f"{name}.up"), axis=2, num_outputs=2)
        return x, self._linear(g.op("Mul", g.op("Gelu", gate), value), f"{name}.down")

    def _add_and_norm(self, x: str, branch: str | None, name: str) -> tuple[str, str]:
        """x + branch, and its layer normalisation."""
        g, scale, shift = self.g, self._weight(f"{name}.weight"), self._weight(f"{name}.bias")
        if branch is None or not g.fused:
            x = x if branch is None else g.op("Add", x, branch)
            return x, g.op("LayerNormalization", x, scale, shift, axis=-1)
        normed, _, _, x = g.split("SkipLayerNormalization", 4, x, branch, scale, shift, epsilon=1e-5)
        return x, normed

    def _choose(self, hidden: str) -> str:
        """(A,): the bins with the highest logits; only the head's rows of bins are stored."""
        g, start = self.g, self.row_map.continuous_row
        head = g.weight("head.bins", self._array("head.weight")[start : start + BINS].T)
        return g.op("Squeeze", g.op("ArgMax", g.op("MatMul", hidden, head), axis=-1, keepdims=0), g.constant([0]))

    # Weights

    def _linear(self, x: str, name: str) -> str:
        """torch keeps (out, in)."""
        return self.g.op("MatMul", x, self.g.weight(f"{name}.transposed", self._array(f"{name}.weight").T))

    def _weight(self, name: str) -> str:
        return self.g.weight(name, self._array(name))

    def _array(self, name: str) -> NDArray[np.float32]:
        return self.weights[name]

    def _sizes(self, *sizes: int) -> str:
        return self.g.constant(sizes)
