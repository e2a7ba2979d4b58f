"""One trial: the arm moves, things are broken at their moments, and everything is written down that a judge needs.

Acts and observes; what should come of it is judge.py's.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from drivers.arm import ArmError
from drivers.robot import open_arm
from runtime.campaign.fault import DiskFull, Ends, InPolicy, OnArm, Operator, Process, Signal
from runtime.campaign.invariants import Deaf
from runtime.campaign.plan import Plan, Strike
from runtime.campaign.recorded import Recorded
from runtime.campaign.rig import Bench, RigError, Run
from runtime.campaign.trace import JointTrace
from runtime.clock import SECOND

SETTLE = 0.1  # s before a reset
REBOOT_DEAF = 0.5  # s, at most, that a servo without power hears nothing
POWER_CYCLE, BY_HAND = "servos switched off and on", "power off, moved by hand"
EPISODE_ENDS = 5.0  # s for the run to see that its episode is over
NEVER = int(np.iinfo(np.int64).max)  # ns


@dataclass
class Observed:
    """What was seen of a trial. Stamps are monotonic ns."""

    plan: Plan
    began: int  # motion was asked for
    ended: int  # the end of what was watched
    moments: list[int | None]  # of each strike; None: it never came to it
    lifted: list[int | None]  # when a strike was taken back
    traces: tuple[JointTrace, ...]  # from `began` until every process of a fatal trial was gone, else until `ended`
    event: dict[str, Any] | None  # how the run said that its episode ended
    lines: list[str]  # what the operator was told besides the fault: last line, notes, refusals
    left: dict[int, str]  # processes of a fatal trial that were still there
    closed: int = NEVER  # when the run was switched off behind it
    after_reset: tuple[JointTrace, ...] = ()
    reset_at: int | None = None  # of the last one
    reset_refused: str | None = None
    refusals: list[str] = field(default_factory=list)  # of resets before it: the operator had to mend more
    mended: str = ""  # what had to be done so that it was accepted
    recorded: Recorded | None = None  # known when the run is over
    unreadable: str = ""

    def since(self) -> int:
        """The moment of the first fault, ns; of the end where there was none."""
        return min((moment for moment in self.moments if moment is not None), default=self.ended)

    def deaf(self) -> list[Deaf]:
        """When which servos could not hear."""
        found = []
        for strike, moment, lifted in zip(self.plan.strikes, self.moments, self.lifted, strict=True):
            if strike.fault.deaf and moment is not None:
                action = strike.fault.action
                momentary = isinstance(action, OnArm) and action.name == "reboot"
                end = moment + round(REBOOT_DEAF * SECOND) if momentary else lifted or NEVER
                found.append(Deaf(strike.servos or None, moment, end))
        return found


def perform(plan: Plan, bench: Bench, run: Run) -> Observed:
    """Do one trial on a run whose arm is at rest and in no fault; a fatal one to its end, until its processes are gone.

    Raises `RigError` when it cannot even begin.
    """
    bench.read()  # what came before is not this trial's
    run.events.clear()
    began = time.monotonic_ns()
    run.ask("play", task=f"move {plan.seed}")
    if run.wait_for("playing") is None:
        raise RigError(f"the arm did not begin to move: {run.last_line() or run.events[-1:]}")
    moved = time.monotonic_ns()
    work = _Work(bench, run, plan)
    work.off(moved)
    work.let_go()
    ended = time.monotonic_ns()
    run.ask("over")
    event = run.wait_for("ended", EPISODE_ENDS)
    left = run.end() if plan.fatal else {}
    for index, strike in enumerate(plan.strikes):
        if isinstance(strike.fault.action, InPolicy) and (found := run.heard("misbehaves")) is not None:
            work.moments[index] = found["stamp"]
    notes = [found["text"] for found in run.events if found["event"] == "note"]
    lines = [run.last_line(), *notes, *work.refusals]
    return Observed(plan, began, ended, work.moments, work.lifted, bench.read(), event, lines, left)


def recover(bench: Bench, run: Run, observed: Observed) -> None:
    """What an operator does after a trial: mends the arm, and resets a fault, of which it is noted whether it moved.

    A servo that latches what was wrong with it, or a joint that fell beyond its limits, refuses the reset: then the
    servos that were struck are switched off and on, then the power of all is, and the arm moved inside by hand. So is
    an arm that has lost torque somewhere once it was reset: back to its home pose.
    """
    bench.emulator.clear()
    if observed.event is not None and observed.event["fault"] is None:
        return
    plan = observed.plan
    time.sleep(SETTLE)
    _try_reset(bench, run, observed)
    if observed.reset_refused is not None and plan.limp():
        bench.power_cycle(plan.limp())
        time.sleep(SETTLE)
        _try_reset(bench, run, observed, POWER_CYCLE)
    if observed.reset_refused is not None and plan.limp() and bench.can_place:
        _by_hand(bench, run, plan.seed)
        _try_reset(bench, run, observed, BY_HAND)
    elif observed.reset_refused is None and bench.can_place and any(map(_falls, plan.strikes)):
        _by_hand(bench, run, plan.seed)
        observed.reset_refused = _reset(run)


def _try_reset(bench: Bench, run: Run, observed: Observed, mended: str = "") -> None:
    """Reset, and note what became of it; an earlier try that was refused is noted as one."""
    if observed.reset_refused is not None:
        observed.refusals.append(observed.reset_refused)
    bench.read()
    observed.reset_at, observed.mended = time.monotonic_ns(), mended
    observed.reset_refused = _reset(run)
    observed.after_reset = bench.read()


def _by_hand(bench: Bench, run: Run, seed: int) -> None:
    """Switch the power off and put the arm to its home pose."""
    run.ask("stop", category=0)
    time.sleep(SETTLE)
    bench.place(seed)


def _falls(strike: Strike) -> bool:
    return strike.fault.limp or Ends.RELEASED in strike.fault.ends


def _reset(run: Run) -> str | None:
    """Let the operator reset; what speaks against it."""
    run.ask("reset")
    answer = run.wait_for("reset")
    return "there was no answer" if answer is None else answer["refused"]


class _Work:
    """What is to be done to the arm and the run, and when; notes when it was."""

    def __init__(self, bench: Bench, run: Run, plan: Plan) -> None:
        self._bench, self._run, self._plan = bench, run, plan
        self._agenda: list[tuple[float, int, Callable[[], None]]] = []
        self.moments: list[int | None] = [None] * len(plan.strikes)
        self.lifted: list[int | None] = [None] * len(plan.strikes)
        self.refusals: list[str] = []
        for index, strike in enumerate(plan.strikes):
            self._arrange(index, strike)

    def off(self, start: int) -> None:
        """Do everything at its time after `start` (ns), and return when the plan's time is over."""
        for at, _, do in sorted(self._agenda, key=lambda entry: entry[:2]):
            _sleep_until(start + round(at * SECOND))
            do()
        _sleep_until(start + round(self._plan.seconds * SECOND))

    def let_go(self) -> None:
        """Let a policy go on that is stopped or hangs: it cannot answer otherwise."""
        if self._run.alive:
            self._run.kill(Process.POLICY, signal.SIGCONT)
        self._run.ask("behave")

    def _arrange(self, index: int, strike: Strike) -> None:
        def begin() -> None:
            stamp = self._do(strike)
            if self.moments[index] is None:
                self.moments[index] = stamp

        def end() -> None:
            self.lifted[index] = self._undo(strike)

        fault = strike.fault
        self._add(strike.at, begin)
        if fault.lasts is not None:
            self._add(strike.at + fault.lasts, end)
        if fault.pulse is not None:
            for pulse in range(1, int(fault.watch / fault.pulse)):
                self._add(strike.at + pulse * fault.pulse, end if pulse % 2 else begin)

    def _add(self, at: float, do: Callable[[], None]) -> None:
        self._agenda.append((at, len(self._agenda), do))

    def _do(self, strike: Strike) -> int | None:
        """Make a fault happen; when it did (ns), None where the run says so itself."""
        action = strike.fault.action
        if isinstance(action, OnArm):
            stamp = self._bench.emulator.fault(action.name, **strike.arguments)
            for other in strike.fault.also:
                self._bench.emulator.fault(other.name, **other.arguments)
            return stamp
        if isinstance(action, InPolicy):
            self._run.ask("misbehave", how=action.how)
            return None
        stamp = time.monotonic_ns()
        if isinstance(action, Operator):
            self._run.ask("stop", category=action.category)
        elif isinstance(action, DiskFull):
            self._run.fill_disk()
        elif isinstance(action, Signal):
            self._signal(action, signal.Signals[f"SIG{action.signal}"])
        else:
            self.refusals.append(_second_program(self._bench))
        return stamp

    def _undo(self, strike: Strike) -> int:
        action = strike.fault.action
        if isinstance(action, OnArm):
            return self._bench.emulator.clear(action.name)
        stamp = time.monotonic_ns()
        if isinstance(action, Signal):
            self._signal(action, signal.SIGCONT)
        return stamp

    def _signal(self, action: Signal, number: signal.Signals) -> None:
        """The process may be gone already, by the other fault of a pair."""
        with contextlib.suppress(ProcessLookupError):
            if action.process is Process.EMULATOR:
                os.kill(self._bench.emulator.pid, number)
            else:
                self._run.kill(action.process, number)


def _sleep_until(moment: int) -> None:
    while (left := moment - time.monotonic_ns()) > 0:
        time.sleep(left / SECOND)


def _second_program(bench: Bench) -> str:
    """What a program is told that opens the arm's bus as well."""
    arm = open_arm(bench.config.arm)
    try:
        arm.connect()
    except ArmError as error:
        return str(error)
    finally:
        arm.close()
    return "the second program got the bus"
