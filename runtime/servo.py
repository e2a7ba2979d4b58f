"""The servo loop: one tick reads the arm, asks the supervisor, filters the next command and writes it.

Knows no process and no policy. It is ticked by the simulated clock in lock-step and by a process of its own in real
time; the same code either way. Nothing on the tick logs, opens a file or grows without bound.
"""

from __future__ import annotations

import math
from collections import deque
from contextlib import suppress

import numpy as np

from drivers.arm import Arm, ArmError, Array, JointState, ReleaseReport, frozen
from runtime.clock import MILLISECOND, SECOND, Clock
from runtime.course import Following, GivingWay, Lowering, Target, moves, seen_still, stopping_time
from runtime.safety import NOT_FINITE, FilterState, Limits, Obstacles, OutsideError, filter_command
from runtime.servo_state import FaultEntry, ServoCounters, ServoSettings, ServoState, Split, Tally
from runtime.supervisor import RefusedError, State, Stop, Supervisor
from runtime.watch import Trouble, Watch, gripping

__all__ = ["FaultEntry", "ServoCounters", "ServoLoop", "ServoSettings", "ServoState", "Split", "Target"]

RESET_TRIES = 5  # readings
HISTORY = 50  # (command, state) pairs kept for the fault record, as libfranka does


class ServoLoop:
    """Owns a connected arm. Not thread-safe; `connect` first, then `tick` once a period.

    Requests (`start`, `hold`, `stop`, `reset`, `release`) are made between ticks. Motion needs a `start`, then fresh
    targets. `guard` is asked by the filter about poses, if there is one.

    `fault_record` holds the last `HISTORY` ticks before the latched fault, oldest first, and nothing without one;
    `report` what was read back when torque was last switched off, None while it is on.
    """

    def __init__(
        self, arm: Arm, clock: Clock, settings: ServoSettings | None = None, guard: Obstacles | None = None
    ) -> None:
        self.settings = settings or ServoSettings()
        self.clock = clock
        self.arm = arm
        self.supervisor = Supervisor()
        self.limits = Limits.of(arm.spec, self.settings.safety)
        self._guard = guard
        self._watch = Watch(arm.spec.joint_names, self.settings.safety)
        self._grips = gripping(arm.spec.joint_names, self.settings.safety)
        self._dt = self.settings.period_ns / SECOND
        self._joints: JointState | None = None
        self._previous: FilterState | None = None
        self._following: Following | None = None
        self._lowering: Lowering | None = None
        self._giving_way: GivingWay | None = None
        self._obstructed = False
        self._asked: Array | None = None
        self._reasons: tuple[str, ...] = ()
        self._history: deque[FaultEntry] = deque(maxlen=HISTORY)
        self._tally = Tally()
        self._split = Split()
        self.fault_record: tuple[FaultEntry, ...] = ()
        self.report: ReleaseReport | None = None

    @property
    def obstructed(self) -> bool:
        """A joint was kept from its command, and nobody has reset that fault: something is in the arm's way."""
        return self._obstructed

    @property
    def lowerable(self) -> bool:
        """Whether there is a rest pose, torque, and nothing in the way: `lower` would do more than hold, with a bus."""
        return self.settings.rest is not None and self.supervisor.energised and not self._obstructed

    @property
    def can_lower(self) -> bool:
        """Whether `lower` would do more than hold: the arm is lowerable, and the last reading and command arrived."""
        return self.lowerable and not (self._tally.reads.in_a_row or self._tally.writes.in_a_row)

    # ---- requests, between ticks

    def connect(self) -> None:
        """Open the arm and read it once; torque stays as it is. Raises `ArmError`."""
        self.arm.connect()
        self._joints = self.arm.read()
        self.supervisor.connected()

    def take_over(self) -> bool:
        """Hold a connected arm where it is if any joint has torque; returns whether one has.

        An arm of which only some joints have it is held as a whole: half a limp arm is not safer. Raises `ArmError`.
        """
        energised = bool(self.arm.energised())
        if energised:
            self._hold_here(self.arm.hold())
        else:
            self._let_go()
        return energised

    def start(self) -> None:
        """Allow motion from the next target on; an arm without torque is held where it is first.

        Raises `RefusedError` in a fault, and when a joint rests outside its limits; `ArmError` from the bus.
        """
        self.supervisor.check_start()
        self._following = None
        if self._previous is None:
            self._rest(self.arm.read())
            self._hold_here(self.arm.hold())
        else:  # the filter's slow start counts from here
            self._previous = FilterState.at_rest(self._previous.positions, self.limits)
        self.supervisor.start()

    def submit(self, target: Target, now: int) -> None:
        """Take a target over; it replaces the last one. Ignored unless motion was asked for.

        Raises `ValueError` for a wrong shape.
        """
        if target.positions.shape != (self.arm.spec.joints,):
            raise ValueError(f"target has shape {target.positions.shape}, the arm needs ({self.arm.spec.joints},)")
        if not self.supervisor.armed or self._previous is None:
            return
        # A stamp from the future would never grow stale.
        target = Target(min(target.stamp, now), target.positions)
        self._following = Following(target, self._asked_last(self._previous, now))
        self._tally.targets += 1

    def hold(self) -> None:
        """Decelerate, then hold; motion needs a new `start`. Ends a lowering where it is."""
        self._stop(Stop.HOLD)

    def stop(self, category: Stop, text: str) -> None:
        """An operator's stop of that category, latched as a fault. A LOWER without a rest pose is a HOLD.

        Raises `ArmError` from the bus when torque goes off at once.
        """
        if category is Stop.LOWER and self.settings.rest is None:
            category, text = Stop.HOLD, f"{text}; it has no rest pose and holds"
        try:
            if category is Stop.POWER_OFF:
                self._switch_off()
        finally:
            self._latch(text)
        self._stop(category)

    def fault(self, text: str) -> None:
        """Latch a fault from outside the tick: decelerate, then do what is configured to follow, until `reset`."""
        self._trouble(Trouble(text, blocked=False))

    def lower(self) -> None:
        """Decelerate, go slowly to the rest pose and release there; without a rest pose, hold."""
        self._stop(Stop.HOLD if self.settings.rest is None else Stop.LOWER)

    def reset(self) -> None:
        """Forget the latched fault; never starts motion.

        The servos are asked which have torque, after a bus fault over a new connection: the arm comes back holding
        where it is, or idle. Raises `RefusedError` while the arm is stopping, `ArmError` when the bus is still gone.
        """
        self.supervisor.check_stopped()
        if self.supervisor.fault_text is None:
            return
        tally = self._tally
        if tally.reads.in_a_row or tally.writes.in_a_row:
            self.arm.close()
            self.arm.connect()
        self._joints = self._answered()
        self.take_over()
        self.supervisor.reset()
        self.fault_record, self._obstructed = (), False
        self._watch.forget()
        tally.reads.in_a_row = tally.writes.in_a_row = tally.overruns.in_a_row = 0

    def _answered(self) -> JointState:
        """A reading of servos that may have come back only just now: one of a few tries will do."""
        for _ in range(RESET_TRIES - 1):
            with suppress(ArmError):
                return self.arm.read()
        return self.arm.read()

    def release(self) -> ReleaseReport:
        """Torque off; joints that keep it are a fault. Raises `RefusedError` while the arm moves, and `ArmError`."""
        if self.supervisor.state in (State.RUNNING, State.STOPPING):
            raise RefusedError("the arm moves: hold it before its torque is switched off")
        return self._switch_off()

    def close(self) -> None:
        """Close the bus, leaving torque as it is."""
        self.arm.close()
        self.supervisor.disconnected()

    def overrun(self, skipped: int) -> None:
        """Tell, before each tick, how many cycles were skipped; too many such ticks in a row are a fault."""
        self._tally.skipped += skipped
        if (overruns := self._tally.overruns.count(skipped > 0)) >= self.settings.overruns_max:
            read, filtered, write = (duration / MILLISECOND for duration in self._split)
            self.fault(
                f"servo loop: {overruns} ticks in a row overran; the last took "
                f"read {read:.1f}, filter {filtered:.1f}, write {write:.1f} ms"
            )

    # ---- the tick

    def tick(self, now: int) -> None:
        """One servo period that began at `now` ns. Never raises for what the bus or the policy does."""
        if self.supervisor.state is State.DISCONNECTED:
            return
        self._tally.ticks += 1
        started = self.clock.now()
        self._read(now)
        read = self.clock.now()
        command = self._next_command(now)
        filtered = self.clock.now()
        if command is not None:
            self._write(command, now)
        self._split = Split(read - started, filtered - read, self.clock.now() - filtered)

    def _read(self, now: int) -> None:
        try:
            joints = self.arm.read()
        except ArmError as error:
            if (failed := self._tally.reads.count(True)) >= self.settings.failures_max:
                self._trouble(Trouble(f"bus: {failed} reads in a row failed: {error}", True))
            return
        self._tally.reads.count(False)
        self._joints = joints
        command = None if self._previous is None else self._previous.positions
        if (trouble := self._watch.look(joints, command, now)) is not None:
            self._trouble(trouble)

    def _next_command(self, now: int) -> FilterState | None:
        """The command for the end of this tick; None without torque."""
        previous = self._previous
        self._asked, self._reasons = None, ()
        if previous is None:
            return None
        following = self._following
        if following is not None:
            self._judge_age(following.age(now))
        supervisor = self.supervisor
        if supervisor.state is State.RUNNING and following is not None:
            return self._follow(previous, following, now)
        back = self._giving_way is not None and self._giving_way.goal is not None
        if self._lowering is None and not back and moves(previous.motion):
            return self._filter(previous, previous.positions, math.inf)
        if supervisor.lowering:
            return self._lower(previous, now)
        if self._giving_way is not None:
            return self._give_way(previous, self._giving_way, now)
        supervisor.at_rest()
        return previous

    def _asked_last(self, previous: FilterState, now: int) -> Array:
        """Where the way to a new target begins: at what was asked last, since the command lags and each target would
        begin with a step back; at the command where that was too long ago to be followed."""
        last, settings = self._following, self.settings
        if last is None or last.age(now) > settings.safety.target_age_max_s:
            return previous.positions
        asked = last.goal(now, 0, settings.policy_period_ns)
        return asked if np.isfinite(asked).all() else previous.positions

    def _judge_age(self, age: float) -> None:
        safety = self.settings.safety
        if age > safety.silence_max_s:
            self.fault(f"policy silent for {age * 1000:.0f} ms: it hangs, was stopped, or is too slow")
        elif age <= safety.target_age_max_s:
            self.supervisor.target_is_fresh()

    def _follow(self, previous: FilterState, following: Following, now: int) -> FilterState:
        settings, limits, age = self.settings, self.limits, following.age(now)
        goal = following.goal(now, settings.period_ns, settings.policy_period_ns)
        # Once the next target is due the arm keeps the time that it takes to be at rest without it.
        if following.due(now, settings.policy_period_ns):
            stopping = stopping_time(previous.motion, limits.acceleration_max, limits.jerk_max) + 2 * self._dt
            if age + stopping > settings.stopped_within_s:
                age = math.inf
        command = self._filter(previous, goal, age)
        if NOT_FINITE in self._reasons:
            values = np.array2string(following.target.positions, precision=3, max_line_width=200)
            self.fault(f"{NOT_FINITE}: {values}")
        if (trouble := self._watch.judge(self._reasons, now)) is not None:
            self._trouble(trouble)
        return command

    def _filter(self, previous: FilterState, goal: Array, age: float) -> FilterState:
        # However far a joint is from its command, its command may come back to it.
        measured = None if self._joints is None or self._giving_way is not None else self._joints.positions
        command = filter_command(previous, goal, age, self._dt, self.limits, measured=measured, guard=self._guard)
        self._asked, self._reasons = frozen(goal), command.reasons
        return command.state

    def _give_way(self, previous: FilterState, giving_way: GivingWay, now: int) -> FilterState:
        """The next command back to joints that could not follow; a joint that grips goes on gripping."""
        joints = self._joints
        assert joints is not None  # a held arm was read
        if not giving_way.due(now):
            return previous
        there = np.where(self._grips, previous.positions, joints.positions)
        self._giving_way = giving_way.to(previous.positions, there)
        assert self._giving_way.goal is not None
        command = self._filter(previous, self._giving_way.goal, 0.0)
        if not moves(command.motion):  # it is there, or something is in the way
            self._giving_way = None
        return command

    def _lower(self, previous: FilterState, now: int) -> FilterState | None:
        """The next command on the way to the rest pose; None once torque is off there."""
        if self._lowering is None:
            self._lowering = Lowering.of(previous.positions, frozen(self.settings.rest), now)
        lowering, joints = self._lowering, self._joints
        assert joints is not None  # a held arm was read
        at_rest = not self._tally.reads.in_a_row and seen_still(joints.velocities) and not moves(previous.motion)
        if at_rest and lowering.arrived(now, joints.positions):
            try:
                self._switch_off()
            except ArmError as error:
                self._trouble(Trouble(f"release: {error}", blocked=True))
                return previous
            return None
        if lowering.stuck(now):
            text = f"lowering: the arm stays {lowering.distance(joints.positions):.2f} rad from its rest pose"
            self._trouble(Trouble(text, blocked=True, pushes=True))
        return self._filter(previous, lowering.goal(now), 0.0)

    def _write(self, command: FilterState, now: int) -> None:
        try:
            self.arm.write(command.positions)
        except ArmError as error:
            if (failed := self._tally.writes.count(True)) >= self.settings.failures_max:
                self._trouble(Trouble(f"bus: {failed} writes in a row failed: {error}", True))
            # The servos stopped at the last goal that reached them; the next command starts from there, at rest.
            if self._previous is not None:
                self._previous = FilterState.at_rest(self._previous.positions, self.limits)
            return
        self._tally.writes.count(False)
        self._previous = command
        if self._joints is not None:
            self._history.append(FaultEntry(now, command.positions, self._joints.positions))

    # ---- what happens to torque, and why

    def _trouble(self, trouble: Trouble) -> None:
        """A fault: the arm decelerates and holds, or is lowered if that is configured and motion is not the trouble."""
        new = self._latch(trouble.text)
        if trouble.blocked:
            self._stop(Stop.HOLD)
            self._giving_way = GivingWay(self.clock.now()) if trouble.pushes else None
            self._obstructed |= trouble.pushes
        elif new and self.settings.safety.stop == "lower":
            self.lower()

    def _latch(self, text: str) -> bool:
        new = self.supervisor.fault(text)
        if new:
            self.fault_record = tuple(self._history)
        self._following = None
        return new

    def _stop(self, category: Stop) -> None:
        self.supervisor.stop(category)
        self._following = self._lowering = self._giving_way = None

    def _rest(self, joints: JointState) -> FilterState:
        """The state of an arm about to be held; refuses one that rests outside its limits."""
        self._joints = joints
        try:
            return FilterState.at_rest(joints.positions, self.limits)
        except OutsideError as error:
            name = self.arm.spec.joint_names[error.joint]
            raise RefusedError(f"{name} {error}: move it inside by hand, or calibrate it") from error

    def _hold_here(self, joints: JointState) -> None:
        self._previous, self._giving_way = self._rest(joints), None
        self.report = None
        self.supervisor.held()

    def _switch_off(self) -> ReleaseReport:
        report = self.arm.release()
        self._let_go()
        self.report = report
        if report.still_energised:
            names = ", ".join(report.still_energised)
            self._latch(f"release: {names} still energised: switch the arm's power off before touching it")
        return report

    def _let_go(self) -> None:
        self.supervisor.released()
        self._previous = self._following = self._lowering = self._giving_way = None

    def state(self) -> ServoState:
        """What is known now. Raises `ArmError` before `connect`."""
        if self._joints is None:
            raise ArmError("the arm was never connected: connect it first")
        return ServoState(
            stamp=self.clock.now(),
            joints=self._joints,
            command=frozen(self._joints.positions if self._previous is None else self._previous.positions),
            state=self.supervisor.state,
            fault=self.supervisor.fault_text,
            reasons=self._reasons,
            counters=self._tally.counters(self.arm.counters),
            split=self._split,
            asked=self._asked,
        )
