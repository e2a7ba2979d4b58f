"""`gato-arm record`: demonstrations by a leader, the expert or a policy, written as a dataset. Knows no command line.

An episode is on the disk before the next one begins, so whatever ends a recording, the finished ones are kept.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from drivers.arm import Array
from drivers.config import ConfigError, RobotConfig, load_robot
from policies.artifact import check_robot, find_artifact, load_artifact
from policies.dataset import Dataset, Facts
from policies.dataset_format import INFO_PATH
from policies.dataset_writer import DatasetWriter
from policies.policy import Action, Observation, Policy
from runtime.clock import SECOND, Clock, MonotonicClock
from runtime.demonstration import Disturbed, EpisodeBuilder, describe_robot
from runtime.evaluate import EXPERT
from runtime.keys import KeyListener
from runtime.leader import NO_TOKENS, Leader, LeaderPolicy
from runtime.lockstep import task_of
from runtime.loop import FAULT, EpisodeResult, Subscriber
from runtime.progress import Episodes
from runtime.report import SUCCESS, UNJUDGED, EpisodeOutcome, write_json
from runtime.run import FAULTED, INTERRUPTED, OK, default_policy, one_interrupt
from runtime.sampled import Sampled
from runtime.stage import EmulatedScene, PersonScene, Scene, Stage, StageFault, real_time_stage
from runtime.teleop import RATE as LEADER_RATE
from runtime.teleop import opened_leader
from sim.emulator import EmulatorProcess
from sim.emulator_client import EmulatorClient
from sim.tasks import CONTROL_RATE

FPS = 20  # Hz of the dataset: the policies' rate
COUNTDOWN = 3  # s between the operator's key and the beginning
AGAIN, DISCARDED = "to be done again", "discarded"  # outcomes that the operator gives
MARKS = {"n": SUCCESS, "f": "failed", "r": AGAIN, "x": DISCARDED}
KEYS = "n: begin, then done   f: it failed   r: again, same layout   x: discard   q: end the recording"


@dataclass(frozen=True)
class RecordOptions:
    """What `gato-arm record` was asked for; exactly one of `leader` and `policy` drives."""

    out: Path
    robot: str = "emulated"
    leader: str | None = None
    policy: str | None = None  # EXPERT, a shipped policy's name or an artifact's folder
    task: str | None = None  # default: the tasks in turn
    episodes: int = 10
    seed: int = 0
    seconds: float = 12.0  # of an episode, at most
    keep_failures: bool = False
    disturb: bool = False  # push the arm about while a policy drives it
    videos: bool = False
    json: Path | None = None


class EmulatedExpert:
    """The scripted demonstrator, which looks at the emulator's truth from outside. A policy without tokens."""

    name = EXPERT
    rate = float(FPS)

    def __init__(self) -> None:
        self._asking: EmulatorClient | None = None
        self._task = ""

    def attach(self, emulator: EmulatorProcess) -> Callable[[], None]:
        """Ask this emulator from now on; returns what ends that."""
        self._asking = EmulatorClient(emulator.control)
        return self._asking.close

    def reset(self, task: str) -> None:
        self._task = task

    def act(self, observation: Observation) -> Action:
        assert self._asking is not None  # attached before the first episode
        targets = np.asarray(observation.proprioception["joint_targets"])
        return Action(self._asking.demonstrate(self._task, targets), NO_TOKENS)


class Prompter:
    """What the operator says by keys: when an episode begins, and what came of it. Nobody may be there."""

    def __init__(self, listener: KeyListener, say: Callable[[str], None], clock: Clock) -> None:
        self._listener, self._say, self._clock = listener, say, clock

    def await_begin(self, what: str) -> None:
        """Return once the operator wants the episode, after a countdown. Raises KeyboardInterrupt for the end."""
        if not self._listener.there:
            return
        self._listener.forget()
        self._say(f"{what}: n begins, q ends the recording")
        while (key := self._listener.take("nq")) is None:
            self._clock.sleep_until(self._clock.now() + SECOND // 20)
        if key == "q":
            raise KeyboardInterrupt
        for left in range(COUNTDOWN, 0, -1):
            self._say(f"{left} …")
            self._clock.sleep_until(self._clock.now() + SECOND)
        self._listener.forget()

    def ended(self) -> str | None:
        """The mark that the operator has given, asked after each step. Raises KeyboardInterrupt for the end."""
        key = self._listener.take("q" + "".join(MARKS))
        if key == "q":
            raise KeyboardInterrupt
        return None if key is None else MARKS[key]


@dataclass
class _Recorded:
    """What a recording adds up to."""

    kept: int = 0
    outcomes: list[EpisodeOutcome] = field(default_factory=list)
    exit_code: int = OK
    ending: str | None = None


def record(options: RecordOptions, console: Console, *, interactive: bool) -> int:
    """Record until `episodes` are kept; returns the exit code: 0, 3 after a fault of the arm, 130 after Ctrl-C or q.

    Raises what is the user's to mend: `ConfigError`, `PolicyError`, `TaskError`, `DatasetError`, `ArmError`,
    `CameraError`, `EmulatorError`.
    """
    with one_interrupt():
        return _record(options, console, interactive)


def _record(options: RecordOptions, console: Console, interactive: bool) -> int:
    if (options.leader is None) == (options.policy is None):
        raise ConfigError("who demonstrates? take either --leader or --policy")
    if options.disturb and options.policy is None:
        raise ConfigError("--disturb pushes the arm while a policy drives it: take --policy expert")
    config = load_robot(options.robot)
    task_of(0, options.task)  # what cannot be understood must stop us before anything starts
    if not config.cameras:
        raise ConfigError(f"{config.name} has no cameras: there is nothing to learn from such a recording")
    recorded = _Recorded()
    with Episodes(console, options.episodes) as progress, EpisodeBuilder() as builder, ExitStack() as stack:
        writer = stack.enter_context(_writer(options, config))
        robot = writer.add_robot(describe_robot(config))
        listener = KeyListener(sys.stdin.fileno() if interactive else None, progress.say, MonotonicClock(), KEYS)
        stage, driver = stack.enter_context(_stage(options, config, listener, [progress, builder], progress.say))
        loop = _Loop(options, writer, builder, progress, Facts(robot=robot), driver, recorded)
        try:
            loop.run(stage)
        except StageFault as fault:
            recorded.exit_code, recorded.ending = FAULTED, f"stopped by a fault: {fault}"
        except KeyboardInterrupt:
            recorded.exit_code, recorded.ending = INTERRUPTED, "ended by the operator"
    _leave(options, recorded, len(writer), console)
    return recorded.exit_code


def _writer(options: RecordOptions, config: RobotConfig) -> DatasetWriter:
    return DatasetWriter(
        options.out,
        fps=FPS,
        images={name: camera.size for name, camera in config.cameras.items()},
        joint_names=config.arm.spec().joint_names,
        robot_type=config.name,
        videos=options.videos,
    )


class _Loop:
    """Plays and keeps episodes, one after the other."""

    def __init__(
        self,
        options: RecordOptions,
        writer: DatasetWriter,
        builder: EpisodeBuilder,
        progress: Episodes,
        facts: Facts,
        driver: Policy,
        recorded: _Recorded,
    ) -> None:
        self._options, self._writer, self._builder, self._progress = options, writer, builder, progress
        self._facts, self._driver, self._recorded = facts, driver, recorded
        self._seed = next_seed(options.out, options.seed)

    def run(self, stage: Stage) -> None:
        """Until enough are kept. Raises `StageFault`, also for a fault during an episode."""
        options, recorded = self._options, self._recorded
        while recorded.kept < options.episodes:
            index, seed = recorded.kept, self._seed
            task = task_of(seed - options.seed, options.task)
            result = stage.play(index, task, seed)
            if result.outcome.startswith(FAULT):
                raise StageFault(result.outcome.removeprefix(FAULT))
            outcome = EpisodeOutcome(index, seed, task, result.outcome, result.steps, result.seconds, (), result.missed)
            if result.outcome != AGAIN:
                self._seed += 1
            if self._wanted(result):
                self._keep(result, seed)
            recorded.outcomes.append(outcome)
            self._progress.end(outcome)

    def _wanted(self, result: EpisodeResult) -> bool:
        if result.outcome in (AGAIN, DISCARDED) or not len(self._builder):
            return False
        return self._options.keep_failures or result.outcome in (SUCCESS, UNJUDGED)

    def _keep(self, result: EpisodeResult, seed: int) -> None:
        facts = Facts(
            seed=seed,
            outcome=result.outcome,
            robot=self._facts.robot,
            demonstrator=self._driver.name,
            recorded=datetime.now(UTC).isoformat(timespec="seconds"),
        )
        episode = self._builder.episode(facts)
        if isinstance(self._driver, Disturbed):
            episode = replace(episode, actions=self._driver.labels())
        self._writer.add(episode)
        self._recorded.kept += 1


def next_seed(folder: Path, first: int) -> int:
    """The first seed from `first` on that is above all that the dataset in `folder` has."""
    if not (folder / INFO_PATH).exists():
        return first
    dataset = Dataset(folder)
    used = [seed for index in range(len(dataset)) if (seed := dataset.facts(index).seed) is not None]
    return max([first - 1, *used]) + 1


@contextmanager
def _stage(
    options: RecordOptions,
    config: RobotConfig,
    listener: KeyListener,
    subscribers: list[Subscriber],
    say: Callable[[str], None],
) -> Iterator[tuple[Stage, Policy]]:
    """Where episodes are played, and who demonstrates."""
    clock = MonotonicClock()
    if config.arm.driver == "simulated":
        raise ConfigError("record needs time that passes: take --robot emulated or a real arm; or gato-arm collect")
    prompter = Prompter(listener, say, clock)
    steps = round(options.seconds * CONTROL_RATE)
    with ExitStack() as stack:
        expert: EmulatedExpert | None = None
        leader: Leader | None = None
        told = subscribers
        driver: Policy
        if options.leader is not None:
            leader, _ = stack.enter_context(opened_leader(options.leader, config, listener.take, clock))
            driver = LeaderPolicy(leader, LEADER_RATE)
            told = [Sampled(subscriber, round(LEADER_RATE / FPS)) for subscriber in subscribers]
        elif options.policy == EXPERT:
            if not config.emulated:
                raise ConfigError("the expert looks at the simulator's truth: take --leader on a real arm")
            driver = expert = EmulatedExpert()
        else:
            driver = _open_policy(options, config)
        if options.disturb:
            driver = Disturbed(driver, config.arm.spec(), np.random.default_rng([options.seed, 1]))

        def start(command: Array) -> Array | None:
            if leader is not None:
                prompter.await_begin("lay out the blocks and take the leader")
                return leader.start(command)
            if not config.emulated:
                prompter.await_begin("lay out the blocks and step back")
            return config.arm.home_pose()

        def make_scene(emulator: EmulatorProcess | None) -> Scene:
            if emulator is None:
                return PersonScene(None, clock, steps)
            if expert is not None:
                stack.callback(expert.attach(emulator))
            return EmulatedScene(emulator, steps)

        stage = stack.enter_context(
            real_time_stage(
                config,
                driver,
                told,
                seed=options.seed,
                ask=None,
                say=say,
                listen=listener.listen,
                start=start,
                ended=prompter.ended,
                make_scene=make_scene,
            )
        )
        yield stage, driver


def _open_policy(options: RecordOptions, config: RobotConfig) -> Policy:
    from policies.onnx_policy import OnnxPolicy

    artifact = load_artifact(find_artifact(options.policy or default_policy()))
    check_robot(artifact.card, config)
    policy = OnnxPolicy(artifact)
    policy.warm_up()
    return policy


def _leave(options: RecordOptions, recorded: _Recorded, total: int, console: Console) -> None:
    """The figures at the end."""
    figures: dict[str, Any] = {
        "dataset": str(options.out),
        "kept": recorded.kept,
        "played": len(recorded.outcomes),
        "episodes": total,
        "failures": sorted(outcome.outcome for outcome in recorded.outcomes if outcome.outcome != SUCCESS),
        "missed": sum(outcome.missed for outcome in recorded.outcomes),
        "steps": sum(outcome.steps for outcome in recorded.outcomes),
    }
    if options.json is not None:
        write_json(options.json, figures)
    for text in (
        f"{recorded.kept} of {len(recorded.outcomes)} episodes kept; {options.out} now holds {total}",
        recorded.ending,
    ):
        if text is not None:
            console.print(text, highlight=False, markup=False, soft_wrap=True)
