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
from policies.gato.graph_ops import MICROSOFT, GraphBuilder
from policies.gato.sequence import PERIOD, SequenceSpec, rotary_multiples
from policies.gato.tokens import BINS, CONTINUOUS_START, PATCH, RowMap, patch_grid

Weights = Mapping[str, NDArray[np.float32]]

EPSILON = 1e-5  # of the normalisations, torch's default
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
class _BlockPlace:
    """Where a block is written, how it is turned, what it sees."""

    slot: str  # (1,) int64
    cosines: str  # (1, N, C / 2)
    sines: str
    bias: str  # (1, 1, N, S), added to scores
    one_bias: str  # (1, 1, 1, S), its last row


@dataclass(frozen=True)
class _ActionPlace:
    """The same of one action token, which stands behind everything that it may see."""

    step: int  # of the decoder, from 1
    past: str  # (1,) int32 slots in front
    total: str  # () int32, one more
    cosines: str  # (S, C / 2), by slot
    sines: str
    bias: str  # (1, 1, 1, total)


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
        self._sums = 0

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
            g.input(name, "float32", (1, self.config.heads, "S", self.config.head_width))
        x = g.op("Where", prompt, self._text(text), self._block(images, ids))
        x = self._run_block(g.op("Unsqueeze", x, g.constant([0])), self._block_place(slot, position, visible))
        bins = [self._choose(x)]
        for at in self._action_places(position, visible):
            bins.append(self._choose(self._run_action(self._action(bins[-1], at.step - 1), at)))
        chosen = g.op("Concat", *bins, axis=0)
        g.op("Add", chosen, g.constant(CONTINUOUS_START), outputs=("action",))
        g.output("action", "int64", (spec.actions,))
        for names in cache_outputs(self.config.layers, spec.actions).values():
            for name in names:
                g.output(name, "float32", (1, self.config.heads, "S", self.config.head_width))
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

    # Where each pass stands, and what it sees

    def _block_place(self, slot: str, position: str, visible: str) -> _BlockPlace:
        g, block = self.g, self.spec.block
        cosines, sines = self._angles(g.op("Add", position, g.constant(np.arange(block))))
        one = self._bias(visible)
        return _BlockPlace(slot, cosines, sines, g.op("Expand", one, g.constant([1, 1, block, 1])), one)

    def _action_places(self, position: str, visible: str) -> list[_ActionPlace]:
        """Of the passes over one action token each: they append at the end of the cache."""
        g, spec = self.g, self.spec
        extra = spec.actions - 1
        if extra == 0:
            return []
        scratch = g.op("Sub", g.op("Shape", visible), g.constant([extra]))
        steps = g.constant(np.arange(spec.block, spec.block + extra))
        # The operator takes its angles from the row whose number is the slot.
        pads = g.op("Concat", scratch, g.constant([0, 0, 0]), axis=0)
        turns = [
            g.op("Pad", g.op("Squeeze", angles, g.constant([0])), pads)
            for angles in self._angles(g.op("Add", position, steps))
        ]
        before = g.op("Slice", visible, g.constant([0]), scratch)
        places = []
        for step in range(extra):
            opened = g.op("Concat", before, g.constant([True] * (step + 1), np.bool_), axis=0)
            past = g.op("Cast", g.op("Add", scratch, g.constant([step])), to=onnx.TensorProto.INT32)
            total = g.op("Squeeze", g.op("Add", past, g.constant([1], np.int32)))
            places.append(_ActionPlace(step + 1, past, total, turns[0], turns[1], self._bias(opened)))
        return places

    def _angles(self, places: str) -> tuple[str, str]:
        """(1, N, C / 2) cosines and sines of places (N,), as `model.rotary_table` has them."""
        g = self.g
        multiples = rotary_multiples(self.config.head_width)
        turned = g.op("Mul", g.op("Unsqueeze", places, g.constant([1])), g.constant(multiples))
        phases = g.op("Unsqueeze", g.op("Mod", turned, g.constant(PERIOD)), g.constant([0]))
        circle = 2 * np.pi * np.arange(PERIOD) / PERIOD
        cosines, sines = (g.constant(f(circle), np.float32) for f in (np.cos, np.sin))
        return g.op("Gather", cosines, phases), g.op("Gather", sines, phases)

    def _bias(self, visible: str) -> str:
        """(1, 1, 1, n): what is added to the scores of slots (n,), nothing or almost minus infinity."""
        g = self.g
        bias = g.op("Where", visible, g.constant(0, np.float32), g.constant(np.finfo(np.float32).min, np.float32))
        return g.op("Unsqueeze", bias, g.constant([0, 1, 2]))

    # The layers

    def _run_block(self, x: str, at: _BlockPlace) -> str:
        """Tokens (1, N, D) through the layers, into the cache; the hidden state (1, 1, D) of the last of them."""
        g, last = self.g, self.config.layers - 1
        for layer in range(last + 1):
            name = f"layers.{layer}"
            q, keys, values = self._write_block(self._qkv(self._norm(x, f"{name}.norm1"), name), layer, at)
            bias = at.bias
            if layer == last:
                ends = g.constant([-1]), g.constant([np.iinfo(np.int64).max]), g.constant([1])
                q, x, bias = g.op("Slice", q, *ends), g.op("Slice", x, *ends), at.one_bias
            attended = g.op(
                "MultiHeadAttention",
                *(q, keys, values, "", "", bias),
                num_heads=self.config.heads,
                domain=MICROSOFT,
            )
            x = g.op("Add", x, self._linear(attended, f"{name}.project"))
            x = g.op("Add", x, self._feed_forward(self._norm(x, f"{name}.norm2"), name))
        return self._norm(x, "norm")

    def _write_block(self, qkv: str, layer: int, at: _BlockPlace) -> tuple[str, str, str]:
        """Queries (1, N, D), and the layer's keys and values with those of the block in them."""
        g, heads, width = self.g, self.config.heads, self.config.width
        turned, v = g.split("Split", 2, qkv, self._sizes(2 * width, width), axis=2)
        turned = g.op("RotaryEmbedding", turned, at.cosines, at.sines, num_heads=2 * heads)
        q, k = g.split("Split", 2, turned, axis=2, num_outputs=2)
        written = []
        for name, update in ((f"keys_{layer}", k), (f"values_{layer}", v)):
            by_head = g.op("Reshape", update, g.constant([1, self.spec.block, heads, self.config.head_width]))
            by_head = g.op("Transpose", by_head, perm=[0, 2, 1, 3])
            after = f"{name}_after_0"
            written.append(g.op("TensorScatter", self.cache[name], by_head, at.slot, axis=2, outputs=(after,)))
            self.cache[name] = after
        return q, written[0], written[1]

    def _run_action(self, x: str, at: _ActionPlace) -> str:
        """One token (1, 1, D) through the layers, into the cache; its hidden state.

        So small a pass spends its time on fetching weights and on starting operators, so it has as few as there can be.
        """
        g, heads = self.g, self.config.heads
        normed = self._norm(x, "layers.0.norm1")
        for layer in range(self.config.layers):
            name = f"layers.{layer}"
            keys, values = (f"{what}_{layer}" for what in ("keys", "values"))
            after = [f"{cached}_after_{at.step}" for cached in (keys, values)]
            attended, self.cache[keys], self.cache[values] = g.split(
                "GroupQueryAttention",
                3,
                *(self._qkv(normed, name), "", "", self.cache[keys], self.cache[values], at.past, at.total),
                *(at.cosines, at.sines, "", at.bias),
                outputs=(f"attended_{layer}_{at.step}", *after),
                num_heads=heads,
                kv_num_heads=heads,
                do_rotary=1,
                domain=MICROSOFT,
            )
            normed, x = self._add_norm(x, self._linear(attended, f"{name}.project"), f"{name}.norm2")
            following = f"layers.{layer + 1}.norm1" if layer + 1 < self.config.layers else "norm"
            normed, x = self._add_norm(x, self._feed_forward(normed, name), following)
        return normed

    def _qkv(self, normed: str, name: str) -> str:
        return self._linear(normed, f"{name}.qkv")

    def _feed_forward(self, normed: str, name: str) -> str:
        g = self.g
        gate, value = g.split("Split", 2, self._linear(normed, f"{name}.up"), axis=2, num_outputs=2)
        return self._linear(g.op("Mul", g.op("Gelu", gate), value), f"{name}.down")

    def _add_norm(self, x: str, branch: str, name: str) -> tuple[str, str]:
        """Normalised sum, and the sum."""
        g = self.g
        scale, shift = self._weight(f"{name}.weight"), self._weight(f"{name}.bias")
        index = self._sums = self._sums + 1
        outputs = (f"normed_{index}", "", "", f"sum_{index}")
        g.split(
            "SkipLayerNormalization", 4, x, branch, scale, shift, outputs=outputs, domain=MICROSOFT, epsilon=EPSILON
        )
        return outputs[0], outputs[3]

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
