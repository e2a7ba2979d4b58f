"""Which servos a scan finds, at which baud rates, and how its progress is shown."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from drivers.arm import ArmError
from drivers.servo_line import BAUDRATES, ServoLine
from runtime import servo_scan
from runtime.servo_scan import ServoProtocolName, protocol_named, scan, shown
from tests.runtime.servo_shelf import ServoShelf

PROTOCOLS: tuple[ServoProtocolName, ...] = ("feetech", "dynamixel")


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_every_servo_is_found_at_its_own_baud_rate(protocol: ServoProtocolName) -> None:
    rates = list(BAUDRATES[protocol])
    shelf = ServoShelf(protocol, [(1, rates[0]), (252, rates[0]), (7, rates[-1]), (7, rates[2])])
    answers = scan(protocol, "shelf", open_line=shelf.open_line)
    assert {(answer.servo.id, answer.baudrate) for answer in answers} == {
        (1, rates[0]),
        (252, rates[0]),
        (7, rates[-1]),
        (7, rates[2]),
    }
    assert shelf.opened == rates and shelf.ports_open == 0
    assert all(f"with id {answer.servo.id} at {answer.baudrate} baud" in str(answer) for answer in answers)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_an_empty_line_has_no_servos_and_progress_is_told(protocol: ServoProtocolName) -> None:
    told: list[tuple[int, int]] = []
    shelf = ServoShelf(protocol, [])
    assert scan(protocol, "shelf", open_line=shelf.open_line, on_progress=lambda *step: told.append(step)) == []
    rates = len(BAUDRATES[protocol])
    assert told == [(done, rates) for done in range(1, rates + 1)]


def test_a_servo_of_an_unknown_model_has_its_number(monkeypatch: pytest.MonkeyPatch) -> None:
    shelf = ServoShelf("feetech", [(3, 1_000_000)])
    shelf.servos[0].memory[3:5] = (4321).to_bytes(2, "little")
    assert str(scan("feetech", "shelf", open_line=shelf.open_line)[0]) == "model 4321 with id 3 at 1000000 baud"


def test_protocols_have_names() -> None:
    assert [protocol_named(name) for name in PROTOCOLS] == list(PROTOCOLS)
    with pytest.raises(ArmError, match=r"'simulated' is no servo protocol .* known: feetech, dynamixel"):
        protocol_named("simulated")


def test_a_line_waits_for_the_wire(monkeypatch: pytest.MonkeyPatch) -> None:
    """At 9600 baud a ping and its reply take 25 ms: longer than a servo at 1 Mbaud may be silent."""
    deadlines: dict[int, float] = {}

    def made(protocol: str, port: str, baudrate: int, *, deadline: float) -> ServoLine:
        deadlines[baudrate] = deadline
        return ServoShelf("dynamixel", []).open_line("dynamixel", "shelf", baudrate)

    monkeypatch.setattr(servo_scan, "ServoLine", made)
    for baudrate in (9_600, 1_000_000):
        servo_scan.open_line("dynamixel", "shelf", baudrate)
    assert deadlines[9_600] > 0.025 and 0.005 <= deadlines[1_000_000] < 0.006


def test_a_bar_is_shown_on_a_terminal_alone() -> None:
    for terminal in (True, False):
        output = io.StringIO()
        with shown(Console(file=output, force_terminal=terminal, width=80)) as on_progress:
            on_progress(3, 7)
        assert ("3/7" in output.getvalue()) == terminal
