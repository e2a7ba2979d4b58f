"""`gato-arm emulate` serves any client: here the makers' own SDK, on the port that the verb names."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import dynamixel_sdk as dxl
from scservo_sdk import COMM_SUCCESS, PacketHandler, PortHandler

GOAL, PRESENT, TORQUE = 42, 56, 40  # registers
SHOULDER_PAN = 1


def serve(link: Path, *options: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "runtime.cli", "emulate", "--link", str(link), *options]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_the_vendor_s_client_moves_an_arm_that_the_verb_serves(tmp_path: Path) -> None:
    link = tmp_path / "servos"
    process = serve(link, "--bus", "feetech")
    try:
        assert process.stdout is not None
        assert str(link) in process.stdout.readline()
        port, packets = PortHandler(str(link)), PacketHandler(0)
        assert port.openPort() and port.setBaudRate(1_000_000)
        assert [packets.ping(port, servo)[:2] for servo in range(1, 7)] == [(777, COMM_SUCCESS)] * 6
        start, result, _ = packets.read2ByteTxRx(port, SHOULDER_PAN, PRESENT)
        assert result == COMM_SUCCESS
        packets.write2ByteTxRx(port, SHOULDER_PAN, GOAL, start)
        packets.write1ByteTxRx(port, SHOULDER_PAN, TORQUE, 1)
        packets.write2ByteTxRx(port, SHOULDER_PAN, GOAL, start + 200)
        end = time.monotonic() + 10
        while abs(packets.read2ByteTxRx(port, SHOULDER_PAN, PRESENT)[0] - start - 200) > 20:
            assert time.monotonic() < end
            time.sleep(0.05)
        port.closePort()
    finally:
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=10) in (0, 130)
    assert not link.is_symlink()


def test_a_robot_of_dynamixels_with_a_fault_from_a_script_and_one_from_the_command_line(tmp_path: Path) -> None:
    link, script, trace = tmp_path / "servos", tmp_path / "script.yaml", tmp_path / "goals.csv"
    script.write_text("- {fault: sag, voltage: 4}\n")
    options = ("--robot", "koch", "--fault", "silent=3", "--script", str(script), "--trace", str(trace), "--baud-true")
    process = serve(link, *options)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert str(link) in line and "dynamixel" in line and "1, 2, 3, 4, 5, 6" in line
        port, packets = dxl.PortHandler(str(link)), dxl.PacketHandler(2.0)
        assert port.openPort() and port.setBaudRate(1_000_000)
        pings = [packets.ping(port, servo) for servo in range(1, 7)]
        assert [model for model, _, _ in pings] == [1060, 1060, 0, 1200, 1200, 1200]
        # 4 V are too little for an XL430, not for an XL330.
        assert [error for _, _, error in pings] == [dxl.ERRBIT_ALERT, dxl.ERRBIT_ALERT, 0, 0, 0, 0]
        assert packets.write1ByteTxRx(port, 4, 64, 1) == (dxl.COMM_SUCCESS, 0)
        port.closePort()
    finally:
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=10) in (0, 130)
    assert [row.split(",")[1] for row in trace.read_text().splitlines()[1:]] == ["4"]
