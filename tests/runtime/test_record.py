"""Recording demonstrations: by the expert on an emulated arm, killed in the middle, played again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from policies.dataset import Dataset
from runtime.cli import main
from runtime.clock import SimulatedClock
from runtime.keys import KeyListener
from runtime.record import AGAIN, DISCARDED, Prompter, next_seed

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 90.0  # s


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recording of the expert that was killed in the middle of its third episode."""
    folder = tmp_path_factory.mktemp("killed") / "data"
    words = ["record", "--policy", "expert", "--out", str(folder), "--episodes", "9", "--seed", "700"]
    process = subprocess.Popen(
        [sys.executable, "-m", "runtime.cli", *words],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    info = folder / "meta/info.json"
    give_up = time.monotonic() + PATIENCE
    while not info.exists() or json.loads(info.read_text())["total_episodes"] < 2:
        assert time.monotonic() < give_up and process.poll() is None
        time.sleep(0.02)
    time.sleep(1.5)  # the arm goes home, the third episode begins
    process.send_signal(signal.SIGKILL)
    process.wait()
    return folder


def test_a_killed_recording_keeps_every_finished_episode(killed: Path) -> None:
    dataset = Dataset(killed)
    assert len(dataset) == 2
    for index, episode in enumerate(dataset):
        assert len(episode) > 30 and episode.facts.seed == 700 + index and episode.facts.outcome == "success"
        assert episode.frames("fixed").shape == (len(episode), 64, 64, 3)
        assert episode.stamps is not None
        assert (np.diff(episode.stamps[:, 0]) > 0).all(), "the joints' true stamps go on"
        assert np.abs(np.diff(episode.stamps[:, 0]).mean() / 5e7 - 1) < 0.2
    robot = dataset.robot(dataset.facts(0).robot or "")
    assert robot["name"] == "emulated" and len(robot["joints"]) == 6


def test_a_recorded_episode_stacks_again(killed: Path, tmp_path: Path) -> None:
    report, picture = tmp_path / "replay.json", tmp_path / "layout.png"
    words = ["replay", str(killed), "--episode", "1", "--json", str(report), "--picture", str(picture)]
    assert main(words) == 0
    figures = json.loads(report.read_text())
    assert figures["outcomes"] == ["success"] and picture.stat().st_size > 1000
    assert main(["replay", str(killed), "--robot", "simulated", "--json", str(report)]) == 0
    assert json.loads(report.read_text())["successes"] == 1


def test_a_recording_goes_on_with_layouts_that_it_has_not_yet(killed: Path) -> None:
    assert next_seed(killed, 700) == 702 and next_seed(killed, 900) == 900
    assert next_seed(killed / "nowhere", 5) == 5
    words = ["record", "--policy", "expert", "--out", str(killed), "--seed", "700", "--disturb"]
    assert main([*words, "--episodes", "1"]) == 0
    episode = Dataset(killed)[2]
    assert episode.facts.seed == 702
    executed = np.abs(episode.joint_targets[1:] - episode.actions[:-1])
    assert 0.001 < np.median(executed[:, :5]) < 0.02 and executed[:, :5].max() > 0.02, "noise, and a push"


class Typist:
    """A terminal at which keys wait."""

    def __init__(self, keys: str) -> None:
        self._keys = list(keys)

    def take(self) -> str | None:
        return self._keys.pop(0) if self._keys else None

    def forget(self) -> None:
        """What is typed here is typed after the question."""


def prompter(keys: str) -> tuple[Prompter, SimulatedClock, list[str]]:
    clock, said = SimulatedClock(), list[str]()
    listener = KeyListener(None, said.append, clock)
    listener.keys = Typist(keys)
    return Prompter(listener, said.append, clock), clock, said


def test_the_operator_begins_after_a_countdown_and_marks_what_came_of_it() -> None:
    asked, clock, said = prompter("zn")
    asked.await_begin("take the leader")
    assert clock.now() == 3_000_000_000 and said[-3:] == ["3 …", "2 …", "1 …"]
    for key, outcome in {"n": "success", "f": "failed", "r": AGAIN, "x": DISCARDED}.items():
        assert prompter(f"z{key}")[0].ended() == outcome
    assert prompter("z")[0].ended() is None
    for ask in (lambda: prompter("q")[0].ended(), lambda: prompter("q")[0].await_begin("")):
        with pytest.raises(KeyboardInterrupt):
            ask()


def test_without_an_operator_nothing_is_asked() -> None:
    clock = SimulatedClock()
    asked = Prompter(KeyListener(None, print, clock), print, clock)
    asked.await_begin("take the leader")
    assert clock.now() == 0 and asked.ended() is None


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "take either --leader or --policy"),
        (["--policy", "expert", "--leader", "gamepad"], "take either --leader or --policy"),
        (["--policy", "expert", "--robot", "so101"], "looks at the simulator's truth"),
        (["--policy", "expert", "--robot", "so101_leader"], "has no cameras"),
        (["--policy", "expert", "--robot", "simulated"], "needs time that passes"),
        (["--leader", "gamepad", "--disturb"], "take --policy expert"),
        (["--policy", "expert", "--task", "dance"], 'task "dance" is not understood'),
    ],
)
def test_mistakes_are_one_line(words: list[str], said: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["record", "--out", str(tmp_path / "data"), *words]) == 2
    lines = capfd.readouterr().err.splitlines()
    assert len(lines) == 1 and said in lines[0], lines
