"""Finding the adapter's port."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from drivers.bus import BusError
from drivers.ports import find_port


@dataclass
class Info:
    device: str
    serial_number: str | None


def ports() -> list[Info]:
    return [Info("/dev/ttyS0", None), Info("/dev/ttyACM1", "5A46"), Info("/dev/ttyUSB0", "FT2")]


def test_a_path_is_taken_as_it_is_and_nothing_is_looked_for() -> None:
    assert find_port("/dev/anything", None, lambda: pytest.fail("looked")) == "/dev/anything"


def test_a_serial_number_wins_over_the_path() -> None:
    assert find_port("/dev/ttyACM0", "5A46", ports) == "/dev/ttyACM1"
    assert find_port(None, "FT2", ports) == "/dev/ttyUSB0"


def test_an_adapter_that_is_not_there_is_one_line_with_those_that_are() -> None:
    with pytest.raises(BusError, match=r"serial number X1 \(found: 5A46 on /dev/ttyACM1, FT2 on /dev/ttyUSB0\)"):
        find_port("/dev/ttyACM0", "X1", ports)
    with pytest.raises(BusError, match="no adapter at all"):
        find_port(None, "X1", lambda: [Info("/dev/ttyS0", None)])


def test_neither_path_nor_number_is_refused() -> None:
    with pytest.raises(BusError, match=r"arm\.port: missing"):
        find_port(None, None, ports)
