"""`gato-arm eval`: episodes in lock-step over held-out seeds."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from runtime.commands.options import AskedTask, Episodes, Json, Policy, Seed, Workers, make_console, say


def evaluate(
    episodes: Episodes = 300,
    seed: Seed = 100_000,
    policy: Policy = None,
    task: AskedTask = None,
    workers: Workers = None,
    json: Json = None,
    picture: Annotated[
        Path | None, typer.Option(help="Where the failures' contact sheet goes; default: beside the JSON, or runs/.")
    ] = None,
) -> int:
    """Play episodes in lock-step over held-out seeds; report successes with a 95% interval and failures by kind."""
    from runtime.evaluate import evaluate as judge
    from runtime.evaluate import failure_sheet
    from runtime.progress import Counting
    from runtime.report import write_json
    from runtime.run import default_policy

    console = make_console()
    name = policy or default_policy()
    with Counting(console, "eval", episodes) as progress:
        report, failures = judge(name, episodes, seed, workers=workers, task=task, on_result=progress.add)
    console.print(report.table("Episodes by task"))
    say(console, report.summary())
    sheet = picture or (json.with_suffix(".failures.png") if json else Path("runs") / f"eval-{seed}-failures.png")
    shown = failure_sheet(failures, sheet)
    if shown:
        say(console, f"failures   {sheet}")
    if json is not None:
        write_json(json, report.to_json() | {"picture": str(sheet) if shown else None})
    return 0
