"""Faults by name, by text, by script and in time; what the line does to packets."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sim.faults import KINDS, EmulatorError, Fault, Faults, Plan, load_script, make_fault, parse_faults
from sim.line_noise import LineNoise

PACKET = bytes(range(20))


class Log:
    """A subscriber that writes down what it is told."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, bool]] = []

    def __call__(self, fault: Fault, begins: bool) -> None:
        self.lines.append((fault.name, begins))


@pytest.fixture
def log() -> Log:
    return Log()


@pytest.fixture
def faults(log: Log) -> Faults:
    faults = Faults({"ids": (1, 2, 3), "joint": ("elbow",), "camera": ("fixed",)})
    faults.subscribe(log)
    return faults


def test_faults_are_parsed() -> None:
    plans = parse_faults("drop=0.01, delay=0.5:ms=7:ids=2,silent=3+4@2.5+1,unplug@5,unplug=2,stuck=elbow")
    assert plans == [
        Plan(Fault("drop", {"p": 0.01, "ids": None})),
        Plan(Fault("delay", {"p": 0.5, "ids": frozenset({2}), "ms": 7.0})),
        Plan(Fault("silent", {"ids": frozenset({3, 4})}), 2.5, 1.0),
        Plan(Fault("unplug", {"seconds": None}), 5.0),
        Plan(Fault("unplug", {"seconds": 2.0})),
        Plan(Fault("stuck", {"joint": "elbow"})),
    ]
    assert parse_faults("") == []


@pytest.mark.parametrize(
    "text",
    [
        "drop=2", "drop=x", "drop", "smoke=1", "silent=a", "drop=nan", "silent=3@x", "silent=3@1+y", "silent=3@-1",
        "drop=0.1:when=2", "delay=0.1:ms=-1", "sag=inf", "stuck",
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_named_in_one_line(text: str) -> None:
    with pytest.raises(EmulatorError, match="is not understood") as caught:
        parse_faults(f"corrupt=0.1,{text}")
    assert f'"{text}"' in str(caught.value) and "\n" not in str(caught.value)


def test_every_fault_says_an_example_that_it_understands() -> None:
    for name, arguments in KINDS.items():
        fault = make_fault(name, {key: argument.example for key, argument in arguments.items()})
        assert set(fault.arguments) == set(arguments)


def test_a_script_is_a_list_of_faults_and_times(tmp_path: Path) -> None:
    script = tmp_path / "script.yaml"
    script.write_text("- {fault: silent, ids: [3], at: 2.5, for: 1}\n- {fault: drop, p: 0.5}\n")
    assert load_script(script) == [
        Plan(Fault("silent", {"ids": frozenset({3})}), 2.5, 1.0),
        Plan(Fault("drop", {"p": 0.5, "ids": None})),
    ]


@pytest.mark.parametrize(
    "text",
    [
        "silent: 3",
        "- silent",
        "- {fault: silent}",
        "- {fault: drop, p: 2}",
        "- {fault: drop, p: 0.1, at: x}",
        "- [",
        "",
    ],
)
def test_a_script_that_makes_no_sense_is_refused_in_one_line(tmp_path: Path, text: str) -> None:
    script = tmp_path / "script.yaml"
    script.write_text(text)
    with pytest.raises(EmulatorError, match=r"--script .*script\.yaml") as caught:
        load_script(script)
    assert "\n" not in str(caught.value)
    with pytest.raises(EmulatorError, match="--script"):
        load_script(tmp_path / "none.yaml")


def test_faults_begin_and_end(faults: Faults, log: Log) -> None:
    faults.set("silent", ids=[2])
    assert faults.active == {"silent": Fault("silent", {"ids": frozenset({2})})}
    faults.clear("silent")
    faults.clear("silent")
    assert log.lines == [("silent", True), ("silent", False)] and not faults.active


def test_a_fault_set_again_replaces_itself(faults: Faults, log: Log) -> None:
    faults.set("drop", p=0.1)
    faults.set("drop", p=0.2)
    assert faults.active["drop"].arguments["p"] == 0.2
    assert log.lines == [("drop", True), ("drop", False), ("drop", True)]


def test_planned_faults_come_and_go_in_their_time(faults: Faults, log: Log) -> None:
    faults.plan(parse_faults("silent=2@1+2,stuck=elbow@2,unplug=0.5@4"))
    assert faults.due == 1.0 and not faults.active
    seen = []
    for now in (0.9, 1.0, 2.0, 3.0, 4.0, 4.5):
        faults.advance(now)
        seen.append(sorted(faults.active))
    assert seen == [[], ["silent"], ["silent", "stuck"], ["stuck"], ["stuck", "unplug"], ["stuck"]]
    assert faults.due == math.inf


def test_the_end_of_a_fault_does_not_end_the_one_that_replaced_it(faults: Faults) -> None:
    faults.set("silent", duration=1.0, ids=[1])
    faults.advance(0.5)
    faults.set("silent", ids=[2])
    faults.advance(2.0)
    assert faults.active["silent"].arguments["ids"] == {2}


def test_after_counts_from_now(faults: Faults) -> None:
    faults.advance(10.0)
    faults.set("drop", p=0.1, after=1.0, duration=1.0)
    assert not faults.active and faults.due == 11.0
    faults.advance(11.0)
    assert faults.active
    faults.advance(12.0)
    assert not faults.active


def test_clearing_forgets_what_was_planned(faults: Faults, log: Log) -> None:
    faults.plan(parse_faults("silent=1@1,drop=0.5@1"))
    faults.clear("silent")
    faults.advance(1.0)
    assert list(faults.active) == ["drop"]
    faults.clear()
    faults.advance(9.0)
    assert not faults.active and log.lines == [("drop", True), ("drop", False)]


def test_a_reboot_is_over_at_once(faults: Faults, log: Log) -> None:
    faults.set("reboot", ids=[1])
    assert not faults.active and log.lines == [("reboot", True)]


def test_whoever_subscribes_late_is_told_what_is_in_force(faults: Faults) -> None:
    faults.set("sag", voltage=5)
    late = Log()
    faults.subscribe(late)
    assert late.lines == [("sag", True)]


@pytest.mark.parametrize(
    ("name", "arguments", "what"),
    [
        ("silent", {"ids": [9]}, "ids 9 is not there; there are 1, 2, 3"),
        ("stuck", {"joint": "knee"}, "'knee' is not there; there are elbow"),
        ("drop_camera", {"camera": "top"}, "'top' is not there"),
        ("drop", {"p": 0.1, "duration": "long"}, "not a time"),
        ("smoke", {}, "is not known"),
        ("drop", {}, "needs p"),
        ("drop", {"q": 1}, "no argument 'q'"),
    ],
)
def test_refusals_say_what_there_is(faults: Faults, name: str, arguments: dict[str, Any], what: str) -> None:
    with pytest.raises(EmulatorError, match=what):
        faults.set(name, **arguments)
    assert not faults.active
    with pytest.raises(EmulatorError, match="is not known"):
        faults.clear("smoke")


def noise(seed: int = 0, **chances: float) -> LineNoise:
    noise = LineNoise(np.random.default_rng(seed))
    for name, p in chances.items():
        noise(make_fault(name, {"p": p}), True)
    return noise


def test_a_quiet_line_leaves_packets_alone() -> None:
    assert noise().quiet and noise().spoil(1, PACKET) == (0.0, PACKET)


def test_drop_delay_and_duplicate() -> None:
    assert noise(drop=1).spoil(1, PACKET) == (0.0, b"")
    assert noise(delay=1).spoil(1, PACKET) == (0.02, PACKET)
    assert noise(duplicate=1).spoil(1, PACKET) == (0.0, PACKET + PACKET)


def test_corrupt_flips_one_byte_and_extra_comes_before() -> None:
    spoilt = noise(corrupt=1).spoil(1, PACKET)[1]
    assert len(spoilt) == len(PACKET) and sum(a != b for a, b in zip(spoilt, PACKET, strict=True)) == 1
    longer = noise(extra=1).spoil(1, PACKET)[1]
    assert longer.endswith(PACKET) and 1 <= len(longer) - len(PACKET) <= 8


def test_a_fault_of_some_servos_leaves_the_others_alone() -> None:
    line = noise()
    line(make_fault("drop", {"p": 1, "ids": [2]}), True)
    assert line.spoil(1, PACKET) == (0.0, PACKET)
    assert line.spoil(2, PACKET) == (0.0, b"")


def test_a_chance_is_one_and_the_seed_repeats_it() -> None:
    def dropped(seed: int) -> list[bool]:
        line = noise(seed, drop=0.3)
        return [line.spoil(1, PACKET)[1] == b"" for _ in range(1000)]

    assert dropped(1) == dropped(1) != dropped(2)
    assert 250 < sum(dropped(1)) < 350


def test_a_fault_that_has_ended_spoils_nothing() -> None:
    line = noise(drop=1)
    line(make_fault("drop", {"p": 1}), False)
    line(make_fault("silent", {"ids": [1]}), True)
    assert line.quiet
