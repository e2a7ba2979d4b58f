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
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import scservo_sdk as sdk

from sim.control_socket import ControlClient
from sim.emulator import EmulatorError, EmulatorProcess, main
from sim.tasks import TaskError
from sim.world import HOME, World

ROOT = Path(__file__).resolve().parents[2]
TASK = "stack the red block on the blue block"
TORQUE, GOAL, PRESENT = 40, 42, 56
ALL = range(1, 7)


def counts(angle: float) -> int:
    return 2048 + round(angle * 4096 / (2 * np.pi))


def wait_for(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    """Returns when `condition` holds; fails when it never does."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.01)


class Client:
    """Feetech's client on a port."""

    def __init__(self, port: Path) -> None:
        self.port = sdk.PortHandler(str(port))
        self.port.openPort()
        self.packets = sdk.protocol_packet_handler()

    def read(self, servo: int, address: int) -> int:
        value, result, _ = self.packets.read2ByteTxRx(self.port, servo, address)
        assert result == sdk.COMM_SUCCESS
        return int(value)

    def write(self, servo: int, address: int, value: int) -> int:
        return int(self.packets.write1ByteTxRx(self.port, servo, address, value)[0])

    def positions(self) -> list[int]:
        group = sdk.GroupSyncRead(self.port, self.packets, PRESENT, 2)
        for servo in ALL:
            assert group.addParam(servo)
        assert group.txRxPacket() == sdk.COMM_SUCCESS
        return [group.getData(servo, PRESENT, 2) for servo in ALL]

    def set_goals(self, goals: list[int]) -> None:
        group = sdk.GroupSyncWrite(self.port, self.packets, GOAL, 2)
        for servo, goal in zip(ALL, goals, strict=True):
            assert group.addParam(servo, [sdk.SCS_LOBYTE(goal), sdk.SCS_HIBYTE(goal)])
        assert group.txPacket() == sdk.COMM_SUCCESS

    def hold(self) -> list[int]:
        positions = self.positions()
        self.set_goals(positions)
        for servo in ALL:
            assert self.write(servo, TORQUE, 1) == sdk.COMM_SUCCESS
        return positions

    def close(self) -> None:
        self.port.closePort()


@pytest.fixture
def emulator() -> Iterator[EmulatorProcess]:
    with EmulatorProcess(seed=1) as process:
        yield process


@pytest.fixture
def client(emulator: EmulatorProcess) -> Iterator[Client]:
    client = Client(emulator.port)
    yield client
    client.close()


def test_feetechs_client_finds_the_servos_at_home(client: Client) -> None:
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


def test_goals_by_sync_write_move_the_arm_and_are_traced(emulator: EmulatorProcess, client: Client) -> None:
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


def test_an_arm_without_torque_stands_until_it_first_gets_some(client: Client) -> None:
    before = client.positions()
    time.sleep(0.3)
    np.testing.assert_allclose(client.positions(), before, atol=3)
    client.hold()
    client.write(2, TORQUE, 0)
    wait_for(lambda: abs(client.positions()[1] - before[1]) > 50)


def test_reset_lays_out_the_blocks_of_the_seed_and_leaves_the_arm(emulator: EmulatorProcess, client: Client) -> None:
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


def test_home_sets_the_goals_in_force(emulator: EmulatorProcess, client: Client) -> None:
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


def test_faults_reach_the_wire() -> None:
    with EmulatorProcess(faults="silent=3,hot=2") as emulator:
        client = Client(emulator.port)
        assert client.packets.ping(client.port, 3)[1] == sdk.COMM_RX_TIMEOUT
        assert client.packets.ping(client.port, 2) == (777, sdk.COMM_SUCCESS, sdk.ERRBIT_OVERHEAT)
        client.close()


def test_delayed_replies_come_after_their_time() -> None:
    with EmulatorProcess(faults="delay=1,delay_ms=25") as emulator:
        client = Client(emulator.port)
        started = time.monotonic()
        client.read(1, PRESENT)
        assert time.monotonic() - started >= 0.025
        client.close()


def test_stream_over_plain_http(emulator: EmulatorProcess) -> None:
    with urllib.request.urlopen(emulator.camera_url("wrist"), timeout=5) as response:
        assert response.headers.get_content_type() == "multipart/x-mixed-replace"
        for _ in range(2):
            head = {}
            assert response.readline().startswith(b"--")
            while line := response.readline().decode().strip():
                name, _, value = line.partition(": ")
                head[name] = value
            picture = cv2.imdecode(
                np.frombuffer(response.read(int(head["Content-Length"])), np.uint8), cv2.IMREAD_COLOR
            )
            assert picture is not None and picture.shape == (64, 64, 3)
            assert response.readline() == b"\r\n"


def test_a_viewer_that_does_not_read_disturbs_nobody(emulator: EmulatorProcess, client: Client) -> None:
    with urllib.request.urlopen(emulator.camera_url("fixed"), timeout=5):
        time.sleep(0.3)
        assert len(client.positions()) == 6


def test_leaves_nothing_behind(tmp_path: Path) -> None:
    link, trace = tmp_path / "servos", tmp_path / "goals.csv"
    with EmulatorProcess(link=link, trace=trace) as emulator:
        assert emulator.port == link and link.is_symlink()
        control = emulator.control
        client = Client(link)
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
        client = Client(link)
        parent.kill()
    time.sleep(1.0)
    assert len(client.positions()) == 6
    client.close()
    with contextlib.ExitStack() as at_least:
        at_least.callback(lambda: link.is_symlink() and os.kill(emulator, signal.SIGKILL))
        wait_for(lambda: not link.is_symlink())
