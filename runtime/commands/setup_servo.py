"""`gato-arm setup-servo`: one servo's id and baud rate."""

from __future__ import annotations

import sys
from enum import StrEnum
from typing import Annotated

import typer

from runtime.commands.options import make_console, say

DECLINED = 1  # exit code


class Protocol(StrEnum):
    """The servo protocols that this package speaks."""

    feetech = "feetech"
    dynamixel = "dynamixel"


def setup_servo(
    port: Annotated[str, typer.Option(help="The serial port, with this one servo on it.")],
    protocol: Annotated[Protocol, typer.Option(help="What the servo speaks.")],
    id: Annotated[int, typer.Option("--id", min=0, max=252, help="The id that it gets.")],
    baudrate: Annotated[int, typer.Option(min=1, help="The baud rate that it gets.")] = 1_000_000,
    yes: Annotated[bool, typer.Option("--yes", help="Write without asking, for scripts.")] = False,
) -> int:
    """Give one servo its id and baud rate; asks before anything is written. Exit code 1 when the answer was no."""
    from runtime.servo_scan import shown
    from runtime.setup_servo import Wish, find_one
    from runtime.setup_servo import setup_servo as set_up

    console = make_console()
    wish = Wish(protocol.value, port, id, baudrate)
    with shown(console) as on_progress:
        found = find_one(wish, on_progress=on_progress)
    interactive = sys.stdin.isatty() and sys.stdout.isatty()
    confirm = (lambda question: True) if yes else typer.confirm if interactive else None
    return 0 if set_up(found, wish, confirm=confirm, say=lambda text: say(console, text)) else DECLINED
