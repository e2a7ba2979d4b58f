"""`gato-arm collect`: demonstrations as a dataset."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from runtime.commands.options import AskedTask, Episodes, Robot, Seed, Workers, make_console, say


def collect(
    out: Annotated[Path, typer.Argument(help="Dataset folder, new or to be added to.", file_okay=False)],
    episodes: Episodes = 300,
    seed: Seed = 0,
    task: AskedTask = None,
    driver: Annotated[
        str, typer.Option(help="Who drives: 'expert', or a policy whose states the expert labels.")
    ] = "expert",
    noise: Annotated[float, typer.Option(min=0.0, max=0.5, help="Standard deviation added to targets, rad.")] = 0.0,
    keep_failures: Annotated[bool, typer.Option("--keep-failures", help="Keep unsuccessful episodes too.")] = False,
    workers: Workers = None,
    robot: Robot = "simulated",
) -> int:
    """Write demonstrations as a LeRobotDataset v3.0 folder."""
    from runtime.collect import CollectSettings
    from runtime.collect import collect as drive
    from runtime.progress import Counting

    console = make_console()
    settings = CollectSettings(seed, task, driver, noise, keep_failures, robot)
    with Counting(console, "collect", episodes) as progress:
        kept = drive(out, episodes, settings, workers=workers, on_result=progress.add)
    say(console, f"{kept} of {episodes} episodes kept in {out}")
    return 0
