"""A follower behind a leader: what is measured, and the whole chain on two emulated arms."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from runtime.cli import main
from runtime.clock import MILLISECOND
from runtime.teleop import compare

JOINTS = ("pan", "grip")


def test_the_difference_is_taken_at_the_same_moments() -> None:
    """A follower that trails by 20 ms at 1 rad/s is 0.02 rad behind, whenever either was read."""
    at = np.arange(0, 2000, 10)
    leader = [(int(t) * MILLISECOND, np.array([t / 1000, 0.5])) for t in at]
    follower = [(int(t) * MILLISECOND + 3_000_000, np.array([(t + 3 - 20) / 1000, 0.5])) for t in at]
    found = compare(leader, follower, JOINTS)
    assert found["off_degrees"]["pan"]["p50"] == pytest.approx(np.degrees(0.02), abs=1e-6)
    assert found["off_degrees"]["grip"]["max"] == 0
    assert found["leader_speed_max"]["pan"] == pytest.approx(1.0, abs=1e-6)


def test_an_emulated_leader_is_followed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """How close is a matter of the machine, and of `gato-arm teleop --rehearse 1` on a quiet one."""
    file = tmp_path / "teleop.json"
    assert main(["teleop", "--leader", "emulated", "--rehearse", "2.5", "--json", str(file)]) == 0
    figures = json.loads(file.read_text())
    assert figures["outcome"] == "rehearsed" and figures["steps"] > 100
    assert all(off["p50"] < 5 for off in figures["off_degrees"].values())
    assert figures["leader_speed_max"]["shoulder_pan"] > 1.5
    assert "leader's top speed" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--robot", "simulated"], "teleop needs time that passes"),
        (["--leader", "keyboard"], "needs a terminal"),
        (["--leader", "koch_leader", "--rehearse", "1"], "take --leader emulated"),
        (["--leader", "nobody"], "no robot 'nobody'"),
    ],
)
def test_mistakes_are_one_line(words: list[str], said: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["teleop", *words]) == 2
    lines = capfd.readouterr().err.splitlines()
    assert len(lines) == 1 and said in lines[0]
