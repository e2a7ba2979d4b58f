"""`gato-arm card`: what an artifact's card says, and filling in what an evaluation found."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from runtime.commands.options import make_console, say


def card(
    policy: Annotated[str, typer.Argument(help="A shipped policy's name, or an artifact's folder.")],
    evaluation: Annotated[
        Path | None,
        typer.Option(help="Put the figures of this report of gato-arm eval on the card.", exists=True, dir_okay=False),
    ] = None,
) -> int:
    """Verify an artifact and show its card; with --evaluation, write the figures of a report on it. Weights stay."""
    from policies.artifact import CARD, find_artifact, load_artifact

    folder = find_artifact(policy)
    if evaluation is not None:
        from runtime.evaluation.card import fill

        fill(folder, evaluation)
    load_artifact(folder)
    say(make_console(), (folder / CARD).read_text(encoding="utf-8").rstrip())
    return 0
