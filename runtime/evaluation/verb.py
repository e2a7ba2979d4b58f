"""`gato-arm eval`: from what was asked for to trials, and from their rows to files and to what a person reads.

Knows no command line.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.console import Console

from runtime.evaluate import LOKY
from runtime.evaluation.paper import BENCHMARKS
from runtime.evaluation.render import REPORT, render
from runtime.evaluation.session import Subject, check, play_missing, subject_of
from runtime.evaluation.sheets import failure_sheet
from runtime.evaluation.store import Row, Store, read_rows
from runtime.evaluation.suite import suite_trials
from runtime.evaluation.summary import by_part, summarise, tallies_of
from runtime.evaluation.trial import (
    CUBES,
    NOMINAL,
    PROMPTS,
    RIGHT,
    ROBOT,
    EvaluationError,
    Setting,
    Trial,
    cell_of,
    objects_of,
    shifts_of,
)
from runtime.lockstep import task_of
from runtime.progress import Counting
from runtime.report import Report, success_table, write_json
from runtime.run import default_policy

EPISODES = "episodes"  # the part of what no suite has


@dataclass(frozen=True)
class EvalOptions:
    """What `gato-arm eval` was asked for."""

    episodes: int = 300  # of each cell
    seed: int = 100_000
    policy: str | None = None  # default: the one that is shipped
    task: str | None = None  # default: the tasks in turn
    objects: str = CUBES
    shifts: tuple[str, ...] = ()
    prompt: str = RIGHT
    demonstration: bool = False
    robot: str = ROBOT
    suite: str | None = None
    only: tuple[str, ...] = ()
    report: Path | None = None
    render: Path | None = None
    benchmark: str | None = None
    minutes: float | None = None
    workers: int | None = None
    backend: str = LOKY
    json: Path | None = None
    picture: Path | None = None

    def trials(self, expert: bool) -> list[Trial]:
        """What to play. Raises `EvaluationError` and `TaskError` for names that nobody knows."""
        if self.suite is not None:
            plain = EvalOptions()
            for name in ("task", "objects", "shifts", "prompt", "demonstration"):
                if getattr(self, name) != getattr(plain, name):
                    raise EvaluationError(
                        f"a suite chooses by itself: leave --{'shift' if name == 'shifts' else name} out"
                    )
            return suite_trials(self.suite, self.seed, only=self.only, robot=self.robot, expert=expert)
        if self.only:
            raise EvaluationError("--only chooses parts of a suite: say --suite full as well")
        if self.prompt not in PROMPTS:
            raise EvaluationError(f"no prompt {self.prompt!r}; there are {', '.join(PROMPTS)}")
        tasks = None if self.task is None else [task_of(0, self.task)]
        trials: list[Trial] = []
        for objects in objects_of(self.objects):
            for shift, shifts in shifts_of(self.shifts).items():
                setting = Setting(objects, shifts, self.prompt, None, self.demonstration, self.robot)
                cell = objects if shift == NOMINAL and self.shifts == () else f"{objects}, {shift}"
                trials += cell_of(EPISODES, cell, self.episodes, self.seed, setting, tasks)
        return trials


def run(options: EvalOptions, console: Console) -> int:
    """Evaluate, or render what was; returns the exit code. Raises what is the user's to mend, one line each."""
    if options.benchmark not in (None, *BENCHMARKS):
        raise EvaluationError(f"no benchmark {options.benchmark!r}; there are {', '.join(BENCHMARKS)}")
    if options.render is not None:
        _report(options, console, options.render, list(read_rows(options.render)), options.benchmark)
        return 0
    subject = subject_of(options.policy or default_policy())
    trials = options.trials(expert=subject.folder is None)
    check(subject, trials)
    with ExitStack() as stack:
        folder = options.report or Path(stack.enter_context(TemporaryDirectory()))
        store = Store(folder, subject.label)
        missing = store.missing(trials)
        with Counting(console, "eval", len(missing)) as progress:
            complete = play_missing(
                subject,
                trials,
                store,
                workers=options.workers,
                backend=options.backend,
                minutes=options.minutes,
                on_result=progress.add,
            )
        rows = [store.rows[trial.key] for trial in trials if trial.key in store.rows]
        if not complete:
            _say(console, f"stopped    {len(rows)} of {len(trials)} episodes; the same command goes on from there")
        if options.report is not None:
            benchmark = options.benchmark or subject.benchmark
            _report(options, console, folder, list(store.rows.values()), benchmark)
        else:
            _tell(options, console, folder, rows, subject)
    return 0


def _report(options: EvalOptions, console: Console, folder: Path, rows: Sequence[Row], benchmark: str | None) -> None:
    """Write the report and say where it is."""
    content = render(folder, rows, benchmark)
    _tables(console, rows)
    _say(console, f"report     {folder / REPORT}")
    if options.json is not None:
        write_json(options.json, content)


def _tell(options: EvalOptions, console: Console, folder: Path, rows: Sequence[Row], subject: Subject) -> None:
    """Without a report: tables, the failures' sheet, and the JSON."""
    _tables(console, rows)
    default = (
        options.json.with_suffix(".failures.png") if options.json else Path(f"runs/eval-{options.seed}-failures.png")
    )
    sheet = options.picture or default
    shown = failure_sheet(rows, folder, sheet)
    if shown:
        _say(console, f"failures   {sheet}")
    if options.json is not None:
        write_json(options.json, summarise(rows, subject.label) | {"picture": str(sheet) if shown else None})


def _tables(console: Console, rows: Sequence[Row]) -> None:
    """A table for each part: its cells, or its tasks where it has but one cell."""
    for part, of_part in by_part(rows).items():
        report = Report("", 0, tuple(row.outcome for row in of_part))
        cells = tallies_of(of_part)
        table = report.table(f"{part}, by task") if len(cells) == 1 else success_table(part, "", cells)
        console.print(table)
        _say(console, report.summary())


def _say(console: Console, text: str) -> None:
    console.print(text, highlight=False, markup=False, soft_wrap=True)
