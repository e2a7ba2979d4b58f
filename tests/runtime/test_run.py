"""`gato-arm run`: the whole path on the emulated arm in real time, its stops, and the simulator in lock-step.

No trained policy is needed: targets that the demonstrator gave in lock-step are replayed open-loop, which only works
if real time follows lock-step closely.
"""

from __future__ import annotations

import io
import json
import os
import signal
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import numpy as np
import pytest
import yaml
from numpy.typing import NDArray
from rich.console import Console

from drivers.arm import frozen
from drivers.config import ConfigError, load_robot
from policies.policy import Action, Observation, Policy, PolicyError
from runtime import run as run_module
from runtime import stage as stage_module
from runtime.cli import main
from runtime.clock import SimulatedClock
from runtime.lockstep import ExpertPolicy, run_lockstep, task_of
from runtime.loop import Step
from runtime.recording import Recording
from runtime.run import FAULTED, INTERRUPTED, OK, RunOptions, run
from runtime.supervisor import Stop
from sim.emulator import EmulatorProcess
from tests.runtime.episodes import make_end

SEED = 200_000


class _Targets:
    def __init__(self) -> None:
        self.targets: list[NDArray[np.float64]] = []

    def on_episode_start(self, info: object) -> None:
        pass

    def on_step(self, step: Step) -> None:
        self.targets.append(step.action.targets)

    def on_episode_end(self, result: object) -> None:
        pass


class Replay:
    """Replays what the demonstrator did in the episodes of `SEED`; `at_step_20` is called once on the way."""

    name, rate = "replay", 20.0

    def __init__(self, episodes: int, at_step_20: Callable[[], None] = lambda: None) -> None:
        self._trajectories: list[list[NDArray[np.float64]]] = []
        for index in range(episodes):
            heard = _Targets()
            run_lockstep(ExpertPolicy, task_of(index), SEED + index, subscribers=[heard])
            self._trajectories.append(heard.targets)
        self._at_step_20 = at_step_20
        self._episode = -2  # the first reset is the warm-up
        self._step = 0

    def reset(self, task: str) -> None:
        self._episode += 1
        self._step = 0

    def act(self, observation: Observation) -> Action:
        trajectory = self._trajectories[max(0, self._episode)]
        targets = trajectory[min(self._step, len(trajectory) - 1)]
        self._step += 1
        if self._episode == 0 and self._step == 20:
            self._at_step_20()
        return Action(frozen(targets), np.arange(6) + 32000)


def play(
    monkeypatch: pytest.MonkeyPatch,
    folder: Path,
    policy: Policy | None,
    robot: str = "emulated",
    episodes: int = 1,
    *,
    interactive: bool = False,
) -> tuple[int, str]:
    monkeypatch.setattr(run_module, "_open_policy", lambda options, config: policy)
    output = io.StringIO()
    code = run(
        RunOptions(folder, robot, episodes=episodes, seed=SEED, json=folder / "figures.json"),
        Console(file=output, width=120),
        interactive=interactive,
    )
    return code, output.getvalue()


def test_the_emulated_arm_in_real_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code, output = play(monkeypatch, tmp_path, Replay(2), episodes=2)
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert code == 0, output
    assert figures["episodes"] == 2 and figures["successes"] >= 1, output
    assert figures["ticks"] > 60 and figures["servo"]["ticks"] > 300 and figures["policy"] == "replay"
    assert "1/2 stack the red block on the green block … " in output
    assert (tmp_path / "episodes.png").stat().st_size > 1000 and (tmp_path / "report.json").exists()
    summary = Recording(tmp_path / "recording.mcap").summary()
    assert summary.complete and summary.steps == figures["ticks"] and summary.dropped == 0
    assert [episode.outcome for episode in summary.episodes].count("success") == figures["successes"]


def test_an_interrupt_stops_holds_and_releases(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = signal.getsignal(signal.SIGINT)
    code, output = play(monkeypatch, tmp_path, Replay(1, lambda: os.kill(os.getpid(), signal.SIGINT)))
    assert code == INTERRUPTED and output.splitlines()[-1].startswith("interrupted: ")
    assert "still energised" not in output
    assert signal.getsignal(signal.SIGINT) is before
    summary = Recording(tmp_path / "recording.mcap").summary()
    assert summary.complete and summary.episodes[0].outcome == "interrupted"


def test_losing_the_arm_is_a_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[EmulatorProcess] = []

    def start(*arguments: object, **options: object) -> EmulatorProcess:
        started.append(EmulatorProcess(*arguments, **options))  # type: ignore[arg-type]
        return started[0]

    monkeypatch.setattr(stage_module, "EmulatorProcess", start)
    code, output = play(monkeypatch, tmp_path, Replay(1, lambda: os.kill(started[0].pid, signal.SIGKILL)))
    assert code == FAULTED, output
    assert "stopped by a fault: " in output
    summary = Recording(tmp_path / "recording.mcap").summary()
    assert summary.messages["/log"] >= 1 and str(summary.episodes[0].outcome).startswith("fault: ")


class _Person:
    """Somebody at the terminal who answers what is asked; `stop` is what a key would call."""

    def __init__(self, answers: list[bool]) -> None:
        self.answers, self.faults = answers, []
        self.stop: Callable[[Stop], None] = lambda category: None

    def __call__(self, terminal: int, stop: Callable[[Stop], None], *_: object) -> AbstractContextManager[_Person]:
        self.stop = stop
        return nullcontext(self)

    def wants_reset(self, fault: str) -> bool:
        self.faults.append(fault)
        return self.answers.pop(0)


@pytest.mark.parametrize(("answers", "code", "episodes"), [([True], OK, 2), ([False], FAULTED, 1)])
def test_an_operator_s_stop_is_a_fault_that_the_operator_may_reset(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answers: list[bool], code: int, episodes: int
) -> None:
    person = _Person(answers)
    monkeypatch.setattr(run_module, "OperatorKeys", person)
    monkeypatch.setattr(run_module.sys.stdin, "fileno", lambda: 0, raising=False)
    policy = Replay(2, lambda: person.stop(Stop.HOLD))
    ended, output = play(monkeypatch, tmp_path, policy, episodes=2, interactive=True)
    assert ended == code, output
    assert person.faults == ["stopped by the operator"]
    summary = Recording(tmp_path / "recording.mcap").summary()
    assert summary.episodes[0].outcome == "fault: stopped by the operator"
    assert len(summary.episodes) == episodes


class _Idle:
    name, rate = "idle", 20.0

    def reset(self, task: str) -> None:
        pass

    def act(self, observation: Observation) -> Action:
        return Action(observation.proprioception["joint_targets"], np.arange(6) + 32000)


def so101_on(folder: Path, port: object, source: str) -> str:
    config = load_robot("emulated").with_devices(str(port), {"fixed": source, "wrist": source})
    path = folder / "robot.yaml"
    path.write_text(yaml.safe_dump(config.model_copy(update={"emulated": False}).model_dump(mode="json")))
    return str(path)


def test_a_missing_port_or_camera_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(run_module, "_open_policy", lambda options, config: _Idle())
    with EmulatorProcess(link=tmp_path / "port") as emulator:
        for port, source, said in (
            ("/dev/nothing", "x.mp4", "/dev/nothing"),
            (emulator.port, "x.mp4", "camera fixed: x.mp4 cannot be opened"),
        ):
            words = ["run", "--record", str(tmp_path / f"run-{Path(str(port)).name}"), "--robot"]
            assert main([*words, so101_on(tmp_path, port, source)]) == 2
            lines = [line for line in capfd.readouterr().err.splitlines() if line.strip()]
            assert len(lines) == 1 and lines[0].startswith("gato-arm: ") and said in lines[0], lines


def test_nobody_judges_a_real_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage_module, "STEPS", 10)
    with EmulatorProcess(link=tmp_path / "port") as emulator:
        robot = load_robot("emulated").with_devices(
            str(emulator.port), {name: emulator.camera_url(name) for name in ("fixed", "wrist")}
        )
        monkeypatch.setattr(run_module, "load_robot", lambda name: robot.model_copy(update={"emulated": False}))
        code, output = play(monkeypatch, tmp_path, _Idle())
    assert code == 0 and "not judged in 0." in output and "1 episodes, none judged" in output
    assert Recording(tmp_path / "recording.mcap").summary().episodes[0].outcome == "unjudged"


def test_the_operator_lays_out_and_judges() -> None:
    asked: list[str] = []
    answers = iter([False, True, False])

    def ask(question: str) -> bool:
        asked.append(question)
        return next(answers)

    scene = stage_module.PersonScene(ask, SimulatedClock(5))
    assert scene.arrange("stack", 0) == 5 and len(asked) == 2 and scene.outcome() is None
    assert scene.verdict(make_end(0, "time limit", 10)) == "not done"


def test_the_simulator_in_lock_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started = time.monotonic()
    code, output = play(monkeypatch, tmp_path, None, robot="simulated", episodes=2)
    assert code == 0 and "2 of 2 succeeded" in output
    assert time.monotonic() - started < 60
    summary = Recording(tmp_path / "recording.mcap").summary()
    assert [episode.index for episode in summary.episodes] == [0, 1]


def test_the_expert_needs_the_simulator(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="use it with --robot simulated"):
        run(RunOptions(tmp_path, policy="expert"), Console(file=io.StringIO()), interactive=False)


def test_without_a_shipped_policy_one_must_be_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_module, "PRETRAINED", tmp_path)
    with pytest.raises(PolicyError, match="none is shipped here"):
        run_module.default_policy()
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "card.yaml").touch()
    with pytest.raises(PolicyError, match="choose one of a, b"):
        run_module.default_policy()
