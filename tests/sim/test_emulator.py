"""The emulated arm through its port, its stream and its control socket; the port driven by Feetech's own client."""

from __future__ import annotations

import contextlib
import csv
import os
import select
import signal
import subprocess
import sys
import textwrap
import time
import tty
import urllib.error
import urllib.request
from pathlib import Path

import cv2
import dynamixel_sdk as dxl
import numpy as np
import pytest
import scservo_sdk as sdk

from drivers.config import load_robot
from sim.control_socket import ControlClient
from sim.emulator import EmulatorError, EmulatorProcess, main
from sim.tasks import TaskError
from sim.world import HOME, World
from tests.sim.servo_clients import (
    ALL,
    GOAL,
    TASK,
    TORQUE,
    DynamixelClient,
    FeetechClient,
    counts,
    next_frame,
    wait_for,
)

ROOT = Path(__file__).resolve().parents[2]


def test_feetechs_client_finds_the_servos_at_home(client: FeetechClient) -> None:
    for servo in ALL:
        assert client.packets.ping(client.port, servo) == (777, sdk.COMM_SUCCESS, 0)
    assert client.packets.ping(client.port, 7)[1] == sdk.COMM_RX_TIMEOUT
    np.testing.assert_allclose(client.positions(), [counts(angle) for angle in HOME], atol=12)


def test_bytes_on_the_wire(emulator: EmulatorProcess) -> None:
    port = os.open(emulator.port, os.O_RDWR | os.O_NOCTTY)
    tty.setraw(port)
    os.write(port, bytes.fromhex("ff ff 01 04 02 03 02 f3"))
    reply = b""
    while len(reply) < 8:
        assert select.select([port], [], [], 5)[0]
        reply += os.read(port, 64)
    os.close(port)
    assert reply == bytes.fromhex("ff ff 01 04 00 09 03 ee")  # model number 777


def test_goals_by_sync_write_move_the_arm_and_are_traced(emulator: EmulatorProcess, client: FeetechClient) -> None:
    started = time.monotonic_ns()
    goals = [goal + 150 for goal in client.hold()]
    goals[5] -= 300
    client.set_goals(goals)
    wait_for(lambda: bool(np.abs(np.subtract(client.positions(), goals)).max() < 20))
    with emulator.trace().open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["id"]) for row in rows[:6]] == list(ALL)
    assert [row["torque"] for row in rows] == ["0"] * 6 + ["1"] * 12
    assert [int(row["goal"]) for row in rows[-6:]] == goals
    stamps = [int(row["monotonic_ns"]) for row in rows]
    assert stamps == sorted(stamps) and started < stamps[0] and stamps[-1] < time.monotonic_ns()
    assert abs(int(rows[0]["present"]) - counts(HOME[0])) < 12


def test_an_arm_without_torque_stands_until_it_first_gets_some(client: FeetechClient) -> None:
    before = client.positions()
    time.sleep(0.3)
    np.testing.assert_allclose(client.positions(), before, atol=3)
    client.hold()
    client.write(2, TORQUE, 0)
    wait_for(lambda: abs(client.positions()[1] - before[1]) > 50)


def test_reset_lays_out_the_seeds_blocks_and_leaves_the_arm(emulator: EmulatorProcess, client: FeetechClient) -> None:
    goals = client.hold()
    goals[0] += 300
    client.set_goals(goals)
    wait_for(lambda: abs(client.positions()[0] - goals[0]) < 10)
    emulator.reset(7, TASK)
    np.testing.assert_allclose(client.positions(), goals, atol=25)
    world = World()
    world.reset(np.random.default_rng(7))
    emulator.reset(7, TASK, home=True)
    assert abs(client.positions()[0] - counts(HOME[0])) < 12
    difference = emulator.frame("fixed").astype(int) - world.render("fixed").astype(int)
    world.close()
    assert np.abs(difference).mean() < 1.0


def test_home_sets_the_goals_in_force(emulator: EmulatorProcess, client: FeetechClient) -> None:
    goals = client.hold()
    client.set_goals([goals[0] + 300, *goals[1:]])
    wait_for(lambda: client.positions()[0] > goals[0] + 250)
    emulator.reset(2, TASK, home=True)
    time.sleep(0.2)
    assert abs(client.read(1, GOAL) - counts(HOME[0])) < 12
    assert abs(client.positions()[0] - counts(HOME[0])) < 12


def test_judge_counts_control_steps_in_its_own_time(emulator: EmulatorProcess) -> None:
    with pytest.raises(EmulatorError, match="reset first"):
        emulator.judge()
    stamp = emulator.reset(3, TASK)
    assert stamp <= time.monotonic_ns()
    wait_for(lambda: emulator.judge()["steps"] >= 5)
    assert emulator.judge()["outcome"] is None
    emulator.reset(3, TASK)
    assert emulator.judge()["steps"] < 5


def test_refusals_come_back_as_what_they_are(emulator: EmulatorProcess) -> None:
    with pytest.raises(TaskError, match="no purple block"):
        emulator.reset(3, "stack the purple block on the blue block")
    with pytest.raises(EmulatorError, match="no camera top"):
        emulator.frame("top")
    control = ControlClient(emulator.control)
    for ask in (
        lambda: control.ask("dance"),
        lambda: control.ask("frame"),
        lambda: control.ask("reset", seed=-1, task=TASK),
        lambda: control.ask("motion"),
    ):
        with pytest.raises(EmulatorError):
            ask()
    assert control.ask("ready")["port"] == str(emulator.port)
    control.close()


def test_physics_gives_time_up_instead_of_chasing_it(emulator: EmulatorProcess) -> None:
    os.kill(emulator.pid, signal.SIGSTOP)
    time.sleep(0.5)
    os.kill(emulator.pid, signal.SIGCONT)
    wait_for(lambda: emulator.stats()["skipped"] >= 80)
    assert emulator.stats()["lag_max_ms"] >= 400


def test_dynamixels_client_drives_the_same_arm() -> None:
    with EmulatorProcess(load_robot("emulated_dynamixel"), faults="unplug=0.2@60") as emulator:
        client = DynamixelClient(emulator.port)
        assert client.packets.ping(client.port, 1) == (1020, dxl.COMM_SUCCESS, 0)
        assert client.packets.ping(client.port, 9)[1] == dxl.COMM_RX_TIMEOUT
        assert client.packets.read2ByteTxRx(client.port, 1, 144) == (120, dxl.COMM_SUCCESS, 0)
        start = client.positions(fast=True)
        np.testing.assert_allclose(start, [counts(angle) for angle in HOME], atol=12)
        assert client.positions(fast=False) == start
        client.set_goals(start)
        for servo in ALL:
            assert client.write(servo, 64, 1) == (dxl.COMM_SUCCESS, 0)
        goals = [position + 150 for position in start[:5]] + [start[5] - 150]
        client.set_goals(goals)
        wait_for(lambda: bool(np.abs(np.subtract(client.positions(fast=True), goals)).max() < 20))
        assert client.write(1, 116, 5000, 4) == (dxl.COMM_SUCCESS, dxl.ERRNUM_DATA_LIMIT)
        assert client.write(1, 7, 9) == (dxl.COMM_SUCCESS, dxl.ERRNUM_ACCESS)
        emulator.fault("overheat", ids=[2])
        assert client.packets.read1ByteTxRx(client.port, 2, 70) == (4, dxl.COMM_SUCCESS, dxl.ERRBIT_ALERT)
        emulator.clear()
        assert client.packets.reboot(client.port, 2) == (dxl.COMM_SUCCESS, 0)
        wait_for(lambda: client.packets.ping(client.port, 2)[1] == dxl.COMM_SUCCESS)
        assert client.packets.read1ByteTxRx(client.port, 2, 64)[0] == 0
        found, result = client.packets.broadcastPing(client.port)
        assert result == dxl.COMM_SUCCESS and sorted(found) == list(ALL)
        client.port.closePort()
        deaf = DynamixelClient(emulator.port, 57_600)
        assert deaf.packets.ping(deaf.port, 1)[1] == dxl.COMM_RX_TIMEOUT
        deaf.port.closePort()


def test_any_arm_of_the_package_can_be_emulated() -> None:
    with EmulatorProcess(load_robot("viperx300")) as emulator:
        client = DynamixelClient(emulator.port)
        assert [client.packets.ping(client.port, servo)[0] for servo in emulator.ids] == [1120] * 7 + [1020] * 2
        with pytest.raises(EmulatorError, match="no task"):
            emulator.reset(0, TASK)
        assert emulator.frame("fixed").shape == (64, 64, 3)
        client.port.closePort()


def test_a_robot_of_other_joints_cannot_stand_in_the_stacking_world() -> None:
    viper = load_robot("viperx300").model_copy(update={"emulated": True})
    with pytest.raises(EmulatorError, match="the stacking world has the joints"):
        EmulatorProcess(viper)


def test_stream_over_plain_http(emulator: EmulatorProcess) -> None:
    with urllib.request.urlopen(emulator.camera_url("wrist"), timeout=5) as response:
        assert response.headers.get_content_type() == "multipart/x-mixed-replace"
        for _ in range(2):
            picture = cv2.imdecode(np.frombuffer(next_frame(response), np.uint8), cv2.IMREAD_COLOR)
            assert picture is not None and picture.shape == (64, 64, 3)


def test_a_viewer_that_does_not_read_disturbs_nobody(emulator: EmulatorProcess, client: FeetechClient) -> None:
    with urllib.request.urlopen(emulator.camera_url("fixed"), timeout=5):
        time.sleep(0.3)
        assert len(client.positions()) == 6


def test_leaves_nothing_behind(tmp_path: Path) -> None:
    link, trace = tmp_path / "servos", tmp_path / "goals.csv"
    with EmulatorProcess(link=link, trace=trace) as emulator:
        assert emulator.port == link and link.is_symlink()
        control = emulator.control
        client = FeetechClient(link)
        client.hold()
        client.close()
    emulator.close()
    assert not link.is_symlink() and not control.exists()
    assert len(trace.read_text().splitlines()) == 13
    with pytest.raises(EmulatorError):
        emulator.judge()


def test_a_stale_link_is_replaced_and_a_file_is_not(tmp_path: Path) -> None:
    link = tmp_path / "servos"
    link.symlink_to("/nowhere")
    with EmulatorProcess(link=link):
        assert link.exists()
    link.write_text("precious")
    with pytest.raises(EmulatorError, match="--link") as caught:
        EmulatorProcess(link=link)
    assert "\n" not in str(caught.value)
    assert link.read_text() == "precious"


def test_what_cannot_start_says_why_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(EmulatorError, match='fault "smoke=1" is not understood'):
        EmulatorProcess(faults="smoke=1")
    assert main(["--fault", "smoke=1"]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_help_says_what_there_is(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--help"])
    assert caught.value.code == 0
    assert "--fault" in capsys.readouterr().out


def test_an_orphan_stays_while_its_port_is_used_and_then_ends(tmp_path: Path) -> None:
    link = tmp_path / "servos"
    code = """
        import pathlib, sys, time
        from sim.emulator import EmulatorProcess
        emulator = EmulatorProcess(link=pathlib.Path(sys.argv[1]), orphan_timeout=0.3)
        print(emulator.pid, flush=True)
        time.sleep(60)
    """
    command = [sys.executable, "-c", textwrap.dedent(code), str(link)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        emulator = int(parent.stdout.readline())
        client = FeetechClient(link)
        parent.kill()
    time.sleep(1.0)
    assert len(client.positions()) == 6
    client.close()
    with contextlib.ExitStack() as at_least:
        at_least.callback(lambda: link.is_symlink() and os.kill(emulator, signal.SIGKILL))
        wait_for(lambda: not link.is_symlink())
