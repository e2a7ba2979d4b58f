"""Who calibrates: a person at a terminal, or whoever stands in for one. Knows nothing of what is calibrated."""

from __future__ import annotations

import select
import sys
from collections.abc import Callable
from typing import Literal, Protocol

import typer
from rich.console import Console, RenderableType
from rich.live import Live

from calibration.errors import CalibrationError

POLL = 0.01  # s between two looks
Step = Literal["sweep", "centre", "view"]


class Operator(Protocol):
    """Told what happens, asked what only a person can know, and given time to do things by hand."""

    def say(self, text: str) -> None: ...

    def confirm(self, question: str) -> bool:
        """A yes-or-no question; no when nobody is there to answer."""

    def watch(self, step: Step, instruction: str, look: Callable[[], RenderableType]) -> None:
        """Tell what to do by hand, and call `look` again and again, showing what it returns, until that is done.

        `step` names it for whoever is no person. Raises `CalibrationError` when nobody is there to do it.
        """


class ConsoleOperator:
    """A person at this terminal. `yes` answers every question with yes, for scripts."""

    def __init__(self, console: Console, *, yes: bool = False) -> None:
        self._console, self._yes = console, yes
        self._there = sys.stdin.isatty() and sys.stdout.isatty()

    def say(self, text: str) -> None:
        self._console.print(text, highlight=False, markup=False, soft_wrap=True)

    def confirm(self, question: str) -> bool:
        if self._yes:
            self.say(f"{question} yes (--yes)")
            return True
        if not self._there:
            self.say(f"{question} no: nobody is there to answer; run this on a terminal, or add --yes")
            return False
        return typer.confirm(question)

    def watch(self, step: Step, instruction: str, look: Callable[[], RenderableType]) -> None:
        if not self._there:
            raise CalibrationError(f"nobody is there to do this: {instruction}; run it on a terminal")
        self.say(f"{instruction} Then press Enter.")
        with Live(look(), console=self._console, refresh_per_second=12, transient=True) as live:
            while not select.select([sys.stdin], [], [], POLL)[0]:
                live.update(look())
        sys.stdin.readline()
