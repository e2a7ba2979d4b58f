"""`gato-arm eval`: episodes in lock-step over held-out seeds, plain or under many conditions."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from runtime.commands.options import AskedTask, Episodes, Json, Policy, Seed, Workers, make_console


def evaluate(
    episodes: Episodes = 300,
    seed: Seed = 100_000,
    policy: Policy = None,
    task: AskedTask = None,
    objects: Annotated[
        str,
        typer.Option(
            help="What is stacked: cubes, training, held_out, triplet1 to triplet5, or triplets: all five.",
            metavar="GROUP",
        ),
    ] = "cubes",
    shift: Annotated[
        list[str] | None,
        typer.Option(
            help="Vary this at its full range, as camera_pose; repeatable. all; each: nominal, every one alone, all.",
            metavar="NAME",
        ),
    ] = None,
    prompt: Annotated[
        str, typer.Option(help="What the policy is told: right, paraphrased, wrong (another task), none (no words).")
    ] = "right",
    demonstration: Annotated[
        bool, typer.Option("--demonstration", help="Show the end of a demonstration of the task in the prompt.")
    ] = False,
    robot: Annotated[
        str, typer.Option(help="A robot whose YAML says how to simulate it.", metavar="NAME|FILE")
    ] = "simulated",
    suite: Annotated[
        str | None,
        typer.Option(
            help="Everything that a report needs, instead of the above: full, small or smoke.", metavar="SIZE"
        ),
    ] = None,
    only: Annotated[
        list[str] | None,
        typer.Option(
            help="Of a suite, this part: tasks, shifts, rgb, shapes, paraphrases, prompt, sensitivity, precision; "
            "repeatable.",
            metavar="PART",
        ),
    ] = None,
    report: Annotated[
        Path | None,
        typer.Option(help="Keep every episode here, and write report.md with its pictures.", file_okay=False),
    ] = None,
    render: Annotated[
        Path | None, typer.Option(help="Only write the report of the episodes in this folder.", file_okay=False)
    ] = None,
    benchmark: Annotated[
        str | None,
        typer.Option(
            help="Beside which of Gato's tables triplets stand: mastery, generalization; default: the card's."
        ),
    ] = None,
    minutes: Annotated[
        float | None, typer.Option(min=0.05, help="Begin no further episode after this; the same command goes on.")
    ] = None,
    workers: Workers = None,
    backend: Annotated[str, typer.Option(help="Where workers are: loky (this machine), ray, dask.")] = "loky",
    json: Json = None,
    picture: Annotated[
        Path | None, typer.Option(help="Where the failures' contact sheet goes; default: beside the JSON, or runs/.")
    ] = None,
) -> int:
    """Play episodes in lock-step over held-out seeds; report success with 95% intervals and failures by kind."""
    from runtime.evaluation.verb import EvalOptions, run

    options = EvalOptions(
        episodes=episodes,
        seed=seed,
        policy=policy,
        task=task,
        objects=objects,
        shifts=tuple(shift or ()),
        prompt=prompt,
        demonstration=demonstration,
        robot=robot,
        suite=suite,
        only=tuple(only or ()),
        report=report,
        render=render,
        benchmark=benchmark,
        minutes=minutes,
        workers=workers,
        backend=backend,
        json=json,
        picture=picture,
    )
    return run(options, make_console())
