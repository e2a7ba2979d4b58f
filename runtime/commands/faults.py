"""`gato-arm faults`: breaks things on purpose while the emulated arm moves."""

from __future__ import annotations

import shlex
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from runtime.commands.options import Json, make_console, say

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

    from drivers.config import RobotConfig
    from runtime.campaign.judge import Verdict

VIOLATED = 1  # exit code


def faults(
    robot: Annotated[
        list[str] | None,
        typer.Option(help="A robot's name or YAML file; repeatable. Default: emulated.", metavar="NAME|FILE"),
    ] = None,
    runs: Annotated[int | None, typer.Option(min=1, help="Trials on each robot; default: every fault once.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of moments, servos and motion.")] = 0,
    pairs: Annotated[bool, typer.Option("--pairs", help="Half of the trials have two faults.")] = False,
    only: Annotated[list[str] | None, typer.Option(help="Only this fault; repeatable.", metavar="FAULT")] = None,
    kill: Annotated[
        list[str] | None,
        typer.Option(
            help="Instead, SIGKILL to policy, servo, guardian, emulator or all, RUNS times each; repeatable.",
            metavar="PROCESS",
        ),
    ] = None,
    minutes: Annotated[
        float | None, typer.Option(min=0.1, help="Instead, episodes for so long with 0.5% of the replies corrupt.")
    ] = None,
    policy: Annotated[
        str | None, typer.Option(help="Move by this artifact instead of a script.", metavar="NAME|FOLDER")
    ] = None,
    side_by_side: Annotated[
        int, typer.Option(min=1, help="So many trials at a time, each on an arm of its own: a quarter of a core each.")
    ] = 1,
    json: Json = None,
    report: Annotated[Path | None, typer.Option(help="Write the page to this Markdown file.", dir_okay=False)] = None,
) -> int:
    """Break things on purpose while the emulated arm moves, and say what happened."""
    from drivers.config import load_robot
    from runtime.report import write_json

    console = make_console()
    robots = [load_robot(name) for name in robot or ["emulated"]]
    if minutes is not None:
        content, page, good = _soak(console, robots, minutes, policy)
    else:
        content, page, good = _campaign(
            console, robots, runs, seed, pairs, only or [], kill or [], policy, side_by_side
        )
    if json is not None:
        write_json(json, content)
    if report is not None:
        report.parent.mkdir(parents=True, exist_ok=True)
        report.write_text(page, encoding="utf-8")
        say(console, f"report     {report}")
    return 0 if good else VIOLATED


def _campaign(
    console: Console,
    robots: list[RobotConfig],
    runs: int | None,
    seed: int,
    pairs: bool,
    only: list[str],
    kill: list[str],
    policy: str | None,
    side_by_side: int,
) -> tuple[dict[str, Any], str, bool]:
    """The figures, the page, and whether nothing was violated."""
    import tempfile

    from runtime.campaign import kills, report
    from runtime.campaign.crew import play_all
    from runtime.campaign.plan import chosen, deal
    from runtime.campaign.rig import RigError

    wanted = chosen(only)
    plans = {
        config.name: kills.kill_plans(kill, runs or 1, config, seed)
        if kill
        else deal(wanted, runs or len(wanted), pairs, config, seed)
        for config in robots
    }
    played = Counter[str]()
    with tempfile.TemporaryDirectory(prefix="gato-arm-faults-") as folder, _bar(console) as bar:
        tasks = {config.name: bar.add_task(config.name, total=len(plans[config.name])) for config in robots}

        def tell(config: RobotConfig, verdict: Verdict) -> None:
            played[config.name] += 1
            bar.update(tasks[config.name], advance=1)
            _tell(console, f"{config.name} {played[config.name]}/{len(plans[config.name])}", verdict)

        broken: list[RigError] = []
        results = play_all(robots, plans, Path(folder), side_by_side, policy, tell, broken.append)
    for error in broken:
        say(console, f"broken off  {error}")
    say(console, report.summary(results))
    command = command_line()
    page = kills.markdown(results, command) if kill else report.markdown(results, command)
    good = not broken and not any(verdict.violations for verdicts in results.values() for verdict in verdicts)
    return report.to_json(results, {"command": command, "seed": seed}), page, good


def _soak(
    console: Console, robots: list[RobotConfig], minutes: float, policy: str | None
) -> tuple[dict[str, Any], str, bool]:
    import tempfile

    from runtime.campaign import soak
    from runtime.campaign.session import Session

    results: dict[str, soak.Soak] = {}
    with tempfile.TemporaryDirectory(prefix="gato-arm-faults-") as folder, _bar(console) as bar:
        for config in robots:
            task = bar.add_task(config.name, total=60 * minutes)

            def tell(result: soak.Soak, task: Any = task) -> None:
                bar.update(task, completed=result.seconds)

            with Session(config, Path(folder) / config.name, policy=policy) as session:
                results[config.name] = soak.soak(session, minutes, tell)
    command = command_line()
    page = soak.markdown(results, command)
    say(console, page)
    content = {"command": command, "robots": {name: result.to_json() for name, result in results.items()}}
    return content, page, not any(result.problems() for result in results.values())


def command_line() -> str:
    """How this program was called, as one types it."""
    return shlex.join(["gato-arm", *sys.argv[1:]])


def _bar(console: Console) -> Progress:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
    )


def _tell(console: Console, head: str, verdict: Verdict) -> None:
    """A line for a trial on which something was violated, and for every one where there is no bar."""
    if verdict.violations or not console.is_terminal:
        stop = "" if verdict.goals_stop_s is None else f", goals at rest after {verdict.goals_stop_s * 1000:.0f} ms"
        late = ", machine late" if verdict.late else ""
        say(console, f"{head} {verdict.name}: {verdict.ends}{stop}{late}")
    for violation in verdict.violations:
        say(console, f"    {violation}")
