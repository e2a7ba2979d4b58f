"""Figures and pages of campaigns, kills and soaks; the traces' reader."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from drivers.config import load_robot
from runtime.campaign import kills, report, soak
from runtime.campaign.invariants import Violation
from runtime.campaign.judge import Verdict
from runtime.campaign.soak import Sample, Soak
from runtime.campaign.trace import COUNT, TraceFile, joints_of

COMMAND = "gato-arm faults --runs 3"


def verdict(name: str = "silent_servo", *violations: Violation, late: bool = False, stop: float = 0.2) -> Verdict:
    told = "bus: 10 reads in a row failed: arm on /tmp/x-1/servos: no answer from wrist (id 4); check | it"
    return Verdict(name, 7, 1.0, 1.5, "holds", told, 0.19, stop, stop + 0.05, 0.01, "", 7.0, 2.0, 0, late, violations)


BROKEN = Violation("speed", "pan", 0.3, "3.00 rad/s over 50 ms, 2.5 rad/s are allowed")
RESULTS = {
    "emulated": [verdict(), verdict(stop=0.4), verdict("silent_servo + drop", BROKEN, late=True)],
    "emulated_dynamixel": [verdict()],
}


def test_figures() -> None:
    found = report.figures(RESULTS["emulated"])
    assert found["runs"] == 3 and found["violations"] == 1 and found["machine_late"] == 1 and found["in_motion"] == 3
    assert found["goals_stop_ms"]["max"] == pytest.approx(400)
    assert found["told_ticks"]["p50"] == 19
    assert found["ends"] == {"holds": 3}


def test_the_page_has_each_fault_on_each_robot_and_every_violation() -> None:
    page = report.markdown(RESULTS, COMMAND)
    assert f"Made by `{COMMAND}`" in page
    assert "| silent_servo | emulated | holds | 19, 19 | 300 / 398 / 400 | 350 / 448 / 450 | 2 | 0 |" in page
    assert "| silent_servo | emulated_dynamixel | holds | 19, 19 |" in page
    assert "arm on PORT: no answer from wrist (id 4); check \\| it" in page
    assert "- emulated: 1 trials of 1 pairs, 1 with violations" in page
    assert "- emulated, silent_servo + drop (seed 7, machine late): speed of pan at +0.300 s: 3.00 rad/s" in page
    assert "4 trials, 1 of them with two faults" in page and "1 with violations (1 of them while the machine" in page


def test_a_page_without_violations_says_so() -> None:
    assert "None." in report.markdown({"emulated": [verdict()]}, COMMAND)


def test_json_holds_every_trial() -> None:
    content = json.loads(json.dumps(report.to_json(RESULTS, {"command": COMMAND})))
    assert content["robots"]["emulated"]["pairs"]["runs"] == 1
    assert len(content["robots"]["emulated"]["trials"]) == 3
    assert content["robots"]["emulated"]["faults"]["silent_servo"]["runs"] == 2
    assert content["all"]["violated"] == 1


def test_places_of_this_run_are_left_out_of_messages() -> None:
    assert report.plain("no answer at /tmp/gato-arm-x1/servos: http://127.0.0.1:4/a.mjpg") == "no answer at PORT: URL"
    assert report.plain("stopped: /tmp/a/recording.mcap: too large") == "stopped: FILE: too large"
    assert report.plain("target not finite: [ 1.0 nan]") == "target not finite: […]"


def test_the_page_of_kills_says_what_was_lost() -> None:
    page = kills.markdown({"emulated": [verdict("policy_killed"), verdict("servo_killed")]}, COMMAND)
    assert "| policy_killed | emulated | holds | 200 / 200 / 200 | 0.010, 0.010 | 1 | 0 |" in page


def made_soak(grown: float = 0.0, descriptors: int = 0, dropped: int | None = 0) -> Soak:
    samples = [
        Sample(float(second), "policy", 100 + grown * second / 100, 20 + descriptors * (second > 50))
        for second in range(0, 101, 5)
    ]
    return Soak(100.0, 5, samples, [], [], dropped)


def test_a_flat_soak_has_no_problems() -> None:
    assert made_soak().problems() == []
    assert "no problems found" in soak.markdown({"emulated": made_soak()}, COMMAND)


def test_a_soak_finds_growth_leaks_drops_and_faults() -> None:
    assert "policy: 7.5 MB more" in made_soak(grown=10).problems()[0]
    assert made_soak(descriptors=2).problems() == ["policy: 2 descriptors more after the warm-up"]
    assert made_soak(dropped=3).problems() == ["3 records dropped"]
    assert made_soak(dropped=None).problems() == ["the recording cannot be read"]
    stopped = made_soak()
    stopped.faults.append("bus: gone after 3 s")
    assert stopped.problems() == ["unexplained fault: bus: gone after 3 s"]
    assert made_soak(grown=10).growth("policy")[1] == pytest.approx(360, rel=0.01)


def test_a_trace_is_read_as_it_grows(tmp_path: Path) -> None:
    path = tmp_path / "goals.csv"
    trace = TraceFile(path)
    assert trace.read().shape == (0, 5)
    path.write_text("monotonic_ns,id,goal,torque,present\n5,1,2048,1,2050\n6,2,20")
    assert trace.read().tolist() == [[5, 1, 2048, 1, 2050]]
    with path.open("a") as file:
        file.write("48,0,2000\n7,1,2049,1,2051\n")
    assert trace.read().tolist() == [[6, 2, 2048, 0, 2000], [7, 1, 2049, 1, 2051]]
    assert trace.read().shape == (0, 5)


def test_counts_become_angles_joint_by_joint() -> None:
    goals = np.array([[5, 1, 2058, 1, 2048], [6, 2, 2048, 0, 2000]], np.int64)
    motion = np.array([[5, 2, 0, 0, 2047]], np.int64)
    pan, lift, *_ = joints_of(load_robot("emulated"), goals, motion)
    assert pan.goals.goals.tolist() == [10 * COUNT] and pan.goals.torque.tolist() == [True]
    assert lift.goals.present.tolist() == [-48 * COUNT] and lift.motion.positions.tolist() == [-COUNT]
    assert pan.between(6, 9).goals.stamps.size == 0 and (pan.low, pan.high) == (-1.92, 1.92)
