"""A run in real time, watched from outside: `gato-arm bench jitter --minutes M [--load]`.

The emulated arm, the policy, the recorder and the servo process as in `gato-arm run`, for some minutes idle and, with
a load, for as long again while other programs keep every core busy. Once, in the idle part, the servo process is
stopped for 200 ms: the ticks after it must stand where they would have stood.
"""

from __future__ import annotations

import functools
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from drivers.config import RobotConfig, load_robot
from drivers.robot import open_camera
from policies.artifact import Artifact, check_robot
from policies.onnx_policy import OnnxPolicy
from runtime.bench.figures import Figure, Floats, Section
from runtime.bench.lateness import Stamps, lateness, shift_ms, without
from runtime.bench.machine import cores
from runtime.bench.watched_arm import TickTimes, open_watched_arm
from runtime.clock import MILLISECOND, SECOND, MonotonicClock
from runtime.guard import Guard
from runtime.lockstep import task_of
from runtime.loop import FAULT, EpisodeResult, Step, Subscriber
from runtime.recorder import Recorder
from runtime.servo import ServoSettings
from runtime.servo_process import ServoProcess
from runtime.stage import EmulatedScene, RealTimeStage, StageFault
from runtime.supervisor import RefusedError
from sim.emulator import EmulatorProcess

ROBOT = "emulated"
LIMIT = 2.0  # ms late: what the share counts
STALL = 0.2  # s
SPARE = 1.3  # of the room for ticks: an episode goes on to its end
IDLE, LOADED = "idle", "loaded"


@dataclass
class _Watch:
    """A subscriber that keeps what the control steps cost and how late they were, ms."""

    took: list[float] = field(default_factory=list)
    late: list[float] = field(default_factory=list)
    missed: int = 0
    outcomes: list[str] = field(default_factory=list)

    def on_episode_start(self, info: object) -> None:
        """Nothing is kept of it."""

    def on_step(self, step: Step) -> None:
        self.took.append(sum(step.split_ms.values()))
        self.late.append(step.late_ms)
        self.missed += step.missed

    def on_episode_end(self, result: EpisodeResult) -> None:
        """The stage's verdict counts, not this one."""


@dataclass
class _Part:
    """A stretch of the run under one condition."""

    name: str
    begin: int  # monotonic ns
    end: int
    watch: _Watch
    stall: tuple[int, int] | None  # monotonic ns
    lost: int  # readings of the arm that no retry saved


@dataclass
class _Rig:
    """What is run: the stage, and the process that may be stopped."""

    stage: RealTimeStage
    watch: Callable[[_Watch], None]
    servo: ServoProcess


def measure(
    artifact: Artifact, *, minutes: float, load: bool, threads: int, seed: int = 0, stall: float = STALL
) -> Section:
    """The section "jitter". Raises what `gato-arm run` raises."""
    config = load_robot(ROBOT)
    check_robot(artifact.card, config)
    policy = OnnxPolicy(artifact, threads)
    policy.warm_up()
    seconds, period = 60 * minutes, ServoSettings().period_ns
    capacity = int(SPARE * (2 if load else 1) * (seconds + 30) * SECOND / period)
    times = TickTimes(capacity)
    try:
        with _rig(config, policy, times, seed) as rig:
            parts = [_run(rig, IDLE, seconds, seed, stall)]
            if load:
                with _load(cores()):
                    parts.append(_run(rig, LOADED, seconds, seed + 1000, 0.0))
        stamps = times.stamps()
    finally:
        times.close(unlink=True)
    figures, notes, raw = [], [], {}
    for part in parts:
        part_figures, note, part_raw = _judged(part, stamps, period)
        figures += part_figures
        notes += note
        raw[part.name] = part_raw
    notes.append("late: against the earliest ticks of the same part, up to when the bus is asked; skipped ones count")
    return Section("jitter", tuple(figures), tuple(notes), raw)


@contextmanager
def _rig(config: RobotConfig, policy: OnnxPolicy, times: TickTimes, seed: int) -> Iterator[_Rig]:
    clock = MonotonicClock()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        emulator = stack.enter_context(EmulatorProcess(seed=seed))
        config = emulator.on_devices(config)
        scene = EmulatedScene(emulator)
        stack.callback(scene.close)
        spec = config.arm.spec()
        opened = functools.partial(open_watched_arm, config.arm, times.capacity, times.name)
        settings, guard = ServoSettings.of_robot(config), functools.partial(Guard.of, config)
        servo = ServoProcess(opened, spec, settings=settings, make_guard=guard, clock=clock)
        servo.open()
        stack.callback(servo.stop, release=True)
        cameras = {name: open_camera(name, camera) for name, camera in config.cameras.items()}
        for camera in cameras.values():
            stack.callback(camera.close)
            camera.connect()
        epoch = time.time_ns() - time.monotonic_ns()
        recorder = stack.enter_context(Recorder(folder, spec.joint_names, epoch=epoch, metadata={}))
        recorder.follow(servo.ticks())
        switch, home = _Switch(), config.arm.home_pose()
        told: list[Subscriber] = [switch, recorder]
        stage = RealTimeStage(
            policy, cameras, servo, scene, clock, told, start=lambda command: home, safety=config.safety
        )
        yield _Rig(stage, switch.to, servo)


class _Switch:
    """A subscriber that passes everything on to the watch of the present part."""

    def __init__(self) -> None:
        self._watch = _Watch()

    def to(self, watch: _Watch) -> None:
        self._watch = watch

    def on_episode_start(self, info: object) -> None:
        self._watch.on_episode_start(info)

    def on_step(self, step: Step) -> None:
        self._watch.on_step(step)

    def on_episode_end(self, result: EpisodeResult) -> None:
        self._watch.on_episode_end(result)


def _run(rig: _Rig, name: str, seconds: float, seed: int, stall: float) -> _Part:
    """Play episodes for so many seconds, to the end of the last; stop the servo process once for `stall` s."""
    watch = _Watch()
    rig.watch(watch)
    stalled: list[int] = []
    timer = threading.Timer(seconds / 2, lambda: stalled.extend(stop_for(rig.servo.pid, stall)))
    begin = index = lost = 0
    try:
        while not begin or time.monotonic_ns() < begin + seconds * SECOND:
            try:
                outcome = rig.stage.play(index, task_of(index), seed + index).outcome
            except (StageFault, RefusedError) as fault:  # it may have come between two episodes
                outcome = f"{FAULT}{fault}"
            watch.outcomes.append(outcome)
            index += 1
            if outcome.startswith(FAULT):
                rig.servo.reset()
            if not begin:  # the first episode switches torque on, which takes the bus for some ticks
                begin, lost = time.monotonic_ns(), rig.stage.counters()["read_failures"]
                watch = _Watch()
                rig.watch(watch)
                if stall:
                    timer.start()
    finally:
        timer.cancel()
        if timer.is_alive():
            timer.join()
    end, lost = time.monotonic_ns(), rig.stage.counters()["read_failures"] - lost
    return _Part(name, begin, end, watch, (stalled[0], stalled[1]) if stalled else None, lost)


def stop_for(process: int | None, seconds: float) -> tuple[int, int]:
    """Stop a process and let it go on; when that was, monotonic ns."""
    assert process is not None  # it runs
    begin = time.monotonic_ns()
    os.kill(process, signal.SIGSTOP)
    try:
        time.sleep(seconds)
    finally:
        os.kill(process, signal.SIGCONT)
    return begin, time.monotonic_ns()


@contextmanager
def _load(processes: int) -> Iterator[None]:
    """So many programs that compute without end, at normal priority."""
    running = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(processes)]
    try:
        yield
    finally:
        for process in running:
            process.kill()
            process.wait()


def _judged(part: _Part, stamps: Stamps, period: int) -> tuple[list[Figure], list[str], dict[str, Any]]:
    """Figures, notes and raw numbers of a part."""
    inside = stamps[(stamps >= part.begin) & (stamps <= part.end)]
    stretches, shift = [inside], None
    if part.stall is not None:
        # The tick that was stopped, and the first one after, are what the stall did.
        before, after = without(inside, part.stall[0] - period, part.stall[1] + period)
        stretches, shift = [before, after], shift_ms(before, after, period)
    found = [lateness(stretch, period) for stretch in stretches]
    late: Floats = np.concatenate([f.late_ms for f in found])
    cycles, skipped = sum(f.cycles for f in found), sum(f.skipped for f in found)
    beyond = sum(f.share_beyond(LIMIT) * f.cycles for f in found)
    watch = part.watch
    share = beyond / cycles
    note = f"{beyond:.0f} of {cycles} ticks ({100 * share:.3f}%) later than {LIMIT:g} ms, {skipped} of them skipped"
    note += f"; {part.lost} readings lost"
    deadline = f"{watch.missed} of {len(watch.took)} deadlines missed"
    figures = [
        Figure(f"servo tick late, {part.name}", late, note=note),
        Figure(f"control step, {part.name}", np.array(watch.took), note=deadline),
        Figure(f"control step late, {part.name}", np.array(watch.late)),
    ]
    raw = {
        "ticks": cycles,
        "skipped": skipped,
        "late_beyond_ms": LIMIT,
        "share_late": share,
        "readings_lost": part.lost,
        "steps": len(watch.took),
        "deadline_misses": watch.missed,
        "outcomes": watch.outcomes,
        "seconds": (part.end - part.begin) / SECOND,
        "stall_ms": None if part.stall is None else (part.stall[1] - part.stall[0]) / MILLISECOND,
        "phase_shift_ms": shift,
    }
    notes = []
    if shift is not None:
        notes.append(f"a stall of {raw['stall_ms']:.0f} ms moved the later ticks by {shift:.2f} ms")
    return figures, notes, raw
