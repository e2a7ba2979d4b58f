"""The catalogue is complete and sound; plans come from it and from a seed."""

from __future__ import annotations

import itertools
import re

import pytest

from drivers.config import ConfigError, load_robot
from runtime.campaign.catalogue import CATALOGUE, FAMILIES, KILLS
from runtime.campaign.fault import Ends, Fault, InPolicy, OnArm, Process, Signal
from runtime.campaign.kills import kill_plans
from runtime.campaign.mover import HOWS
from runtime.campaign.plan import FIRST, SECOND, Plan, Strike, chosen, compatible, deal, expected
from sim.faults import KINDS, make_fault

ROBOT = load_robot("emulated")
SERVOS = frozenset(joint.id for joint in ROBOT.arm.joints)


def one(name: str, at: float = 1.0) -> Strike:
    return Strike(CATALOGUE[name], at)


def test_every_fault_of_the_emulator_is_used() -> None:
    actions = [action for fault in CATALOGUE.values() for action in (fault.action, *fault.also)]
    assert {action.name for action in actions if isinstance(action, OnArm)} == set(KINDS)


def test_every_way_to_misbehave_is_used() -> None:
    ways = [fault.action.how for fault in CATALOGUE.values() if isinstance(fault.action, InPolicy)]
    assert sorted(ways) == sorted(HOWS)


def test_every_process_is_killed() -> None:
    killed = {fault.action for fault in CATALOGUE.values() if isinstance(fault.action, Signal)}
    assert {Signal(process, "KILL") for process in Process} <= killed
    assert set(KILLS) == {process.value for process in Process}
    assert all(CATALOGUE[name].action == Signal(Process(process), "KILL") for process, name in KILLS.items())


def test_every_family_is_in_the_catalogue_once() -> None:
    assert sorted(CATALOGUE) == sorted(fault.name for family in FAMILIES.values() for fault in family)


@pytest.mark.parametrize("fault", CATALOGUE.values(), ids=CATALOGUE)
def test_a_fault_says_what_may_come_of_it(fault: Fault) -> None:
    assert fault.ends and fault.what and fault.watch > 0
    re.compile(fault.told)
    if fault.ends != {Ends.GOES_ON} and not fault.mute:
        assert fault.told, "an operator must be told why the arm was stopped"
    if fault.named is not None:
        assert fault.named < fault.watch


@pytest.mark.parametrize("name", ["policy_busy", "policy_sleeps", "policy_stopped", "policy_killed", "policy_raises"])
def test_a_policy_that_dies_or_hangs_leaves_a_still_arm_within_150_ms(name: str) -> None:
    assert CATALOGUE[name].stops == pytest.approx(0.15)


def test_a_silent_servo_is_named_within_250_ms() -> None:
    assert CATALOGUE["silent_servo"].named == pytest.approx(0.25)
    plan = deal([CATALOGUE["silent_servo"]], 1, False, ROBOT, 0)[0]
    (servo,) = plan.strikes[0].servos
    assert re.search(expected(plan).told[0], f"no answer from wrist (id {servo}); check")
    assert not re.search(expected(plan).told[0], f"no answer from wrist (id {servo}0); check")


def test_plans_are_repeatable_and_differ_by_seed() -> None:
    faults = chosen([])
    assert deal(faults, 60, True, ROBOT, 3) == deal(faults, 60, True, ROBOT, 3)
    assert deal(faults, 60, True, ROBOT, 3) != deal(faults, 60, True, ROBOT, 4)


def test_every_fault_is_dealt_and_half_of_the_trials_are_pairs() -> None:
    plans = deal(chosen([]), 200, True, ROBOT, 1)
    assert len(plans) == 200
    singles = [plan for plan in plans if len(plan.strikes) == 1]
    assert {plan.name for plan in singles} == set(CATALOGUE)
    assert len(singles) == 100
    assert sum(plan.name == "bad_cable" for plan in plans) == 1, "a minute of it is enough"
    for plan in plans:
        assert FIRST[0] <= plan.strikes[0].at <= FIRST[1]
        assert all(0 <= b.at - a.at <= SECOND[1] for a, b in itertools.pairwise(plan.strikes))


def test_what_is_struck_is_on_the_robot() -> None:
    cameras, joints = set(ROBOT.cameras), {joint.name for joint in ROBOT.arm.joints}
    for plan in deal(chosen([]), 300, True, ROBOT, 2):
        for strike in plan.strikes:
            assert strike.servos <= SERVOS
            if isinstance(action := strike.fault.action, OnArm):
                made = make_fault(action.name, strike.arguments)
                assert made.arguments.get("camera") in {None, *cameras}
                assert made.arguments.get("joint") in {None, *joints}
                assert set(made.arguments.get("ids") or ()) <= SERVOS


def test_two_of_a_kind_are_no_pair() -> None:
    assert not compatible(CATALOGUE["unplugged"], CATALOGUE["unplug_blink"])
    assert not compatible(CATALOGUE["policy_busy"], CATALOGUE["policy_killed"])
    assert not compatible(CATALOGUE["emulator_killed"], CATALOGUE["drop"])
    assert not compatible(CATALOGUE["bad_cable"], CATALOGUE["stop_hold"])
    assert compatible(CATALOGUE["servo_killed"], CATALOGUE["guardian_killed"])
    assert compatible(CATALOGUE["emulator_killed"], CATALOGUE["policy_killed"])


def test_a_pair_with_a_fault_does_not_go_on() -> None:
    wanted = expected(Plan(0, (one("drop"), one("policy_busy"))))
    assert wanted.ends == {Ends.HOLDS}
    assert wanted.stops == pytest.approx(0.15)
    assert expected(Plan(0, (one("drop"), one("extra_bytes")))).ends == {Ends.GOES_ON}


def test_a_hindered_release_may_end_in_a_hold_and_nothing_else_may() -> None:
    assert expected(Plan(0, (one("servo_killed"), one("guardian_killed")))).ends == {Ends.HOLDS, Ends.RELEASED}
    assert expected(Plan(0, (one("servo_killed"),))).ends == {Ends.RELEASED}
    assert expected(Plan(0, (one("emulator_killed"), one("policy_nan")))).ends == {Ends.GONE}


def test_a_bound_falls_where_one_of_two_has_none() -> None:
    assert expected(Plan(0, (one("policy_busy"), one("frozen_camera")))).stops is None


def test_nobody_is_told_where_nobody_is_left_to_tell() -> None:
    assert expected(Plan(0, (one("policy_killed"), one("silent_servo")))).told == ()


def test_an_unknown_name_is_refused_with_what_there_is() -> None:
    with pytest.raises(ConfigError, match=r"no fault 'drp' \(did you mean 'drop'\?\)"):
        chosen(["drp"])
    with pytest.raises(ConfigError, match="--kill judge: not a process here; there are policy, servo"):
        kill_plans(["judge"], 1, ROBOT, 0)


def test_kills_are_dealt_evenly() -> None:
    plans = kill_plans(["all"], 5, ROBOT, 0)
    names = [plan.name for plan in plans]
    assert {name: names.count(name) for name in names} == dict.fromkeys(KILLS.values(), 5)
    assert {plan.name for plan in kill_plans(["servo"], 2, ROBOT, 0)} == {"servo_killed"}
