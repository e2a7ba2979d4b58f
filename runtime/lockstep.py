"""A simulated robot in lock-step: one process, one simulated clock, the same loops as on the real arm.

A process has one world, which forgets everything at each reset: an episode's outcome depends on its seed alone, not on
what the same worker played before.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
from numpy.typing import NDArray

from drivers.arm import frozen
from drivers.camera import Camera
from drivers.config import URDF_FOLDER, ConfigError, RobotConfig, find_urdf, load_robot
from policies.policy import Action, Observation, Policy, PolicyError
from runtime.clock import SECOND, MonotonicClock, Pacer, SimulatedClock
from runtime.guard import Guard
from runtime.loop import ControlLoop, EpisodeInfo, EpisodeResult, LockstepServo, Step, Subscriber
from runtime.report import SUCCESS
from runtime.servo import ServoLoop, ServoSettings
from runtime.servo_state import ServoState
from sim.expert import Expert
from sim.rig import Rig
from sim.robot import SimulatedArm, SimulatedCamera
from sim.shapes import Shape
from sim.tasks import TASKS, Judge, TaskError, parse_task
from sim.variation import NOMINAL, Conditions, parse_conditions
from sim.world import URDF, World

ROBOT = "simulated"
CAMERAS = ("fixed", "wrist")
IMAGE_SIZE = (64, 64)  # (height, width)
AS_TOLD = "as told, not as asked"  # the outcome of an episode whose policy did another task that it was told
MakePolicy = Callable[[World], Policy]


def task_of(index: int, task: str | None = None) -> str:
    """What episode `index` is asked: `task`, or the tasks in turn. Raises `TaskError`."""
    return parse_task(task).text if task is not None else TASKS[index % len(TASKS)].text


class ExpertPolicy:
    """The scripted demonstrator as a policy. It looks at the world, not at the observation, and has no tokens."""

    name = "expert"
    rate = 20.0

    def __init__(self, world: World) -> None:
        self._world = world
        self._expert: Expert | None = None

    def reset(self, task: str) -> None:
        try:
            self._expert = Expert(self._world, parse_task(task))
        except TaskError as error:
            raise PolicyError(str(error)) from error

    def act(self, observation: Observation) -> Action:
        if self._expert is None:
            raise PolicyError("the expert was not told its task: call reset before act")
        targets = self._expert.act(np.array(observation.proprioception["joint_targets"]))
        return Action(frozen(targets), np.zeros(0, dtype=np.int64))


class LastFrames:
    """A subscriber that keeps the newest image of each camera, in the order of the cameras' names."""

    def __init__(self) -> None:
        self.frames: tuple[NDArray[np.uint8], ...] = ()

    def on_episode_start(self, info: object) -> None:
        self.frames = ()

    def on_step(self, step: Step) -> None:
        self.frames = tuple(step.observation.images[name] for name in sorted(step.observation.images))

    def on_episode_end(self, result: object) -> None:
        """Keep the frames: the end is what is shown."""


class _Numbered:
    """Tells a subscriber the episode's number in the whole run; a control loop of one episode only knows 0."""

    def __init__(self, subscriber: Subscriber, index: int) -> None:
        self._subscriber, self._index = subscriber, index

    def on_episode_start(self, info: EpisodeInfo) -> None:
        self._subscriber.on_episode_start(replace(info, index=self._index))

    def on_step(self, step: Step) -> None:
        self._subscriber.on_step(step)

    def on_episode_end(self, result: EpisodeResult) -> None:
        self._subscriber.on_episode_end(replace(result, index=self._index))


@dataclass(frozen=True)
class LockstepEpisode:
    """What came of one episode in lock-step."""

    result: EpisodeResult
    frames: tuple[NDArray[np.uint8], ...]  # the last of each camera
    sparse: bool  # Gato's sparse success was seen at some step


@functools.cache
def _config(robot: str) -> RobotConfig:
    return simulable(robot)


@functools.cache
def _world(robot: str, image_size: tuple[int, int]) -> World:
    return Rig.of(_config(robot), image_size=image_size)


def simulable(robot: str) -> RobotConfig:
    """The robot of that name or file, which lock-step can play: emulated or simulated, with the stacking arm.

    Raises `ConfigError` for any other.
    """
    config = load_robot(robot)
    if not config.emulated and config.arm.driver != "simulated":
        raise ConfigError(f"robot {config.name} is a real one: lock-step plays an emulated or a simulated robot")
    if config.arm.urdf is not None and find_urdf(config.arm) != URDF_FOLDER / URDF:
        raise ConfigError(
            f"robot {config.name}: its arm is not that of block stacking ({URDF}); there are no tasks for it"
        )
    return config


def _shifted(robot: str, conditions: Conditions) -> Conditions:
    """The robot's own conditions, and in their place whatever of `conditions` is not nominal."""
    section = _config(robot).simulation
    own = NOMINAL if section is None else parse_conditions(section.conditions)
    changed = {field.name: getattr(conditions, field.name) for field in fields(conditions)}
    return replace(own, **{name: value for name, value in changed.items() if value != getattr(NOMINAL, name)})


@functools.cache
def safety_of(robot: str) -> tuple[ServoSettings, Guard | None]:
    """How the servo loop of that robot is set and guarded, in lock-step as in real time. Raises `ConfigError`."""
    config = _config(robot)
    return ServoSettings.of_robot(config), Guard.of(config)


def run_lockstep(
    make_policy: MakePolicy,
    task: str,
    seed: int,
    *,
    robot: str = ROBOT,
    image_size: tuple[int, int] = IMAGE_SIZE,
    conditions: Conditions = NOMINAL,
    shapes: Mapping[str, Shape] | None = None,
    other: str | None = None,
    subscribers: Sequence[Subscriber] = (),
    on_tick: Callable[[ServoState], None] | None = None,
    index: int = 0,
    clock: SimulatedClock | None = None,
) -> LockstepEpisode:
    """Run one episode: layout from `np.random.default_rng(seed)`, arm at home.

    `robot` is an emulated or simulated one, and stands as its file says; `conditions` that are not nominal take the
    place of its own, and `shapes` (of each colour) that of its objects. The episode ends as well, with the outcome
    `AS_TOLD`, when the task `other` is done. `on_tick` is told the servo loop's state after each of its ticks,
    subscribers that it is episode `index`. Its time goes on from `clock`, or starts at 0. Step durations are measured
    by the machine's clock, everything else goes by the simulated one. Raises `ConfigError`, `TaskError` and
    `PolicyError`.
    """
    asked = parse_task(task)
    world = _world(robot, image_size)
    world.reset(np.random.default_rng(seed), conditions=_shifted(robot, conditions), shapes=shapes)
    clock = clock or SimulatedClock()
    arm = SimulatedArm(world, clock=clock.now, spec=_config(robot).arm.spec())
    settings, guard = safety_of(robot)
    loop = ServoLoop(arm, clock, settings, guard)
    loop.connect()

    def advance(seconds: float) -> None:
        world.step(round(seconds * world.physics_rate))
        clock.advance(round(seconds * SECOND))

    servo = LockstepServo(loop, advance, on_tick)
    cameras: dict[str, Camera] = {name: SimulatedCamera(name, world, clock=clock.now) for name in CAMERAS}
    for camera in cameras.values():
        camera.connect()
    judge = Judge(world, asked)
    others = [] if other is None else [Judge(world, parse_task(other))]

    def done() -> str | None:
        judge.update()
        for also in others:
            also.update()
            if also.outcome == SUCCESS:
                return AS_TOLD
        return judge.outcome

    policy = make_policy(world)
    last = LastFrames()
    pacer = Pacer(clock, round(SECOND / policy.rate))
    told: list[Subscriber] = [last, *(_Numbered(subscriber, index) for subscriber in subscribers)]
    stopwatch = MonotonicClock()
    control = ControlLoop(policy, cameras, servo, clock, pacer, told, stopwatch=stopwatch, safety=settings.safety)
    result = control.run_episode(asked.text, judge.limit, done)
    return LockstepEpisode(replace(result, index=index), last.frames, judge.sparse)
