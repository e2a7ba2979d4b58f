"""Episodes for a dataset, put together from what a control loop tells its subscribers.

The same for a policy, the scripted demonstrator, a leader arm and a recording that is read back. Knows no folder and no
robot.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from drivers.arm import ArmSpec, Array
from policies.dataset import Episode, Facts
from policies.dataset_images import encode_png
from policies.policy import Action, Observation, Policy
from runtime.loop import EpisodeInfo, EpisodeResult, Step

if TYPE_CHECKING:
    from drivers.config import RobotConfig

NOISE = 0.006  # rad, standard deviation of the noise on a target
PUSHES = 0.04  # a step: one or two in an episode of three seconds
PUSH_STEPS = (2, 8)  # so many steps, the end excluded
PUSH = 0.04  # rad a step, standard deviation
JOINTS, TARGETS = "joint_positions", "joint_targets"  # names of an observation's proprioception


class EpisodeBuilder:
    """A subscriber that keeps an episode's steps; `episode` makes one of them once it is over.

    Images become PNG on a thread, so that a control step waits for none. An observation's joint targets are the command
    in force, and a step's action is what the demonstrator wanted there. A context manager, which ends the thread.
    """

    def __init__(self, encode: Callable[[NDArray[np.uint8]], bytes] = encode_png) -> None:
        self._encode = encode
        self._worker = ThreadPoolExecutor(1, "encode")
        self._begin()

    def __enter__(self) -> EpisodeBuilder:
        return self

    def __exit__(self, *_: object) -> None:
        self._worker.shutdown(cancel_futures=True)

    def __len__(self) -> int:
        return len(self._actions)

    def _begin(self) -> None:
        self._task = ""
        self._images: dict[str, list[Future[bytes]]] = {}
        self._positions: list[Array] = []
        self._targets: list[Array] = []
        self._actions: list[Array] = []
        self._stamps: list[list[int]] = []

    def on_episode_start(self, info: EpisodeInfo) -> None:
        self._begin()
        self._task = info.task

    def on_step(self, step: Step) -> None:
        for camera, image in step.observation.images.items():
            self._images.setdefault(camera, []).append(self._worker.submit(self._encode, image))
        self._positions.append(np.asarray(step.observation.proprioception[JOINTS]))
        self._targets.append(np.asarray(step.observation.proprioception[TARGETS]))
        self._actions.append(step.action.targets)
        self._stamps.append([step.joint_state.stamp, *(step.frame_stamps[name] for name in sorted(step.frame_stamps))])

    def on_episode_end(self, result: EpisodeResult) -> None:
        """`episode` is asked for it."""

    def episode(self, facts: Facts) -> Episode:
        """The episode so far. Raises `ValueError` without a step."""
        if not self._actions:
            raise ValueError("an episode without a step")
        return Episode(
            self._task,
            {camera: [image.result() for image in images] for camera, images in self._images.items()},
            _matrix(self._positions),
            _matrix(self._targets),
            _matrix(self._actions),
            stamps=np.array(self._stamps, dtype=np.int64),
            facts=facts,
        )


def _matrix(rows: list[Array]) -> NDArray[np.float32]:
    return np.stack(rows).astype(np.float32)


class Disturbed:
    """A policy whose arm is pushed about while it drives: a demonstrator is seen coming back from where it was not.

    Small noise on every step, and now and then a push of some steps. `wanted` is what the policy itself wanted at each
    step of the episode: the label, where the disturbed target is what was executed.
    """

    def __init__(self, policy: Policy, spec: ArmSpec, rng: np.random.Generator) -> None:
        self.name, self.rate = policy.name, policy.rate
        self._policy, self._spec, self._rng = policy, spec, rng
        self.wanted: list[Array] = []
        self._left = 0  # steps of the push that is under way
        self._push = np.zeros(spec.joints)

    def reset(self, task: str) -> None:
        self._policy.reset(task)
        self.wanted, self._left = [], 0

    def act(self, observation: Observation) -> Action:
        action = self._policy.act(observation)
        self.wanted.append(action.targets)
        rng = self._rng
        if self._left == 0 and rng.random() < PUSHES:
            self._left = int(rng.integers(*PUSH_STEPS))
            self._push = rng.normal(0.0, PUSH, self._spec.joints)
        noise = self._push if self._left else rng.normal(0.0, NOISE, self._spec.joints)
        self._left = max(0, self._left - 1)
        disturbed = np.clip(action.targets + noise, self._spec.position_min, self._spec.position_max)
        return replace(action, targets=disturbed)

    def labels(self) -> NDArray[np.float32]:
        """`wanted` as an episode has it, (T, n)."""
        return _matrix(self.wanted)


def describe_robot(config: RobotConfig) -> dict[str, object]:
    """What about a robot changes the meaning of a recording: joints as they are calibrated, and what the cameras are.

    Ports, sources and thresholds are left out: the same arm on another port is the same arm.
    """
    plain = config.model_dump(mode="json")
    arm = plain["arm"]
    joints = [{key: value for key, value in joint.items() if value is not None} for joint in arm["joints"]]
    cameras = {
        name: {key: value for key, value in camera.items() if key not in ("driver", "source", "static_ok")}
        for name, camera in plain["cameras"].items()
    }
    described = {"name": config.name, "joints": joints, "cameras": cameras}
    further = {"name", "emulated", "arm", "safety", "cameras"}
    return described | {key: value for key, value in plain.items() if key not in further and value is not None}
