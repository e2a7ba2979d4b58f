"""What a fault of the campaign is: what is done to make it happen, and what must then be true.

Times are in seconds from the moment of the fault. `Ends` are what may become of the arm; which messages an operator
may see is a regular expression.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal

POLICY_STOP = 0.15  # s: a policy that dies or hangs leaves an arm that is at rest after so long
NAMED = 0.25  # s: so soon a silent servo is named
LOWERING = 9.0  # s for an operator's lowering, from anywhere in the workspace


class Ends(StrEnum):
    """What may become of the arm."""

    GOES_ON = "goes on"  # no fault: it follows its policy
    HOLDS = "holds"  # at rest, torque on in every joint that was not struck
    RELEASED = "released"  # at rest first, then torque off in every joint
    GONE = "gone"  # the emulator itself was killed: nobody can say


GOES_ON, HOLDS, RELEASED, GONE = Ends.GOES_ON, Ends.HOLDS, Ends.RELEASED, Ends.GONE


def on(*ends: Ends) -> frozenset[Ends]:
    """What may become of the arm, one of these."""
    return frozenset(ends)


class Process(StrEnum):
    """What a signal can be sent to."""

    POLICY = "policy"
    SERVO = "servo"
    GUARDIAN = "guardian"
    EMULATOR = "emulator"


@dataclass(frozen=True)
class OnArm:
    """A fault of the emulated arm. `one`: which argument is filled in with a random one of its kind."""

    name: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    one: Literal["servo", "joint", "camera", "all servos"] | None = None


@dataclass(frozen=True)
class InPolicy:
    """The policy misbehaves (a word of `mover.HOWS`)."""

    how: str


@dataclass(frozen=True)
class Signal:
    """A signal by name; STOP is taken back by CONT when the fault is over."""

    process: Process
    signal: Literal["KILL", "STOP", "INT"]


@dataclass(frozen=True)
class Operator:
    """A stop by key, of this category of IEC 60204-1."""

    category: Literal[0, 1, 2]


@dataclass(frozen=True)
class DiskFull:
    """No file of the policy process can grow any more."""


@dataclass(frozen=True)
class SecondProgram:
    """Another program wants the arm's bus."""


Action = OnArm | InPolicy | Signal | Operator | DiskFull | SecondProgram


@dataclass(frozen=True)
class Fault:
    """One fault, and what must come of it."""

    name: str
    what: str  # for a reader: what is done
    action: Action
    ends: frozenset[Ends]  # what may become of the arm
    told: str = ""  # regular expression of what the operator is told; "" where there is nothing to tell
    stops: float | None = None  # s within which the goals are at rest, where that is promised
    named: float | None = None  # s within which a fault is latched, where that is promised
    watch: float = 1.2  # s that are looked at
    lasts: float | None = None  # s; None: until the trial is over
    pulse: float | None = None  # s: on for so long, off for so long, in turn
    limp: bool = False  # joints that it strikes may lose their torque
    deaf: bool = False  # servos that it strikes may miss goals
    abrupt: bool = False  # goals no longer arrive, or nobody is left to limit them: servos brake by themselves
    frees: bool = False  # something holds the joints that it strikes, and then lets go of them
    touches: bool = False  # the arm may hit what lies about, which moves joints as no servo does
    drops: bool = False  # torque goes off at once, in motion too: the arm falls
    hinders: bool = False  # an arm that should be lowered or released may have to be held instead
    mute: bool = False  # nobody is left to tell the operator anything
    fatal: bool = False  # the run is over with it: a new one is needed
    also: tuple[OnArm, ...] = ()  # done together with `action`
    by: Literal["fault", "last line", "note", "refusal"] = "fault"  # how the operator is told
    long: bool = False  # once is enough
