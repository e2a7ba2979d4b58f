"""The servo loop: one tick reads the arm, asks the supervisor, filters the next command and writes it.

Knows no process and no policy. It is ticked by the simulated clock in lock-step and by a process of its own in real
time; the same code either way. Nothing on the tick logs, opens a file or grows without bound.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from drivers.arm import Arm, ArmError, Array, JointState, ReleaseReport, frozen
from runtime.clock import MILLISECOND, SECOND, Clock
from runtime.safety import NOT_FINITE, FilterState, Limits, filter_command
from runtime.supervisor import RefusedError, State, Supervisor

HISTORY = 50  # (command, state) pairs kept for the fault record, as libfranka does


@dataclass(frozen=True, slots=True)
class Target:
    """Where the joints should be one policy period after `stamp`."""

    stamp: int  # monotonic ns, when it was decided
    positions: Array  # rad, shape (n,)


@dataclass(frozen=True, slots=True)
class ServoSettings:
    """How the servo loop behaves; the defaults are the project's rates and thresholds."""

    period_ns: int = 10 * MILLISECOND  # 100 Hz
    policy_period_ns: int = 50 * MILLISECOND  # 20 Hz
    target_age_max_s: float = 0.12
    failures_max: int = 10  # failed reads, or writes, in a row
    overruns_max: int = 20  # ticks in a row that came at least one period late (libfranka's 20 lost packets)
    temperature_max_c: float = 65.0  # STS3215: 70 C is its own cut-out


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

    @property
    def positions(self) -> Array:
        return self.joints.positions

    @property
    def loads(self) -> Array:
        return self.joints.loads

    @property
    def temperatures_c(self) -> Array:
        return self.joints.temperatures_c


class ServoLoop:
    """Owns a connected arm. Not thread-safe; `connect` first, then `tick` once a period.

    Requests (`start`, `hold`, `reset`, `release`) are made between ticks. Motion needs a `start`, then fresh targets.
    """

    def __init__(self, arm: Arm, clock: Clock, settings: ServoSettings | None = None) -> None:
        self.settings = settings or ServoSettings()
        self.clock = clock
        self.arm = arm
        self.supervisor = Supervisor()
        self.limits = Limits.of(arm.spec, age_max_s=self.settings.target_age_max_s)
        self._dt = self.settings.period_ns / SECOND
        self._joints: JointState | None = None
        self._previous: FilterState | None = None
        self._target: Target | None = None
        self._origin: Array | None = None
        self._reasons: tuple[str, ...] = ()
        self._history: deque[FaultEntry] = deque(maxlen=HISTORY)
        self._fault_record: tuple[FaultEntry, ...] = ()
        self._split = Split()
        self._ticks = self._skipped = self._targets = 0
        self._overruns_in_a_row = 0
        self._read_failures = self._reads_failed_in_a_row = 0
        self._write_failures = self._writes_failed_in_a_row = 0

    @property
    def fault_record(self) -> tuple[FaultEntry, ...]:
        """The last `HISTORY` ticks before the latched fault, oldest first; empty without one."""
        return self._fault_record

    def connect(self) -> None:
        """Open the arm and read it once; torque stays as it is. Raises `ArmError`."""
        self.arm.connect()
        self._joints = self.arm.read()
        self.supervisor.connected()

    def start(self) -> None:
        """Allow motion from the next target on; an arm without torque is held where it is first.

        Raises `RefusedError` in a fault, and when a joint rests outside its limits; `ArmError` from the bus.
        """
        self.supervisor.check_start()
        self._target = None
        if not self.supervisor.energised:
            self._rest(self.arm.read())
            self._previous = self._rest(self.arm.hold())
            self.supervisor.held()
        self.supervisor.start()

    def _rest(self, joints: JointState) -> FilterState:
        """The state of an arm about to be held; refuses one that rests outside its limits."""
        self._joints = joints
        try:
            return FilterState.at_rest(joints.positions, self.limits)
        except ValueError as error:
            names = " ".join(f"{index}={name}" for index, name in enumerate(self.arm.spec.joint_names))
            raise RefusedError(f"{error} ({names}): move it inside by hand, or calibrate it") from error

    def submit(self, target: Target, now: int) -> None:
        """Take a target over; it replaces the last one. Ignored unless motion was asked for.

        Raises `ValueError` for a wrong shape.
        """
        if target.positions.shape != (self.arm.spec.joints,):
            raise ValueError(f"target has shape {target.positions.shape}, the arm needs ({self.arm.spec.joints},)")
        if not self.supervisor.armed or self._previous is None:
            return
        # A stamp from the future would never grow stale.
        self._target = Target(min(target.stamp, now), target.positions)
        self._origin = self._previous.positions
        self._targets += 1

    def hold(self) -> None:
        """Decelerate, then hold; motion needs a new `start`."""
        self.supervisor.stop()
        self._target = None

    def fault(self, text: str) -> None:
        """Latch a fault from outside the tick: decelerate, then hold until `reset`."""
        if self.supervisor.fault(text):
            self._fault_record = tuple(self._history)
        self._target = None

    def reset(self) -> None:
        """Forget the latched fault; never starts motion. Raises `RefusedError` while the arm decelerates."""
        self.supervisor.reset()
        self._fault_record = ()
        self._reads_failed_in_a_row = self._writes_failed_in_a_row = self._overruns_in_a_row = 0

    def release(self) -> ReleaseReport:
        """Torque off. Raises `RefusedError` while the arm moves, `ArmError` from the bus."""
        if self.supervisor.state in (State.RUNNING, State.STOPPING):
            raise RefusedError("the arm moves: hold it before its torque is switched off")
        report = self.arm.release()
        self.supervisor.released()
        self._previous = None
        return report

    def close(self) -> None:
        """Close the bus, leaving torque as it is."""
        self.arm.close()
        self.supervisor.disconnected()

    def overrun(self, skipped: int) -> None:
        """Tell, before each tick, how many cycles were skipped; too many such ticks in a row are a fault."""
        self._skipped += skipped
        self._overruns_in_a_row = self._overruns_in_a_row + 1 if skipped else 0
        if self._overruns_in_a_row >= self.settings.overruns_max:
            read, filtered, write = (duration / MILLISECOND for duration in self._split)
            self.fault(
                f"servo loop: {self._overruns_in_a_row} ticks in a row overran; the last took "
                f"read {read:.1f}, filter {filtered:.1f}, write {write:.1f} ms"
            )

    def tick(self, now: int) -> None:
        """One servo period that began at `now` ns. Never raises for what the bus or the policy does."""
        if self.supervisor.state is State.DISCONNECTED:
            return
        self._ticks += 1
        started = self.clock.now()
        self._read()
        read = self.clock.now()
        command = self._next_command(now)
        filtered = self.clock.now()
        if command is not None:
            self._write(command, now)
        self._split = Split(read - started, filtered - read, self.clock.now() - filtered)

    def _read(self) -> None:
        try:
            joints = self.arm.read()
        except ArmError as error:
            self._read_failures += 1
            self._reads_failed_in_a_row += 1
            if self._reads_failed_in_a_row == self.settings.failures_max:
                self.fault(f"bus: {self._reads_failed_in_a_row} reads in a row failed: {error}")
            return
        self._reads_failed_in_a_row = 0
        self._joints = joints
        if joints.errors:
            self.fault(f"servo: {joints.errors[0]}")
        hottest = int(joints.temperatures_c.argmax())
        if joints.temperatures_c[hottest] > self.settings.temperature_max_c:
            self.fault(
                f"servo: {self.arm.spec.joint_names[hottest]} is at {joints.temperatures_c[hottest]:.0f} C, "
                f"above {self.settings.temperature_max_c:.0f} C: let it cool down"
            )

    def _next_command(self, now: int) -> FilterState | None:
        """The command for the end of this tick; None without torque."""
        previous, target = self._previous, self._target
        if previous is None:
            return None
        age = 0.0
        if target is not None:
            age = (now - target.stamp) / SECOND
            if age > self.limits.age_max_s:
                self.fault(f"target stale: {age * 1000:.0f} ms old, at most {self.limits.age_max_s * 1000:.0f} ms")
            else:
                self.supervisor.target_is_fresh()
        if self.supervisor.state is State.RUNNING and target is not None and self._origin is not None:
            # The command is for the end of the tick, hence one period ahead: the target is reached as the next is due.
            elapsed = now - target.stamp + self.settings.period_ns
            share = min(1.0, elapsed / self.settings.policy_period_ns)
            goal = self._origin + share * (target.positions - self._origin)
            command = filter_command(previous, goal, age, self._dt, self.limits)
            self._reasons = command.reasons
            if NOT_FINITE in command.reasons:
                self.fault(f"{NOT_FINITE}: {np.array2string(target.positions, precision=3, max_line_width=200)}")
            return command.state
        self._reasons = ()
        if previous.velocities.any():
            return filter_command(previous, previous.positions, float("inf"), self._dt, self.limits).state
        self.supervisor.at_rest()
        return previous

    def _write(self, command: FilterState, now: int) -> None:
        try:
            self.arm.write(command.positions)
        except ArmError as error:
            self._write_failures += 1
            self._writes_failed_in_a_row += 1
            if self._writes_failed_in_a_row == self.settings.failures_max:
                self.fault(f"bus: {self._writes_failed_in_a_row} writes in a row failed: {error}")
            # The servos stopped at the last goal that reached them; the next command starts from there, at rest.
            if self._previous is not None:
                self._previous = FilterState(self._previous.positions, np.zeros_like(command.velocities))
            return
        self._writes_failed_in_a_row = 0
        self._previous = command
        if self._joints is not None:
            self._history.append(FaultEntry(now, command.positions, self._joints.positions))

    def state(self) -> ServoState:
        """What is known now. Raises `ArmError` before `connect`."""
        if self._joints is None:
            raise ArmError("the arm was never connected: connect it first")
        bus = self.arm.counters
        return ServoState(
            stamp=self.clock.now(),
            joints=self._joints,
            command=frozen(self._joints.positions if self._previous is None else self._previous.positions),
            state=self.supervisor.state,
            fault=self.supervisor.fault_text,
            reasons=self._reasons,
            counters=ServoCounters(
                self._ticks,
                self._skipped,
                self._read_failures,
                self._write_failures,
                self._targets,
                bus.sent,
                bus.retried,
                bus.corrupt,
                bus.timed_out,
                bus.failed,
            ),
            split=self._split,
        )
