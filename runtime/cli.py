"""The command line `gato-arm`: parses, calls, and turns what is the user's to mend into one line and exit code 2.

Every verb stands in a module of its own under runtime/commands and imports what it needs when it is called, so that
`gato-arm --help` starts at once and `doctor` loads no inference library.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Annotated

import typer

from runtime.commands.bench import bench
from runtime.commands.calibrate import make_app as make_calibrate
from runtime.commands.card import card
from runtime.commands.collect import collect
from runtime.commands.dataset import make_app as make_dataset
from runtime.commands.doctor import doctor
from runtime.commands.emulate import emulate
from runtime.commands.evaluate import evaluate
from runtime.commands.export import export
from runtime.commands.faults import faults
from runtime.commands.few_shot import few_shot
from runtime.commands.log import log
from runtime.commands.record import record
from runtime.commands.replay import replay
from runtime.commands.run import run
from runtime.commands.setup_servo import setup_servo
from runtime.commands.teleop import teleop
from runtime.commands.train import train

USAGE, INTERRUPTED = 2, 130  # exit codes

# What a user can mend, by module and class: only loaded modules can have raised, so nothing is imported to ask.
USER_ERRORS = (
    ("calibration.errors", "CalibrationError"),
    ("drivers.arm", "ArmError"),
    ("drivers.camera", "CameraError"),
    ("drivers.config", "ConfigError"),
    ("policies.policy", "PolicyError"),
    ("policies.dataset", "DatasetError"),
    ("sim.tasks", "TaskError"),
    ("sim.faults", "EmulatorError"),
    ("runtime.supervisor", "RefusedError"),
    ("runtime.stage", "StageFault"),
    ("runtime.bench.figures", "BenchError"),
    ("runtime.rollouts", "RolloutError"),
    ("runtime.evaluation.trial", "EvaluationError"),
    ("runtime.recording", "RecordingError"),
)
EXTRAS = {
    "torch": "train",
    "onnx": "train",
    "onnxscript": "train",
    "pyarrow": "dataset",
    "ray": "cluster",
    "dask": "cluster",
    "distributed": "cluster",
    "av": "dataset",
    "pygame": "gamepad",
}  # module -> extra

app = typer.Typer(
    name="gato-arm",
    help="Put a Gato policy on a robot arm: run it, judge it, teach it, look after it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

VERBS: dict[str, Callable[..., int]] = {  # in the order of `gato-arm --help`
    "run": run,
    "teleop": teleop,
    "record": record,
    "replay": replay,
    "eval": evaluate,
    "collect": collect,
    "train": train,
    "export": export,
    "card": card,
    "few-shot": few_shot,
    "bench": bench,
    "log": log,
    "emulate": emulate,
    "faults": faults,
    "doctor": doctor,
    "setup-servo": setup_servo,
}
for _name, _verb in VERBS.items():
    app.command(_name)(_verb)
app.add_typer(make_calibrate(), name="calibrate")
app.add_typer(make_dataset(), name="dataset")

Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.", is_eager=True)]


@app.callback()
def _common(debug: Debug = False) -> None:
    """Put a Gato policy on a robot arm: run it, judge it, teach it, look after it."""


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


if __name__ == "__main__":
    sys.exit(main())
