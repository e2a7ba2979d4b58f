"""The operator's keys, typed at the other side of a pseudo-terminal."""

from __future__ import annotations

import os
import termios
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from runtime.clock import SECOND, SimulatedClock
from runtime.keys import OperatorKeys, StopKeys
from runtime.supervisor import Stop

PATIENCE = 5.0  # s


@pytest.mark.parametrize(
    ("key", "stop"), [(" ", Stop.HOLD), ("s", Stop.HOLD), ("l", Stop.LOWER), ("0", None), ("r", None), ("x", None)]
)
def test_what_a_key_means(key: str, stop: Stop | None) -> None:
    assert StopKeys().press(key, 0) is stop


@pytest.mark.parametrize(
    ("presses", "stop"),
    [
        ([("0", 1.0), ("0", 2.9)], Stop.POWER_OFF),
        ([("0", 1.0), ("0", 3.1)], None),
        ([("0", 1.0), ("x", 1.5), ("0", 2.0)], None),
        ([("0", 1.0), ("s", 1.5), ("0", 2.0)], None),
        ([("0", 1.0), ("0", 3.1), ("0", 3.2)], Stop.POWER_OFF),
        ([("0", 1.0), ("0", 1.1), ("0", 1.2)], None),
    ],
)
def test_power_goes_off_by_a_second_press_soon_after_the_first(
    presses: list[tuple[str, float]], stop: Stop | None
) -> None:
    keys = StopKeys()
    *_, last = [keys.press(key, round(at * SECOND)) for key, at in presses]
    assert last is stop


class Terminal:
    """A pseudo-terminal with somebody at it."""

    def __init__(self) -> None:
        self.person, self.program = os.openpty()
        self.stops: list[Stop] = []
        self.said: list[str] = []
        self.keys = OperatorKeys(self.program, self.stops.append, self.said.append, SimulatedClock(SECOND))

    def type(self, text: str) -> None:
        os.write(self.person, text.encode())

    def line_mode(self) -> bool:
        return bool(termios.tcgetattr(self.program)[3] & termios.ICANON)


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    terminal = Terminal()
    yield terminal
    os.close(terminal.person)
    os.close(terminal.program)


def wait_for(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)


def test_keys_stop_without_enter_and_the_terminal_is_left_as_it_was(terminal: Terminal) -> None:
    assert terminal.line_mode()
    with terminal.keys:
        assert not terminal.line_mode()
        terminal.type("sL0")
        wait_for(lambda: terminal.said)
        terminal.type("0")
        wait_for(lambda: len(terminal.stops) == 3)
    assert terminal.stops == [Stop.HOLD, Stop.LOWER, Stop.POWER_OFF]
    assert terminal.said == ["power off: an arm in the air falls; press 0 again to confirm"]
    assert terminal.line_mode()


def test_a_question_has_the_terminal_to_itself(terminal: Terminal) -> None:
    with terminal.keys:
        with terminal.keys.paused():
            assert terminal.line_mode()
            terminal.type("s\n")
            assert os.read(terminal.program, 10) == b"s\n"
        terminal.type("l")
        wait_for(lambda: terminal.stops)
    assert terminal.stops == [Stop.LOWER]


@pytest.mark.parametrize(("typed", "answer"), [("r", True), ("q", False), ("xxR", True)])
def test_a_fault_is_reset_by_the_operator_s_word_alone(terminal: Terminal, typed: str, answer: bool) -> None:
    with terminal.keys:
        terminal.type("rr")  # from before the question: not an answer to it
        wait_for(lambda: terminal.keys._keys.qsize() == 2)
        later = threading.Timer(0.05, terminal.type, [typed])
        later.start()
        assert terminal.keys.wants_reset("it smokes") is answer
        later.join()
    assert terminal.said == [
        "stopped by a fault: it smokes",
        "remove the cause, then press r to reset and go on, or q to end",
    ]
    assert terminal.stops == []


def test_a_terminal_that_is_gone_resets_nothing() -> None:
    terminal = Terminal()
    with terminal.keys:
        os.close(terminal.person)
        assert terminal.keys.wants_reset("it smokes") is False
    os.close(terminal.program)
