"""`gato-arm dataset check|show|from-log`: what a dataset holds, what spoils it, and one from flight recordings."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from runtime.commands.options import Json, make_console, say

SPOILT = 1  # exit code

Folder = Annotated[Path, typer.Argument(help="Dataset folder.", file_okay=False)]
SHOWN = 24  # episodes in a picture of first and last frames


def check(
    folder: Folder,
    picture: Annotated[
        Path | None, typer.Option(help="Draw it here; default: check.png in the folder.", dir_okay=False)
    ] = None,
    json: Json = None,
) -> int:
    """Look for what spoils policies: dropped frames, frozen cameras, joint jumps, clipped actions, mixed calibrations.

    Exit code 1 when something found is not fit to learn from.
    """
    from dataclasses import asdict

    from policies.dataset import Dataset
    from runtime.dataset_check import check as look
    from runtime.dataset_plot import plot
    from runtime.progress import Count
    from runtime.report import write_json

    console = make_console()
    dataset = Dataset(folder)
    with Count(console, "check", len(dataset)) as progress:
        findings = look(dataset, lambda index: progress.advance())
    for each in findings:
        where = "dataset" if each.episode is None else f"episode {each.episode}"
        at = "" if each.frame is None else f", frame {each.frame}"
        say(console, f"{'spoils' if each.spoils else 'note':<8}{where}{at}: {each.kind}: {each.text}")
    drawn = picture or folder / "check.png"
    plot(dataset, findings, drawn)
    spoilt = [each for each in findings if each.spoils]
    frames = sum(int(row["length"]) for row in dataset.rows)
    verdict = f"{len(spoilt)} findings spoil it" if spoilt else "nothing spoils it"
    say(console, f"{len(dataset)} episodes, {frames} frames: {verdict}; {len(findings) - len(spoilt)} notes; {drawn}")
    if json is not None:
        counts = Counter(each.kind for each in findings)
        listed = [asdict(each) for each in findings]
        told = {"dataset": str(folder), "episodes": len(dataset), "frames": frames, "spoilt": bool(spoilt)}
        write_json(json, {**told, "counts": dict(counts), "findings": listed})
    return SPOILT if spoilt else 0


def show(
    folder: Folder,
    picture: Annotated[
        Path | None, typer.Option(help="Save each episode's first and last images here.", dir_okay=False)
    ] = None,
) -> int:
    """What a dataset holds: episodes by task and demonstrator, robots, cameras, rate."""
    from policies.dataset import Dataset
    from runtime.picture import Cell, contact_sheet, save_png

    console = make_console()
    dataset = Dataset(folder)
    facts = [dataset.facts(index) for index in range(len(dataset))]
    frames = sum(int(row["length"]) for row in dataset.rows)
    say(console, f"episodes   {len(dataset)}, {frames} frames, {frames / dataset.fps:.0f} s at {dataset.fps} Hz")
    for task, count in sorted(Counter(row["tasks"][0] for row in dataset.rows).items()):
        say(console, f"task       {task}: {count}")
    for camera in sorted(dataset.cameras):
        height, width = dataset.image_size(camera)
        kind = dataset.features[dataset.cameras[camera]]["dtype"]
        say(console, f"camera     {camera}: {height}x{width}, {kind}")
    for (robot, who, outcome), count in Counter((f.robot, f.demonstrator, f.outcome) for f in facts).items():
        name = dataset.robot(robot)["name"] if robot else "robot unknown"
        came = outcome or "not judged"
        say(console, f"recorded   {count} on {name} ({robot or '-'}) by {who or 'nobody knows'}: {came}")
    if picture is not None and len(dataset):
        cells = []
        for index in range(min(SHOWN, len(dataset))):
            episode = dataset[index]
            ends = [episode.frames(camera)[at] for at in (0, -1) for camera in sorted(episode.images)]
            cells.append(Cell(tuple(ends), f"{index}: {episode.task}"))
        save_png(picture, contact_sheet(cells, columns=3))
        say(console, f"picture    {picture}")
    return 0


def from_log(
    files: Annotated[list[Path], typer.Argument(help="Recordings (recording.mcap) or folders of `run`.")],
    out: Annotated[Path, typer.Option(help="Dataset folder, new or to be added to.", file_okay=False)],
    keep_failures: Annotated[bool, typer.Option("--keep-failures", help="Keep unsuccessful episodes too.")] = False,
) -> int:
    """Make a dataset of what was flown: the episodes of recordings, with their true stamps."""
    from runtime.dataset_from_log import convert
    from runtime.recorder import FILE_NAME

    console = make_console()
    paths = [file / FILE_NAME if file.is_dir() else file for file in files]
    with console.status("reading"):
        converted = convert(paths, out, keep_failures=keep_failures)
    for outcome, count in sorted(converted.left_out.items()):
        say(console, f"left out   {count}: {outcome}")
    say(console, f"{converted.kept} episodes kept in {out}")
    return 0


def make_app() -> typer.Typer:
    """`gato-arm dataset` with its verbs."""
    app = typer.Typer(help="Look at a dataset, check it, or make one of recordings.", no_args_is_help=True)
    app.command("check")(check)
    app.command("show")(show)
    app.command("from-log")(from_log)
    return app
