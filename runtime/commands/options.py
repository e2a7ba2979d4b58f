"""Options that several verbs share, and how a verb speaks to a person."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.console import Console

Robot = Annotated[str, typer.Option(help="A robot's name or YAML file.", metavar="NAME|FILE")]
Policy = Annotated[
    str | None,
    typer.Option(help="A shipped policy's name, an artifact's folder, or 'expert'.", metavar="NAME|FOLDER"),
]
AskedTask = Annotated[
    str | None,
    typer.Option("--task", help='For example "stack the red block on the blue block"; default: all in turn.'),
]
Episodes = Annotated[int, typer.Option(min=1, help="How many episodes.")]
Seed = Annotated[int, typer.Option(min=0, help="Episode i is laid out by seed + i.")]
Workers = Annotated[int | None, typer.Option(min=1, help="Processes; default: one for each core.")]
Json = Annotated[Path | None, typer.Option("--json", help="Write the figures to this file.", dir_okay=False)]


def make_console() -> Console:
    """A console for tables and progress; Rich is loaded when a verb needs it."""
    from rich.console import Console

    return Console()


def say(console: Console, text: str) -> None:
    """One plain line: no markup, no wrapping."""
    console.print(text, highlight=False, markup=False, soft_wrap=True)
