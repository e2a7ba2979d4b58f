"""`gato-arm emulate`: an emulated arm for any client."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from runtime.commands.options import Robot, Seed, make_console, say


class Bus(StrEnum):
    """The servo protocols that the emulator speaks."""

    feetech = "feetech"
    dynamixel = "dynamixel"


def emulate(
    link: Annotated[Path, typer.Option(help="Symlink to the pseudo-terminal, made and removed.")],
    robot: Robot = "emulated",
    bus: Annotated[Bus | None, typer.Option(help="The protocol of the servos; default: the robot's.")] = None,
    fault: Annotated[
        list[str] | None,
        typer.Option(
            help="drop=0.01, delay=0.02:ms=30, silent=3+4@2.5+1, unplug=2@5 …: NAME=VALUE[@START[+DURATION]] in "
            "seconds; repeatable.",
            metavar="FAULT",
        ),
    ] = None,
    script: Annotated[
        Path | None, typer.Option(help="YAML list of faults: {fault: silent, ids: [3], at: 2.5, for: 1}.")
    ] = None,
    eeprom: Annotated[
        Path | None, typer.Option(help="JSON file in which ids, offsets and limits survive a restart.")
    ] = None,
    baud_true: Annotated[
        bool, typer.Option("--baud-true", help="Replies take the time that they take on the wire.")
    ] = False,
    camera_port: Annotated[int, typer.Option(min=0, max=65535, help="Port of the camera stream; 0: any.")] = 0,
    control: Annotated[Path | None, typer.Option(help="Unix socket for resets, verdicts and faults.")] = None,
    trace: Annotated[Path | None, typer.Option(help="CSV file of every goal that reaches a servo.")] = None,
    motion: Annotated[Path | None, typer.Option(help="CSV file of every servo's position at 200 Hz.")] = None,
    seed: Seed = 0,
) -> int:
    """An emulated arm alone, for any client, until Ctrl-C."""
    from drivers.config import load_robot
    from sim.emulator import emulate as serve

    console = make_console()
    config = load_robot(robot)
    size = next((camera.size for camera in config.cameras.values()), (64, 64))

    def announce(ready: dict[str, Any]) -> None:
        ids = ", ".join(map(str, ready["ids"]))
        say(console, f"servos     {ready['port']} ({ready['bus']}, {config.arm.baudrate} baud, ids {ids})")
        for name, url in ready["cameras"].items():
            say(console, f"camera     {name} {url}")
        for key in ("control", "trace", "motion"):
            if ready[key]:
                say(console, f"{key:<11}{ready[key]}")
        say(console, "Ctrl-C ends it")

    serve(
        robot=config,
        bus=bus and bus.value,
        link=link,
        camera_port=camera_port,
        control=control,
        trace=trace,
        motion=motion,
        faults=",".join(fault or ()),
        script=script,
        eeprom=eeprom,
        baud_true=baud_true,
        seed=seed,
        image_size=size,
        on_ready=announce,
    )
    return 0
