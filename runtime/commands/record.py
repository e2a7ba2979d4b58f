"""`gato-arm record`: demonstrations on a robot, as a dataset."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from runtime.commands.options import AskedTask, Json, Robot, Seed, make_console


def record(
    out: Annotated[Path, typer.Option(help="Dataset folder, new or to be added to.", file_okay=False)],
    robot: Robot = "emulated",
    leader: Annotated[
        str | None,
        typer.Option(
            help="A leader arm's name or YAML file, 'keyboard', 'gamepad' or 'emulated'.", metavar="NAME|FILE"
        ),
    ] = None,
    policy: Annotated[
        str | None,
        typer.Option(
            help="Who demonstrates instead of a leader: 'expert' (emulated arms), a shipped policy's name"
            ", or an artifact's folder.",
            metavar="NAME|FOLDER",
        ),
    ] = None,
    task: AskedTask = None,
    episodes: Annotated[int, typer.Option(min=1, help="How many to keep.")] = 10,
    seed: Seed = 0,
    seconds: Annotated[float, typer.Option(min=1.0, help="How long an episode may take.")] = 12.0,
    keep_failures: Annotated[bool, typer.Option("--keep-failures", help="Keep unsuccessful episodes too.")] = False,
    disturb: Annotated[
        bool, typer.Option("--disturb", help="Push the arm about while a policy drives it: it is seen coming back.")
    ] = False,
    videos: Annotated[bool, typer.Option("--videos", help="Keep images as H.264 instead of lossless PNG.")] = False,
    json: Json = None,
) -> int:
    """Record demonstrations as a LeRobotDataset v3.0 folder; every finished episode is kept, whatever happens.

    With a leader: n begins an episode after a countdown and ends it as done, f ends it as failed, r discards it and
    does the same layout again, x discards it, q ends the recording. The keys of `run` stop the arm.
    """
    from runtime.record import RecordOptions
    from runtime.record import record as keep

    options = RecordOptions(
        out, robot, leader, policy, task, episodes, seed, seconds, keep_failures, disturb, videos, json
    )
    return keep(options, make_console(), interactive=sys.stdin.isatty() and sys.stdout.isatty())
