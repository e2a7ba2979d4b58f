"""`gato-arm doctor`: what is connected, and is it healthy."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from runtime.commands.options import Json, Robot, make_console


def doctor(
    robot: Robot = "emulated",
    pictures: Annotated[Path | None, typer.Option(help="Folder for a snapshot of each camera.")] = None,
    json: Json = None,
) -> int:
    """What is connected, is it healthy, how long is a round trip. Moves nothing; exit code 3 after a problem."""
    from runtime.doctor import diagnose, show
    from runtime.report import write_json

    diagnosis = diagnose(robot, pictures)
    show(diagnosis, make_console())
    if json is not None:
        write_json(json, diagnosis.to_json())
    return 3 if diagnosis.problems else 0
