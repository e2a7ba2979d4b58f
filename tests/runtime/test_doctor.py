"""The doctor: what it finds on the emulated arm, and what it says when nothing is there."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from runtime.doctor import Diagnosis, diagnose, serial_ports, show
from runtime.picture import decode


@pytest.fixture(scope="module")
def emulated(tmp_path_factory: pytest.TempPathFactory) -> tuple[Diagnosis, Path]:
    pictures = tmp_path_factory.mktemp("pictures")
    return diagnose("emulated", pictures, reads=20, watch=0.5), pictures


def test_the_emulated_arm_is_healthy(emulated: tuple[Diagnosis, Path]) -> None:
    diagnosis, pictures = emulated
    assert [row["joint"] for row in diagnosis.joints][-1] == "gripper" and len(diagnosis.joints) == 6
    assert all(row["voltage"] > 4 and 0 < row["temperature_c"] < 90 for row in diagnosis.joints)
    assert [row["firmware"] for row in diagnosis.joints] == ["3.10"] * 6
    assert diagnosis.round_trip_ms is not None and 0 < diagnosis.round_trip_ms["p50"] <= diagnosis.round_trip_ms["p99"]
    assert diagnosis.counters["sent"] >= 20 - diagnosis.failed_reads
    assert [row["camera"] for row in diagnosis.cameras] == ["fixed", "wrist"]
    assert all(row["fps"] > 3 for row in diagnosis.cameras)
    assert decode((pictures / "fixed.png").read_bytes()).shape == (64, 64, 3)


def test_it_is_shown_in_tables(emulated: tuple[Diagnosis, Path]) -> None:
    output = io.StringIO()
    show(emulated[0], Console(file=output, width=140))
    assert "shoulder_pan" in output.getvalue() and "64x64" in output.getvalue() and "bus: " in output.getvalue()


def test_nothing_connected_is_said_line_by_line(tmp_path: Path) -> None:
    robot = tmp_path / "robot.yaml"
    robot.write_text(
        "name: bare\narm:\n  driver: feetech\n  port: /dev/nothing\n  joints:\n"
        "    - {name: a, id: 1, minimum: -1, maximum: 1, velocity_max: 1, acceleration_max: 1}\n"
        "cameras:\n  fixed: {driver: opencv, source: nothing.mp4, size: [64, 64]}\n"
    )
    diagnosis = diagnose(str(robot))
    assert len(diagnosis.problems) == 2
    assert "/dev/nothing" in diagnosis.problems[0] and "camera fixed" in diagnosis.problems[1]
    output = io.StringIO()
    show(diagnosis, Console(file=output, width=140))
    assert "problem: " in output.getvalue() and "no problems" not in output.getvalue()


def test_ports_have_names() -> None:
    assert all(port["device"] for port in serial_ports())
