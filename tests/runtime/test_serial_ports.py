"""Serial ports and their latency timers, on a sysfs that a test makes up."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
from serial.tools import list_ports

from runtime.serial_ports import LATENCY_RULE, latency_ms, latency_problem, serial_ports


@pytest.fixture
def sysfs(tmp_path: Path) -> Path:
    """ttyUSB0 with a timer of 16 ms, ttyUSB1 with 1 ms, ttyUSB2 with nonsense, ttyUSB3 without one."""
    for number, timer in enumerate(["16\n", "1\n", "soon\n", None]):
        (tmp_path / f"ttyUSB{number}").mkdir()
        if timer is not None:
            (tmp_path / f"ttyUSB{number}" / "latency_timer").write_text(timer)
    return tmp_path


@pytest.mark.parametrize(("port", "timer"), [("0", 16), ("1", 1), ("2", None), ("3", None), ("4", None)])
def test_a_timer_is_read_where_there_is_one(sysfs: Path, port: str, timer: int | None) -> None:
    assert latency_ms(f"/dev/ttyUSB{port}", sysfs) == timer
    assert (latency_problem(f"/dev/ttyUSB{port}", sysfs) is None) == (timer != 16)


def test_a_link_is_followed_to_its_adapter(sysfs: Path, tmp_path: Path) -> None:
    link = tmp_path / "usb-FTDI_arm"
    link.symlink_to(tmp_path / "ttyUSB0")
    assert latency_ms(str(link), sysfs) == 16


def test_the_problem_says_how_it_is_mended(sysfs: Path) -> None:
    problem = latency_problem("/dev/ttyUSB0", sysfs)
    assert problem is not None and "\n" not in problem
    assert "16 ms" in problem and f"echo 1 | sudo tee {sysfs}/ttyUSB0/latency_timer" in problem
    assert problem.endswith(LATENCY_RULE)


def test_ports_say_what_they_are(sysfs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    adapter = SimpleNamespace(
        device="/dev/ttyUSB0", product="USB Serial", description="d", serial_number="FT12", hwid="USB VID:PID=0403:6014"
    )
    plain = SimpleNamespace(device="/dev/ttyS0", product=None, description="n/a", serial_number=None, hwid=None)
    monkeypatch.setattr(list_ports, "comports", lambda: [adapter, plain])
    assert serial_ports(sysfs) == [
        {"device": "/dev/ttyS0", "product": "n/a", "serial_number": "", "hardware": "", "latency_ms": None},
        {
            "device": "/dev/ttyUSB0",
            "product": "USB Serial",
            "serial_number": "FT12",
            "hardware": "USB VID:PID=0403:6014",
            "latency_ms": 16,
        },
    ]
