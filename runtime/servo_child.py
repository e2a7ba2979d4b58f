"""What runs inside the servo process: the servo loop, paced, until it is told to stop or left alone.

Imports drivers and the servo's own parts of the runtime and nothing else: no OpenCV, no inference, no torch. The policy
process may crash, hang or be killed; this one decelerates the arm and holds it.
"""

from __future__ import annotations

import contextlib
import gc
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from types import FrameType
from typing import Any

from drivers.arm import Arm, ArmError, ReleaseReport
from drivers.config import ConfigError
from runtime.clock import MILLISECOND, SECOND, MonotonicClock, Pacer
from runtime.course import BEFORE_LOWERING_S, LOWERINGS, SETTLING_S, seen_still
from runtime.priority import SERVO, real_time
from runtime.safety import Obstacles
from runtime.servo import ServoLoop, ServoSettings
from runtime.shared_block import ENDED, SharedBlock
from runtime.stop_button import StopButton
from runtime.supervisor import RefusedError, State, Stop

PROMISE_NS = 250 * MILLISECOND  # 25 ticks: a servo process that is silent for longer hangs
KEPT_NS = 8 * SECOND  # in which an operator who has stopped the end may lower the arm or switch its power off
LONG_PROMISE_NS = 5 * SECOND  # while torque is switched: some ten bus transactions, each with its retries

STOPPED = {
    Stop.HOLD: "stopped by the operator",
    Stop.LOWER: "lowered by the operator",
    Stop.POWER_OFF: "power switched off by the operator",
}


@dataclass(frozen=True, slots=True)
class ChildSettings:
    """What the servo process is started with; everything in it is pickled."""

    open_arm: Callable[[], Arm]
    joints: int
    block: str  # name of the shared memory
    parent: int  # process id
    servo: ServoSettings
    orphan_hold_s: float
    make_guard: Callable[[], Obstacles | None] | None = None


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer to request `number`; 0 is the answer to being started. `kind` is "ok", "refused" or "failed"."""

    number: int
    kind: str
    content: Any = None


def serve(settings: ChildSettings, connection: Connection) -> None:
    """The whole life of the servo process."""
    # Keys of the terminal reach every process of it, its end too; what to do is the policy process's decision.
    for number in (signal.SIGINT, signal.SIGTSTP, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    block = SharedBlock(settings.joints, settings.block)
    try:
        opened = _open(settings, connection)
        if opened is not None:
            loop, button = opened
            _keep_collector_away()
            with real_time(SERVO) as refused:
                try:
                    _Child(loop, button, block, connection, settings).run(() if refused is None else (refused,))
                finally:
                    loop.close()
                block.write_promise(ENDED)  # not after an exception: the guardian has the arm then
    finally:
        block.close()
        block.unlink()
        connection.close()
        gc.unfreeze()  # frozen objects are never freed: extension modules would complain of leaks at the end


def _open(settings: ChildSettings, connection: Connection) -> tuple[ServoLoop, StopButton | None] | None:
    """The connected loop and the stop button, or None once the policy process was told why there is none."""
    try:
        arm = settings.open_arm()
        if arm.spec.joints != settings.joints:
            raise ConfigError(f"the arm has {arm.spec.joints} joints, not {settings.joints}")
        obstacles = None if settings.make_guard is None else settings.make_guard()
        button = None if settings.servo.safety.stop_button is None else StopButton(settings.servo.safety.stop_button)
        loop = ServoLoop(arm, MonotonicClock(), settings.servo, obstacles)
        loop.connect()
    except (ArmError, ConfigError) as error:
        connection.send(Reply(0, "failed", str(error)))
        return None
    return loop, button


def _keep_collector_away() -> None:
    gc.collect()
    gc.freeze()
    gc.disable()  # the loop makes no reference cycles; a collection would be a stall


class _Child:
    """The loop around the servo loop: pacing, requests, and who is still there."""

    def __init__(
        self,
        loop: ServoLoop,
        button: StopButton | None,
        block: SharedBlock,
        connection: Connection,
        settings: ChildSettings,
    ) -> None:
        self._loop = loop
        self._button = button
        self._block = block
        self._connection = connection
        self._settings = settings
        self._last_target = self._last_stop = 0
        self._ending: tuple[int, bool] | None = None  # the request to answer, and whether to release
        self._exit_at: int | None = None  # ns, once the policy process is gone
        self._at_rest_since: int | None = None  # ns, of the command; the joints come after it
        self._lowerings = 0  # begun at the end of the run
        self._kept: int | None = None  # ns, since an operator has stopped the end: nothing more moves by itself
        self._terminated = False

    def run(self, notes: tuple[str, ...]) -> None:
        """Tick until the end; `notes` are for the operator."""
        signal.signal(signal.SIGTERM, self._on_terminate)
        loop = self._loop
        self._promise(PROMISE_NS)
        loop.tick(loop.clock.now())
        self._block.write_state(loop.state())
        self._answer(Reply(0, "ok", (notes, loop.state())))
        pacer = Pacer(loop.clock, self._settings.servo.period_ns)
        while not self._finished():
            tick = pacer.wait()
            # A lowering ends with torque going off.
            self._promise(LONG_PROMISE_NS if loop.supervisor.lowering else PROMISE_NS)
            loop.overrun(tick.skipped)
            if self._button is not None and (pressed := self._button.poll()) is not None:
                loop.fault(pressed)
            self._watch_parent(tick.started)
            self._take_stop()
            self._take_target()
            loop.tick(loop.clock.now())
            self._block.write_state(loop.state())

    def _promise(self, duration: int) -> None:
        """Tell the guardian that it will hear of this process again within `duration` ns."""
        self._block.write_promise(self._loop.clock.now() + duration)

    def _on_terminate(self, _signal: int, _frame: FrameType | None) -> None:
        self._terminated = True

    def _finished(self) -> bool:
        """Whether the arm is at rest and nothing is left to do; does the last things."""
        loop = self._loop
        if self._terminated and self._ending is None:
            loop.hold()
        at_rest = loop.supervisor.state not in (State.RUNNING, State.STOPPING)
        if not at_rest:
            self._at_rest_since = None
        if self._ending is not None and at_rest:
            number, release = self._ending
            if release and not self._let_down():
                return False
            report = (self._loop.report or self._release()) if release else None
            self._block.write_state(loop.state())
            self._answer(Reply(number, "ok", report))
            return True
        left_alone = self._exit_at is not None and loop.clock.now() >= self._exit_at
        return at_rest and (self._terminated or left_alone)

    def _let_down(self) -> bool:
        """Whether an arm at rest may be released: one that has a rest pose is held for a moment and lowered to it."""
        loop = self._loop
        if loop.report is not None:
            return True
        if self._kept is not None:
            return loop.clock.now() - self._kept >= KEPT_NS
        if not self._settled():
            return False
        assert self._at_rest_since is not None  # it has settled
        rested = (loop.clock.now() - self._at_rest_since) / SECOND
        if not loop.can_lower:  # a bus that fails for a moment is waited for
            return rested >= BEFORE_LOWERING_S or not loop.lowerable
        if self._lowerings == LOWERINGS:
            return True
        if rested >= BEFORE_LOWERING_S:
            self._lowerings += 1
            loop.lower()
        return False

    def _settled(self) -> bool:
        """The joints have come to rest behind the command, or have had the time for it."""
        now, joints = self._loop.clock.now(), self._loop.state().joints
        if self._at_rest_since is None:
            self._at_rest_since = now
        still = joints.stamp > self._at_rest_since and seen_still(joints.velocities)
        return still or now - self._at_rest_since > SETTLING_S * SECOND

    def _release(self) -> ReleaseReport:
        """Switch torque off, but not where something holds the arm up, an operator has stopped it on its way, or it
        never arrived: it would fall."""
        loop = self._loop
        kept = ReleaseReport((), loop.arm.spec.joint_names)
        held_up = loop.obstructed or self._kept is not None or loop.lowerable
        if held_up and loop.supervisor.energised:
            return kept
        self._promise(LONG_PROMISE_NS)
        try:
            return loop.release()
        except ArmError as error:
            loop.fault(f"release: {error}")
            return kept

    def _watch_parent(self, now: int) -> None:
        if self._exit_at is not None:
            return
        if os.getppid() != self._settings.parent:
            self._orphaned(now)
            return
        try:
            while self._connection.poll():
                self._serve_request(*self._connection.recv())
        except (EOFError, OSError):
            self._orphaned(now)

    def _orphaned(self, now: int) -> None:
        self._loop.fault("the policy process is gone")
        self._exit_at = now + round(self._settings.orphan_hold_s * SECOND)

    def _answer(self, reply: Reply) -> None:
        try:
            self._connection.send(reply)
        except OSError:
            self._orphaned(self._loop.clock.now())

    def _serve_request(self, number: int, name: str, argument: Any) -> None:
        loop = self._loop
        content: Any = None
        self._promise(LONG_PROMISE_NS)
        try:
            if name == "start":
                self._skip_targets()
                loop.start()
            elif name == "hold":
                if not loop.supervisor.lowering:  # an operator's stop, which goes further
                    loop.hold()
            elif name == "fault":
                loop.fault(str(argument))
            elif name == "reset":
                self._skip_stops()
                loop.reset()
            elif name == "fault_record":
                content = loop.fault_record
            elif name == "stop":
                if not (argument and loop.supervisor.lowering):
                    loop.hold()
                self._ending = (number, bool(argument))
                return
        except RefusedError as error:
            self._answer(Reply(number, "refused", str(error)))
            return
        except ArmError as error:
            self._answer(Reply(number, "failed", str(error)))
            return
        self._block.write_state(loop.state())
        self._answer(Reply(number, "ok", content))

    def _skip_targets(self) -> None:
        """Targets from before a start never move the arm."""
        found = self._block.read_target()
        if found is not None:
            self._last_target = found[0]

    def _skip_stops(self) -> None:
        """A stop from before a reset is over; one that could not be done is not done later."""
        found = self._block.read_stop()
        if found is not None:
            self._last_stop = found[0]

    def _take_stop(self) -> None:
        found = self._block.read_stop()
        if found is None or found[0] == self._last_stop:
            return
        number, category = found
        if category is Stop.POWER_OFF:
            self._promise(LONG_PROMISE_NS)
        with contextlib.suppress(ArmError):  # power that does not go off is tried again, tick by tick
            self._loop.stop(category, STOPPED[category])
            self._last_stop = number
            held = self._ending is not None and category is Stop.HOLD
            self._kept = self._loop.clock.now() if held else None

    def _take_target(self) -> None:
        found = self._block.read_target()
        if found is not None and found[0] != self._last_target:
            self._last_target = found[0]
            self._loop.submit(found[1], self._loop.clock.now())
