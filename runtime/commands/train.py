"""`gato-arm train`: a checkpoint from simulation or from a dataset."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from runtime.commands.options import Seed, Workers, make_console, say


def train(
    out: Annotated[Path, typer.Argument(help="Folder for checkpoint.pt and training.jsonl.", file_okay=False)],
    dataset: Annotated[
        Path | None, typer.Option(help="Learn from the episodes in this folder (gato-arm collect), not in simulation.")
    ] = None,
    iterations: Annotated[int, typer.Option(min=1, help="How long, with --dataset.")] = 20_000,
    init: Annotated[
        Path | None, typer.Option(help="Begin with the weights of this checkpoint or artifact folder.", exists=True)
    ] = None,
    seconds: Annotated[float, typer.Option(min=1.0, help="How long, in simulation.")] = 600.0,
    demonstrate: Annotated[float, typer.Option(min=0.0, help="Seconds in which only the expert drives.")] = 55.0,
    size: Annotated[str, typer.Option(help="Size of the network, by name.")] = "9M",
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    batch: Annotated[int, typer.Option(min=1, help="Sequences in a batch.")] = 256,
    workers: Workers = None,
    worlds: Annotated[int, typer.Option(min=1, help="Simulated worlds for each worker.")] = 8,
    compiled: Annotated[bool, typer.Option("--compile", help="Compile the network with torch.compile.")] = False,
    seed: Seed = 0,
) -> int:
    """Teach a policy in simulation, by demonstration and correction, or from a dataset; leaves a checkpoint."""
    import torch

    from policies.gato.config import SIZES
    from runtime.evaluate import default_workers
    from runtime.imitate import imitate
    from runtime.learn import learn

    if size not in SIZES:
        raise typer.BadParameter(f"{size!r} is not one of {', '.join(SIZES)}", param_hint="--size")
    if device not in ("auto", "cpu") and not (device.startswith("cuda") and torch.cuda.is_available()):
        raise typer.BadParameter(
            f"there is no {device!r} here; take auto, cpu or, with a GPU, cuda", param_hint="--device"
        )
    console = make_console()

    def report(measures: dict[str, float]) -> None:
        figures = ", ".join(f"{name} {value:.4g}" for name, value in measures.items())
        say(console, figures)

    if dataset is not None:
        imitate(
            dataset,
            out,
            iterations,
            init=init,
            size=size,
            device=device,
            batch=batch,
            compiled=compiled,
            seed=seed,
            report=report,
        )
    else:
        learn(
            out,
            seconds=seconds,
            demonstrate=demonstrate,
            size=size,
            workers=workers or default_workers(),
            worlds=worlds,
            seed=seed,
            device=device,
            batch=batch,
            compiled=compiled,
            init=init,
            report=report,
        )
    say(console, f"checkpoint {out / 'checkpoint.pt'}")
    return 0
