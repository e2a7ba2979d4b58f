"""What a person sees while episodes run: a bar on a terminal, plain lines elsewhere. Knows no robot."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from runtime.report import SUCCESS, UNJUDGED, EpisodeOutcome

if TYPE_CHECKING:
    from runtime.loop import EpisodeInfo, EpisodeResult, Step

STEPS_BETWEEN_UPDATES = 5


class _Shown:
    """Has a `_bar` that is drawn inside `with`."""

    _bar: Progress

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()


class Counting(_Shown):
    """A bar over many quick episodes, with the successes so far; a line every tenth of them without a terminal."""

    def __init__(self, console: Console, what: str, total: int) -> None:
        self._console, self._what, self._total = console, what, total
        self._done = self._successes = 0
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}"),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task(what, total=total, note="")

    def add(self, outcome: EpisodeOutcome) -> None:
        """Count one episode."""
        self._done += 1
        self._successes += outcome.success
        note = f"{self._successes} succeeded"
        self._bar.update(self._task, advance=1, note=note)
        every = max(1, self._total // 10)
        if not self._console.is_terminal and (self._done % every == 0 or self._done == self._total):
            self._console.print(f"{self._what}: {self._done}/{self._total}, {note}", highlight=False)


class Count(_Shown):
    """A bar over things of one kind, on a terminal."""

    def __init__(self, console: Console, what: str, total: int) -> None:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        self._bar = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
        self._task = self._bar.add_task(what, total=total)

    def advance(self) -> None:
        """One more is done."""
        self._bar.update(self._task, advance=1)


class Episodes(_Shown):
    """One line for each slow episode, and a bar while it runs on a terminal. A subscriber of the control loop: the
    terminal is drawn by rich's own thread, a step sets a number now and then."""

    def __init__(self, console: Console, total: int) -> None:
        self._console, self._total = console, total
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[note]}"),
            console=console,
            disable=not console.is_terminal,
            refresh_per_second=4,
            transient=True,
        )
        self._task = self._bar.add_task("", total=None, note="", visible=False)

    def head(self, index: int, task: str) -> str:
        """ "3/6 stack …" of episode `index`, counted from 0."""
        return f"{index + 1}/{self._total} {task}"

    def say(self, text: str) -> None:
        """A line of its own."""
        self._console.print(text, highlight=False, markup=False)

    def ask(self, question: str) -> bool:
        """Put a yes-or-no question to the person at the terminal."""
        self._bar.stop()
        try:
            return self._console.input(f"{question} [y/n] ", markup=False).strip().lower() in ("y", "yes")
        finally:
            self._bar.start()

    def on_episode_start(self, info: EpisodeInfo) -> None:
        head = self.head(info.index, info.task)
        self._bar.update(self._task, description=head, total=info.max_steps, completed=0, visible=True)

    def on_step(self, step: Step) -> None:
        if step.index % STEPS_BETWEEN_UPDATES == 0:
            ms = sum(step.split_ms.values())
            self._bar.update(self._task, completed=step.index + 1, note=f"step {step.index + 1}, {ms:.0f} ms")

    def on_episode_end(self, result: EpisodeResult) -> None:
        self._bar.update(self._task, visible=False)

    def end(self, outcome: EpisodeOutcome) -> None:
        """An episode is over and judged: say what came of it."""
        mark = {SUCCESS: "success", UNJUDGED: "not judged"}.get(outcome.outcome, outcome.outcome)
        colour = {SUCCESS: "green", UNJUDGED: "yellow"}.get(outcome.outcome, "red")
        self._console.print(f"{self.head(outcome.index, outcome.task)} … ", end="", highlight=False, markup=False)
        self._console.print(f"{mark} in {outcome.seconds:.1f} s", style=colour, highlight=False, markup=False)
