"""`gato-arm setup-servo`: give one servo, alone on its port, an id and a baud rate. Both stay when power goes.

Knows no robot and no terminal: it asks and tells through what it is given. How a register is written, unlocked and read
back is the line's (`drivers.servo_line`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from drivers.arm import ArmError
from drivers.servo_line import BAUDRATES
from runtime.serial_ports import latency_problem
from runtime.servo_scan import Answer, OnProgress, OpenLine, ServoProtocolName, open_line, scan


@dataclass(frozen=True, slots=True)
class Wish:
    """What a servo shall be: its id, and the baud rate that it answers at."""

    protocol: ServoProtocolName
    port: str
    id: int
    baudrate: int

    def check(self) -> None:
        """Raises `ArmError` for a baud rate that the protocol does not have."""
        known = BAUDRATES[self.protocol]
        if self.baudrate not in known:
            raise ArmError(
                f"--baudrate {self.baudrate}: {self.protocol} servos know {', '.join(map(str, sorted(known)))}"
            )


def find_one(wish: Wish, *, on_progress: OnProgress = lambda done, of: None, open_line: OpenLine = open_line) -> Answer:
    """The one servo on the port. Raises `ArmError` when there is none, or more than one: it lists them."""
    wish.check()
    answers = scan(wish.protocol, wish.port, open_line=open_line, on_progress=on_progress)
    if len(answers) > 1:
        raise ArmError(
            f"{wish.port}: more than one servo answers ({'; '.join(map(str, answers))}); unplug all but the one to set "
            "up: two with one id could not be told apart any more"
        )
    if not answers:
        hint = latency_problem(wish.port) or "is it powered, plugged in, and of this protocol?"
        raise ArmError(f"{wish.port}: no {wish.protocol} servo answers at any baud rate and id; {hint}")
    return answers[0]


def changes(found: Answer, wish: Wish) -> list[str]:
    """What would be written, a line each; nothing when the servo is as wished."""
    lines = []
    if found.servo.id != wish.id:
        lines.append(f"id        {found.servo.id} -> {wish.id}")
    if found.baudrate != wish.baudrate:
        lines.append(f"baud rate {found.baudrate} -> {wish.baudrate}")
    return lines


def write(found: Answer, wish: Wish, open_line: OpenLine = open_line) -> Answer:
    """Torque off, then id, then baud rate, each read back; then the servo is called by its new name on a new line.

    Raises `ArmError` when something was not taken; the servo may then have a new id at its old baud rate.
    """
    with open_line(wish.protocol, wish.port, found.baudrate) as line:
        line.write(found.servo.id, "torque_enable", 0)
        if found.servo.id != wish.id:
            line.write(found.servo.id, "id", wish.id)
        if found.baudrate != wish.baudrate:
            line.write(wish.id, "baudrate", BAUDRATES[wish.protocol][wish.baudrate])
    with open_line(wish.protocol, wish.port, wish.baudrate) as line:
        servo = line.ping(wish.id)
    if servo is None:
        raise ArmError(
            f"{wish.port}: the servo took its settings, but id {wish.id} does not answer at {wish.baudrate} baud; "
            "switch its power off and on, then run this again"
        )
    return Answer(wish.baudrate, servo)


def setup_servo(
    found: Answer,
    wish: Wish,
    *,
    confirm: Callable[[str], bool] | None,
    say: Callable[[str], None],
    open_line: OpenLine = open_line,
) -> bool:
    """Show, ask, write, verify; True when the servo is now as wished, False when the answer was no.

    `confirm` puts a yes-or-no question before anything is written; None: nobody is there to answer it, which is an
    `ArmError` if there is anything to write. Raises `ArmError` as `write` does.
    """
    say(f"found     {found}, firmware {found.servo.firmware}")
    for error in found.servo.errors:
        say(f"it says   {error}")
    lines = changes(found, wish)
    if not lines:
        say("it has this id and baud rate already; nothing was written")
        return True
    for line in lines:
        say(line)
    if confirm is None:
        raise ArmError("nothing was written: nobody is there to confirm it; run this on a terminal, or add --yes")
    if not confirm("Write this to the servo's EEPROM?"):
        say("nothing was written")
        return False
    say(f"done      {write(found, wish, open_line)}")
    say(f"Write {wish.id} on it and unplug it. Then plug in the next servo, alone, and run this with its id.")
    return True
