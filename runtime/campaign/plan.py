"""Which faults a trial has, at which moments, and what must come of them together: all from a seed."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from drivers.config import ConfigError, RobotConfig, suggest
from runtime.campaign.catalogue import CATALOGUE
from runtime.campaign.fault import Ends, Fault, InPolicy, OnArm, Process, SecondProgram, Signal

FIRST = (0.6, 1.4)  # s of motion before a trial's first fault, at random; the filter's slow start takes 0.3 s
SECOND = (0.0, 0.5)  # s between the two of a pair
PAIR_SHARE = 0.5  # of the runs, where pairs are asked for


@dataclass(frozen=True)
class Strike:
    """One fault in a trial: when it is done (s after the arm has begun to move) and to what."""

    fault: Fault
    at: float
    arguments: Mapping[str, Any] = field(default_factory=dict)  # of a fault of the emulated arm, complete
    servos: frozenset[int] = frozenset()  # ids of the servos that it strikes by themselves


@dataclass(frozen=True)
class Plan:
    """One trial."""

    seed: int
    strikes: tuple[Strike, ...]

    @property
    def name(self) -> str:
        return " + ".join(strike.fault.name for strike in self.strikes)

    @property
    def fatal(self) -> bool:
        """The run is over with it."""
        return any(strike.fault.fatal for strike in self.strikes)

    @property
    def seconds(self) -> float:
        """How long it is watched after the arm has begun to move."""
        return max(strike.at + strike.fault.watch for strike in self.strikes)

    def limp(self) -> frozenset[int]:
        """Servos that may lose their torque by themselves."""
        return frozenset().union(*(strike.servos for strike in self.strikes if strike.fault.limp))

    def freed(self) -> frozenset[int]:
        """Servos whose joint is held by something, and then no longer."""
        return frozenset().union(*(strike.servos for strike in self.strikes if strike.fault.frees))


@dataclass(frozen=True)
class Expected:
    """What must come of a trial's faults."""

    ends: frozenset[Ends]
    told: tuple[str, ...]  # one of these regular expressions is told; empty: nothing need be
    stops: float | None  # s after the last fault that has a bound
    named: float | None  # s after the first fault


def expected(plan: Plan) -> Expected:
    """A single fault's own expectation; for a pair what both allow.

    What ends in a fault stays one, whatever comes with it. An arm that one of the two would have released may be held
    where the other hinders that. Bounds of time hold for a pair where each of the two has one, or does no harm.
    """
    faults = [strike.fault for strike in plan.strikes]
    ends = frozenset().union(*(fault.ends for fault in faults))
    if any(Ends.GOES_ON not in fault.ends for fault in faults):
        ends -= {Ends.GOES_ON}
    if Ends.GONE in ends:
        ends = frozenset({Ends.GONE})
    if Ends.RELEASED in ends and len(faults) > 1 and any(fault.hinders for fault in faults):
        ends |= {Ends.HOLDS}
    harmful = [fault for fault in faults if fault.ends != {Ends.GOES_ON}]
    bounds = [fault.stops for fault in harmful]
    stops = max((bound for bound in bounds if bound is not None), default=None) if None not in bounds else None
    told = tuple(_told(strike) for strike in plan.strikes if strike.fault.told)
    if any(fault.mute for fault in faults):
        told = ()
    named = faults[0].named if len(faults) == 1 else None
    return Expected(ends, told, stops, named)


def _told(strike: Strike) -> str:
    servo = next(iter(strike.servos), None)
    return strike.fault.told.replace("{id}", str(servo))


def compatible(first: Fault, second: Fault) -> bool:
    """Whether two faults can be done to one arm: of each kind there is one at a time, and the dead do nothing."""
    if first.long or second.long or first.name == second.name:
        return False
    places = {_place(first), _place(second)}
    if len(places) == 1:
        return False
    return "process emulator" not in places or not any(place.startswith("arm") for place in places)


def _place(fault: Fault) -> str:
    """What a fault takes for itself."""
    action = fault.action
    if isinstance(action, OnArm):
        return f"arm {action.name}"
    if isinstance(action, SecondProgram):
        return "arm"
    if isinstance(action, InPolicy):
        return f"process {Process.POLICY}"
    return f"process {action.process}" if isinstance(action, Signal) else type(action).__name__


def chosen(names: Sequence[str]) -> list[Fault]:
    """The faults of these names, all without any. Raises `ConfigError` for one that is not there."""
    for name in names:
        if name not in CATALOGUE:
            raise ConfigError(f"no fault {name!r}{suggest(name, CATALOGUE)}; there are {', '.join(CATALOGUE)}")
    return [CATALOGUE[name] for name in names] if names else list(CATALOGUE.values())


def deal(faults: Sequence[Fault], runs: int, pairs: bool, config: RobotConfig, seed: int) -> list[Plan]:
    """`runs` trials in random order: every fault in turn, and with `pairs` half of them random pairs.

    A fault that is `long` is dealt once.
    """
    rng = np.random.default_rng(seed)
    couples = [couple for couple in itertools.combinations(faults, 2) if compatible(*couple)] if pairs else []
    doubles = round(runs * PAIR_SHARE) if couples else 0
    singles: list[tuple[Fault, ...]] = [(fault,) for fault in faults if fault.long]
    others = [fault for fault in faults if not fault.long]
    singles += [(fault,) for fault in itertools.islice(itertools.cycle(others), max(0, runs - doubles - len(singles)))]
    trials = singles[:runs] + [couples[rng.integers(len(couples))] for _ in range(doubles)]
    order = rng.permutation(len(trials))
    return [_plan(trials[index], config, rng) for index in order]


def _plan(faults: Sequence[Fault], config: RobotConfig, rng: np.random.Generator) -> Plan:
    at = float(rng.uniform(*FIRST))
    strikes = []
    for index in rng.permutation(len(faults)):
        strikes.append(_strike(faults[index], at, config, rng))
        at += float(rng.uniform(*SECOND))
    return Plan(int(rng.integers(1 << 31)), tuple(strikes))


def _strike(fault: Fault, at: float, config: RobotConfig, rng: np.random.Generator) -> Strike:
    action = fault.action
    if not isinstance(action, OnArm):
        return Strike(fault, at)
    arguments = dict(action.arguments)
    joints = config.arm.joints
    servos: frozenset[int] = frozenset()
    if action.one == "all servos":
        arguments["ids"] = [joint.id for joint in joints] + [joint.shadow for joint in joints if joint.shadow]
    elif action.one == "camera":
        arguments["camera"] = sorted(config.cameras)[rng.integers(len(config.cameras))]
    elif action.one is not None:
        joint = joints[rng.integers(len(joints))]
        servos = frozenset({joint.id})
        arguments |= {"ids": [joint.id]} if action.one == "servo" else {"joint": joint.name}
    return Strike(fault, at, arguments, servos)
