"""The command line `gato-arm`: parses, calls, and turns what is the user's to mend into one line and exit code 2.

Every verb imports what it needs when it is called, so that `gato-arm --help` starts at once and `doctor` loads no
inference library.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console

USAGE, INTERRUPTED = 2, 130  # exit codes

# What a user can mend, by module and class: only loaded modules can have raised, so nothing is imported to ask.
USER_ERRORS = (
    ("drivers.arm", "ArmError"),
    ("drivers.camera", "CameraError"),
    ("drivers.config", "ConfigError"),
    ("policies.policy", "PolicyError"),
    ("policies.dataset", "DatasetError"),
    ("sim.tasks", "TaskError"),
    ("sim.faults", "EmulatorError"),
    ("runtime.supervisor", "RefusedError"),
    ("runtime.stage", "StageFault"),
    ("runtime.recording", "RecordingError"),
)
EXTRAS = {"torch": "train", "onnx": "train", "onnxscript": "train", "pyarrow": "dataset"}  # module -> extra

app = typer.Typer(
    name="gato-arm",
    help="Put a Gato policy on a robot arm: run it, judge it, teach it, look after it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


class Bus(StrEnum):
    """The servo protocols that the emulator speaks."""

    feetech = "feetech"


Robot = Annotated[str, typer.Option(help="A robot's name or YAML file.", metavar="NAME|FILE")]
Policy = Annotated[
    str | None,
    typer.Option(help="A shipped policy's name, an artifact's folder, or 'expert'.", metavar="NAME|FOLDER"),
]
AskedTask = Annotated[
    str | None,
    typer.Option("--task", help='For example "stack the red block on the blue block"; default: all in turn.'),
]
Episodes = Annotated[int, typer.Option(min=1, help="How many episodes.")]
Seed = Annotated[int, typer.Option(min=0, help="Episode i is laid out by seed + i.")]
Workers = Annotated[int | None, typer.Option(min=1, help="Processes; default: one for each core.")]
Json = Annotated[Path | None, typer.Option("--json", help="Write the figures to this file.", dir_okay=False)]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.", is_eager=True)]


@app.callback()
def _common(debug: Debug = False) -> None:
    """Put a Gato policy on a robot arm: run it, judge it, teach it, look after it."""


@app.command()
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
    """Play episodes in real time on a robot."""
    from runtime.run import RunOptions
    from runtime.run import run as play

    folder = record or Path("runs") / datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    options = RunOptions(folder, robot, task, episodes, seed, policy, threads, json)
    return play(options, _console(), interactive=sys.stdin.isatty() and sys.stdout.isatty())


@app.command("eval")
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

    console = _console()
    name = policy or default_policy()
    with Counting(console, "eval", episodes) as progress:
        report, failures = judge(name, episodes, seed, workers=workers, task=task, on_result=progress.add)
    console.print(report.table("Episodes by task"))
    _say(console, report.summary())
    sheet = picture or (json.with_suffix(".failures.png") if json else Path("runs") / f"eval-{seed}-failures.png")
    shown = failure_sheet(failures, sheet)
    if shown:
        _say(console, f"failures   {sheet}")
    if json is not None:
        write_json(json, report.to_json() | {"picture": str(sheet) if shown else None})
    return 0


@app.command()
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
) -> int:
    """Write demonstrations as a LeRobotDataset v3.0 folder."""
    from runtime.collect import CollectSettings
    from runtime.collect import collect as drive
    from runtime.progress import Counting

    console = _console()
    settings = CollectSettings(seed, task, driver, noise, keep_failures)
    with Counting(console, "collect", episodes) as progress:
        kept = drive(out, episodes, settings, workers=workers, on_result=progress.add)
    _say(console, f"{kept} of {episodes} episodes kept in {out}")
    return 0


@app.command()
def train(
    out: Annotated[Path, typer.Argument(help="Folder for checkpoint.pt and training.jsonl.", file_okay=False)],
    dataset: Annotated[
        Path | None, typer.Option(help="Learn from the episodes in this folder (gato-arm collect), not in simulation.")
    ] = None,
    iterations: Annotated[int, typer.Option(min=1, help="How long, with --dataset.")] = 20_000,
    init: Annotated[
        Path | None, typer.Option(help="Begin with this checkpoint's weights.", exists=True, dir_okay=False)
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
    console = _console()

    def report(measures: dict[str, float]) -> None:
        figures = ", ".join(f"{name} {value:.4g}" for name, value in measures.items())
        _say(console, figures)

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
    _say(console, f"checkpoint {out / 'checkpoint.pt'}")
    return 0


@app.command()
def export(
    checkpoint: Annotated[Path, typer.Argument(help="A checkpoint of gato-arm train.", exists=True, dir_okay=False)],
    out: Annotated[Path, typer.Argument(help="The artifact's folder, made anew.", file_okay=False)],
    seed: Annotated[int, typer.Option(min=0, help="The episode over which both are compared.")] = 0,
    evaluation: Annotated[
        Path | None, typer.Option(help="Report of gato-arm eval --json, for the card.", exists=True, dir_okay=False)
    ] = None,
) -> int:
    """Turn a checkpoint into an artifact: one ONNX graph and its card; refused unless both decode the same tokens."""
    from runtime.export import evaluated
    from runtime.export import export as write

    write(checkpoint, out, seed=seed, evaluation=evaluated(evaluation) if evaluation else None)
    _say(_console(), f"artifact   {out}")
    return 0


@app.command()
def emulate(
    link: Annotated[Path, typer.Option(help="Symlink to the pseudo-terminal, made and removed.")],
    bus: Annotated[Bus, typer.Option(help="The protocol of the servos.")] = Bus.feetech,
    fault: Annotated[list[str] | None, typer.Option(help="For example drop=0.01, silent=3, hot=2; repeatable.")] = None,
    camera_port: Annotated[int, typer.Option(min=0, max=65535, help="Port of the camera stream; 0: any.")] = 0,
    control: Annotated[Path | None, typer.Option(help="Unix socket for resets and verdicts.")] = None,
    trace: Annotated[Path | None, typer.Option(help="CSV file of every goal that reaches a servo.")] = None,
    seed: Seed = 0,
) -> int:
    """The emulated arm alone, for any client, until Ctrl-C."""
    from sim.emulator import emulate as serve

    console = _console()

    def announce(ready: dict[str, Any]) -> None:
        _say(console, f"servos     {ready['port']} ({bus.value}, 1000000 baud, ids 1 to 6)")
        for name, url in ready["cameras"].items():
            _say(console, f"camera     {name} {url}")
        for key in ("control", "trace"):
            if ready[key]:
                _say(console, f"{key:<11}{ready[key]}")
        _say(console, "Ctrl-C ends it")

    serve(
        link=link,
        camera_port=camera_port,
        control=control,
        trace=trace,
        faults=",".join(fault or ()),
        seed=seed,
        on_ready=announce,
    )
    return 0


@app.command()
def doctor(
    robot: Robot = "emulated",
    pictures: Annotated[Path | None, typer.Option(help="Folder for a snapshot of each camera.")] = None,
    json: Json = None,
) -> int:
    """What is connected, is it healthy, how long is a round trip. Moves nothing; exit code 3 after a problem."""
    from runtime.doctor import diagnose, show
    from runtime.report import write_json

    diagnosis = diagnose(robot, pictures)
    show(diagnosis, _console())
    if json is not None:
        write_json(json, diagnosis.to_json())
    return 3 if diagnosis.problems else 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point of `gato-arm`; returns the exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments) or ["--help"]
    # Allowed after the verb as well: that is where one adds it when something has gone wrong.
    debug = "--debug" in words
    words = [word for word in words if word != "--debug"]
    try:
        code = app(args=words, prog_name="gato-arm", standalone_mode=False)
        return code if isinstance(code, int) else 0
    except typer.Abort:
        return _fail("interrupted", INTERRUPTED)
    except KeyboardInterrupt:
        return _fail("interrupted", INTERRUPTED)
    except typer.TyperException as error:
        return _fail(f"{error.format_message()} (see gato-arm --help)", error.exit_code)
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if debug or missing not in EXTRAS:
            raise
        return _fail(f"{missing} is not installed; pip install 'gato-arm[{EXTRAS[missing]}]'", USAGE)
    except OSError as error:
        if debug or error.filename is None:
            raise
        return _fail(f"{error.filename}: {error.strerror}", USAGE)
    except user_errors() as error:
        if debug:
            raise
        return _fail(str(error), USAGE)


def user_errors() -> tuple[type[BaseException], ...]:
    """The classes of `USER_ERRORS` whose modules are loaded."""
    return tuple(getattr(sys.modules[module], name) for module, name in USER_ERRORS if module in sys.modules)


def _fail(message: str, code: int) -> int:
    print(f"gato-arm: {' '.join(message.split())}", file=sys.stderr)
    return code


def _console() -> Console:
    from rich.console import Console

    return Console()


def _say(console: Console, text: str) -> None:
    console.print(text, highlight=False, markup=False, soft_wrap=True)


if __name__ == "__main__":
    sys.exit(main())
