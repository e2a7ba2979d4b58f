"""`gato-arm emulate`: the emulated arm alone."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from runtime.commands.options import Seed, make_console, say


class Bus(StrEnum):
    """The servo protocols that the emulator speaks."""

    feetech = "feetech"


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

    console = make_console()

    def announce(ready: dict[str, Any]) -> None:
        say(console, f"servos     {ready['port']} ({bus.value}, 1000000 baud, ids 1 to 6)")
        for name, url in ready["cameras"].items():
            say(console, f"camera     {name} {url}")
        for key in ("control", "trace"):
            if ready[key]:
                say(console, f"{key:<11}{ready[key]}")
        say(console, "Ctrl-C ends it")

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
