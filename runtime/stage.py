"""Where episodes are played: a robot in real time with somebody who lays out the scene and judges, or the simulator.

A `Stage` plays one episode after another. In real time the arm goes slowly to its robot's home pose before each,
through the servo loop and its safety filter like everything else; the scene is the emulator's, or a person's on a real
table.
"""

from __future__ import annotations

import functools
import math
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import numpy as np

from drivers.arm import Array
from drivers.camera import Camera, CameraError
from drivers.config import ConfigError, RobotConfig, SafetyConfig
from drivers.robot import open_arm, open_camera
from policies.policy import Policy
from runtime.clock import MILLISECOND, SECOND, Clock, MonotonicClock, Pacer
from runtime.course import Glide, Target
from runtime.guard import Guard
from runtime.loop import FAULT, TIME_LIMIT, ControlLoop, EpisodeResult, Servo, Subscriber
from runtime.priority import prefer_to_be_killed, undisturbed
from runtime.recorder import TickSource
from runtime.report import SUCCESS, UNJUDGED
from runtime.servo_process import ServoProcess
from runtime.servo_state import ServoSettings
from runtime.supervisor import Stop
from sim.emulator import EmulatorProcess
from sim.faults import EmulatorError
from sim.tasks import CONTROL_RATE
from sim.tasks import TIME_LIMIT as STEPS

HOMING_SPEED = 0.8  # rad/s on average, of the joint with the longest way
HOMING_TOLERANCE = 0.06  # rad: a loaded servo sags a little
SETTLING = 1.0  # s allowed for it
POLL = 0.05  # s between two questions to the emulator's judge
FRAME_WAIT = 2.0  # s for cameras to show a new layout


class StageFault(Exception):
    """The arm stopped with a fault between episodes; the message is the fault."""


class Stage(Protocol):
    """Plays episodes. A fault between two of them is raised as `StageFault`, during one it is the outcome."""

    def play(self, index: int, task: str, seed: int) -> EpisodeResult:
        """One episode, judged."""

    def counters(self) -> dict[str, int]:
        """What the servo loop counted so far."""

    def reset(self) -> None:
        """Leave a fault, at the operator's word; never starts motion. Raises `RefusedError` and `ArmError`."""


class Scene(Protocol):
    """Lays out what the arm works on, and says what came of it."""

    limit: int  # steps of 1/20 s of an episode, at most

    def arrange(self, task: str, seed: int) -> int:
        """Ready for `task`; the monotonic time (ns) from which on the cameras may show it."""

    def outcome(self) -> str | None:
        """Asked after each control step, must not wait: the verdict once there is one."""

    def verdict(self, result: EpisodeResult) -> str:
        """What came of an episode that ended without a verdict."""

    def close(self) -> None: ...


class EmulatedScene:
    """The emulator's table and judge. A thread asks the judge, so that the control step never waits for it."""

    def __init__(self, emulator: EmulatorProcess, steps: int | None = None) -> None:
        """`steps` of 1/20 s are given to an episode (None: as many as the judge gives)."""
        self._emulator, self._steps = emulator, steps or STEPS
        self.limit = self._steps + 60  # the emulator judges by its own time: leave it some to come to its verdict first
        self._lock = threading.Lock()  # one question at a time
        self._outcome: str | None = None
        self._watching = threading.Event()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="judge", daemon=True)
        self._thread.start()

    def arrange(self, task: str, seed: int) -> int:
        with self._lock:
            self._outcome = None
            stamp = self._emulator.reset(seed, task, limit=self._steps)
        self._watching.set()
        return stamp

    def outcome(self) -> str | None:
        return self._outcome

    def verdict(self, result: EpisodeResult) -> str:
        self._watching.clear()
        with self._lock:
            return self._emulator.judge()["outcome"] or result.outcome

    def close(self) -> None:
        self._over.set()
        self._watching.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._over.wait(POLL):
            self._watching.wait()
            with self._lock:
                if self._over.is_set() or self._outcome is not None:
                    continue
                try:
                    self._outcome = self._emulator.judge()["outcome"]
                except EmulatorError as error:
                    self._outcome = f"{FAULT}{error}"


class PersonScene:
    """A real table: a person lays out and judges, or nobody does."""

    def __init__(self, ask: Callable[[str], bool] | None, clock: Clock, steps: int | None = None) -> None:
        """`ask` puts a yes-or-no question to the operator; None when there is none."""
        self.limit = steps or STEPS
        self._ask = ask
        self._clock = clock

    def arrange(self, task: str, seed: int) -> int:
        if self._ask is not None:
            while not self._ask(f'Lay out the blocks for "{task}" and step back. Ready?'):
                continue
        return self._clock.now()

    def outcome(self) -> str | None:
        return None

    def verdict(self, result: EpisodeResult) -> str:
        if self._ask is None:
            return UNJUDGED
        return SUCCESS if self._ask("Did the arm do it?") else "not done"

    def close(self) -> None:
        """A table stays."""


class RealTimeStage:
    """A robot in real time: connected `cameras`, an open `servo`, and a scene. Make one with `real_time_stage`."""

    def __init__(
        self,
        policy: Policy,
        cameras: Mapping[str, Camera],
        servo: Servo,
        scene: Scene,
        clock: Clock,
        subscribers: Sequence[Subscriber] = (),
        *,
        start: Callable[[Array], Array | None] = lambda command: None,
        ended: Callable[[], str | None] = lambda: None,
        safety: SafetyConfig | None = None,
    ) -> None:
        """`start` gives the pose (rad) where an episode begins, from the arm's command; None: wherever the arm is.
        `ended` is asked after each step beside the scene, and gives the outcome once the operator has ended it.
        `safety` None: its defaults."""
        self._start, self._ended = start, ended
        self._rate = policy.rate
        self._cameras, self._servo, self._scene, self._clock = cameras, servo, scene, clock
        self._period = round(SECOND / policy.rate)
        self._loop = ControlLoop(policy, cameras, servo, clock, Pacer(clock, self._period), subscribers, safety=safety)

    def play(self, index: int, task: str, seed: int) -> EpisodeResult:
        if (pose := self._start(self._servo.state().command)) is not None:
            go_to(self._servo, pose, self._clock, self._period)
        with undisturbed():  # which begins with a collection: frames would grow old meanwhile
            await_frames(self._cameras, self._scene.arrange(task, seed), self._clock)
            result = self._loop.run_episode(task, round(self._scene.limit * self._rate / CONTROL_RATE), self._done)
        return replace(result, outcome=self._scene.verdict(result)) if result.outcome == TIME_LIMIT else result

    def _done(self) -> str | None:
        return self._scene.outcome() or self._ended()

    def counters(self) -> dict[str, int]:
        return dict(self._servo.state().counters._asdict())

    def reset(self) -> None:
        self._servo.reset()


def go_to(servo: Servo, pose: Array, clock: Clock, period: int) -> None:
    """Move slowly to `pose` (rad) and hold there. Raises `StageFault` when the arm faults, and holds in any case."""
    servo.start()
    try:
        way = Glide.between(servo.state().command, pose, HOMING_SPEED)
        steps = math.ceil(way.seconds * SECOND / period)
        settling = math.ceil(SETTLING * SECOND / period)
        pacer = Pacer(clock, period)
        for step in range(steps + settling):
            pacer.wait()
            servo.send_target(Target(clock.now(), way.at((step + 1) * period / SECOND)))
            servo.elapse()
            state = servo.state()
            if state.fault is not None:
                raise StageFault(state.fault)
            if step + 1 >= steps and np.abs(state.positions - pose).max() < HOMING_TOLERANCE:
                break
    finally:
        servo.hold()


def await_frames(cameras: Mapping[str, Camera], stamp: int, clock: Clock) -> None:
    """Wait until every camera has delivered two frames that arrived after `stamp` (ns): the first may have been under
    way. Raises `CameraError`."""
    deadline = clock.now() + round(FRAME_WAIT * SECOND)
    for camera in cameras.values():
        first: int | None = None
        while True:
            frame = camera.read()
            if frame.stamp > stamp:
                first = frame.sequence if first is None else first
                if frame.sequence > first:
                    break
            if clock.now() > deadline:
                raise CameraError(
                    f"camera {camera.name}: no new frame within {FRAME_WAIT:g} s; check its cable and its frame rate"
                )
            clock.sleep_until(clock.now() + 5 * MILLISECOND)


@contextmanager
def real_time_stage(
    config: RobotConfig,
    policy: Policy,
    subscribers: Sequence[Subscriber],
    *,
    seed: int,
    ask: Callable[[str], bool] | None,
    say: Callable[[str], None],
    trace: Path | None = None,
    follow: Callable[[TickSource], None] | None = None,
    listen: Callable[[Callable[[Stop], None]], AbstractContextManager[object]] | None = None,
    start: Callable[[Array], Array | None] | None = None,
    ended: Callable[[], str | None] = lambda: None,
    make_scene: Callable[[EmulatorProcess | None], Scene] | None = None,
) -> Iterator[RealTimeStage]:
    """A real or emulated robot, put together for `with` and taken apart after it.

    Whatever happens inside, the arm decelerates, holds, is lowered to its rest pose if it has one, and released there
    before the emulator goes.
    `ask` puts a yes-or-no question to the operator (None: nobody is there), `say` tells a line; an emulated arm
    writes what its servos are told to `trace`. `follow` is given the servo ticks, as a recorder reads them, and
    `listen` what an operator's stop is told to; what it returns is in force before anything moves. An episode begins at
    the pose that `start` gives (None: at home) and is over when `ended` says so too. `make_scene` is given the emulator
    of an emulated arm; None: the emulator's own scene, or a person's. Raises `ArmError`,
    `CameraError`, `ConfigError` and `EmulatorError` when something cannot be opened.
    """
    clock = MonotonicClock()
    with ExitStack() as stack:
        emulator = None
        if config.emulated:
            process = EmulatorProcess(config, seed=seed, image_size=_image_size(config), trace=trace)
            emulator = stack.enter_context(process)
            config = emulator.on_devices(config)
        scene: Scene
        if make_scene is not None:
            scene = make_scene(emulator)
        elif emulator is not None:
            scene = EmulatedScene(emulator)
        else:
            scene = PersonScene(ask, clock)
        stack.callback(scene.close)
        servo = ServoProcess(
            functools.partial(open_arm, config.arm),
            config.arm.spec(),
            settings=replace(ServoSettings.of_robot(config), policy_period_ns=round(SECOND / policy.rate)),
            make_guard=functools.partial(Guard.of, config),
            clock=clock,
        )
        servo.open()
        stack.callback(servo.stop)  # should one of the next two lines fail; later it does nothing
        if listen is not None:  # to the end of the run: the arm is lowered there
            stack.enter_context(listen(servo.request_stop))
        stack.callback(_stop, servo, say)
        prefer_to_be_killed()
        if follow is not None:
            follow(servo.ticks())
        cameras = {name: open_camera(name, camera) for name, camera in config.cameras.items()}
        for camera in cameras.values():
            stack.callback(camera.close)
            camera.connect()
        yield RealTimeStage(
            policy,
            cameras,
            servo,
            scene,
            clock,
            subscribers,
            start=start or (lambda command: config.arm.home_pose()),
            ended=ended,
            safety=config.safety,
        )


def _stop(servo: ServoProcess, say: Callable[[str], None]) -> None:
    with _uninterrupted():
        report = servo.stop(release=True)
    if report is not None and report.still_energised:
        say(f"still energised: {', '.join(report.still_energised)}; switch the arm's power off before touching it")


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Within, Ctrl-C and SIGTERM do nothing: the arm is on its way down, and keys stop it there."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _image_size(config: RobotConfig) -> tuple[int, int]:
    sizes = {camera.size for camera in config.cameras.values()}
    if len(sizes) != 1:
        raise ConfigError(f"{config.name}: the emulator renders one size, its cameras want {sorted(sizes)}")
    return sizes.pop()
