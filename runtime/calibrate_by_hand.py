"""An operator for an emulated arm: its hand sweeps the joints, and it says yes."""

from __future__ import annotations

from collections.abc import Callable

from rich.console import RenderableType

from calibration.errors import CalibrationError
from calibration.rehearsal.hand import Hand
from runtime.calibrate_operator import Step


class HandOperator:
    """`runtime.calibrate_operator.Operator` with a simulated hand; `tell` is told what an operator would read."""

    def __init__(self, hand: Hand, tell: Callable[[str], None] = lambda text: None, *, agrees: bool = True) -> None:
        self._hand, self._tell, self._agrees = hand, tell, agrees

    def say(self, text: str) -> None:
        self._tell(text)

    def confirm(self, question: str) -> bool:
        self._tell(f"{question} {'yes' if self._agrees else 'no'} (emulated operator)")
        return self._agrees

    def watch(self, step: Step, instruction: str, look: Callable[[], RenderableType]) -> None:
        self._tell(f"{instruction} (the emulated hand does)")
        if step == "view":
            raise CalibrationError(f"an emulated hand cannot do this: {instruction}")
        look()
        for _ in self._hand.sweep() if step == "sweep" else self._hand.centre():
            look()
