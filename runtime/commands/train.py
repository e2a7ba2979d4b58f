"""`gato-arm train`: a checkpoint from simulation or from a dataset."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from runtime.commands.options import Seed, Workers, make_console, say


def train(
    out: Annotated[Path, typer.Argument(help="Folder for checkpoint.pt, state.pt and logs.", file_okay=False)],
    dataset: Annotated[
        Path | None, typer.Option(help="Learn from the episodes in this folder (gato-arm collect), not in simulation.")
    ] = None,
    iterations: Annotated[int, typer.Option(min=1, help="How long, with --dataset.")] = 20_000,
    init: Annotated[
        Path | None, typer.Option(help="Begin with the weights of this checkpoint or artifact folder.", exists=True)
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on where the last training in OUT was saved.")] = False,
    seconds: Annotated[float, typer.Option(min=1.0, help="How long, in simulation.")] = 600.0,
    demonstrate: Annotated[float, typer.Option(min=0.0, help="Seconds in which only the expert drives.")] = 55.0,
    mixture: Annotated[
        Path | None, typer.Option(help="Shares of objects and variations, as in runtime/mixture.yaml.", exists=True)
    ] = None,
    keep_out_objects: Annotated[
        str, typer.Option(help="Objects never to train on, with commas between: cubes, training, triplets; or nothing.")
    ] = "triplets",
    keep_out_task: Annotated[
        list[str] | None, typer.Option(help="A task never to show, in no words; may be given several times.")
    ] = None,
    size: Annotated[str, typer.Option(help="Size of the network, by name.")] = "9M",
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    batch: Annotated[int, typer.Option(min=1, help="Sequences in a batch, of each process.")] = 256,
    learning_rate: Annotated[
        float | None, typer.Option(min=0.0, help="At its highest; default: 5e-4, of a dataset with --init 1e-4.")
    ] = None,
    held_out: Annotated[
        float, typer.Option(min=0.0, max=0.5, help="Share of a dataset's episodes to judge by and not to learn from.")
    ] = 0.1,
    workers: Workers = None,
    worlds: Annotated[int, typer.Option(min=1, help="Simulated worlds for each worker.")] = 8,
    compiled: Annotated[bool, typer.Option("--compile", help="Compile the network with torch.compile.")] = False,
    seed: Seed = 0,
) -> int:
    """Teach a policy in simulation, by demonstration and correction, or from a dataset; leaves a checkpoint.

    On several GPUs: torchrun --standalone --nproc-per-node 2 -m runtime.cli train ...
    """
    import torch

    from policies.gato.config import SIZES
    from runtime.evaluate import default_workers
    from runtime.imitate import FRESH, imitate
    from runtime.learn import LearnSettings, learn
    from runtime.mixture import Mixture
    from sim.tasks import TASKS, parse_task

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
            resume=resume,
            learning_rate=learning_rate,
            held_out=held_out,
            report=report,
            say=lambda line: say(console, line),
        )
    else:
        objects = [] if keep_out_objects == "nothing" else keep_out_objects.split(",")
        texts = [task.text for task in TASKS]
        kept_out = [texts.index(parse_task(task).text) for task in keep_out_task or ()]
        settings = LearnSettings(
            seconds=seconds,
            demonstrate=demonstrate,
            size=size,
            workers=workers or max(1, default_workers() // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))),
            worlds=worlds,
            seed=seed,
            device=device,
            batch=batch,
            learning_rate=learning_rate or FRESH,
            compiled=compiled,
            init=init,
            resume=resume,
            mixture=Mixture.load(mixture).without(objects, kept_out),
        )
        learn(out, settings, report=report, say=lambda line: say(console, line))
    if os.environ.get("RANK", "0") == "0":
        say(console, f"checkpoint {out / 'checkpoint.pt'}")
    return 0
