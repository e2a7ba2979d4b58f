"""What a training says while it runs: training.jsonl, TensorBoard where it is installed, and how busy the device is.

Knows figures by name, no network.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

# Dense bf16 products with fp32 sums, floating-point operations a second: the makers' data sheets.
PEAKS = {"H100": 989e12, "H200": 989e12, "A100": 312e12}
NO_TENSORBOARD = "no TensorBoard logs: tensorboard is not here (pip install 'gato-arm[train]')"


def peak_of(device: str) -> float | None:
    """Floating-point operations a second of a GPU by its name; None for one that is not in the table."""
    return next((peak for name, peak in PEAKS.items() if name in device), None)


class TrainingLog:
    """Writes into a folder; a context manager. `resumed` goes on with what is there."""

    def __init__(self, folder: Path, *, resumed: bool = False, say: Callable[[str], None] = lambda line: None) -> None:
        self._file = (folder / "training.jsonl").open("a" if resumed else "w", encoding="utf-8")
        self._board: SummaryWriter | None = None
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            say(NO_TENSORBOARD)
        else:
            self._board = SummaryWriter(str(folder / "tensorboard"))

    def add(self, measures: Mapping[str, float]) -> None:
        """One report; "iterations" is the axis that it stands on."""
        self._file.write(json.dumps(dict(measures)) + "\n")
        self._file.flush()
        if self._board is not None:
            for name, value in measures.items():
                self._board.add_scalar(name, value, int(measures["iterations"]))
            self._board.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        if self._board is not None:
            self._board.close()
