"""What a person reads of a diagnosis."""

from __future__ import annotations

import io

from rich.console import Console

from runtime.doctor import Diagnosis
from runtime.doctor_tables import show


def shown(diagnosis: Diagnosis) -> str:
    output = io.StringIO()
    show(diagnosis, Console(file=output, width=160))
    return output.getvalue()


def test_everything_found_is_shown_and_problems_come_last() -> None:
    text = shown(
        Diagnosis(
            "arm",
            ports=[{"device": "/dev/ttyUSB0", "latency_ms": 1}],
            scan=[{"id": 4, "baudrate": 57_600, "errors": ["overload"]}],
            joints=[{"joint": "elbow", "temperature_c": 31.0, "errors": []}],
            round_trip_ms={"p50": 1.234, "p99": 2.345, "max": 3.0},
            own_time_ms={"p50": 0.31, "p99": 0.42, "max": 1.0},
            counters={"sent": 7, "timed_out": 2},
            cameras=[{"camera": "wrist", "size": [48, 64], "fps": None}],
            notes=["a note"],
            problems=["elbow: too hot"],
        )
    )
    for part in (
        "/dev/ttyUSB0",
        "latency (ms)",
        "57600",
        "overload",
        "Joints of arm",
        "temperature (C)",
        "1.23 ms p50, 2.35 ms p99",
        "0.31 ms p50, 0.42 ms p99 for one reading",
        "bus: 7 sent, 2 timed out",
        "48x64",
        "note: a note",
    ):
        assert part in text
    assert text.endswith("problem: elbow: too hot\n")


def test_nothing_found_is_said() -> None:
    text = shown(Diagnosis("arm", scan=[]))
    assert "no serial ports" in text and "no servo answers at any baud rate" in text
    assert text.endswith("no problems found\n")


def test_rows_need_not_be_alike() -> None:
    text = shown(Diagnosis("arm", cameras=[{"camera": "fixed"}, {"camera": "wrist", "snapshot": "wrist.png"}]))
    assert "snapshot" in text and "wrist.png" in text


def test_brackets_in_a_name_are_no_markup() -> None:
    text = shown(Diagnosis("arm", ports=[{"device": "[red]x"}], problems=["[bold]y"]))
    assert "[red]x" in text and "problem: [bold]y" in text
