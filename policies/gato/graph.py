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

import numpy as np
import onnx
from numpy.typing import NDArray

from policies.gato.config import ModelConfig
from policies.gato.graph_ops import TYPES, GraphBuilder, Parameters
from policies.gato.graph_patches import embed_patches
from policies.gato.sequence import FILLER, PERIOD, SequenceSpec, rotary_multiples
from policies.gato.tokens import BINS, CONTINUOUS_START, RowMap

Weights = Mapping[str, NDArray[np.float32]]


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
        self.config, self.spec = config, spec
        self.row_map = RowMap(vocabulary)
        self.g, self.p = builder, Parameters(builder, weights)
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
        x, branch = self._tokens(images, ids, text, prompt), None
        for layer in range(self.config.layers):
            x, branch = self._layer(x, branch, layer, place)
        chosen = self._choose(self._add_and_norm(x, branch, "norm")[1])
        g.op("Add", chosen, g.constant(CONTINUOUS_START), outputs=("action",))
        g.output("action", "int64", (spec.actions,))
        for name in cache:
            g.output(cache_output(name), self.kind, (1, "S", self.config.width))
        return g.model("control_step", __doc__ or "")

    # What goes in

    def _tokens(self, images: list[str], ids: str, text: str, prompt: str) -> str:
        """(N, D): a block as in `Gato.embed_blocks`, or with `prompt` the instruction as in `Gato.prefill_text`.

        An instruction has no more tokens than a block has words, so it finds room in the block's front; what stands in
        its further places is never seen.
        """
        g, p, spec = self.g, self.p, self.spec
        front, rear = spec.actions + spec.words, spec.components + 1
        known = min(spec.text, front)
        told = g.op("Slice", text, g.constant([0]), g.constant([known])) if known < spec.text else text
        told = g.op("Concat", told, g.constant(np.zeros(spec.block_ids - known)), axis=0)
        embedded = self._embed(g.op("Where", prompt, told, ids))
        begin, end = g.split("Split", 2, embedded, g.constant([front, rear]), axis=0)
        at_front, at_patches, at_rear, at_blanks = self._places(front, spec.patches, rear, spec.blanks)
        in_text = g.op("Pad", p.weight("text_positions.weight"), g.constant([0, 0, front - spec.text, 0]))
        both = g.op("Concat", *(g.op("Unsqueeze", places, g.constant([0])) for places in (at_front, in_text)), axis=0)
        begin = g.op("Add", begin, g.op("Gather", both, g.op("Cast", prompt, to=TYPES["int64"])))
        filler = p.array("table.weight")[self.row_map.continuous_row + FILLER - CONTINUOUS_START]
        blanks = [g.op("Add", g.number(filler), at_blanks)] if spec.blanks else []
        patches = embed_patches(p, self.config, spec, images, at_patches)
        return g.op("Concat", begin, patches, g.op("Add", end, at_rear), *blanks, axis=0)

    def _places(self, *sizes: int) -> list[str]:
        """What is added to tokens for their place in the block, in parts of so many rows: of the executed action, of
        the observation, of the blanks, which are the action's again."""
        local, seen = self.p.array("local_positions.weight"), self.spec.observation
        places = np.concatenate([local[seen:], local[:seen], local[seen : seen + self.spec.blanks]])
        stored = self.g.weight("block_positions", places)
        return self.g.split("Split", len(sizes), stored, self.g.constant(sizes), axis=0)

    def _embed(self, ids: str) -> str:
        g = self.g
        low = g.op("Less", ids, g.constant(CONTINUOUS_START))
        high = g.op("Sub", ids, g.constant(CONTINUOUS_START - self.row_map.continuous_row))
        return g.op("Gather", self.p.weight("table.weight"), g.op("Where", low, ids, high))

    # Where it goes, and what it sees

    def _angles(self, position: str) -> tuple[str, str]:
        """(1, N, C / 2) cosines and sines of the block's places, rows of what `model.rotary_table` has.

        The table goes on for a block behind the period, so that no place need be taken modulo it.
        """
        g = self.g
        multiples = rotary_multiples(self.config.head_width)
        every = g.op("Range", g.constant(0), g.constant(PERIOD + self.spec.block), g.constant(1))
        turned = g.op("Mul", g.op("Unsqueeze", every, g.constant([1])), g.constant(multiples))
        phases = g.op("Mod", turned, g.constant(PERIOD))
        circle = 2 * np.pi * np.arange(PERIOD) / PERIOD
        places = g.op("Add", position, g.constant(np.arange(self.spec.block)[None]))
        cosines, sines = (g.op("Gather", g.op("Gather", g.number(f(circle)), phases), places) for f in (np.cos, np.sin))
        return cosines, sines

    def _mask(self, visible: str) -> str:
        """(1, S): 0 where a slot is visible, else the lowest number."""
        g = self.g
        shut = g.number(np.finfo(g.real).min)
        return g.op("Unsqueeze", g.op("Where", visible, g.number(0), shut), g.constant([0]))

    # The layers

    def _layer(self, x: str, branch: str | None, layer: int, at: _Place) -> tuple[str, str | None]:
        """Tokens (N, D) through a layer, into the cache; of the last layer, (A, D) of those that decode.

        In and out: the residual stream, and the branch that is still to be added to it, if there is one.
        """
        g, p, name = self.g, self.p, f"layers.{layer}"
        x, normed = self._add_and_norm(x, branch, f"{name}.norm1")
        count = self.spec.actions if layer == self.config.layers - 1 else self.spec.block
        q, k, v = self._heads(g.op("Unsqueeze", normed, g.constant([0])), f"{name}.qkv", at, count)
        x = self._last(x, count, 0)
        keys, values = (
            g.op("TensorScatter", what, update, at.slot, axis=1, outputs=(cache_output(what),))
            for what, update in ((f"keys_{layer}", k), (f"values_{layer}", v))
        )
        attended = (self._attend_fused if g.fused else self._attend)(q, keys, values, at.mask, count)
        x, branch = self._branch(
            x, g.op("Reshape", attended, g.constant([count, self.config.width])), f"{name}.project"
        )
        x, normed = self._add_and_norm(x, branch, f"{name}.norm2")
        gate, value = p.linear_parts(normed, f"{name}.up", 2)
        return self._branch(x, g.op("Mul", g.op("Gelu", gate), value), f"{name}.down")

    def _heads(self, x: str, name: str, at: _Place, count: int) -> list[str]:
        """Queries of the last `count` tokens (1, count, D), keys and values of all; queries and keys rotated."""
        g, p, heads, width = self.g, self.p, self.config.heads, self.config.width
        if g.fused:
            turned, v = g.split("Split", 2, p.linear(x, name), g.constant([2 * width, width]), axis=2)
            turned = g.op("RotaryEmbedding", turned, at.cosines, at.sines, num_heads=2 * heads)
            q, k = g.split("Split", 2, turned, axis=2, num_outputs=2)
            return [self._last(q, count, 1), k, v]
        for_q, for_k, for_v = p.turned_parts(name, 3)
        k = g.op("RotaryEmbedding", g.op("MatMul", x, for_k), at.cosines, at.sines, num_heads=heads)
        asking, cosines, sines = (self._last(y, count, 1) for y in (x, at.cosines, at.sines))
        q = g.op("RotaryEmbedding", g.op("MatMul", asking, for_q), cosines, sines, num_heads=heads)
        return [q, k, g.op("MatMul", x, for_v)]

    def _last(self, x: str, count: int, axis: int) -> str:
        """The last `count` of a block's tokens."""
        if count == self.spec.block:
            return x
        ends = (self.g.constant([n]) for n in (-count, np.iinfo(np.int64).max, axis))
        return self.g.op("Slice", x, *ends)

    def _attend(self, q: str, keys: str, values: str, mask: str, count: int) -> str:
        """(count, H, C). The runtime joins turning and multiplying: heads are multiplied where they stand."""
        g, across = self.g, self.config.head_width
        by_head = g.constant([-1, self.config.heads, across])
        q, keys, values = (g.op("Reshape", x, by_head) for x in (q, keys, values))
        q, values = (g.op("Transpose", x, perm=[1, 0, 2]) for x in (q, values))
        scores = g.op("MatMul", q, g.op("Transpose", keys, perm=[1, 2, 0]))
        scores = g.op("Add", g.op("Mul", scores, g.number(1 / np.sqrt(across))), mask)
        attended = g.op("MatMul", g.op("Softmax", scores, axis=-1), values)
        return g.op("Transpose", attended, perm=[1, 0, 2])

    def _attend_fused(self, q: str, keys: str, values: str, mask: str, count: int) -> str:
        """(1, count, D)."""
        g = self.g
        bias = g.op("Unsqueeze", g.op("Expand", mask, g.constant([count, 1])), g.constant([0, 1]))
        return g.op("MultiHeadAttention", q, keys, values, "", "", bias, num_heads=self.config.heads)

    def _branch(self, x: str, y: str, name: str) -> tuple[str, str | None]:
        """A linear map of y (N, D) into the residual stream x: a product may start from what it is added to, or the
        sum is left to the normalisation behind."""
        if self.g.fused:
            return x, self.p.linear(y, name)
        return self.g.op("Gemm", y, self.p.turned(name), x), None

    def _add_and_norm(self, x: str, branch: str | None, name: str) -> tuple[str, str]:
        """x + branch, and its layer normalisation."""
        g, scale, shift = self.g, self.p.weight(f"{name}.weight"), self.p.weight(f"{name}.bias")
        if branch is None:
            return x, g.op("LayerNormalization", x, scale, shift, axis=-1)
        normed, _, _, x = g.split("SkipLayerNormalization", 4, x, branch, scale, shift, epsilon=1e-5)
        return x, normed

    def _choose(self, hidden: str) -> str:
        """(A,): each distribution's median, as `model.median_bins`; only the head's rows of bins are stored.

        It is computed and counted in fp32, which holds both sums of 1,024 probabilities and whole numbers so large.
        """
        g, start = self.g, self.row_map.continuous_row
        head = g.weight("head.bins", self.p.array("head.weight")[start : start + BINS].T)
        logits = g.op("Cast", g.op("MatMul", hidden, head), to=TYPES["float32"])
        reached = g.op("CumSum", g.op("Softmax", logits, axis=-1), g.constant(1))
        below = g.op("Less", reached, g.constant(0.5, np.float32))
        count = g.op("ReduceSum", g.op("Cast", below, to=TYPES["float32"]), g.constant([1]), keepdims=0)
        return g.op("Cast", count, to=TYPES["int64"])
