"""The servo loop as a process of its own, seen from the policy's side: a `runtime.loop.Servo` in real time.

Targets and states go through shared memory and never wait; requests (start, hold, reset, stop) go through a pipe and
are answered by the next tick. What happens on the other side is in `runtime.servo_child`.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Callable
from dataclasses import replace
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from types import TracebackType
from typing import Any, Self

from drivers.arm import Arm, ArmError, ArmSpec, ReleaseReport
from runtime import guardian
from runtime.clock import MILLISECOND, SECOND, Clock, MonotonicClock
from runtime.guardian_process import GuardianProcess
from runtime.safety import Obstacles
from runtime.servo import FaultEntry, ServoSettings, ServoState, Target
from runtime.servo_child import ChildSettings, Reply, serve
from runtime.shared_block import SharedBlock
from runtime.spawn import spawn
from runtime.supervisor import RefusedError, State, Stop

logger = logging.getLogger(__name__)

READY_TIMEOUT_S = 20.0  # a new interpreter, imports and finding every servo
REPLY_TIMEOUT_S = 3.0  # a hold is some ten bus transactions, each with its retries
REST_TIMEOUT_S = 2.0  # from full speed it takes 80 ms
LOWERING_TIMEOUT_S = 20.0  # half a turn at the speed of a lowering, twice
SILENCE_MAX_NS = 500 * MILLISECOND  # 50 ticks without a state: the servo loop hangs
_POLL_NS = 2 * MILLISECOND


class ServoProcess:
    """Starts and talks to the servo process; a context manager that stops and releases the arm on the way out.

    `open_arm` is called in that process: it must be picklable and not be defined in a script's main module, as is
    `functools.partial(drivers.robot.open_arm, config)`. Not thread-safe.
    """

    def __init__(
        self,
        open_arm: Callable[[], Arm],
        spec: ArmSpec,
        *,
        settings: ServoSettings | None = None,
        make_guard: Callable[[], Obstacles | None] | None = None,
        orphan_hold_s: float = 5.0,
        clock: Clock | None = None,
    ) -> None:
        self._open_arm = open_arm
        self._make_guard = make_guard
        self._spec = spec
        self._settings = settings or ServoSettings()
        self._orphan_hold_s = orphan_hold_s
        self._clock = clock or MonotonicClock()
        self._block: SharedBlock | None = None
        self._process: SpawnProcess | None = None
        self._connection: Connection | None = None
        self._guardian: GuardianProcess | None = None
        self._last: ServoState | None = None
        self._requests = 0
        self.notes: tuple[str, ...] = ()  # what the system refused, a sentence each

    @property
    def spec(self) -> ArmSpec:
        return self._spec

    @property
    def pid(self) -> int | None:
        """The servo process's id; None when it was not started."""
        return None if self._process is None else self._process.pid

    @property
    def guardian_pid(self) -> int | None:
        """The guardian's process id; None when it was not started, or is not to be had on this system."""
        return None if self._guardian is None else self._guardian.pid

    def open(self) -> None:
        """Start the process and connect the arm; torque stays as it is. Raises `ArmError`, with nothing left behind."""
        self._block = SharedBlock(self._spec.joints)
        child = ChildSettings(
            self._open_arm,
            self._spec.joints,
            self._block.name,
            os.getpid(),
            self._settings,
            self._orphan_hold_s,
            self._make_guard,
        )
        try:
            self._process, self._connection = spawn("servo", serve, child)
            if guardian.AVAILABLE:
                assert self._process.pid is not None  # it was started
                self._guardian = GuardianProcess(
                    guardian.GuardianSettings(
                        self._open_arm,
                        self._spec.joints,
                        self._block.name,
                        self._process.pid,
                        self._settings,
                        self._orphan_hold_s,
                    )
                )
            reply = self._receive(0, READY_TIMEOUT_S)
            if reply.kind != "ok":
                raise ArmError(reply.content)
            if self._guardian is not None:
                self._guardian.await_ready()
        except BaseException:
            self._clean_up()
            raise
        self.notes, self._last = reply.content
        if self._guardian is None:
            self.notes += ("no guardian on this system: an arm whose servo process is killed keeps its last goal",)
        for note in self.notes:
            logger.warning(note)

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop(release=True)

    def start(self) -> None:
        """Allow motion from the next target on; an arm without torque is held where it is first.

        Raises `RefusedError` in a fault and for a joint outside its limits; `ArmError` from the bus.
        """
        self._request("start")

    def send_target(self, target: Target) -> None:
        """Replace the target. Raises `ValueError` for a wrong shape."""
        if target.positions.shape != (self._spec.joints,):
            raise ValueError(f"target has shape {target.positions.shape}, the arm needs ({self._spec.joints},)")
        if self._block is None:
            raise ArmError("the servo process is not running: open it first")
        self._block.write_target(target)

    def elapse(self) -> None:
        """Real time passes by itself."""

    def ticks(self) -> SharedBlock:
        """Another view of the shared memory, for the one reader of `drain`, who closes it: it outlives this object."""
        if self._block is None:
            raise ArmError("the servo process is not running: open it first")
        return SharedBlock(self._spec.joints, self._block.name)

    def state(self) -> ServoState:
        """The last state; a process that died or hangs shows as a fault. Raises `ArmError` before `open`."""
        if self._block is None or self._process is None:
            raise ArmError("the servo process is not running: open it first")
        state = self._block.read_state() or self._last
        assert state is not None  # `open` read the first one
        self._last = state
        if not self._process.is_alive():
            text = f"the servo process ended ({self._process.exitcode}): {self._what_guardian_does()}"
        elif (silence := self._clock.now() - state.stamp) > SILENCE_MAX_NS:
            text = f"the servo process has been silent for {silence / MILLISECOND:.0f} ms"
        elif self._guardian is not None and not self._guardian.alive:
            text = "the guardian process ended: nobody would hold the arm if the servo process died; start again"
        else:
            return state
        return replace(state, state=State.FAULT, fault=text if state.fault is None else f"{state.fault}; {text}")

    def _what_guardian_does(self) -> str:
        if self._guardian is None:
            return "the servos keep their last goal"
        notice = self._guardian.notice()
        return "the guardian takes the arm" if notice is None else notice.text

    def request_stop(self, category: Stop) -> None:
        """An operator's stop, latched as a fault: done by the next tick, without an answer.

        For one thread at a time, any one: the only method that may be called beside the others. Raises `ArmError` when
        the process is not running.
        """
        if self._block is None:
            raise ArmError("the servo process is not running: open it first")
        self._block.write_stop(category)

    def fault(self, text: str) -> None:
        """Latch a fault that was seen on this side; a process that cannot be reached has its own."""
        with contextlib.suppress(ArmError):
            self._request("fault", text)

    def hold(self) -> None:
        """Decelerate and hold; returns when the arm is at rest, or cannot be reached any more."""
        with contextlib.suppress(ArmError):
            self._request("hold")
            deadline = self._clock.now() + round(REST_TIMEOUT_S * SECOND)
            while self.state().state in (State.RUNNING, State.STOPPING) and self._clock.now() < deadline:
                self._clock.sleep_until(self._clock.now() + _POLL_NS)

    def reset(self) -> None:
        """Forget the latched fault; never starts motion. Raises `RefusedError` while the arm decelerates."""
        self._request("reset")

    def fault_record(self) -> tuple[FaultEntry, ...]:
        """The last ticks before the latched fault, oldest first. Raises `ArmError`."""
        record: tuple[FaultEntry, ...] = self._request("fault_record")
        return record

    def stop(self, release: bool = True) -> ReleaseReport | None:
        """Decelerate, hold, and end the process; with `release`, lower the arm to its rest pose first, if it has one,
        and switch torque off there. None without `release`.

        Where the arm rests on something, or an operator stops it on its way down, torque stays on, and is reported. A
        process that could not do so any more reports every joint as still energised. May be called more than once;
        later calls return None.
        """
        if self._process is None:
            return None
        report: ReleaseReport | None = None
        try:
            # An arm that is being lowered, by an operator's stop perhaps, ends that first.
            timeout_s = (LOWERING_TIMEOUT_S if release else REST_TIMEOUT_S) + REPLY_TIMEOUT_S
            report = self._request("stop", release, timeout_s)
        except ArmError:
            if release:
                report = self._release_by_guardian()
        finally:
            self._clean_up()
        return report

    def _release_by_guardian(self) -> ReleaseReport:
        """What the guardian says of an arm that it has, or may have soon: a servo process that hangs is killed."""
        notice = None if self._guardian is None else self._guardian.release(LOWERING_TIMEOUT_S)
        report = None if notice is None else notice.report
        return ReleaseReport((), self._spec.joint_names) if report is None else report

    def _request(self, name: str, argument: object = None, timeout_s: float = REPLY_TIMEOUT_S) -> Any:
        if self._connection is None:
            raise ArmError("the servo process is not running: open it first")
        self._requests += 1
        try:
            self._connection.send((self._requests, name, argument))
        except OSError as error:
            raise ArmError(f"the servo process is gone: {name} cannot be done, the servos keep their goal") from error
        reply = self._receive(self._requests, timeout_s)
        if reply.kind == "refused":
            raise RefusedError(reply.content)
        if reply.kind == "failed":
            raise ArmError(reply.content)
        return reply.content

    def _receive(self, number: int, timeout_s: float) -> Reply:
        """The answer to a request; answers to earlier ones, whose caller was interrupted, are dropped."""
        assert self._connection is not None
        deadline = self._clock.now() + round(timeout_s * SECOND)
        try:
            while self._connection.poll(max(0.0, (deadline - self._clock.now()) / SECOND)):
                reply: Reply = self._connection.recv()
                if reply.number == number:
                    return reply
        except (EOFError, OSError) as error:
            raise ArmError("the servo process ended without an answer: its own message says why") from error
        raise ArmError(f"the servo process did not answer within {timeout_s:g} s: is the machine overloaded?")

    def _clean_up(self) -> None:
        process, connection, block, watching = self._process, self._connection, self._block, self._guardian
        self._process = self._connection = self._block = self._last = self._guardian = None
        if connection is not None:
            connection.close()
        if process is not None and process.pid is not None:
            # Without the pipe it takes itself for orphaned: a failed stop must not wait for `orphan_hold_s`.
            process.join(0.5)
            if process.is_alive():
                process.terminate()
                process.join(REST_TIMEOUT_S)
            if process.is_alive():
                process.kill()
                process.join()
            process.close()
        if watching is not None:
            watching.close()
        if block is not None:
            block.close()
            block.unlink()
