"""`gato-arm calibrate rehearse`: one rig's joints and wrist camera against the truth; how rigs are judged and shown."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from calibration.errors import CalibrationError
from calibration.hand_eye import Kind
from calibration.rehearsal.arm import RehearsalArm
from drivers.config import RobotConfig
from runtime import calibrate_rehearse as work
from runtime.calibrate_rehearse import BARS, RigErrors, rehearse, show, summarise
from runtime.cli import main


def rig(seed: int, **changes: object) -> RigErrors:
    """A rig well within all bars, but for `changes`."""
    errors = RigErrors(seed, 0.1, {"fixed": 0.05}, {"fixed": 0.3}, {"fixed": 0.1}, {"fixed": 1.0}, {"fixed": 0.1})
    for name, value in changes.items():
        setattr(errors, name, value)
    return errors


@pytest.fixture(scope="module")
def rehearsed() -> RigErrors:
    return rehearse(16, kinds=("wrist",), poses=8)


def test_a_rig_is_calibrated_within_all_bars(rehearsed: RigErrors) -> None:
    """Sweep, centre, lens and place through servos, loop, filter and guard; few poses are enough for a wrist camera."""
    assert rehearsed.refused is None and rehearsed.passed()
    assert set(rehearsed.place_mm) == {"wrist"} and rehearsed.poses == {"wrist": 8}
    assert 0 < rehearsed.worst("place_mm") < 1 and 0 < rehearsed.held_out_px["wrist"] < 0.3


def test_a_refusal_is_noted_with_what_was_found_so_far(monkeypatch: pytest.MonkeyPatch) -> None:
    def joints(arm: RehearsalArm, errors: RigErrors) -> RobotConfig:
        errors.joint_deg = 0.1
        return arm.robot

    def lens(kind: Kind, errors: RigErrors, rng: np.random.Generator) -> None:
        raise CalibrationError(f"not enough views of the {kind} camera")

    monkeypatch.setattr(work, "_rehearse_joints", joints)
    monkeypatch.setattr(work, "_rehearse_lens", lens)
    refused = rehearse(16)
    assert refused.refused == "not enough views of the fixed camera" and refused.joint_deg == 0.1
    assert not refused.passed()


@pytest.mark.parametrize("name", BARS)
def test_a_rig_passes_only_within_every_bar(name: str) -> None:
    assert rig(1).passed()
    beyond = BARS[name] * 1.01
    assert not rig(1, **{name: beyond if name == "joint_deg" else {"fixed": 0.0, "wrist": beyond}}).passed()
    assert not rig(1, refused="no").passed()
    assert not RigErrors(1).passed()  # nothing was found


def test_the_summary_has_worst_and_median_and_counts_refusals() -> None:
    rigs = [rig(1), rig(2, place_mm={"fixed": 2.5, "wrist": 0.2}), rig(3, joint_deg=0.2)]
    figures = summarise([*rigs, rig(4, refused="the board moved")])
    assert figures["rigs"] == 4 and figures["within_all_bars"] == 2
    assert figures["place_mm"] == {"bar": 2.0, "worst": 2.5, "median": 1.0}
    assert figures["refused"] == ["rig 4: the board moved"] and len(figures["each"]) == 4
    out = io.StringIO()
    show(rigs, summarise(rigs), Console(file=out, width=120))
    assert "2 of 3 rigs within all bars" in out.getvalue() and "2.500" in out.getvalue()


def test_the_verb_counts_and_says_so_by_its_exit_code(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = []

    def many(rigs: int, seed: int, workers: int | None, console: Console) -> list[RigErrors]:
        asked.append((rigs, seed, workers))
        return [rig(seed + index) for index in range(rigs - 1)] + [rig(99, joint_deg=np.nan)]

    monkeypatch.setattr(work, "rehearse_many", many)
    file = tmp_path / "f.json"
    words = ["calibrate", "rehearse", "--rigs", "3", "--seed", "7", "--workers", "2", "--json", str(file)]
    assert main(words) == 3
    assert asked == [(3, 7, 2)] and json.loads(file.read_text())["within_all_bars"] == 2
    assert "2 of 3 rigs within all bars" in capsys.readouterr().out
