"""`gato-arm run`: plays episodes on a robot and leaves a recording, a picture and a report. Knows no command line."""

from __future__ import annotations

import functools
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

from rich.console import Console

from drivers.arm import ArmError
from drivers.config import ConfigError, RobotConfig, load_robot
from policies.artifact import PRETRAINED, check_robot, find_artifact, load_artifact
from policies.policy import Policy, PolicyError
from runtime.clock import MonotonicClock, SimulatedClock
from runtime.evaluate import EXPERT
from runtime.keys import HELP, OperatorKeys
from runtime.lockstep import ROBOT, ExpertPolicy, LastFrames, run_lockstep, task_of
from runtime.loop import FAULT, EpisodeResult, Subscriber
from runtime.picture import Cell, contact_sheet, save_png
from runtime.progress import Episodes
from runtime.recorder import ERROR, Recorder
from runtime.report import SUCCESS, UNJUDGED, EpisodeOutcome, Report, write_json
from runtime.servo_state import ServoState
from runtime.stage import Stage, StageFault, real_time_stage
from runtime.supervisor import RefusedError, Stop

OK, FAULTED, INTERRUPTED = 0, 3, 130  # exit codes
PICTURE = "episodes.png"
REPORT = "report.json"
TRACE = "servo_goals.csv"  # of an emulated arm: every goal that reached its servos


@dataclass(frozen=True)
class RunOptions:
    """What `gato-arm run` was asked for."""

    folder: Path
    robot: str = "emulated"
    task: str | None = None  # default: the tasks in turn
    episodes: int = 6
    seed: int = 0
    policy: str | None = None  # default: the one that is shipped
    threads: int | None = None  # default: two; the servo loop's priority is above theirs
    json: Path | None = None


@dataclass
class _Played:
    """What a run adds up to."""

    outcomes: list[EpisodeOutcome] = field(default_factory=list)
    cells: list[Cell] = field(default_factory=list)
    exit_code: int = OK
    ending: str | None = None  # why the run was cut short
    servo: dict[str, int] = field(default_factory=dict)


@contextmanager
def one_interrupt() -> Iterator[None]:
    """Within, the first SIGINT or SIGTERM raises KeyboardInterrupt and later ones are ignored: an impatient second
    Ctrl-C must not stop the arm from being stopped. Only in the main thread; elsewhere it does nothing."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = (signal.SIGINT, signal.SIGTERM)
    previous = {number: signal.getsignal(number) for number in numbers}

    def interrupt(number: int, frame: FrameType | None) -> None:
        for each in numbers:
            signal.signal(each, signal.SIG_IGN)
        raise KeyboardInterrupt

    for number in numbers:
        signal.signal(number, interrupt)
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def run(options: RunOptions, console: Console, *, interactive: bool) -> int:
    """Play the episodes; returns the exit code: 0, 3 after a fault of the arm, 130 after Ctrl-C.

    `interactive` says that an operator can be asked to lay out and judge a real table. Raises what is the user's to
    mend, one line each: `ConfigError`, `PolicyError`, `TaskError`, `ArmError`, `CameraError`, `RefusedError`.
    """
    with one_interrupt():
        return _run(options, console, interactive)


def _run(options: RunOptions, console: Console, interactive: bool) -> int:
    config = load_robot(options.robot)
    first = task_of(0, options.task)  # what cannot be understood must stop us before anything starts
    simulated = config.arm.driver == "simulated"
    policy = _open_policy(options, config)
    name = policy.name if policy else EXPERT
    played = _Played()
    epoch = 0 if simulated else time.time_ns() - time.monotonic_ns()
    metadata = {"robot": config.name, "policy": name, "seed": str(options.seed)}
    last = LastFrames()
    with (
        Episodes(console, options.episodes) as progress,
        Recorder(
            options.folder, config.arm.spec().joint_names, epoch=epoch, metadata=metadata, notify=progress.say
        ) as recorder,
    ):
        subscribers: list[Subscriber] = [last, progress, recorder]
        if policy is None or simulated:
            _play(
                options,
                SimulatedStage(policy, config, subscribers, recorder.on_tick, options.robot),
                played,
                progress,
                last,
                recorder,
            )
        else:
            operator = _Operator(progress, recorder)
            policy.reset(first)  # a task that it does not know is refused before anything starts
            with real_time_stage(
                config,
                policy,
                subscribers,
                seed=options.seed,
                ask=operator.ask if interactive else None,
                say=progress.say,
                trace=options.folder / TRACE,
                follow=recorder.follow,
                listen=operator.listen if interactive else None,
            ) as stage:
                recover = functools.partial(operator.resets, stage) if interactive else None
                _play(options, stage, played, progress, last, recorder, recover)
    extra = {"robot": config.name, "recording": str(recorder.path), "recorder_dropped": recorder.dropped}
    report = Report(name, options.seed, tuple(played.outcomes), {**extra, "servo": played.servo})
    _leave(options, played, report, console, recorder)
    return played.exit_code


def _play(
    options: RunOptions,
    stage: Stage,
    played: _Played,
    progress: Episodes,
    last: LastFrames,
    recorder: Recorder,
    recover: Callable[[str], bool] | None = None,
) -> None:
    """Play episodes until they are done, somebody presses Ctrl-C, or the arm faults and nobody resets it.

    `recover` is told a fault and says whether the operator has reset it.
    """
    index = 0
    try:
        while index < options.episodes:
            seed = options.seed + index
            try:
                result = stage.play(index, task_of(index, options.task), seed)
            except StageFault as fault:
                recorder.log(time.monotonic_ns(), ERROR, str(fault))
                if recover is None or not recover(str(fault)):
                    raise
                continue
            recorder.verdict(result)
            outcome = _outcome(index, seed, result)
            played.outcomes.append(outcome)
            tone = {SUCCESS: "good", UNJUDGED: "plain"}.get(outcome.outcome, "bad")
            played.cells.append(Cell(last.frames, f"{index + 1}. {outcome.task}: {outcome.outcome}", tone))
            progress.end(outcome)
            played.servo = stage.counters()
            index += 1
            if outcome.outcome.startswith(FAULT):
                fault_text = outcome.outcome.removeprefix(FAULT)
                recorder.log(time.monotonic_ns(), ERROR, fault_text)
                if recover is None or not recover(fault_text):
                    raise StageFault(fault_text)
    except StageFault as fault:
        played.exit_code, played.ending = FAULTED, f"stopped by a fault: {fault}"
    except KeyboardInterrupt:
        recorder.event(None, "operator", "interrupted: decelerate, hold, lower, release")
        played.exit_code, played.ending = INTERRUPTED, "interrupted: the arm was stopped, lowered and released"


class _Operator:
    """The person at the terminal: stops the arm by a key, answers questions, resets faults."""

    def __init__(self, progress: Episodes, recorder: Recorder) -> None:
        self._progress, self._recorder = progress, recorder
        self._keys: OperatorKeys | None = None

    @contextmanager
    def listen(self, stop: Callable[[Stop], None]) -> Iterator[None]:
        """Read keys inside `with`; `stop` is told of those that stop the arm."""

        def pressed(category: Stop) -> None:
            stop(category)
            self._recorder.event(time.monotonic_ns(), "operator", f"stop of category {int(category)}: {category.name}")

        with OperatorKeys(sys.stdin.fileno(), pressed, self._progress.say, MonotonicClock()) as self._keys:
            self._progress.say(HELP)
            yield

    def ask(self, question: str) -> bool:
        """Put a yes-or-no question."""
        assert self._keys is not None  # questions are put while somebody listens
        with self._keys.paused():
            return self._progress.ask(question)

    def resets(self, stage: Stage, fault: str) -> bool:
        """Whether the operator has reset the arm after `fault`; asked again while that does not work."""
        assert self._keys is not None
        while self._keys.wants_reset(fault):
            try:
                stage.reset()
            except (ArmError, RefusedError) as error:
                fault = str(error)
                continue
            self._recorder.event(time.monotonic_ns(), "operator", f"reset after: {fault}")
            return True
        return False


def _outcome(index: int, seed: int, result: EpisodeResult) -> EpisodeOutcome:
    durations = tuple(float(ms) for ms in result.step_ms)
    return EpisodeOutcome(
        index, seed, result.task, result.outcome, result.steps, result.seconds, durations, result.missed
    )


def _leave(options: RunOptions, played: _Played, report: Report, console: Console, recorder: Recorder) -> None:
    """The table, the files and the figures at the end."""
    cells = [cell for cell in played.cells if cell.frames]
    picture = options.folder / PICTURE
    if cells:
        save_png(picture, contact_sheet(cells, columns=3))
    content = report.to_json() | {"picture": str(picture) if cells else None}
    write_json(options.folder / REPORT, content)
    if options.json is not None:
        write_json(options.json, content)

    def say(text: str) -> None:
        console.print(text, highlight=False, markup=False, soft_wrap=True)

    if report.outcomes:
        console.print(report.table("Episodes by task"))
        say(report.summary())
    if (timing := report.step_ms()) is not None:
        say(
            f"control step {timing['p50']:.1f} ms p50, {timing['p99']:.1f} ms p99, {timing['max']:.1f} ms max; "
            f"{report.deadline_misses} of {report.ticks} deadlines missed"
        )
    note = f" ({recorder.dropped} records dropped)" if recorder.dropped else ""
    say(f"recording  {recorder.path}{f' (broken off: {recorder.error})' if recorder.error else note}")
    if cells:
        say(f"picture    {picture}")
    if played.ending is not None:
        say(played.ending)


class SimulatedStage:
    """The simulator in lock-step, as fast as the machine goes; `policy` None is the demonstrator."""

    def __init__(
        self,
        policy: Policy | None,
        config: RobotConfig,
        subscribers: Sequence[Subscriber],
        on_tick: Callable[[ServoState], None],
        robot: str = ROBOT,
    ) -> None:
        """`on_tick` is told every servo tick's state; `robot` is the name or file that `config` was loaded from."""
        self._robot = robot
        self._policy, self._subscribers, self._on_tick = policy, subscribers, on_tick
        self._size = next(camera.size for camera in config.cameras.values())
        self._clock = SimulatedClock()

    def play(self, index: int, task: str, seed: int) -> EpisodeResult:
        make = ExpertPolicy if self._policy is None else self._given
        episode = run_lockstep(
            make,
            task,
            seed,
            robot=self._robot,
            image_size=self._size,
            subscribers=self._subscribers,
            on_tick=self._on_tick,
            index=index,
            clock=self._clock,
        )
        return episode.result

    def _given(self, world: object) -> Policy:
        assert self._policy is not None
        return self._policy

    def counters(self) -> dict[str, int]:
        return {}

    def reset(self) -> None:
        """The next episode is a new arm."""


def default_policy() -> str:
    """The name of the artifact that is shipped. Raises `PolicyError` when there is none, or more than one."""
    shipped = sorted(card.parent.name for card in PRETRAINED.glob("*/card.yaml"))
    if len(shipped) != 1:
        names = f"choose one of {', '.join(shipped)}" if shipped else "none is shipped here, name an artifact's folder"
        raise PolicyError(f"which policy? {names} with --policy")
    return shipped[0]


def _open_policy(options: RunOptions, config: RobotConfig) -> Policy | None:
    """The policy, checked against the robot; None for the demonstrator."""
    if options.policy == EXPERT:
        if config.arm.driver != "simulated":
            raise ConfigError(
                "the expert looks at the simulator's truth: use it with --robot simulated, or gato-arm eval"
            )
        return None
    artifact = load_artifact(find_artifact(options.policy or default_policy()))
    check_robot(artifact.card, config)
    from policies.onnx_policy import OnnxPolicy

    policy = OnnxPolicy(artifact, threads=options.threads or min(2, os.cpu_count() or 2))
    policy.warm_up()
    return policy
