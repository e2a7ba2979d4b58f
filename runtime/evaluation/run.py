"""Plays trials on many workers, one stream through all parts of an evaluation, so that no core waits for a part's end.

Knows no files and no report.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

from runtime.evaluate import LOKY, spread
from runtime.evaluation.play import Played, play
from runtime.evaluation.trial import Trial


def run_trials(
    folder: Path | None,
    trials: Sequence[Trial],
    *,
    workers: int | None = None,
    backend: str = LOKY,
    wanted: Callable[[], bool] = lambda: True,
) -> Iterator[Played]:
    """Play `trials` with the artifact in `folder` (None: the demonstrator), in any order, until `wanted` says no."""
    yield from spread(partial(play, folder), trials, workers, backend=backend, wanted=wanted)
