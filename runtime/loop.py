"""The policy loop: observe, decide, act, at the policy's rate. Never touches the bus.

The same loop runs in real time, where a `ServoProcess` moves the arm meanwhile, and in lock-step, where `LockstepServo`
ticks the servo loop and the simulation between two steps. Recording and showing are subscribers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from drivers.arm import ArmSpec, Array, JointState, ReleaseReport, frozen
from drivers.camera import Camera, CameraError
from drivers.config import SafetyConfig
from policies.policy import Action, Observation, Policy, PolicyError
from runtime.clock import MILLISECOND, SECOND, Clock, Pacer
from runtime.servo import ServoLoop, ServoState, Target
from runtime.supervisor import State

TIME_LIMIT = "time limit"
INTERRUPTED = "interrupted"
FAULT = "fault: "  # an outcome that begins so says why the arm was stopped


class StaleError(Exception):
    """What is observed is not what is there now: a camera or the joints. The message says which, and what to do."""


class Servo(Protocol):
    """The policy's side of the servo loop."""

    @property
    def spec(self) -> ArmSpec: ...

    def start(self) -> None:
        """Allow motion from the next target on. Raises `RefusedError` in a fault, `ArmError` from the bus."""

    def send_target(self, target: Target) -> None:
        """Replace the target. Never waits."""

    def elapse(self) -> None:
        """Let one policy period pass: lock-step runs it here, in real time it passes by itself."""

    def state(self) -> ServoState:
        """The latest state."""

    def hold(self) -> None:
        """Decelerate and hold; returns when the arm is at rest or cannot be reached any more. Never raises for
        either: `state().fault` says what is wrong."""

    def fault(self, text: str) -> None:
        """Latch a fault that was seen on this side: decelerate and do what is configured to follow. Never raises."""

    def reset(self) -> None:
        """Forget the latched fault; never starts motion. Raises `RefusedError` while the arm decelerates, and
        `ArmError` when the bus is still gone."""

    def stop(self, release: bool = True) -> ReleaseReport | None:
        """Hold, switch torque off if `release`, and close the arm; reports what torque was read back."""


class LockstepServo:
    """A `Servo` in this process: time passes only in `elapse` and `hold`, as the simulation goes.

    `advance(seconds)` must step the simulation and the loop's clock by that much. `on_tick` is told every tick's state.
    """

    def __init__(
        self,
        loop: ServoLoop,
        advance: Callable[[float], None],
        on_tick: Callable[[ServoState], None] | None = None,
    ) -> None:
        settings = loop.settings
        self._on_tick = on_tick
        self._loop = loop
        self._advance = advance
        self._period_s = settings.period_ns / SECOND
        self._ticks = settings.policy_period_ns // settings.period_ns

    @property
    def spec(self) -> ArmSpec:
        return self._loop.arm.spec

    def start(self) -> None:
        self._loop.start()

    def send_target(self, target: Target) -> None:
        self._loop.submit(target, self._loop.clock.now())

    def elapse(self) -> None:
        for _ in range(self._ticks):
            self._tick()

    def _tick(self) -> None:
        self._loop.tick(self._loop.clock.now())
        if self._on_tick is not None:
            self._on_tick(self._loop.state())
        self._advance(self._period_s)

    def state(self) -> ServoState:
        return self._loop.state()

    def hold(self) -> None:
        if not self._loop.supervisor.lowering:  # which ends at rest as well, and without torque
            self._loop.hold()
        while self._loop.supervisor.state is State.STOPPING:
            self._tick()

    def fault(self, text: str) -> None:
        self._loop.fault(text)

    def reset(self) -> None:
        self._loop.reset()

    def stop(self, release: bool = True) -> ReleaseReport | None:
        self.hold()
        report = self._loop.release() if release else None
        self._loop.close()
        return report


@dataclass(frozen=True, slots=True)
class EpisodeInfo:
    """What is about to happen."""

    index: int  # counts the loop's episodes
    stamp: int  # ns
    task: str
    policy: str
    max_steps: int


@dataclass(frozen=True, slots=True)
class Step:
    """One control step, complete. Nothing in it is changed afterwards."""

    index: int
    stamp: int  # ns, when the step started
    observation: Observation
    action: Action
    joint_state: JointState  # the servo loop's last reading at the time of the observation
    command: Array  # rad, the servo loop's last command at that time
    split_ms: Mapping[str, float]  # observe, decide, act
    late_ms: float  # started so long after it was due
    missed: bool  # finished after the next step was due
    frame_stamps: Mapping[str, int] = field(default_factory=dict)  # ns, when each camera's image was captured


@dataclass(frozen=True, slots=True)
class EpisodeResult:
    """What came of an episode."""

    index: int
    stamp: int  # ns, when it ended
    task: str
    outcome: str  # what `done` said, TIME_LIMIT, INTERRUPTED, or FAULT and the reason
    steps: int
    missed: int  # deadlines
    seconds: float
    step_ms: NDArray[np.float64]  # duration of each step, waiting excluded, shape (steps,)


class Subscriber(Protocol):
    """Told about everything, on the control loop's thread: a subscriber must return at once."""

    def on_episode_start(self, info: EpisodeInfo) -> None: ...

    def on_step(self, step: Step) -> None: ...

    def on_episode_end(self, result: EpisodeResult) -> None: ...


class ControlLoop:
    """Runs episodes with a policy, connected cameras and a connected servo loop.

    `stopwatch` measures what steps cost and is the loop's own clock unless given: in lock-step, where that clock stands
    still during a step, pass a real one.
    """

    def __init__(
        self,
        policy: Policy,
        cameras: Mapping[str, Camera],
        servo: Servo,
        clock: Clock,
        pacer: Pacer,
        subscribers: Sequence[Subscriber] = (),
        *,
        stopwatch: Clock | None = None,
        safety: SafetyConfig | None = None,
    ) -> None:
        self._policy = policy
        self._cameras = {name: cameras[name] for name in sorted(cameras)}
        self._servo = servo
        self._clock = clock
        self._pacer = pacer
        self._subscribers = tuple(subscribers)
        self._stopwatch = stopwatch or clock
        self._safety = safety or SafetyConfig()
        self._spec = servo.spec
        self._joint_targets = frozen(np.zeros(self._spec.joints))
        self._episodes = 0

    def run_episode(self, task: str, max_steps: int, done: Callable[[], str | None] = lambda: None) -> EpisodeResult:
        """One episode, from `Policy.reset` to an arm that holds.

        `done` is asked after every control step and ends the episode by returning its outcome. A fault of the arm and a
        camera that fails end it too, as outcomes. KeyboardInterrupt is passed on once the arm holds and the subscribers
        were told. Raises `PolicyError`, and `RefusedError` or `ArmError` when the arm cannot be started.
        """
        self._policy.reset(task)
        self._servo.start()
        self._joint_targets = self._servo.state().command
        self._pacer.reset()
        record = _Record(max_steps)
        info = EpisodeInfo(self._episodes, self._clock.now(), task, self._policy.name, max_steps)
        self._episodes += 1
        for subscriber in self._subscribers:
            subscriber.on_episode_start(info)
        interrupt: KeyboardInterrupt | None = None
        try:
            outcome = self._run(record, max_steps, done)
        except KeyboardInterrupt as pressed:
            outcome, interrupt = INTERRUPTED, pressed
        finally:
            self._servo.hold()
        stamp = self._clock.now()
        result = EpisodeResult(
            info.index,
            stamp,
            task,
            outcome,
            record.steps,
            record.missed,
            (stamp - info.stamp) / SECOND,
            record.step_ms[: record.steps],
        )
        for subscriber in self._subscribers:
            subscriber.on_episode_end(result)
        if interrupt is not None:
            raise interrupt
        return result

    def _run(self, record: _Record, max_steps: int, done: Callable[[], str | None]) -> str:
        while record.steps < max_steps:
            try:
                step = self.step(record.steps)
            except StaleError as error:
                self._servo.fault(str(error))
                return f"{FAULT}{error}"
            record.add(step)
            for subscriber in self._subscribers:
                subscriber.on_step(step)
            if record.missed_in_a_row >= self._safety.deadline_misses_max:
                self._servo.fault(
                    f"policy loop: {record.missed_in_a_row} control steps in a row came late; the last took "
                    + ", ".join(f"{name} {ms:.0f}" for name, ms in step.split_ms.items())
                    + " ms"
                )
            self._servo.elapse()
            if (fault := self._servo.state().fault) is not None:
                return f"{FAULT}{fault}"
            if (outcome := done()) is not None:
                return outcome
        return TIME_LIMIT

    def step(self, index: int) -> Step:
        """Wait until the step is due, observe, decide, act. Raises `StaleError` and `PolicyError`."""
        tick = self._pacer.wait()
        watch = self._stopwatch
        started = watch.now()
        state = self._servo.state()
        observation, frame_stamps = self._observe(state)
        observed = watch.now()
        action = self._policy.act(observation)
        decided = watch.now()
        if action.targets.shape != (self._spec.joints,):
            raise PolicyError(
                f"policy {self._policy.name} gives targets of shape {action.targets.shape}, "
                f"the arm has {self._spec.joints} joints: use a policy for this arm"
            )
        self._servo.send_target(Target(self._clock.now(), action.targets))
        # Steps are counted from what the arm can follow, or a policy would wind up beyond a limit.
        self._joint_targets = frozen(np.clip(action.targets, self._spec.position_min, self._spec.position_max))
        acted = watch.now()
        return Step(
            index,
            tick.started,
            observation,
            action,
            state.joints,
            state.command,
            {
                "observe": (observed - started) / MILLISECOND,
                "decide": (decided - observed) / MILLISECOND,
                "act": (acted - decided) / MILLISECOND,
            },
            tick.late_ns / MILLISECOND,
            self._clock.now() > tick.scheduled + self._pacer.period_ns,
            frame_stamps,
        )

    def _observe(self, state: ServoState) -> tuple[Observation, dict[str, int]]:
        """What is sensed now, and when each image was captured (ns)."""
        images: dict[str, NDArray[np.uint8]] = {}
        stamps: dict[str, int] = {}
        self._check_age("joints: the last reading", state.joints.stamp, "is the bus overloaded?")
        for name, camera in self._cameras.items():
            try:
                frame = camera.read()
            except CameraError as error:
                raise StaleError(str(error)) from error
            self._check_age(f"camera {name}: the last frame", frame.stamp, "check its cable and its frame rate")
            if frame.repeats >= self._safety.repeated_frames_max:
                raise StaleError(
                    f"camera {name}: the last {frame.repeats + 1} frames are the same to the last bit: it is frozen, "
                    "plug it in anew"
                )
            images[name] = frame.image
            stamps[name] = frame.stamp
        proprioception = {"joint_positions": state.positions, "joint_targets": self._joint_targets}
        return Observation(self._clock.now(), images, proprioception), stamps

    def _check_age(self, what: str, stamp: int, remedy: str) -> None:
        age, limit = (self._clock.now() - stamp) / SECOND, self._safety.observation_age_max_s
        if age > limit:
            raise StaleError(f"{what} is {age * 1000:.0f} ms old, at most {limit * 1000:.0f} ms: {remedy}")


class _Record:
    """What an episode adds up to; allocated before the first step."""

    def __init__(self, max_steps: int) -> None:
        self.steps = 0
        self.missed = self.missed_in_a_row = 0
        self.step_ms = np.zeros(max_steps)

    def add(self, step: Step) -> None:
        self.step_ms[self.steps] = sum(step.split_ms.values())
        self.steps += 1
        self.missed += step.missed
        self.missed_in_a_row = self.missed_in_a_row + 1 if step.missed else 0
