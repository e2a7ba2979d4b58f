"""A control step in PyTorch, to stand beside the artifact's: with a cache, and with the whole window computed anew.

Both take the same observations and do the whole step, tokens and decoding included. Imports torch when called.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from policies.artifact import Artifact
from policies.gato.sequence import PERIOD, visible_blocks
from policies.gato.text import Text
from policies.gato.tokens import CONTINUOUS_START
from policies.onnx_policy import codec_of, sequence_of
from policies.policy import Observation

if TYPE_CHECKING:
    from torch import Tensor

    from policies.gato.export import Reference
    from policies.gato.model import Gato

Ids = NDArray[np.int64]
Rows = list[tuple[Ids, list[NDArray[np.uint8]], bool]]  # of each block: ids, images, was anything executed before


def with_cache(artifact: Artifact, model: Gato) -> Reference:
    """The network itself, one block at a time: what the exporter compares the graph with."""
    from policies.gato.export import Reference

    return Reference(model, codec_of(artifact.card), Text(artifact.text_model))


class Recomputing:
    """No cache: each step runs the instruction and the last `timesteps` through the network, images included.

    None: as many as are in the network's window. With more, attention reaches further back than in training.

    Older timesteps than the window's are not in it, whose traces a cache still holds: near its end the two may choose
    differently. In the first steps of an episode the window holds blocks that are not seen, so that a step always costs
    the same. With `one_by_one` there is a pass for each action token, of all tokens up to it, as Gato decodes; what a
    network says then that was trained to decode all in one pass means nothing, but it costs as much as another.
    """

    def __init__(
        self, artifact: Artifact, model: Gato, *, timesteps: int | None = None, one_by_one: bool = False
    ) -> None:
        self._one_by_one = one_by_one
        spec = sequence_of(artifact.card)
        self._model, self._spec = model, replace(spec, window=timesteps or spec.window)
        self._codec, self._text = codec_of(artifact.card), Text(artifact.text_model)
        self._window: Rows = []
        self._previous: NDArray[np.float64] | None = None
        self._timestep = 0

    def reset(self, task: str) -> None:
        """Begin an episode."""
        ids = self._text.encode(task)
        self._padded, self._real = self._spec.pad_text(ids)
        self._words = self._spec.pad_words(ids)
        self._window, self._previous, self._timestep = [], None, 0

    def act(self, observation: Observation) -> Ids:
        """Action ids (A,) of one control step."""
        import torch

        spec, targets = self._spec, observation.proprioception["joint_targets"]
        executed = None if self._previous is None else self._codec.action_ids(targets, self._previous)
        block: Ids = np.zeros(spec.block_ids, dtype=np.int64)
        spec.write_block(block, executed, self._words, self._codec.sense(observation.proprioception))
        images = [np.array(observation.images[name]) for name, _, _ in spec.cameras]
        kept = [*self._window, (block, images, executed is not None)][-spec.window :]
        self._window, self._previous = kept, np.array(targets)
        unseen = spec.window - len(kept)
        rows = [kept[0]] * unseen + kept
        size = spec.text + spec.window * spec.block
        with torch.inference_mode():
            places, mask = torch.from_numpy(self._positions())[None], torch.from_numpy(self._mask(unseen, rows))
            if not self._one_by_one:
                ids = self._pass(rows, places, mask, size)[-spec.actions :]
            else:
                ends = range(size - spec.blanks, size + 1)
                ids = np.concatenate([self._pass(rows, places, mask, end)[-1:] for end in ends])
        self._timestep += 1
        return ids

    def _pass(self, rows: Rows, places: Tensor, mask: Tensor, end: int) -> Ids:
        """The ids that the last tokens before `end` decode, at most (A,)."""
        import torch

        from policies.gato.model import median_bins

        model, spec = self._model, self._spec
        text = model.embed_text(torch.from_numpy(self._padded)[None])
        pictures = [torch.from_numpy(np.stack([row[1][i] for row in rows])) for i in range(len(spec.cameras))]
        blocks = model.embed_blocks(pictures, torch.from_numpy(np.stack([row[0] for row in rows])))
        x = torch.cat([text, blocks.flatten(0, 1)[None]], dim=1)[:, :end]
        hidden = model(x, places[:, :end], mask[..., :end, :end])
        ids: Ids = median_bins(model.action_logits(hidden[0, -spec.actions :])).numpy() + CONTINUOUS_START
        return ids

    def _positions(self) -> Ids:
        spec = self._spec
        first = self._timestep - spec.window + 1
        begins = [spec.prompt() + (first + index) * spec.block for index in range(spec.window)]
        blocks = [np.arange(begin, begin + spec.block) for begin in begins]
        return np.concatenate([np.arange(spec.text), *blocks]) % PERIOD

    def _mask(self, unseen: int, rows: Rows) -> NDArray[np.bool_]:
        """(1, 1, N, N) which token sees which."""
        spec = self._spec
        tokens = np.ones((spec.window, spec.block), dtype=bool)
        tokens[:unseen] = False
        for index, (_, _, was_executed) in enumerate(rows):
            tokens[index, : spec.actions] &= was_executed
        size = spec.text + spec.window * spec.block
        mask = np.zeros((size, size), dtype=bool)
        mask[:, : spec.text] = True
        blocks = visible_blocks(spec.window, spec.window, 0)
        mask[spec.text :, spec.text :] = blocks.repeat(spec.block, axis=0).repeat(spec.block, axis=1)
        mask &= np.concatenate([self._real, tokens.ravel()])
        mask |= np.eye(size, dtype=bool)  # a row that sees nothing would be NaN
        return mask[None, None]
