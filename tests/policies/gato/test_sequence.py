"""Which token stands where: the layout of a block, the ring of the cache, positions that wrap."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.gato.sequence import FILLER, PERIOD, SequenceSpec, rotary_multiples, visible_blocks
from policies.gato.tokens import SEPARATOR

SPEC = SequenceSpec((("a", 16, 32), ("b", 32, 32)), (("x", 3), ("y", 2)), actions=3, text=7, words=4, window=3)


@st.composite
def specs(draw: st.DrawFn) -> SequenceSpec:
    small = st.integers(1, 6)
    cameras = tuple((name, 16 * draw(small), 16 * draw(small)) for name in "ab"[: draw(st.integers(1, 2))])
    tensors = tuple((name, draw(small)) for name in "xyz"[: draw(st.integers(1, 3))])
    return SequenceSpec(cameras, tensors, draw(small), text=draw(small), words=draw(small), window=draw(small))


def test_counts() -> None:
    assert (SPEC.patches, SPEC.components) == (2 + 4, 5)
    assert SPEC.observation == 4 + 6 + 5 + 1
    assert SPEC.block == 3 + SPEC.observation + 2
    assert SPEC.block_ids == SPEC.block - SPEC.patches - 2
    assert SPEC.prompt(2) == 7 + 2 * SPEC.block
    assert SPEC.cache() == -(-(7 + 3 * SPEC.block) // 8) * 8


@given(specs(), st.integers(0, 4), st.integers(0, 100_000))
def test_the_ring_keeps_the_prompt_and_the_last_blocks(spec: SequenceSpec, demonstration: int, timestep: int) -> None:
    slots = [spec.ring_slot(timestep + i, demonstration) for i in range(spec.window)]
    places = {slot + i for slot in slots for i in range(spec.block)}
    assert len(places) == spec.window * spec.block  # no two of the blocks in view overlap
    assert min(places) == spec.prompt(demonstration)
    assert 0 <= spec.cache(demonstration) - max(places) - 1 < 8 and spec.cache(demonstration) % 8 == 0
    assert spec.ring_slot(timestep + spec.window, demonstration) == slots[0]


@given(specs(), st.integers(0, 4), st.integers(0, 100_000))
def test_positions_go_on_by_a_block_and_stay_below_the_period(
    spec: SequenceSpec, demonstration: int, timestep: int
) -> None:
    here, there = spec.position(timestep, demonstration), spec.position(timestep + 1, demonstration)
    assert 0 <= here < PERIOD
    assert (there - here) % PERIOD == spec.block % PERIOD
    assert spec.position(0) == spec.text % PERIOD


def test_a_block_holds_executed_action_words_tensors_separator() -> None:
    out = np.zeros(SPEC.block_ids, dtype=np.int64)
    SPEC.write_block(out, np.array([1, 2, 3]), np.array([4, 5, 6, 7]), [np.array([8, 9, 10]), np.array([11, 12])])
    assert out.tolist() == [*range(1, 13), SEPARATOR]
    SPEC.write_block(out, None, np.array([4, 5, 6, 7]), [np.array([8, 9, 10]), np.array([11, 12])])
    assert out[:4].tolist() == [FILLER, FILLER, FILLER, 4]
    assert out[SPEC.word_places].tolist() == [4, 5, 6, 7]
    with pytest.raises(ValueError, match="3 proprioception tokens, this sequence has 5"):
        SPEC.write_block(out, None, np.array([4, 5, 6, 7]), [np.array([8, 9, 10])])


def test_instructions_are_padded_and_must_fit() -> None:
    ids, real = SPEC.pad_text(np.array([5, 6]))
    assert ids.tolist() == [5, 6, 0, 0, 0, 0, 0]
    assert real.tolist() == [True, True, False, False, False, False, False]
    assert SPEC.pad_words(np.array([5, 6])).tolist() == [5, 6, 0, 0]
    with pytest.raises(ValueError, match="5 tokens; this policy has room for 4"):
        SPEC.pad_text(np.arange(5))


def test_names_must_be_in_order_and_counts_positive() -> None:
    with pytest.raises(ValueError, match=r"cameras .* lexicographic order"):
        SequenceSpec((("b", 16, 16), ("a", 16, 16)), (("x", 1),), actions=1)
    with pytest.raises(ValueError, match=r"tensors .* lexicographic order"):
        SequenceSpec((("a", 16, 16),), (("y", 1), ("x", 1)), actions=1)
    with pytest.raises(ValueError, match="at least 1"):
        SequenceSpec((("a", 16, 16),), (("x", 1),), actions=0)


def test_patch_positions_lie_in_their_spans() -> None:
    rows, columns = SPEC.patch_positions()
    spans = SPEC.patch_spans()
    assert rows.shape == columns.shape == (SPEC.patches,) and spans.shape == (2, SPEC.patches, 2)
    for bins, span in zip((rows, columns), spans, strict=True):
        assert ((span[:, 0] <= bins) & (bins < span[:, 1])).all()


def test_which_blocks_see_which() -> None:
    seen = visible_blocks(5, window=2, demonstration=1)
    assert seen.astype(int).tolist() == [
        [1, 0, 0, 0, 0],
        [1, 1, 0, 0, 0],
        [1, 1, 1, 0, 0],
        [1, 0, 1, 1, 0],
        [1, 0, 0, 1, 1],
    ]


def test_rotary_frequencies_are_whole_and_fall_to_one() -> None:
    multiples = rotary_multiples(64)
    assert multiples.shape == (32,) and multiples.dtype == np.int64
    assert abs(multiples[0] * 2 * np.pi / PERIOD - 1) < 1e-3 and multiples[-1] == 1
    assert (np.diff(multiples) <= 0).all()
