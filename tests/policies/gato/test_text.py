"""The text model: every string comes back, ids stay in range, the tasks are short."""

from __future__ import annotations

from itertools import permutations
from pathlib import Path

import pytest
import sentencepiece
from hypothesis import example, given
from hypothesis import strategies as st

from policies.gato import train_text
from policies.gato.text import MODEL, Text
from policies.gato.tokens import TEXT_IDS
from policies.policy import PolicyError

TEXT = Text()
TASKS = [f"stack the {moved} block on the {base} block" for moved, base in permutations(["red", "green", "blue"], 2)]


@given(st.text())
@example("  two  spaces ")
@example("a\u2581b\u2581")  # SentencePiece's own mark for a space
@example("\uff11\ufb01 \u00e9 e\u0301")  # what NFKC would rewrite
@example("<0x41><s></s><unk>")  # what names pieces
@example("\0\n\t\r")
@example("\U0001f916 \u6f22\u5b57")
def test_any_string_comes_back(text: str) -> None:
    ids = TEXT.encode(text)
    assert TEXT.decode(ids) == text
    assert ids.dtype == "int64" and ids.ndim == 1
    assert all(0 <= i < TEXT.vocab_size for i in ids)


def test_the_vocabulary_fits_beside_the_discrete_ids() -> None:
    assert TEXT.vocab_size == 1024 < TEXT_IDS
    assert 0 <= TEXT.end < TEXT.vocab_size
    assert TEXT.decode([TEXT.end]) == ""


@pytest.mark.parametrize("task", TASKS)
def test_tasks_are_short_and_colours_are_one_token(task: str) -> None:
    ids = TEXT.encode(task)
    assert len(ids) == len(task.split()) == 8
    assert [TEXT.decode([i]).strip() for i in ids] == task.split()


def test_tasks_are_told_apart() -> None:
    assert len({tuple(TEXT.encode(task)) for task in TASKS}) == 6


@pytest.mark.parametrize("bad", [-1, 1024, 32000])
def test_ids_outside_are_refused(bad: int) -> None:
    with pytest.raises(ValueError, match=str(bad)):
        TEXT.decode([5, bad])


def test_lone_surrogates_are_refused() -> None:
    with pytest.raises(ValueError, match="surrogates"):
        TEXT.encode("\ud800")


@pytest.mark.parametrize("content", [None, b"", b"not a model"])
def test_an_unreadable_model_is_one_line(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "text.model"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(PolicyError) as raised:
        Text(path)
    assert str(path) in str(raised.value) and "\n" not in str(raised.value)


def test_a_model_without_byte_fallback_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "plain"
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(["the red block on the blue block"] * 10),
        model_prefix=str(path),
        vocab_size=24,
        model_type="bpe",
        minloglevel=2,
    )
    with pytest.raises(PolicyError, match="byte fallback"):
        Text(path.with_suffix(".model"))


def test_the_corpus_is_the_seed_s() -> None:
    first, again, other = (list(train_text.corpus(seed, 200)) for seed in (1, 1, 2))
    assert first == again != other
    assert all(sentence == sentence.strip() and "\n" not in sentence for sentence in first)


def test_the_script_makes_the_shipped_model() -> None:
    assert train_text.train(seed=0) == MODEL.read_bytes()
