"""`gato-arm replay`: an episode of a dataset again, on an arm."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from runtime.commands.options import Json, Robot, make_console


def replay(
    dataset: Annotated[Path, typer.Argument(help="Dataset folder.", file_okay=False)],
    episode: Annotated[int, typer.Option(min=0, help="Which of its episodes, from 0 on.")] = 0,
    robot: Robot = "emulated",
    times: Annotated[int, typer.Option(min=1, help="How often.")] = 1,
    seed: Annotated[int | None, typer.Option(min=0, help="Layout of the scene; default: the recorded one.")] = None,
    picture: Annotated[
        Path | None, typer.Option(help="Save how the scene was: lay it out like this first.", dir_okay=False)
    ] = None,
    json: Json = None,
) -> int:
    """Play an episode's actions again, through the safety filter.

    An emulated or simulated scene is laid out as it was; on a real table do that yourself (--picture), and keep a hand
    on the keyboard: nothing looks where the arm goes.
    """
    from runtime.replay import ReplayOptions
    from runtime.replay import replay as play

    options = ReplayOptions(dataset, episode, robot, times, seed, picture, json)
    return play(options, make_console(), interactive=sys.stdin.isatty() and sys.stdout.isatty())
