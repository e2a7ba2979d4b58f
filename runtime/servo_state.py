"""How the servo loop is set, and what comes out of it: states, counters, fault records.

Knows no loop, no process and no shared memory; all of it can be pickled.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple, Self

from drivers.arm import Array, BusCounters, JointState
from drivers.config import RobotConfig, SafetyConfig
from runtime.clock import MILLISECOND
from runtime.supervisor import State


@dataclass(frozen=True, slots=True)
class ServoSettings:
    """How the servo loop behaves; the defaults are the project's rates and thresholds."""

    period_ns: int = 10 * MILLISECOND  # 100 Hz
    policy_period_ns: int = 50 * MILLISECOND  # 20 Hz
    failures_max: int = 10  # failed reads, or writes, in a row
    overruns_max: int = 20  # ticks in a row that came at least one period late (libfranka's 20 lost packets)
    stopped_within_s: float = 0.15  # of a policy's last target, where the acceleration limits allow it
    safety: SafetyConfig = field(default_factory=SafetyConfig)
    rest: tuple[float, ...] | None = None  # rad: the pose that a category 1 stop lowers to; None: there is none

    @classmethod
    def of(cls, safety: SafetyConfig, rest: list[float] | None = None) -> Self:
        """The settings of an arm with these thresholds and this rest pose."""
        return cls(safety=safety, rest=None if rest is None else tuple(rest))

    @classmethod
    def of_robot(cls, config: RobotConfig) -> Self:
        """The settings of a robot."""
        return cls.of(config.safety, config.arm.rest)


class ServoCounters(NamedTuple):
    """What happened since the loop connected."""

    ticks: int = 0
    skipped: int = 0  # cycles that were never run, because one before them took too long
    read_failures: int = 0
    write_failures: int = 0
    targets: int = 0  # accepted
    bus_sent: int = 0
    bus_retried: int = 0
    bus_corrupt: int = 0
    bus_timed_out: int = 0
    bus_failed: int = 0


class InARow:
    """Counts what goes wrong, altogether and in a row."""

    __slots__ = ("in_a_row", "total")

    def __init__(self) -> None:
        self.total = self.in_a_row = 0

    def count(self, wrong: bool) -> int:
        """Another try that went wrong, or not; returns how many have in a row."""
        self.total += wrong
        self.in_a_row = self.in_a_row + 1 if wrong else 0
        return self.in_a_row


class Tally:
    """The servo loop's running counters."""

    __slots__ = ("overruns", "reads", "skipped", "targets", "ticks", "writes")

    def __init__(self) -> None:
        self.ticks = self.skipped = self.targets = 0
        self.reads, self.writes, self.overruns = InARow(), InARow(), InARow()

    def counters(self, bus: BusCounters) -> ServoCounters:
        """As they stand, with those of the bus."""
        return ServoCounters(
            self.ticks,
            self.skipped,
            self.reads.total,
            self.writes.total,
            self.targets,
            bus.sent,
            bus.retried,
            bus.corrupt,
            bus.timed_out,
            bus.failed,
        )


class Split(NamedTuple):
    """Where the last tick spent its time, ns."""

    read: int = 0
    filter: int = 0
    write: int = 0


class FaultEntry(NamedTuple):
    """One tick before a fault."""

    stamp: int  # ns
    command: Array  # rad, shape (n,)
    positions: Array  # rad, shape (n,), measured


@dataclass(frozen=True, slots=True)
class ServoState:
    """What the servo loop knows after a tick."""

    stamp: int  # ns, of the tick
    joints: JointState  # the last reading; its own stamp says how old it is
    command: Array  # rad, shape (n,): the last command; the measured positions while there is no torque
    state: State
    fault: str | None
    reasons: tuple[str, ...]  # what the safety filter changed on the last tick
    counters: ServoCounters
    split: Split
    asked: Array | None = None  # rad, shape (n,): what the filter was given on the last tick; None: nothing

    @property
    def positions(self) -> Array:
        return self.joints.positions

    @property
    def loads(self) -> Array:
        return self.joints.loads

    @property
    def temperatures_c(self) -> Array:
        return self.joints.temperatures_c
