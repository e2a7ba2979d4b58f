"""`gato-arm bench`: what everything costs, beside what it could cost at best."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from runtime.commands.options import Json, Policy, make_console, say


def bench(
    parts: Annotated[
        list[str] | None,
        typer.Argument(help="step, flat, servo, sim (these four by default), jitter, train.", metavar="[PART]..."),
    ] = None,
    policy: Policy = None,
    json: Json = None,
    plot: Annotated[Path | None, typer.Option(help="Draw the figures into this PNG.", dir_okay=False)] = None,
    minutes: Annotated[float, typer.Option(min=0.1, help="How long jitter runs, idle and again under load.")] = 1.0,
    load: Annotated[bool, typer.Option("--load", help="Run jitter also with every core kept busy.")] = False,
    threads: Annotated[int | None, typer.Option(min=1, help="Threads of the policy; default: at most two.")] = None,
    size: Annotated[
        list[str] | None,
        typer.Option(
            help="A step of this size with random weights, as 79M, 364M, 1.18B; repeatable. With train: its size."
        ),
    ] = None,
    device: Annotated[str, typer.Option(help="Where --size and train run: cpu or cuda.")] = "cpu",
    seed: Annotated[int, typer.Option(min=0, help="Of everything that is drawn.")] = 0,
) -> int:
    """Measure each part beside its floor and its alternatives, in turns in the same run."""
    from time import monotonic

    from runtime.bench.figures import Section
    from runtime.bench.machine import describe
    from runtime.bench.report import table, to_json
    from runtime.bench.run import DEFAULT, BenchOptions, sections
    from runtime.report import write_json
    from runtime.run import default_policy

    console = make_console()
    # A size alone is a bench of its own: the other parts are about this machine and the artifact.
    chosen = tuple(parts or (() if size else DEFAULT))
    options = BenchOptions(chosen, policy or default_policy(), minutes, load, threads, tuple(size or ()), device, seed)
    machine, started = describe(), monotonic()
    about = f"{machine['cpu']}, {machine['cores']} cores, {options.workers} threads"
    say(console, about)
    done: list[Section] = []
    for section in sections(options, lambda part: say(console, f"measuring  {part}")):
        done.append(section)
        console.print(table(section))
        for note in section.notes:
            say(console, note)
    if json is not None:
        write_json(json, to_json(done, machine, round(monotonic() - started, 1)))
    if plot is not None:
        from runtime.bench.plot import draw

        draw(done, plot, about)
        say(console, f"picture    {plot}")
    return 0
