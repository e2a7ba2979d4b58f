"""`gato-arm doctor`: what is connected, and is it healthy."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from runtime.commands.options import Json, Robot, make_console


def doctor(
    robot: Robot = "emulated",
    port: Annotated[
        str | None, typer.Option(help="The arm's serial port, in place of that of the robot's file.")
    ] = None,
    scan: Annotated[
        bool, typer.Option("--scan", help="Look for servos at every baud rate and id; half a minute.")
    ] = False,
    pictures: Annotated[Path | None, typer.Option(help="Folder for a snapshot of each camera.")] = None,
    json: Json = None,
) -> int:
    """What is connected, is it healthy, how long is a round trip. Moves nothing; exit code 3 after a problem."""
    from runtime.doctor import diagnose
    from runtime.doctor_tables import show
    from runtime.report import write_json
    from runtime.servo_scan import shown

    console = make_console()
    with shown(console) as on_progress:
        diagnosis = diagnose(robot, pictures, port=port, search=scan, on_progress=on_progress)
    show(diagnosis, console)
    if json is not None:
        write_json(json, diagnosis.to_json())
    return 3 if diagnosis.problems else 0
