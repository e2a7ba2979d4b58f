"""`gato-arm few-shot`: success against the number of demonstrations of a task that a policy never saw."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from runtime.commands.options import Workers, make_console, say


def few_shot(
    base: Annotated[Path, typer.Argument(help="Checkpoint or artifact, trained without the task.", exists=True)],
    out: Annotated[Path, typer.Argument(help="Folder for artifacts, few_shot.json and few_shot.png.", file_okay=False)],
    task: Annotated[str, typer.Option(help="What it never saw.")] = "stack the blue block on the green block",
    demonstrations: Annotated[str, typer.Option(help="How many, with commas between.")] = "10,100,500",
    episodes: Annotated[int, typer.Option(min=1, help="Episodes in which each is tried.")] = 200,
    seed: Annotated[int, typer.Option(min=0, help="Episode i is laid out by seed + i.")] = 300_000,
    workers: Workers = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    batch: Annotated[int, typer.Option(min=1, help="Sequences in a batch.")] = 128,
    compiled: Annotated[bool, typer.Option("--compile", help="Compile the network with torch.compile.")] = False,
) -> int:
    """Fine-tune a policy on a few demonstrations of a new task, and try it: a plot of success against their number."""
    from runtime.few_shot import FewShotSettings
    from runtime.few_shot import few_shot as measure

    try:
        counts = tuple(int(number) for number in demonstrations.split(","))
    except ValueError as error:
        raise typer.BadParameter(f"{demonstrations!r} is not numbers with commas between") from error
    console = make_console()
    settings = FewShotSettings(
        task=task,
        counts=counts,
        episodes=episodes,
        seed=seed,
        workers=workers,
        device=device,
        batch=batch,
        compiled=compiled,
    )
    measure(base, out, settings, say=lambda line: say(console, line))
    say(console, f"plot       {out / 'few_shot.png'}")
    return 0
