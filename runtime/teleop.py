"""`gato-arm teleop`: a follower arm driven by a leader, through servo loop and safety filter. Knows no command line.

What it measures is the follower against the leader at the same moments: the plain difference, every delay included.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from drivers.arm import Array
from drivers.config import ConfigError, RobotConfig, load_robot
from drivers.robot import open_arm
from runtime.clock import SECOND, Clock, MonotonicClock, percentiles
from runtime.jog import GAMEPAD_HELP, KEYBOARD_HELP, Gamepad, JogLeader, Keyboard
from runtime.keys import KeyListener
from runtime.leader import ArmLeader, Leader, LeaderPolicy
from runtime.loop import FAULT, INTERRUPTED, EpisodeInfo, EpisodeResult, Step
from runtime.progress import Episodes
from runtime.report import write_json
from runtime.run import FAULTED, OK, one_interrupt
from runtime.run import INTERRUPTED as INTERRUPTED_CODE
from runtime.stage import StageFault, real_time_stage
from sim.emulator import EmulatorProcess
from sim.tasks import CONTROL_RATE, TASKS

EMULATED, KEYBOARD, GAMEPAD = "emulated", "keyboard", "gamepad"  # leaders that are no robot's name
EMULATED_LEADER = "so101_leader"
EMULATED_DEADLINE = 0.008  # s, as in emulated.yaml
RATE = 100.0  # Hz, the servo loop's
FOR_EVER = 8 * 3600.0  # s
HINTS = {KEYBOARD: KEYBOARD_HELP, GAMEPAD: GAMEPAD_HELP}

# What the emulated hand does, relative to the leader's home: every joint both ways, alone and together (rad).
GESTURES = (
    (0.7, 0.0, 0.0, 0.0, 0.0, 0.0),
    (-0.7, 0.0, 0.0, 0.0, 0.0, 0.0),
    (0.0, -0.5, 0.0, 0.0, 0.0, 0.2),
    (0.0, 0.2, -0.5, 0.0, 0.0, 0.0),
    (0.0, 0.0, 0.0, -0.6, 0.0, 0.0),
    (0.0, 0.0, 0.0, 0.0, 0.9, 0.3),
    (0.4, -0.3, -0.2, 0.2, -0.9, 0.0),
    (-0.4, 0.1, -0.4, -0.3, 0.5, 0.3),
    (0.0, 0.0, 0.0, 0.0, 0.0, 0.0),
)


@dataclass(frozen=True)
class TeleopOptions:
    """What `gato-arm teleop` was asked for."""

    robot: str = "emulated"
    leader: str = KEYBOARD  # or "gamepad", "emulated", a robot's name or file
    seconds: float | None = None  # None: until Ctrl-C
    rate: float = RATE
    rehearse: float | None = None  # rad/s at which an emulated hand moves an emulated leader
    seed: int = 0
    json: Path | None = None


class Meter:
    """A subscriber that keeps where the follower was; `read` keeps where it should have been."""

    def __init__(self) -> None:
        self._leader: list[tuple[int, Array]] = []
        self._follower: list[tuple[int, Array]] = []
        self._late_ms: list[float] = []
        self.result: EpisodeResult | None = None

    def read(self, stamp: int, angles: Array) -> None:
        """A reading of the leader, as the follower's angles."""
        self._leader.append((stamp, angles))

    def on_episode_start(self, info: EpisodeInfo) -> None:
        self._leader.clear()

    def on_step(self, step: Step) -> None:
        if not self._follower or step.joint_state.stamp > self._follower[-1][0]:
            self._follower.append((step.joint_state.stamp, step.joint_state.positions))
        self._late_ms.append(step.late_ms)

    def on_episode_end(self, result: EpisodeResult) -> None:
        self.result = result

    def figures(self, joints: tuple[str, ...]) -> dict[str, Any]:
        """Rate, lateness, and for each joint the difference in degrees and the leader's top speed in rad/s."""
        result = self.result
        if result is None or result.steps < 2:
            return {"steps": 0}
        figures: dict[str, Any] = {
            "steps": result.steps,
            "seconds": result.seconds,
            "rate": result.steps / result.seconds,
            "missed": result.missed,
            "late_ms": percentiles(self._late_ms),
        }
        if len(self._leader) > 2:
            figures |= compare(self._leader, self._follower, joints)
        return figures


def compare(
    leader: list[tuple[int, Array]], follower: list[tuple[int, Array]], joints: tuple[str, ...]
) -> dict[str, Any]:
    """The follower's readings against the leader's, which are interpolated to the same stamps."""
    asked = np.array([stamp for stamp, _ in leader], dtype=np.float64)
    wanted = np.array([angles for _, angles in leader])
    stamps = np.array([stamp for stamp, _ in follower], dtype=np.float64)
    inside = (stamps >= asked[0]) & (stamps <= asked[-1])
    found = np.array([angles for _, angles in follower])[inside]
    there = np.stack([np.interp(stamps[inside], asked, column) for column in wanted.T], axis=1)
    off = np.degrees(np.abs(found - there))
    step = max(1, len(asked) // max(1, int((asked[-1] - asked[0]) / SECOND / 0.05)))  # speeds over 50 ms
    spans = (asked[step:] - asked[:-step])[:, None] / SECOND
    speeds = np.abs(wanted[step:] - wanted[:-step]) / spans
    return {
        "off_degrees": {name: percentiles(off[:, index]) for index, name in enumerate(joints)},
        "leader_speed_max": {name: float(speeds[:, index].max()) for index, name in enumerate(joints)},
    }


class FreeScene:
    """Nothing is asked and nobody judges; an emulated table is laid out once."""

    def __init__(self, emulator: EmulatorProcess | None, clock: Clock, seconds: float) -> None:
        self._emulator, self._clock = emulator, clock
        self.limit = round(seconds * CONTROL_RATE)

    def arrange(self, task: str, seed: int) -> int:
        return self._clock.now() if self._emulator is None else self._emulator.reset(seed, task)

    def outcome(self) -> str | None:
        return None

    def verdict(self, result: EpisodeResult) -> str:
        return result.outcome

    def close(self) -> None:
        """A table stays."""


@contextmanager
def opened_leader(
    name: str,
    follower: RobotConfig,
    take: Callable[[str], str | None],
    clock: Clock,
    *,
    on_reading: Callable[[int, Array], None] = lambda stamp, angles: None,
) -> Iterator[tuple[Leader, EmulatorProcess | None]]:
    """The leader of that name for `with`, and the emulator that it stands on if it is an emulated one.

    `take` gives the keys of a keyboard. Raises `ConfigError`, `ArmError` and `EmulatorError`.
    """
    spec = follower.arm.spec()
    if name in (KEYBOARD, GAMEPAD):
        source = Keyboard(take, spec.joints) if name == KEYBOARD else Gamepad(spec.joints)
        yield JogLeader(source, spec, clock), None
        return
    config = load_robot(EMULATED_LEADER if name == EMULATED else name)
    with ExitStack() as stack:
        emulator = None
        if name == EMULATED:
            emulator = stack.enter_context(EmulatorProcess(config))
            patient = config.arm.model_copy(update={"deadline": EMULATED_DEADLINE})
            config = emulator.on_devices(config.model_copy(update={"arm": patient}))
        arm = open_arm(config.arm)
        leader = ArmLeader(arm, spec, follower.safety.grippers, name=f"leader {config.name}", on_reading=on_reading)
        stack.callback(leader.close)
        leader.connect()
        yield leader, emulator


def teleop(options: TeleopOptions, console: Console, *, interactive: bool) -> int:
    """Follow until the time is over, somebody presses Ctrl-C, or the arm faults; returns the exit code.

    Raises what is the user's to mend: `ConfigError`, `ArmError`, `CameraError`, `EmulatorError`.
    """
    with one_interrupt():
        return _teleop(options, console, interactive)


def _teleop(options: TeleopOptions, console: Console, interactive: bool) -> int:
    config = load_robot(options.robot)
    if config.arm.driver == "simulated":
        raise ConfigError("teleop needs time that passes: take --robot emulated, or a real arm")
    if options.leader == KEYBOARD and not interactive:
        raise ConfigError("--leader keyboard needs a terminal; take a leader arm or a gamepad")
    if options.rehearse is not None and options.leader != EMULATED:
        raise ConfigError("--rehearse moves an emulated leader: take --leader emulated")
    config = config.model_copy(update={"cameras": config.cameras if config.emulated else {}})
    clock, meter = MonotonicClock(), Meter()
    seconds = FOR_EVER if options.seconds is None else options.seconds
    with Episodes(console, 1) as progress, ExitStack() as stack:
        hint = HINTS.get(options.leader, "move the leader by hand; the follower goes to its pose first")
        listener = KeyListener(sys.stdin.fileno() if interactive else None, progress.say, clock, hint)
        leader, hand = stack.enter_context(
            opened_leader(options.leader, config, listener.take, clock, on_reading=meter.read)
        )
        rehearsed = _Rehearsal(meter, hand, load_robot(EMULATED_LEADER), options.rehearse)
        stage = stack.enter_context(
            real_time_stage(
                config,
                LeaderPolicy(leader, options.rate),
                [progress, meter, rehearsed],
                seed=options.seed,
                ask=None,
                say=progress.say,
                listen=listener.listen,
                start=leader.start,
                ended=rehearsed.over,
                make_scene=lambda emulator: FreeScene(emulator, clock, seconds),
            )
        )
        try:
            outcome = stage.play(0, TASKS[0].text, options.seed).outcome
        except StageFault as fault:
            outcome = f"{FAULT}{fault}"
        except KeyboardInterrupt:
            outcome = INTERRUPTED
    figures = meter.figures(config.arm.spec().joint_names)
    _show(figures, config, console)
    if options.json is not None:
        write_json(options.json, {"robot": config.name, "leader": options.leader, "outcome": outcome, **figures})
    if outcome.startswith(FAULT):
        console.print(f"stopped by a fault: {outcome.removeprefix(FAULT)}", highlight=False, markup=False)
        return FAULTED
    return INTERRUPTED_CODE if outcome == INTERRUPTED and options.seconds is not None else OK


class _Rehearsal:
    """A subscriber that sets an emulated hand going once the follower follows, and ends when it has arrived."""

    DONE = "rehearsed"

    def __init__(self, meter: Meter, hand: EmulatorProcess | None, leader: RobotConfig, speed: float | None) -> None:
        self._meter, self._hand, self._speed = meter, hand, speed
        home = leader.arm.home_pose()
        spec = leader.arm.spec()
        assert home is not None  # so101_leader.yaml has one
        self._poses = [np.clip(home + np.array(gesture), spec.position_min, spec.position_max) for gesture in GESTURES]
        self._checked = 0

    def on_episode_start(self, info: EpisodeInfo) -> None:
        if self._hand is not None and self._speed is not None:
            self._hand.hand(self._poses, self._speed)

    def on_step(self, step: Step) -> None:
        self._checked = step.index

    def on_episode_end(self, result: EpisodeResult) -> None:
        """The arm holds."""

    def over(self) -> str | None:
        """Asked after every step; the hand is asked now and then."""
        if self._hand is None or self._speed is None or self._checked % 50 != 49:
            return None
        return self.DONE if self._hand.let_go(when_arrived=True) else None


def _show(figures: dict[str, Any], config: RobotConfig, console: Console) -> None:
    if not figures["steps"]:
        return
    late = figures["late_ms"]
    say = [
        f"{figures['steps']} steps in {figures['seconds']:.1f} s: {figures['rate']:.1f} Hz, {figures['missed']} of "
        f"them missed; started {late['p50']:.1f} ms late p50, {late['p99']:.1f} p99"
    ]
    if "off_degrees" in figures:
        say.append("joint            off p50    p99    max degrees   leader's top speed rad/s")
        for name, off in figures["off_degrees"].items():
            mark = " (gripper)" if name in config.safety.grippers else ""
            speed = figures["leader_speed_max"][name]
            say.append(f"{name:<16} {off['p50']:7.2f} {off['p99']:6.2f} {off['max']:6.2f} {speed:20.2f}{mark}")
    for line in say:
        console.print(line, highlight=False, markup=False, soft_wrap=True)
