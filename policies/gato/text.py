"""Text to token ids in [0, 32000) and back, through a SentencePiece model file.

Knows nothing of tasks or robots. The shipped model (text.model) is made by `python -m policies.gato.train_text`; an
artifact carries its own copy, since ids mean nothing without it.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import sentencepiece
from numpy.typing import NDArray

from policies.gato.tokens import TEXT_IDS
from policies.policy import PolicyError

MODEL = Path(__file__).with_name("text.model")

# SentencePiece writes a space as this character and reads it back as a space, so the character itself has to go round.
_SPACE_MARK = "\u2581"


class Text:
    """A SentencePiece vocabulary with byte fallback: every string has ids, and decoding them gives the string back."""

    def __init__(self, model: Path = MODEL) -> None:
        """Load `model`. Raises `PolicyError` when it cannot be read, has no byte fallback, or too many ids."""
        try:
            self._pieces = sentencepiece.SentencePieceProcessor()
            self._pieces.LoadFromSerializedProto(model.read_bytes())
        except (OSError, RuntimeError) as error:
            raise PolicyError(
                f"text model {model}: {error}; train one with python -m policies.gato.train_text"
            ) from None
        self._mark = [self._pieces.piece_to_id(f"<0x{byte:02X}>") for byte in _SPACE_MARK.encode()]
        if not all(self._pieces.is_byte(piece) for piece in self._mark) or self.vocab_size > TEXT_IDS:
            raise PolicyError(f"text model {model}: {self.vocab_size} ids; need byte fallback and at most {TEXT_IDS}")

    @property
    def vocab_size(self) -> int:
        """Ids are [0, vocab_size)."""
        return int(self._pieces.get_piece_size())

    @property
    def end(self) -> int:
        """The id that ends a text when decoding freely; `encode` does not add it."""
        return int(self._pieces.eos_id())

    def encode(self, text: str) -> NDArray[np.int64]:
        """Ids, shape (n,), of any Unicode string; ValueError for lone surrogates, which UTF-8 does not have."""
        text.encode()
        ids: list[int] = []
        for index, part in enumerate(text.split(_SPACE_MARK)):
            ids += (self._mark if index else []) + self._pieces.encode(part)
        return np.array(ids, dtype=np.int64)

    def decode(self, ids: Iterable[int]) -> str:
        """The string of `ids`; bytes that are not UTF-8 become U+FFFD. ValueError for an id outside the vocabulary."""
        numbers = [int(i) for i in ids]
        for number in numbers:
            if not 0 <= number < self.vocab_size:
                raise ValueError(f"text id {number} is outside [0, {self.vocab_size})")
        return str(self._pieces.decode(numbers))
