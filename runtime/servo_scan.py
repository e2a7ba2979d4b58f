"""Which servos answer on a port, at every baud rate of their protocol. Changes nothing; a servo that is asked for its
name does not move.

Knows no robot: ids and baud rates of a robot's file are compared with what is found elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

from drivers.arm import ArmError
from drivers.servo_line import BAUDRATES, FoundServo, ServoLine

if TYPE_CHECKING:
    from rich.console import Console

ServoProtocolName = Literal["feetech", "dynamixel"]
IDS = range(253)  # 253 and above are no servo's, or stand for all of them
ANSWER_WAIT = 0.005  # s; the longest return delay is 0.5 ms, the rest is the adapter's
WIRE_BYTES = 24  # of the longest ping and its reply, Dynamixel's


OpenLine = Callable[[ServoProtocolName, str, int], ServoLine]
OnProgress = Callable[[int, int], None]  # baud rates that are done, and how many there are


@dataclass(frozen=True, slots=True)
class Answer:
    """A servo, and the baud rate at which it answered."""

    baudrate: int
    servo: FoundServo

    def __str__(self) -> str:
        model = self.servo.model or f"model {self.servo.number}"
        return f"{model} with id {self.servo.id} at {self.baudrate} baud"


def open_line(protocol: ServoProtocolName, port: str, baudrate: int) -> ServoLine:
    """A line to the servos on `port`, patient enough for its baud rate. Raises `ArmError`."""
    return ServoLine(protocol, port, baudrate, deadline=ANSWER_WAIT + WIRE_BYTES * 10 / baudrate)


def protocol_named(name: str) -> ServoProtocolName:
    """The servo protocol of that name. Raises `ArmError` for what is none: another driver's arm has no such servos."""
    known: tuple[ServoProtocolName, ...] = get_args(ServoProtocolName)
    for protocol in known:
        if protocol == name:
            return protocol
    raise ArmError(f"{name!r} is no servo protocol that can be scanned; known: {', '.join(known)}")


def scan(
    protocol: ServoProtocolName,
    port: str,
    *,
    open_line: OpenLine = open_line,
    on_progress: OnProgress = lambda done, of: None,
) -> list[Answer]:
    """Every servo on `port`, whatever its baud rate and id. Raises `ArmError` when the port cannot be used."""
    answers: list[Answer] = []
    for done, baudrate in enumerate(BAUDRATES[protocol], 1):
        with open_line(protocol, port, baudrate) as line:
            answers += [Answer(baudrate, servo) for servo in line.scan(IDS)]
        on_progress(done, len(BAUDRATES[protocol]))
    return answers


@contextmanager
def shown(console: Console) -> Iterator[OnProgress]:
    """A bar over the baud rates, begun when the first is done; nothing where there is no terminal."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as bar:
        task = bar.add_task("baud rates searched for servos", visible=False)
        yield lambda done, of: bar.update(task, completed=done, total=of, visible=True)
