"""Contact sheets of failures: each with its moments from the first frame to the last, most frequent kinds first.

Knows rows and pictures.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from runtime.evaluation.store import Row
from runtime.picture import Cell, contact_sheet, decode, save_png

CELLS = 24  # failures shown at most
OF_A_KIND = 8  # and of one kind, while there are others
HEIGHT = 256  # of a strip of two cameras, pixels: twice what a 64x64 policy saw


def failure_sheet(rows: Sequence[Row], folder: Path, path: Path) -> bool:
    """Write the sheet of those `rows` that failed and whose strips lie in `folder`; False, and no file, without any."""
    failed = [row for row in rows if row.strip and (folder / row.strip).is_file()]
    if not failed:
        return False
    cells = [Cell((decode((folder / str(row.strip)).read_bytes()),), _caption(row), "bad") for row in chosen(failed)]
    save_png(path, contact_sheet(cells, columns=2, height=HEIGHT))
    return True


def chosen(failed: Sequence[Row]) -> list[Row]:
    """At most `CELLS` rows: some of every kind, frequent kinds first."""
    kinds = [kind for kind, _ in Counter(row.outcome.outcome for row in failed).most_common()]
    of_kind = {kind: [row for row in failed if row.outcome.outcome == kind] for kind in kinds}
    first = [row for kind in kinds for row in of_kind[kind][:OF_A_KIND]]
    rest = [row for kind in kinds for row in of_kind[kind][OF_A_KIND:]]
    kept = (first + rest)[:CELLS]
    return sorted(kept, key=lambda row: kinds.index(row.outcome.outcome))


def _caption(row: Row) -> str:
    trial, outcome = row.trial, row.outcome
    told = "" if row.told == trial.task else f' told "{row.told}"' if row.told else " told nothing"
    return f"{outcome.outcome}, {outcome.seconds:.1f} s. {trial.cell}, seed {trial.seed}: {trial.task}{told}"
