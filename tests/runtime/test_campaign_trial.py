"""Real trials on the emulated arm. Looked at is what was observed and judged, not how fast a busy machine is."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from drivers.config import load_robot
from runtime.campaign.catalogue import CATALOGUE
from runtime.campaign.judge import Verdict
from runtime.campaign.plan import Plan, Strike
from runtime.campaign.rig import marked, running
from runtime.campaign.session import Session
from runtime.cli import main

TIMED = {"stopped in time", "told in time", "ends", "speed", "acceleration"}  # what a busy machine can break


def play(folder: Path, *plans: Plan) -> list[Verdict]:
    verdicts: list[Verdict] = []
    with Session(load_robot("emulated"), folder) as session:
        session.play(plans, verdicts.append)
    return verdicts


def assert_sound(verdict: Verdict) -> None:
    assert [found for found in verdict.violations if found.rule not in TIMED] == []


def test_two_trials_on_one_run_and_a_killed_policy(tmp_path: Path) -> None:
    second = Plan(2, (Strike(CATALOGUE["second_program"], 0.7),))
    nan = Plan(3, (Strike(CATALOGUE["policy_nan"], 0.7),))
    killed = Plan(4, (Strike(CATALOGUE["policy_killed"], 0.8),))
    verdicts = play(tmp_path, second, nan, killed)
    assert [verdict.name for verdict in verdicts] == ["second_program", "policy_nan", "policy_killed"]
    for verdict in verdicts:
        assert_sound(verdict)
        assert verdict.lost_s is not None and verdict.lost_s < 0.5
    assert verdicts[0].ends == "goes on" and "in use by another process" in verdicts[0].told
    assert verdicts[1].ends == "holds" and verdicts[1].told.startswith("target not finite")
    assert verdicts[2].ends == "holds"
    assert (tmp_path / "bench1").exists() and not (tmp_path / "run2").exists()


def test_the_command_writes_page_and_figures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page, figures = tmp_path / "faults.md", tmp_path / "faults.json"
    code = main(["faults", "--only", "stop_hold", "--report", str(page), "--json", str(figures)])
    assert code in (0, 1)
    assert "| stop_hold | emulated | holds |" in page.read_text()
    assert '"stop_hold"' in figures.read_text()
    assert "1 trials, 0 of them with two faults" in capsys.readouterr().out


def test_an_unknown_fault_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["faults", "--only", "silent_servos"]) == 2
    assert "no fault 'silent_servos' (did you mean 'silent_servo'?)" in capsys.readouterr().err


def test_processes_are_found_by_their_mark(monkeypatch: pytest.MonkeyPatch) -> None:
    child = os.spawnvpe(os.P_NOWAIT, "sleep", ["sleep", "60"], {**os.environ, "GATO_ARM_CAMPAIGN": "a-mark"})
    try:
        while not marked("a-mark"):
            assert running(child)
        assert set(marked("a-mark")) == {child}
        assert not marked("another-mark")
    finally:
        os.kill(child, signal.SIGKILL)
    while running(child):
        continue
    assert not marked("a-mark"), "a zombie is gone"
    os.waitpid(child, 0)
