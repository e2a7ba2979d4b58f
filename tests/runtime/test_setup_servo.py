"""One servo gets its id and baud rate: found, shown, confirmed, written, called by its new name; or left alone."""

from __future__ import annotations

import io
import sys

import pytest

from drivers.arm import ArmError
from drivers.servo_line import ServoLine
from runtime import servo_scan
from runtime.commands.setup_servo import Protocol
from runtime.commands.setup_servo import setup_servo as verb
from runtime.servo_scan import ServoProtocolName, scan
from runtime.setup_servo import Wish, changes, find_one, setup_servo, write
from tests.runtime.servo_shelf import ServoShelf

FACTORY: dict[ServoProtocolName, tuple[int, int]] = {"feetech": (1, 1_000_000), "dynamixel": (1, 57_600)}


class Person:
    """Sees what is said, and answers each question in the same way."""

    def __init__(self, answer: bool) -> None:
        self.answer, self.asked, self.seen = answer, 0, list[str]()

    def confirm(self, question: str) -> bool:
        assert question.endswith("?")
        self.asked += 1
        return self.answer


def play(shelf: ServoShelf, wish: Wish, person: Person | None) -> tuple[bool, str]:
    """The verb without its terminal: whether it is done, and what was said."""
    said: list[str] = []
    found = find_one(wish, open_line=shelf.open_line)
    confirm = None if person is None else person.confirm
    done = setup_servo(found, wish, confirm=confirm, say=said.append, open_line=shelf.open_line)
    return done, "\n".join(said)


def images(shelf: ServoShelf) -> list[bytes]:
    return [bytes(servo.memory[: servo.layout.eeprom]) for servo in shelf.servos]


def refused(shelf: ServoShelf, wish: Wish, person: Person | None = None) -> str:
    """The one line of the refusal; nothing has been written."""
    before = images(shelf)
    with pytest.raises(ArmError) as caught:
        play(shelf, wish, person)
    assert images(shelf) == before and shelf.ports_open == 0
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(("id", "baudrate"), [(4, 1_000_000), (1, 115_200), (252, 115_200)])
@pytest.mark.parametrize("protocol", ["feetech", "dynamixel"])
def test_a_new_servo_gets_its_name(protocol: ServoProtocolName, id: int, baudrate: int) -> None:
    shelf, person = ServoShelf(protocol, [FACTORY[protocol]]), Person(True)
    done, said = play(shelf, Wish(protocol, "shelf", id, baudrate), person)
    assert done and person.asked == 1 and shelf.ports_open == 0
    assert (shelf.servos[0].id, shelf.servos[0].baudrate) == (id, baudrate)
    assert f"with id {id} at {baudrate} baud" in said and "next servo" in said
    again = scan(protocol, "shelf", open_line=shelf.open_line)
    assert [(answer.servo.id, answer.baudrate) for answer in again] == [(id, baudrate)]


@pytest.mark.parametrize("protocol", ["feetech", "dynamixel"])
def test_torque_is_off_when_it_is_done(protocol: ServoProtocolName) -> None:
    shelf = ServoShelf(protocol, [FACTORY[protocol]])
    with shelf.open_line(protocol, "shelf", FACTORY[protocol][1]) as line:
        line.write(1, "torque_enable", 1)
    play(shelf, Wish(protocol, "shelf", 9, 1_000_000), Person(True))
    with shelf.open_line(protocol, "shelf", 1_000_000) as line:
        assert line.read(9, "torque_enable") == 0


def test_a_locked_servo_is_locked_again() -> None:
    shelf = ServoShelf("feetech", [(1, 1_000_000)])
    with shelf.open_line("feetech", "shelf", 1_000_000) as line:
        line.write(1, "lock", 1)
    play(shelf, Wish("feetech", "shelf", 5, 500_000), Person(True))
    with shelf.open_line("feetech", "shelf", 500_000) as line:
        assert line.read(5, "lock") == 1


def test_what_will_be_written_is_shown_and_a_no_leaves_it() -> None:
    shelf, person = ServoShelf("dynamixel", [(1, 57_600)]), Person(False)
    before = images(shelf)
    done, said = play(shelf, Wish("dynamixel", "shelf", 3, 1_000_000), person)
    assert not done and images(shelf) == before and person.asked == 1
    assert "id        1 -> 3" in said and "baud rate 57600 -> 1000000" in said and said.endswith("nothing was written")


def test_only_what_changes_is_shown() -> None:
    shelf = ServoShelf("feetech", [(1, 1_000_000)])
    found = find_one(Wish("feetech", "shelf", 2, 1_000_000), open_line=shelf.open_line)
    assert changes(found, Wish("feetech", "shelf", 2, 1_000_000)) == ["id        1 -> 2"]
    assert changes(found, Wish("feetech", "shelf", 1, 500_000)) == ["baud rate 1000000 -> 500000"]
    assert changes(found, Wish("feetech", "shelf", 1, 1_000_000)) == []


def test_a_servo_that_is_right_is_neither_asked_about_nor_written() -> None:
    shelf, person = ServoShelf("feetech", [(6, 1_000_000)]), Person(True)
    before = images(shelf)
    done, said = play(shelf, Wish("feetech", "shelf", 6, 1_000_000), person)
    assert done and person.asked == 0 and images(shelf) == before
    assert "nothing was written" in said


def test_nobody_there_to_confirm_is_refused_only_when_something_would_be_written() -> None:
    shelf = ServoShelf("feetech", [(6, 1_000_000)])
    assert "--yes" in refused(shelf, Wish("feetech", "shelf", 7, 1_000_000))
    assert play(shelf, Wish("feetech", "shelf", 6, 1_000_000), None)[0]


@pytest.mark.parametrize("second", [(2, 1_000_000), (1, 500_000)])
def test_two_servos_are_refused_and_listed(second: tuple[int, int]) -> None:
    message = refused(ServoShelf("feetech", [(1, 1_000_000), second]), Wish("feetech", "shelf", 3, 1_000_000))
    assert "id 1 at 1000000 baud" in message and f"id {second[0]} at {second[1]} baud" in message


def test_no_servo_is_refused() -> None:
    assert "no dynamixel servo answers" in refused(ServoShelf("dynamixel", []), Wish("dynamixel", "shelf", 3, 57_600))


def test_a_baud_rate_that_the_protocol_has_not_is_refused_before_anything_is_opened() -> None:
    shelf = ServoShelf("feetech", [(1, 1_000_000)])
    assert "--baudrate 57601" in refused(shelf, Wish("feetech", "shelf", 3, 57_601))
    assert shelf.opened == []


def test_what_a_servo_says_of_itself_is_told() -> None:
    shelf = ServoShelf("feetech", [(1, 1_000_000)])
    shelf.bus.faults.set("sag", voltage=3.0)
    assert "it says   " in play(shelf, Wish("feetech", "shelf", 1, 1_000_000), None)[1]


def test_a_servo_that_falls_silent_afterwards_is_told() -> None:
    shelf = ServoShelf("feetech", [(1, 1_000_000)])
    wish = Wish("feetech", "shelf", 1, 500_000)
    found = find_one(wish, open_line=shelf.open_line)
    lines = 0

    def second_time_silent(protocol: ServoProtocolName, port: str, baudrate: int) -> ServoLine:
        nonlocal lines
        lines += 1
        if lines == 2:
            shelf.bus.faults.set("silent", ids=[1])
        return shelf.open_line(protocol, port, baudrate)

    with pytest.raises(ArmError, match="took its settings, but id 1 does not answer at 500000 baud"):
        write(found, wish, second_time_silent)
    assert shelf.servos[0].baudrate == 500_000 and shelf.ports_open == 0


@pytest.fixture
def shelf(monkeypatch: pytest.MonkeyPatch) -> ServoShelf:
    """A new servo, found by the verb."""
    shelf = ServoShelf("dynamixel", [(1, 57_600)])

    def made(protocol: ServoProtocolName, port: str, baudrate: int, *, deadline: float) -> ServoLine:
        return shelf.open_line(protocol, port, baudrate)

    monkeypatch.setattr(servo_scan, "ServoLine", made)
    return shelf


def at_a_terminal(monkeypatch: pytest.MonkeyPatch, answer: str | None) -> None:
    """Somebody who types `answer`; None: nobody is there."""
    typed = io.StringIO("" if answer is None else f"{answer}\n")
    monkeypatch.setattr(typed, "isatty", lambda: answer is not None)
    monkeypatch.setattr(sys, "stdin", typed)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: answer is not None, raising=False)


@pytest.mark.parametrize(
    ("answer", "yes", "code", "id"), [("y", False, 0, 3), ("n", False, 1, 1), ("", False, 1, 1), (None, True, 0, 3)]
)
def test_the_verb_asks_or_is_told(
    shelf: ServoShelf, monkeypatch: pytest.MonkeyPatch, answer: str | None, yes: bool, code: int, id: int
) -> None:
    at_a_terminal(monkeypatch, answer)
    assert verb("shelf", Protocol.dynamixel, 3, 1_000_000, yes) == code
    assert shelf.servos[0].id == id


def test_the_verb_refuses_without_a_terminal(shelf: ServoShelf, monkeypatch: pytest.MonkeyPatch) -> None:
    at_a_terminal(monkeypatch, None)
    with pytest.raises(ArmError, match="--yes"):
        verb("shelf", Protocol.dynamixel, 3)
    assert (shelf.servos[0].id, shelf.servos[0].baudrate) == (1, 57_600)
