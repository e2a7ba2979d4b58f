"""`gato-arm export`: a checkpoint becomes an artifact."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from runtime.commands.options import make_console, say


def export(
    source: Annotated[
        Path, typer.Argument(help="A checkpoint of gato-arm train, or an artifact to be written anew.", exists=True)
    ],
    out: Annotated[Path, typer.Argument(help="The artifact's folder, made anew.", file_okay=False)],
    seed: Annotated[int, typer.Option(min=0, help="The episode over which both are compared.")] = 0,
    evaluation: Annotated[
        Path | None, typer.Option(help="Report of gato-arm eval --json, for the card.", exists=True, dir_okay=False)
    ] = None,
) -> int:
    """Turn a checkpoint into an artifact: one ONNX graph and its card; refused unless both decode the same tokens.

    An artifact's folder in place of the checkpoint: the same weights with the graph that this release writes.
    """
    from runtime.evaluation.card import figures, read_report
    from runtime.export import export as write

    write(source, out, seed=seed, evaluation=figures(read_report(evaluation)) if evaluation else None)
    say(make_console(), f"artifact   {out}")
    return 0
