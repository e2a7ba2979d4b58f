"""`gato-arm run`: episodes in real time on a robot."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from runtime.commands.options import AskedTask, Episodes, Json, Policy, Robot, Seed, make_console


def run(
    robot: Robot = "emulated",
    task: AskedTask = None,
    episodes: Episodes = 6,
    seed: Seed = 0,
    policy: Policy = None,
    record: Annotated[
        Path | None, typer.Option(help="Folder for recording, picture and report; default: runs/<time>.")
    ] = None,
    json: Json = None,
    threads: Annotated[int | None, typer.Option(min=1, help="Threads of the policy; default: at most two.")] = None,
) -> int:
    """Play episodes in real time on a robot.

    While the arm moves, the keys of an interactive terminal stop it: space or s holds, l lowers and releases, 0 twice
    switches the power off at once, Ctrl-C ends the run. After a fault r resets it and q ends the run.
    """
    from runtime.run import RunOptions
    from runtime.run import run as play

    folder = record or Path("runs") / datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    options = RunOptions(folder, robot, task, episodes, seed, policy, threads, json)
    return play(options, make_console(), interactive=sys.stdin.isatty() and sys.stdout.isatty())
