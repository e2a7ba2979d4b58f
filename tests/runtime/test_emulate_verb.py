"""`gato-arm emulate` serves any client: here the makers' own SDK, on the port that the verb names."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

from scservo_sdk import COMM_SUCCESS, PacketHandler, PortHandler

GOAL, PRESENT, TORQUE = 42, 56, 40  # registers
SHOULDER_PAN = 1


def test_the_vendor_s_client_moves_an_arm_that_the_verb_serves(tmp_path: Path) -> None:
    link = tmp_path / "servos"
    command = [sys.executable, "-m", "runtime.cli", "emulate", "--bus", "feetech", "--link", str(link)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
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
