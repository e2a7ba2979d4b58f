"""`gato-arm log`: what a flight recording says."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from runtime.commands.options import Json, make_console, say

if TYPE_CHECKING:
    from rich.console import Console


def log(
    file: Annotated[Path, typer.Argument(help="A recording.mcap, or the folder of a run.", metavar="FILE")],
    plot: Annotated[Path | None, typer.Option(help="Draw it into this PNG.", dir_okay=False)] = None,
    faults: Annotated[bool, typer.Option("--faults", help="Show the servo ticks before each fault.")] = False,
    recover: Annotated[
        Path | None,
        typer.Option(help="Save every whole message, with an index, in this new file.", metavar="OUT", dir_okay=False),
    ] = None,
    frames: Annotated[
        Path | None, typer.Option(help="Save every camera image in this folder.", metavar="DIR", file_okay=False)
    ] = None,
    json: Json = None,
) -> int:
    """What a recording says: episodes, faults, timing, joints; pictures of it; and what can be saved from it."""
    from runtime.log import read_log
    from runtime.log_report import fault_table, figures, show
    from runtime.recorder import FILE_NAME
    from runtime.recovery import export_frames
    from runtime.recovery import recover as save
    from runtime.report import write_json

    console = make_console()
    path = file / FILE_NAME if file.is_dir() else file
    if recover is not None:
        with _reading(console, "recover", path) as on_position:
            saved = save(path, recover, on_position)
        damaged = f"; {saved.damaged} damaged chunks left out" if saved.damaged else ""
        say(
            console,
            f"recovered  {saved.messages} messages, up to {_moment(saved.last, saved.first)}{damaged}: {recover}",
        )
        path = recover
    if frames is not None:
        with _reading(console, "frames", path) as on_position:
            counts = export_frames(path, frames, on_position)
        found = ", ".join(f"{count} of {camera}" for camera, count in sorted(counts.items())) or "none"
        say(console, f"frames     {found}: {frames}")
    with _reading(console, "read", path) as on_position:
        content = read_log(path, on_position)
    show(content, console)
    if faults:
        for fault in content.faults:
            console.print(fault_table(fault, content.joints))
    if plot is not None:
        from runtime.log_plot import plot as draw

        draw(content, plot)
        say(console, f"picture    {plot}")
    if json is not None:
        write_json(json, figures(content))
    return 0


@contextmanager
def _reading(console: Console, what: str, path: Path) -> Iterator[Callable[[int], None]]:
    """A progress bar over the bytes of `path`; what is yielded is told how many were read."""
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    total = path.stat().st_size if path.is_file() else None
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(what, total=total)
        yield lambda position: bar.update(task, completed=position)


def _moment(last: int, first: int) -> str:
    """The last message's time: of day where there is one, and since the beginning."""
    from datetime import UTC, datetime

    from runtime.clock import SECOND
    from runtime.log_report import BEFORE_CLOCKS

    since = f"{(last - first) / SECOND:.3f} s after the first"
    if last < BEFORE_CLOCKS:
        return since
    return f"{datetime.fromtimestamp(last / SECOND, UTC).isoformat(timespec='milliseconds')} ({since})"
