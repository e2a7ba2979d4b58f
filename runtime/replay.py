"""`gato-arm replay`: an episode's actions, played again on an arm. Knows no command line.

Open loop: nothing looks. The scene must be as it was, which a simulator lays out by the seed that was recorded, and a
person by the episode's first picture.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console

from drivers.arm import Array, frozen
from drivers.config import ConfigError, RobotConfig, load_robot
from policies.dataset import Dataset, DatasetError, Episode
from policies.dataset_format import ACTION
from policies.policy import Action, Observation
from runtime.clock import MonotonicClock
from runtime.keys import KeyListener
from runtime.leader import NO_TOKENS
from runtime.lockstep import run_lockstep
from runtime.loop import FAULT, EpisodeResult, Subscriber
from runtime.picture import Cell, contact_sheet, save_png
from runtime.progress import Episodes
from runtime.report import SUCCESS, EpisodeOutcome, write_json
from runtime.run import FAULTED, INTERRUPTED, OK, one_interrupt
from runtime.stage import EmulatedScene, PersonScene, Scene, StageFault, real_time_stage
from sim.emulator import EmulatorProcess
from sim.tasks import CONTROL_RATE, TaskError, parse_task

SETTLING = 2.0  # s after the last action in which a judge may come to its verdict
LAYOUT = "layout.png"


@dataclass(frozen=True)
class ReplayOptions:
    """What `gato-arm replay` was asked for."""

    dataset: Path
    episode: int = 0
    robot: str = "emulated"
    times: int = 1
    seed: int | None = None  # of the layout; None: the recorded one
    picture: Path | None = None  # of how the scene was, for a person who lays it out
    json: Path | None = None


class ReplayPolicy:
    """An episode's actions, one after the other, then the last one. Looks at nothing and has no tokens.

    Where the arm was pushed about while it recorded, that is what was wanted, not what was executed.
    """

    def __init__(self, episode: Episode, rate: float) -> None:
        self.name, self.rate = "replay", rate
        self._actions = [frozen(action) for action in episode.actions]
        self._next = 0

    def reset(self, task: str) -> None:
        self._next = 0

    def act(self, observation: Observation) -> Action:
        action = self._actions[min(self._next, len(self._actions) - 1)]
        self._next += 1
        return Action(action, NO_TOKENS)


def replay(options: ReplayOptions, console: Console, *, interactive: bool) -> int:
    """Play it `times` times; returns the exit code: 0, 3 after a fault of the arm, 130 after Ctrl-C.

    Raises what is the user's to mend: `ConfigError`, `DatasetError`, `ArmError`, `CameraError`, `EmulatorError`.
    """
    with one_interrupt():
        return _replay(options, console, interactive)


def _replay(options: ReplayOptions, console: Console, interactive: bool) -> int:
    config = load_robot(options.robot)
    dataset = Dataset(options.dataset)
    episode = _checked(dataset, options, config)
    seed = options.seed if options.seed is not None else episode.facts.seed
    if seed is None and (config.emulated or config.arm.driver == "simulated"):
        raise DatasetError(f"{options.dataset}: episode {options.episode} does not say how its scene was; give --seed")
    if options.picture is not None:
        first = tuple(episode.frames(camera)[0] for camera in sorted(episode.images))
        save_png(options.picture, contact_sheet([Cell(first, f"episode {options.episode}: {episode.task}", "plain")]))
    outcomes: list[EpisodeOutcome] = []
    exit_code, ending = OK, None
    with Episodes(console, options.times) as progress:

        def tell(index: int, result: EpisodeResult) -> None:
            outcome = EpisodeOutcome(index, seed or 0, episode.task, result.outcome, result.steps, result.seconds)
            outcomes.append(outcome)
            progress.end(outcome)
            if result.outcome.startswith(FAULT):
                raise StageFault(result.outcome.removeprefix(FAULT))

        play = _simulated if config.arm.driver == "simulated" else _real_time
        try:
            play(options, config, ReplayPolicy(episode, dataset.fps), episode, seed or 0, progress, interactive, tell)
        except StageFault as fault:
            exit_code, ending = FAULTED, f"stopped by a fault: {fault}"
        except KeyboardInterrupt:
            exit_code, ending = INTERRUPTED, "interrupted: the arm was decelerated, held and released"
    successes = sum(outcome.success for outcome in outcomes)
    figures = {
        "dataset": str(options.dataset),
        "episode": options.episode,
        "task": episode.task,
        "robot": config.name,
        "times": len(outcomes),
        "successes": successes,
        "outcomes": [outcome.outcome for outcome in outcomes],
    }
    if options.json is not None:
        write_json(options.json, figures)
    judged = [outcome for outcome in outcomes if outcome.outcome == SUCCESS or config.emulated]
    if judged:
        console.print(f"{successes} of {len(outcomes)} succeeded", highlight=False, markup=False)
    if ending is not None:
        console.print(ending, highlight=False, markup=False, soft_wrap=True)
    return exit_code


def _checked(dataset: Dataset, options: ReplayOptions, config: RobotConfig) -> Episode:
    """The episode, if the arm can play it. Raises `DatasetError` and `ConfigError`."""
    if not 0 <= options.episode < len(dataset):
        raise DatasetError(f"{options.dataset} has {len(dataset)} episodes, from 0 on: there is no {options.episode}")
    names = dataset.features[ACTION].get("names")
    joints = config.arm.spec().joint_names
    if list(names or ()) != list(joints):
        raise ConfigError(f"{options.dataset} moves {names}, {config.name} has {', '.join(joints)}: take another robot")
    episode = dataset[options.episode]
    spec = config.arm.spec()
    beyond = np.abs(episode.actions - np.clip(episode.actions, spec.position_min, spec.position_max)).max()
    if beyond > np.pi:
        raise DatasetError(
            f"{options.dataset}: its actions are no angles in rad of {config.name} ({beyond:.1f} too far)"
        )
    return episode


def _simulated(
    options: ReplayOptions,
    config: RobotConfig,
    policy: ReplayPolicy,
    episode: Episode,
    seed: int,
    progress: Subscriber,
    interactive: bool,
    tell: Callable[[int, EpisodeResult], None],
) -> None:
    size = next(camera.size for camera in config.cameras.values())
    for index in range(options.times):
        played = run_lockstep(
            lambda world: policy,
            episode.task,
            seed,
            robot=options.robot,
            image_size=size,
            subscribers=[progress],
            index=index,
        )
        tell(index, played.result)


def _real_time(
    options: ReplayOptions,
    config: RobotConfig,
    policy: ReplayPolicy,
    episode: Episode,
    seed: int,
    progress: Episodes,
    interactive: bool,
    tell: Callable[[int, EpisodeResult], None],
) -> None:
    clock = MonotonicClock()
    listener = KeyListener(sys.stdin.fileno() if interactive else None, progress.say, clock)
    steps = round(len(episode) / policy.rate * CONTROL_RATE + SETTLING * CONTROL_RATE)

    def start(command: Array) -> Array:
        return frozen(episode.joint_targets[0])

    def make_scene(emulator: EmulatorProcess | None) -> Scene:
        return PersonScene(None, clock, steps) if emulator is None else EmulatedScene(emulator, steps)

    if config.emulated:
        _known(episode)
    subscribers: Sequence[Subscriber] = [progress]
    with ExitStack() as stack:
        stage = stack.enter_context(
            real_time_stage(
                config,
                policy,
                subscribers,
                seed=seed,
                ask=None,
                say=progress.say,
                listen=listener.listen,
                start=start,
                make_scene=make_scene,
            )
        )
        for index in range(options.times):
            tell(index, stage.play(index, episode.task, seed))


def _known(episode: Episode) -> None:
    """The emulator judges the tasks of its table only. Raises `DatasetError`."""
    try:
        parse_task(episode.task)
    except TaskError as error:
        raise DatasetError(f"the emulated table cannot judge this episode: {error}") from error
