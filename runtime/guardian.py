"""The guardian: a process that waits beside the servo process and takes the arm over when that one dies or hangs.

The servo process promises, tick by tick, when it will be heard of next, and says when it ends in good order
(`runtime.shared_block`). If it ends without having said so, or breaks its promise, in which case it is killed, the
guardian opens the bus, sets every goal to the present position, and holds. Then it does a category 1 stop: lowers the
arm slowly to its rest pose and releases it there. An arm without a rest pose would fall: it is held as long as the
policy process lives, unless that one says that it may be released, and `orphan_hold_s` longer; then it is left with
torque on. An arm without torque is not touched.

A session of its own, so that no key of the terminal reaches it; no OpenCV, no inference, no Pinocchio. Linux alone has
the process descriptors that it needs.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection

from drivers.arm import Arm, ArmError, ReleaseReport
from drivers.config import ConfigError
from runtime.clock import MILLISECOND, SECOND, Clock, MonotonicClock, Pacer
from runtime.course import BEFORE_LOWERING_S, LOWERINGS, SETTLING_S, seen_still
from runtime.priority import SERVO, real_time
from runtime.servo import ServoLoop, ServoSettings
from runtime.shared_block import ENDED, SharedBlock
from runtime.supervisor import RefusedError, State

AVAILABLE = hasattr(os, "pidfd_open")
RELEASE = "release"  # the policy process's word that an arm without a rest pose may fall

LOOK_MS = 25  # between two looks at the servo process's promise
BUS_TIMEOUT_S = 3.0  # for the bus to become free and every servo to answer
BUS_PAUSE_NS = 10 * MILLISECOND


@dataclass(frozen=True, slots=True)
class GuardianSettings:
    """What the guardian is started with; everything in it is pickled."""

    open_arm: Callable[[], Arm]
    joints: int
    block: str  # name of the shared memory
    servo_process: int  # process id
    servo: ServoSettings
    orphan_hold_s: float


@dataclass(frozen=True, slots=True)
class Notice:
    """What the guardian has to say: a line for the operator. The last one says what became of torque."""

    text: str
    last: bool = False
    report: ReleaseReport | None = None


def guard(settings: GuardianSettings, connection: Connection) -> None:
    """The whole life of the guardian."""
    os.setsid()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGTSTP):
        signal.signal(number, signal.SIG_IGN)
    try:
        process = os.pidfd_open(settings.servo_process)
        block = SharedBlock(settings.joints, settings.block)
    except (ProcessLookupError, FileNotFoundError):
        return  # the servo process has ended already: nothing moves before the guardian watches
    try:
        arm = settings.open_arm()
    except (ArmError, ConfigError):
        return  # the servo process says the same, and ends
    clock = MonotonicClock()
    tell = _teller(connection)
    with real_time(SERVO):
        tell(Notice("the guardian watches"))
        if not ended_well(process, block, clock):
            takeover = Takeover(ServoLoop(arm, clock, settings.servo), tell, connection, settings)
            try:
                takeover.run()
            finally:
                arm.close()
    block.close()
    block.unlink()


def ended_well(process: int, block: SharedBlock, clock: Clock) -> bool:
    """Wait for the end of the process with that descriptor; one that breaks its promise is killed.

    Returns whether it has said that it ends, or never said anything.
    """
    promise: int | None = None
    broken: int | None = None
    death = select.poll()
    death.register(process, select.POLLIN)
    while not death.poll(LOOK_MS):
        promise = block.read_promise()
        if promise is None or promise == ENDED or clock.now() <= promise:
            broken = None
        elif broken == promise:  # twice: it may be this process that slept
            signal.pidfd_send_signal(process, signal.SIGKILL)
        else:
            broken = promise
    last = block.read_promise()
    promise = promise if last is None else last  # it may have died while it wrote
    return promise is None or promise == ENDED


class Takeover:
    """What the guardian does with the arm of a servo process that is no more."""

    def __init__(
        self, loop: ServoLoop, tell: Callable[[Notice], None], connection: Connection, settings: GuardianSettings
    ) -> None:
        self._loop, self._tell, self._connection, self._settings = loop, tell, connection, settings
        self._pacer = Pacer(loop.clock, settings.servo.period_ns)
        self._view: SharedBlock | None = None
        self._may_release = False
        self._alone_since: int | None = None  # ns, since the policy process is gone

    def run(self) -> None:
        """Hold, lower, release; returns when nothing is left to do."""
        loop = self._loop
        try:
            held = self._take_bus()
        except ArmError as error:
            self._tell(Notice(f"the guardian cannot take the bus: {error}; the servos keep their last goal", last=True))
            return
        except RefusedError as error:
            self._tell(Notice(f"the guardian holds the arm and cannot lower it: {error}"))
            self._hold_on()
            return
        if not held:
            names = loop.arm.spec.joint_names
            self._tell(Notice("the arm has no torque: the guardian leaves it so", True, ReleaseReport(names)))
            return
        # Only now: whoever opens the block goes on after the last tick that the servo process wrote.
        with contextlib.suppress(FileNotFoundError):
            self._view = SharedBlock(self._settings.joints, self._settings.block)
        self._tell(Notice("the guardian holds the arm"))
        self._lower()
        if loop.report is not None:
            self._released("the guardian has lowered and released the arm", loop.report)
        else:
            if self._settings.servo.rest is not None:
                self._tell(Notice(f"the guardian holds the arm: {loop.supervisor.fault_text}"))
            self._hold_on()
        if self._view is not None:
            self._view.close()

    def _lower(self) -> None:
        """Hold for a moment, go down to the rest pose and release, if the arm has one; once more where the bus failed
        on the way and is back."""
        loop = self._loop
        for _ in range(LOWERINGS):
            self._tick(lambda: not loop.lowerable, BEFORE_LOWERING_S)
            self._tick(lambda: loop.can_lower or not loop.lowerable, BUS_TIMEOUT_S)
            if not loop.can_lower:
                return
            loop.lower()
            self._tick(lambda: loop.supervisor.state is not State.STOPPING)

    def _take_bus(self) -> bool:
        """Connect, and hold if there is torque; the bus is free once the system has buried the other process."""
        loop = self._loop
        deadline = loop.clock.now() + round(BUS_TIMEOUT_S * SECOND)
        while True:
            try:
                loop.connect()
                return loop.take_over()
            except ArmError:
                loop.close()
                if loop.clock.now() >= deadline:
                    raise
                loop.clock.sleep_until(loop.clock.now() + BUS_PAUSE_NS)

    def _hold_on(self) -> None:
        """Hold until the policy process lets the arm go, or is long gone itself. An arm that has a rest pose and did
        not come there keeps its torque: it would fall."""
        loop = self._loop
        self._tick(self._is_over)
        if not self._may_release or self._settings.servo.rest is not None:
            self._tell(Notice("the guardian leaves the arm as it is, torque on", True))
            return
        asked = loop.clock.now()
        self._tick(lambda: (joints := loop.state().joints).stamp > asked and seen_still(joints.velocities), SETTLING_S)
        try:
            report = loop.release()
        except ArmError as error:
            report = ReleaseReport((), loop.arm.spec.joint_names)
            self._tell(Notice(f"the guardian could not release the arm: {error}", True, report))
            return
        self._released("the guardian has released the arm", report)

    def _released(self, text: str, report: ReleaseReport) -> None:
        if report.still_energised:
            text = f"{text}, but for {', '.join(report.still_energised)}"
        self._tell(Notice(text, True, report))

    def _tick(self, over: Callable[[], bool], seconds: float | None = None) -> None:
        """Run the servo loop until `over`, or for so long."""
        loop = self._loop
        end = None if seconds is None else loop.clock.now() + round(seconds * SECOND)
        while not over() and (end is None or loop.clock.now() < end):
            self._pacer.wait()
            self._listen()
            loop.tick(loop.clock.now())
            if self._view is not None:
                self._view.write_state(loop.state())

    def _listen(self) -> None:
        if self._alone_since is not None:
            return
        try:
            while self._connection.poll():
                self._may_release |= self._connection.recv() == RELEASE
        except (EOFError, OSError):
            self._alone_since = self._loop.clock.now()

    def _is_over(self) -> bool:
        if self._may_release or self._alone_since is None:
            return self._may_release
        return self._loop.clock.now() - self._alone_since >= round(self._settings.orphan_hold_s * SECOND)


def _teller(connection: Connection) -> Callable[[Notice], None]:
    def tell(notice: Notice) -> None:
        with contextlib.suppress(OSError):  # nobody listens any more
            connection.send(notice)

    return tell
