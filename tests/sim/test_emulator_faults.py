"""Faults of the emulated arm as clients of its port, its stream and its control socket see them; and what it keeps."""

from __future__ import annotations

import csv
import termios
import time
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import pytest
import scservo_sdk as sdk

from sim.emulator import EmulatorError, EmulatorProcess
from tests.sim.servo_clients import ALL, ID, LOAD, LOCK, PRESENT, TASK, TORQUE, FeetechClient, next_frame, wait_for


def test_delayed_replies_come_after_their_time() -> None:
    with EmulatorProcess(faults="delay=1:ms=25") as emulator:
        client = FeetechClient(emulator.port)
        started = time.monotonic()
        client.read(1, PRESENT)
        assert time.monotonic() - started >= 0.025
        client.close()


def test_faults_reach_the_wire_and_leave_it(tmp_path: Path) -> None:
    script = tmp_path / "script.yaml"
    script.write_text("- {fault: sag, voltage: 3.5}\n")
    with EmulatorProcess(faults="silent=3,overheat=2", script=script) as emulator:
        client = FeetechClient(emulator.port)
        assert set(emulator.faults()) == {"silent", "overheat", "sag"}
        assert client.packets.ping(client.port, 3)[1] == sdk.COMM_RX_TIMEOUT
        errors = sdk.ERRBIT_OVERHEAT | sdk.ERRBIT_VOLTAGE
        assert client.packets.ping(client.port, 2) == (777, sdk.COMM_SUCCESS, errors)
        assert emulator.clear() <= time.monotonic_ns()
        assert emulator.faults() == ()
        assert client.packets.ping(client.port, 3) == (777, sdk.COMM_SUCCESS, 0)
        client.close()


def test_faults_come_and_go_while_it_runs(emulator: EmulatorProcess, client: FeetechClient) -> None:
    asked = time.monotonic_ns()
    assert asked <= emulator.fault("silent", ids={3}, duration=0.4) <= time.monotonic_ns()
    assert client.packets.ping(client.port, 3)[1] == sdk.COMM_RX_TIMEOUT
    wait_for(lambda: client.packets.ping(client.port, 3)[1] == sdk.COMM_SUCCESS)
    assert time.monotonic_ns() - asked >= 0.4e9
    client.hold()
    emulator.fault("stuck", joint="wrist_roll")
    goals = client.positions()
    client.set_goals([*goals[:4], goals[4] + 300, goals[5]])
    wait_for(lambda: client.read(5, LOAD) == 1000)
    assert abs(client.positions()[4] - goals[4]) < 10
    emulator.clear("stuck")
    wait_for(lambda: abs(client.positions()[4] - goals[4] - 300) < 15)
    for name, arguments, what in (
        ("smoke", {}, "not known"),
        ("stuck", {"joint": "knee"}, "'knee'"),
        ("silent", {"ids": [9]}, "ids 9"),
        ("drop", {}, "needs p"),
    ):
        with pytest.raises(EmulatorError, match=what):
            emulator.fault(name, **arguments)


def test_an_unplugged_port_hangs_up_and_comes_back(emulator: EmulatorProcess, client: FeetechClient) -> None:
    client.hold()
    emulator.fault("unplug", seconds=0.5)
    assert not emulator.port.is_symlink()
    with pytest.raises(termios.error):  # as from a real adapter
        client.positions()
    wait_for(emulator.port.exists)
    again = FeetechClient(emulator.port)
    assert len(again.positions()) == 6
    assert again.read_byte(1, TORQUE) == 1, "servos keep their power"
    again.close()


def test_cameras_freeze_and_drop(emulator: EmulatorProcess) -> None:
    url = emulator.camera_url("fixed")
    emulator.fault("freeze_camera", camera="fixed")
    with urllib.request.urlopen(url, timeout=5) as response:
        first = next_frame(response)
        emulator.reset(11, TASK)
        assert [next_frame(response) for _ in range(5)] == [first] * 5
        emulator.clear("freeze_camera")
        wait_for(lambda: next_frame(response) != first)
        emulator.fault("drop_camera", camera="fixed")
        with pytest.raises((OSError, EOFError)):
            wait_for(lambda: not next_frame(response))
    with pytest.raises(urllib.error.HTTPError, match="503"):
        urllib.request.urlopen(url, timeout=5)
    urllib.request.urlopen(emulator.camera_url("wrist"), timeout=5).close()
    emulator.clear()
    with urllib.request.urlopen(url, timeout=5) as response:
        assert next_frame(response) != first


def test_eeprom_survives_a_restart_and_motion_is_traced(tmp_path: Path) -> None:
    file, motion = tmp_path / "eeprom.json", tmp_path / "motion.csv"
    with EmulatorProcess(eeprom=file, motion=motion, baud_true=True) as emulator:
        client = FeetechClient(emulator.port)
        assert client.write(6, LOCK, 0) == client.write(6, ID, 17) == sdk.COMM_SUCCESS
        client.close()
        wait_for(lambda: emulator.stats()["substeps"] > 20)
        assert emulator.motion() == motion
        with motion.open() as lines:
            rows = list(csv.DictReader(lines))
        assert [int(row["id"]) for row in rows[:7]] == [*ALL, 1]
        stamps = np.array([int(row["monotonic_ns"]) for row in rows[::6]])
        assert len(stamps) > 10 and (np.diff(stamps) > 0).all()
    with EmulatorProcess(eeprom=file) as emulator:
        client = FeetechClient(emulator.port)
        assert emulator.ids == (1, 2, 3, 4, 5, 17)
        assert client.packets.ping(client.port, 17)[1] == sdk.COMM_SUCCESS
        client.close()
