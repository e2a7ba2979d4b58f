"""The control step as one ONNX graph: images and ids in, action ids out, the cache written where it stands.

The same function as `Gato.prefill_text` and `Gato.step` of model.py, and the same names for shapes: N tokens, D width,
S cache slots, A action tokens. It is written node by node, because what matters is what an exporter does not know:

- every layer's keys and values are one tensor (1, S, D) that enters as an input and leaves, after each pass of the
  decoder, as an output. A caller that binds one piece of memory to the input and to all those outputs has a cache that
  is written in place and never copied; `cache_outputs` names them.
- the decoder's passes are unrolled, without control flow, over one set of weights.
- of the last layer, the pass over the block needs keys and values of every token but the rest of one only.
- S is no number in the graph, so that a prompt with a demonstration takes the same file.
- The instruction goes through the same nodes: with `prompt` true the block's tokens are the text in front and rubbish
  behind, which no mask ever shows, and the ids that come out mean nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from policies.gato.config import ModelConfig
from policies.gato.graph_ops import GraphBuilder
from policies.gato.sequence import PERIOD, SequenceSpec, rotary_multiples
from policies.gato.tokens import BINS, CONTINUOUS_START, PATCH, RowMap, patch_grid

Weights = Mapping[str, NDArray[np.float32]]

GROUPS = 32  # of the group normalisations, as in model.py
SUBPATCH = 4  # side and stride of the stem's kernel


def cache_inputs(layers: int) -> list[str]:
    """Names of the cache's tensors, (1, S, D) each."""
    return [f"{what}_{layer}" for layer in range(layers) for what in ("keys", "values")]


def cache_outputs(layers: int, actions: int) -> dict[str, list[str]]:
    """For each cache input, the outputs that are the same tensor, a little fuller: one for each pass."""
    return {name: [f"{name}_after_{step}" for step in range(actions)] for name in cache_inputs(layers)}


def image_input(camera: str) -> str:
    """Name of a camera's input, (h, w, 3) uint8."""
    return f"image_{camera}"


@dataclass(frozen=True)
class _Pass:
    """One run through the layers: where its tokens are written, turned, and what they see."""

    step: int
    slot: str  # (1,) int64
    cosines: str  # (1, N, C / 2)
    sines: str
    mask: str  # (1, S), added to scores
    wide_mask: str  # (N, S), the same for every token


def build_graph(weights: Weights, config: ModelConfig, spec: SequenceSpec, vocabulary: int) -> onnx.ModelProto:
    """The graph of a network whose parameters are `weights`, named as in model.py.

    Inputs: an image a camera, `ids` (block_ids,), `text` (text,), `prompt` () bool, `slot` and `position` (1,) int64,
    `visible` (S,) bool, the cache. Outputs: `action` (A,) ids, then the cache after each pass. ValueError when the
    instruction has more places than a block.
    """
    if spec.text > spec.block:
        raise ValueError(f"an instruction of {spec.text} tokens does not pass through a block of {spec.block}")
    return _Network(weights, config, spec, vocabulary).build()


class _Network:
    def __init__(self, weights: Weights, config: ModelConfig, spec: SequenceSpec, vocabulary: int) -> None:
        self.weights, self.config, self.spec = weights, config, spec
        self.row_map = RowMap(vocabulary)
        self.g = GraphBuilder()
        self.cache = {name: name for name in cache_inputs(config.layers)}  # input to its newest version

    def build(self) -> onnx.ModelProto:
        g, spec = self.g, self.spec
        images = [g.input(image_input(name), "uint8", (h, w, 3)) for name, h, w in spec.cameras]
        ids = g.input("ids", "int64", (spec.block_ids,))
        text = g.input("text", "int64", (spec.text,))
        prompt = g.input("prompt", "bool", ())
        slot = g.input("slot", "int64", (1,))
        position = g.input("position", "int64", (1,))
        visible = g.input("visible", "bool", ("S",))
        for name in self.cache:
            g.input(name, "float32", (1, "S", self.config.width))
        passes = self._passes(slot, position, visible)
        x = g.op("Where", prompt, self._text(text), self._block(images, ids))
        x = self._run(g.op("Unsqueeze", x, g.constant([0])), passes[0])
        bins = [self._choose(x)]
        for step in range(1, spec.actions):
            bins.append(self._choose(self._run(self._action(bins[-1], step - 1), passes[step])))
        chosen = g.op("Concat", *bins, axis=0)
        g.op("Add", chosen, g.constant(CONTINUOUS_START), outputs=("action",))
        g.output("action", "int64", (spec.actions,))
        for names in cache_outputs(self.config.layers, spec.actions).values():
            for name in names:
                g.output(name, "float32", (1, "S", self.config.width))
        return g.model("control_step", __doc__ or "")

    # What goes in

    def _block(self, images: list[str], ids: str) -> str:
        """(block, D): executed action and words, patches, proprioception and separator; `Gato.embed_blocks`."""
        g, spec = self.g, self.spec
        before = spec.actions + spec.words
        sizes = self._sizes(before, spec.block_ids - before)
        front, rear = g.split("Split", 2, self._embed(ids), sizes, axis=0)
        tokens = g.op("Concat", front, self._patches(images), rear, axis=0)
        local = self._array("local_positions.weight")
        order = np.roll(np.arange(spec.block), spec.actions)  # a timestep has its action behind, a block in front
        return g.op("Add", tokens, g.weight("block_positions", local[order]))

    def _text(self, text: str) -> str:
        """(block, D): the instruction, then zeros; `Gato.prefill_text`."""
        g, spec = self.g, self.spec
        x = g.op("Add", self._embed(text), self._weight("text_positions.weight"))
        return g.op("Pad", x, g.constant([0, 0, spec.block - spec.text, 0]))

    def _action(self, bins: str, place: int) -> str:
        """(1, 1, D): the action token at `place`, as decoder input; `Gato.embed_actions`."""
        g = self.g
        table = g.op(
            "Slice",
            self._weight("table.weight"),
            g.constant([self.row_map.continuous_row]),
            g.constant([self.row_map.continuous_row + BINS]),
        )
        row = self.spec.observation + place
        here = g.op("Slice", self._weight("local_positions.weight"), g.constant([row]), g.constant([row + 1]))
        return g.op("Unsqueeze", g.op("Add", g.op("Gather", table, bins), here), g.constant([0]))

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
        x = g.op("Cast", x, to=onnx.TensorProto.FLOAT)
        x = g.op("Sub", g.op("Div", x, g.constant(127.5, np.float32)), g.constant(1.0, np.float32))
        x = g.op("Div", x, g.constant(np.sqrt(PATCH), np.float32))
        x = self._convolve(x, "patch.stem", strides=[SUBPATCH, SUBPATCH])
        y = self._convolve(g.op("Gelu", self._group_norm(x, "patch.norm1")), "patch.conv1", pads=[1, 1, 1, 1])
        y = self._convolve(g.op("Gelu", self._group_norm(y, "patch.norm2")), "patch.conv2", pads=[1, 1, 1, 1])
        x = g.op("Flatten", g.op("Add", x, y), axis=1)
        x = g.op("Add", self._linear(x, "patch.out"), self._weight("patch.out.bias"))
        row, column = self.spec.patch_positions()
        place = self._array("row_positions.weight")[row] + self._array("column_positions.weight")[column]
        return g.op("Add", x, g.constant(place, np.float32))

    def _convolve(self, x: str, name: str, **attributes: Any) -> str:
        return self.g.op("Conv", x, self._weight(f"{name}.weight"), self._weight(f"{name}.bias"), **attributes)

    def _group_norm(self, x: str, name: str) -> str:
        """Layer normalisation of each patch's groups, then a scale and a shift for each channel."""
        g, channels = self.g, self.config.patch_channels
        side = PATCH // SUBPATCH
        size = channels // GROUPS * side * side
        ones, zeros = g.constant(np.ones(size), np.float32), g.constant(np.zeros(size), np.float32)
        x = g.op("Reshape", x, g.constant([-1, GROUPS, size]))
        x = g.op("LayerNormalization", x, ones, zeros, axis=-1)
        x = g.op("Reshape", x, g.constant([-1, channels, side, side]))
        by_channel = (channels, 1, 1)
        scale = g.weight(f"{name}.scale", self._array(f"{name}.weight").reshape(by_channel))
        shift = g.weight(f"{name}.shift", self._array(f"{name}.bias").reshape(by_channel))
        return g.op("Add", g.op("Mul", x, scale), shift)

    # Where and what each pass sees

    def _passes(self, slot: str, position: str, visible: str) -> list[_Pass]:
        g, spec = self.g, self.spec
        extra = spec.actions - 1
        places = g.op("Add", position, g.constant(np.arange(spec.block + extra)))
        cosines, sines = self._angles(places)
        sizes = self._sizes(spec.block, *[1] * extra)
        cosines_of = g.split("Split", spec.actions, cosines, sizes, axis=1)
        sines_of = g.split("Split", spec.actions, sines, sizes, axis=1)
        slots = g.op("Shape", visible)
        scratch = g.op("Sub", slots, g.constant([extra]))
        masks = g.split("Split", spec.actions, self._masks(visible, slots, scratch), axis=0, num_outputs=spec.actions)
        starts = [slot, *(g.op("Add", scratch, g.constant([step])) for step in range(extra))]
        wide = [g.op("Expand", masks[0], g.constant([spec.block, 1])), *masks[1:]]
        return [_Pass(i, *parts) for i, parts in enumerate(zip(starts, cosines_of, sines_of, masks, wide, strict=True))]

    def _angles(self, places: str) -> tuple[str, str]:
        """(1, N, C / 2) cosines and sines of places (N,), as `model.rotary_table` has them."""
        g = self.g
        multiples = rotary_multiples(self.config.head_width)
        turned = g.op("Mul", g.op("Unsqueeze", places, g.constant([1])), g.constant(multiples))
        phases = g.op("Unsqueeze", g.op("Mod", turned, g.constant(PERIOD)), g.constant([0]))
        circle = 2 * np.pi * np.arange(PERIOD) / PERIOD
        cosines, sines = (g.constant(f(circle), np.float32) for f in (np.cos, np.sin))
        return g.op("Gather", cosines, phases), g.op("Gather", sines, phases)

    def _masks(self, visible: str, slots: str, scratch: str) -> str:
        """(A, S): row k opens the first k scratch slots beside what is `visible`."""
        g = self.g
        zero, one = g.constant(0), g.constant(1)
        every = g.op("Range", zero, g.op("Squeeze", slots), one)
        behind = g.op("Sub", every, scratch)
        steps = g.constant(np.arange(self.spec.actions)[:, None])
        opened = g.op("And", g.op("GreaterOrEqual", behind, zero), g.op("Less", behind, steps))
        seen = g.op("Or", visible, opened)
        return g.op("Where", seen, g.constant(0, np.float32), g.constant(np.finfo(np.float32).min, np.float32))

    # The layers

    def _run(self, x: str, at: _Pass) -> str:
        """Tokens (1, N, D) through the layers, into the cache; the hidden state (1, 1, D) of the last of them."""
        layers = self.config.layers
        for layer in range(layers):
            x = self._layer(x, layer, at, last_token_only=at.step == 0 and layer == layers - 1)
        return self._norm(x, "norm")

    def _layer(self, x: str, layer: int, at: _Pass, last_token_only: bool) -> str:
        g, heads, width = self.g, self.config.heads, self.config.width
        name = f"layers.{layer}"
        qkv = self._linear(self._norm(x, f"{name}.norm1"), f"{name}.qkv")
        turned, v = g.split("Split", 2, qkv, self._sizes(2 * width, width), axis=2)
        turned = g.op("RotaryEmbedding", turned, at.cosines, at.sines, num_heads=2 * heads)
        q, k = g.split("Split", 2, turned, axis=2, num_outputs=2)
        keys = self._write(f"keys_{layer}", k, at)
        values = self._write(f"values_{layer}", v, at)
        mask = at.wide_mask
        if last_token_only:
            mask = at.mask
            ends = g.constant([-1]), g.constant([np.iinfo(np.int64).max]), g.constant([1])
            q, x = g.op("Slice", q, *ends), g.op("Slice", x, *ends)
        attended = g.op("Attention", q, keys, values, mask, q_num_heads=heads, kv_num_heads=heads)
        x = g.op("Add", x, self._linear(attended, f"{name}.project"))
        up = self._linear(self._norm(x, f"{name}.norm2"), f"{name}.up")
        gate, value = g.split("Split", 2, up, axis=2, num_outputs=2)
        return g.op("Add", x, self._linear(g.op("Mul", g.op("Gelu", gate), value), f"{name}.down"))

    def _write(self, name: str, update: str, at: _Pass) -> str:
        written = f"{name}_after_{at.step}"
        self.g.op("TensorScatter", self.cache[name], update, at.slot, axis=1, outputs=(written,))
        self.cache[name] = written
        return written

    def _choose(self, hidden: str) -> str:
        """(1,): the bin with the highest logit; only the head's rows of bins are stored."""
        g, start = self.g, self.row_map.continuous_row
        head = g.weight("head.bins", self._array("head.weight")[start : start + BINS].T)
        return g.op("Squeeze", g.op("ArgMax", g.op("MatMul", hidden, head), axis=-1, keepdims=0), g.constant([0]))

    # Weights

    def _norm(self, x: str, name: str) -> str:
        return self.g.op("LayerNormalization", x, self._weight(f"{name}.weight"), self._weight(f"{name}.bias"), axis=-1)

    def _linear(self, x: str, name: str) -> str:
        """torch keeps (out, in)."""
        return self.g.op("MatMul", x, self.g.weight(f"{name}.transposed", self._array(f"{name}.weight").T))

    def _weight(self, name: str) -> str:
        return self.g.weight(name, self._array(name))

    def _array(self, name: str) -> NDArray[np.float32]:
        return self.weights[name]

    def _sizes(self, *sizes: int) -> str:
        return self.g.constant(sizes)
