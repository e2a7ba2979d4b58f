"""`gato-arm teleop`: drive an arm by a leader arm, keys or a gamepad."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from runtime.commands.options import Json, Robot, Seed, make_console

Leader = Annotated[
    str,
    typer.Option(
        help="A leader arm's name or YAML file, 'keyboard', 'gamepad', or 'emulated', a leader of its own emulator.",
        metavar="NAME|FILE",
    ),
]


def teleop(
    robot: Robot = "emulated",
    leader: Leader = "keyboard",
    seconds: Annotated[float | None, typer.Option(min=0.1, help="How long; default: until Ctrl-C.")] = None,
    rate: Annotated[
        float, typer.Option(min=50.0, max=200.0, help="Times a second that the leader is read, Hz.")
    ] = 100.0,
    rehearse: Annotated[
        float | None,
        typer.Option(min=0.01, help="Let an emulated hand move the emulated leader at this speed, rad/s."),
    ] = None,
    json: Json = None,
    seed: Seed = 0,
) -> int:
    """Drive an arm: it goes slowly to the leader's pose, then follows it, through the safety filter like a policy.

    Space or s holds, l lowers and releases, 0 twice switches the power off, Ctrl-C ends. A leader
    arm's torque stays off.
    """
    from runtime.teleop import TeleopOptions
    from runtime.teleop import teleop as drive

    options = TeleopOptions(robot, leader, seconds, rate, rehearse, seed, json)
    return drive(options, make_console(), interactive=sys.stdin.isatty() and sys.stdout.isatty())
