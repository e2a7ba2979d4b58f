"""`gato-arm calibrate board|camera|...`: what the arm and its cameras really are, measured."""

from __future__ import annotations

from datetime import date as Date
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from runtime.commands.options import Json, Robot, Seed, Workers, make_console, say

DECLINED, BEYOND = 1, 3  # exit codes

BoardName = Annotated[
    str,
    typer.Option("--board", help='"table", "hand", or "COLUMNSxROWS:SQUARE:MARKER[:DICTIONARY[:FIRST_ID]]" in mm.'),
]
RigSeed = Annotated[int, typer.Option("--seed", min=0, help="Of an emulated robot: its lenses, cameras and boards.")]
Yes = Annotated[bool, typer.Option("--yes", help="Answer every question with yes, for scripts.")]
Today = Annotated[str | None, typer.Option("--date", help="The date to write into the result; default: today.")]


def board(
    out: Annotated[Path, typer.Argument(help="Where OUT.pdf and OUT.png go.")] = Path("board"),
    name: BoardName = "table",
    paper: Annotated[str, typer.Option(help="a4, a3 or letter, landscape.")] = "a4",
) -> int:
    """A ChArUco board in true size, as PDF and PNG, with its parameters and a ruler printed on it."""
    from calibration.board import parse_board
    from calibration.board_sheet import write_sheet

    made = parse_board(name)
    pdf, png = out.with_suffix(".pdf"), out.with_suffix(".png")
    write_sheet(made, pdf, png, paper)
    console = make_console()
    say(console, f"board     {made.describe()}")
    say(console, f"written   {pdf}, {png}")
    say(console, 'Print at 100% (no "fit to page"), measure its 100 mm line, and glue it on something flat and stiff.')
    return 0


def camera(
    robot: Robot = "emulated",
    name: Annotated[str | None, typer.Option("--camera", help="Which camera of the robot.")] = None,
    images: Annotated[Path | None, typer.Option(help="Calibrate from the pictures in this folder.")] = None,
    board: BoardName = "table",
    out: Annotated[Path | None, typer.Option(help="The calibration's file; default: beside the robot's.")] = None,
    picture: Annotated[Path | None, typer.Option(help="PNG of before and after; default: beside the file.")] = None,
    seed: RigSeed = 0,
    date: Today = None,
    yes: Yes = False,
    json: Json = None,
) -> int:
    """A camera's lens from views of a board that is moved before it, or from pictures. Exit code 1: not replaced."""
    from calibration.board import parse_board
    from calibration.files import outputs_beside
    from calibration.views import Gathering
    from drivers.config import load_robot
    from drivers.robot import open_camera
    from runtime import calibrate_camera as work
    from runtime.calibrate_emulated import EmulatedRig
    from runtime.calibrate_operator import ConsoleOperator
    from runtime.report import write_json

    console = make_console()
    operator = ConsoleOperator(console, yes=yes)
    config, made = load_robot(robot), parse_board(board)
    found, camera_config = work.find_camera(config, name)
    camera_config = work.full_size(camera_config)
    rig = EmulatedRig(config, found, camera_config.size, seed) if config.emulated and images is None else None
    if images is not None:
        capture = work.Capture(Gathering(made))
        with console.status("looking for the board"):
            work.from_files(images, capture)
    else:
        eye = open_camera(found, camera_config) if rig is None else rig.held_board()
        with console.status("waiting for the camera") as status:
            capture = work.capture_live(
                eye, made, operator, lambda now: status.update(work.guidance(now.gathering, now.last))
            )
    path, robot_file = outputs_beside(robot, found, out)
    drawn = picture or path.with_suffix(".png")
    result = work.conclude(made, capture, drawn, date=date or Date.today().isoformat())
    for line in work.describe(result) + ([] if rig is None else [rig.judge_lens(result.lens)]):
        say(console, line)
    say(console, f"picture   {drawn}")
    if json is not None:
        write_json(json, result.to_json())
    return 0 if work.store(result, found, path, robot_file, operator) else DECLINED


def joints(
    robot: Robot = "emulated",
    out: Annotated[Path | None, typer.Option(help="The calibration's file; default: beside the robot's.")] = None,
    take: Annotated[Path | None, typer.Option("--import", help="Take LeRobot's calibration (JSON), no sweep.")] = None,
    give: Annotated[Path | None, typer.Option("--export", help="Write the result as LeRobot's JSON as well.")] = None,
    restore: Annotated[
        bool, typer.Option("--restore", help="Write the stored calibration into the servos: after one was replaced.")
    ] = False,
    verify: Annotated[bool, typer.Option(help="Move each joint a little afterwards, to see that it obeys.")] = True,
    seed: Annotated[int, typer.Option(min=0, help="Of an emulated arm: how its servos are mounted.")] = 0,
    date: Today = None,
    yes: Yes = False,
    json: Json = None,
) -> int:
    """Servo offsets and zeros: sweep every joint by hand, show the centre pose. Exit code 1: nothing was written."""
    from drivers.config import load_robot
    from runtime.calibrate_joints_session import Wish, calibrate
    from runtime.calibrate_operator import ConsoleOperator
    from runtime.report import write_json

    operator = ConsoleOperator(make_console(), yes=yes)
    wish = Wish(date or Date.today().isoformat(), out, take, give, restore, verify, seed)
    figures = calibrate(load_robot(robot), robot, wish, operator)
    if figures is not None and json is not None:
        write_json(json, figures)
    return DECLINED if figures is None else 0


class Mounting(StrEnum):
    """Where the camera is."""

    fixed = "fixed"
    wrist = "wrist"


def hand_eye(
    robot: Robot,
    mounting: Annotated[Mounting, typer.Option(help="Does the camera stand, or is it on the wrist?")],
    name: Annotated[str | None, typer.Option("--camera", help="Which camera; default: named as the mounting.")] = None,
    board: Annotated[str | None, typer.Option(help="As for camera; default: hand for fixed, table for wrist.")] = None,
    poses: Annotated[int, typer.Option(min=8, help="From how many poses the board shall be seen.")] = 24,
    out: Annotated[Path | None, typer.Option(help="The camera's calibration; default: that of the robot.")] = None,
    seed: RigSeed = 0,
    date: Today = None,
    yes: Yes = False,
    json: Json = None,
) -> int:
    """Where a camera stands: the arm moves itself through safe poses. Exit code 1: not wished."""
    from calibration.board import parse_board
    from drivers.config import load_robot
    from runtime.calibrate_hand_eye_session import Wish, calibrate
    from runtime.calibrate_operator import ConsoleOperator
    from runtime.report import write_json

    config = load_robot(robot)
    fixed = mounting is Mounting.fixed
    wish = Wish(
        camera=name or mounting.value,
        kind="fixed" if fixed else "wrist",
        board=parse_board(board or ("hand" if fixed else "table")),
        poses=poses,
        date=date or Date.today().isoformat(),
        file=out,
        seed=seed,
    )
    figures = calibrate(config, robot, wish, ConsoleOperator(make_console(), yes=yes))
    if figures is not None and json is not None:
        write_json(json, figures)
    return DECLINED if figures is None else 0


def rehearse(
    rigs: Annotated[int, typer.Option(min=1, help="How many rigs.")] = 20,
    seed: Seed = 0,
    workers: Workers = None,
    json: Json = None,
) -> int:
    """Joints, lenses and places of cameras on rigs drawn at random, against the truth. Exit code 3: beyond a bar."""
    from runtime.calibrate_rehearse import rehearse_many, show, summarise
    from runtime.report import write_json

    console = make_console()
    found = rehearse_many(rigs, seed, workers, console)
    figures = summarise(found)
    show(found, figures, console)
    if json is not None:
        write_json(json, figures)
    return 0 if figures["within_all_bars"] == rigs else BEYOND


def make_app() -> typer.Typer:
    """The verb with its parts."""
    app = typer.Typer(
        help="What the arm and its cameras really are: joints, lens, place.",
        no_args_is_help=True,
        rich_markup_mode=None,
    )
    app.command("board")(board)
    app.command("joints")(joints)
    app.command("camera")(camera)
    app.command("hand-eye")(hand_eye)
    app.command("rehearse")(rehearse)
    return app
