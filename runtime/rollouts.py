"""Many simulated worlds in many processes, ticked together: the experience that training streams from.

Every world runs the real servo loop and safety filter in lock-step. At each control step a world says what its cameras
and joints sense, what the demonstrator would do there, and the simulator's truth; then it executes the policy's action
or the demonstrator's, sometimes disturbed. Knows no torch.
"""

from __future__ import annotations

import math
import multiprocessing
from collections.abc import Sequence
from dataclasses import dataclass, fields
from multiprocessing.connection import Connection, wait
from typing import Any

import numpy as np
from numpy.typing import NDArray

from drivers.arm import Array
from policies.gato.config import THING
from policies.gato.sequence import PADDING
from runtime.clock import MILLISECOND, SimulatedClock
from runtime.mixture import KINDS, Mixture
from runtime.servo import ServoLoop, Target
from runtime.so101_policy import CAMERAS, CODEC, IMAGE, SEQUENCE
from sim import so101
from sim.expert import STEP, Expert
from sim.robot import SimulatedArm
from sim.tasks import TASKS, Judge
from sim.world import COLOURS, HOME, World

SERVO_TICKS = 5  # a control step
NO_WORDS = np.full(SEQUENCE.words, PADDING)  # a state is of no task; the learner puts the words in
LIMIT = 140  # control steps: a lost episode soon gives way to a new scene
BURST = 0.015  # chance a step that a burst of random motion begins
DIED = "a simulation worker died; its traceback is above"
CLEAN = 0.25  # share of policy-driven episodes that start at home and are not disturbed: they measure success


@dataclass
class Arrays:
    """What all worlds tell at one control step, S streams; views of shared memory."""

    images: NDArray[np.uint8]  # (cameras, S, 64, 64, 3)
    ids: NDArray[np.int64]  # (S, block_ids)
    labels: NDArray[np.int64]  # (S, tasks, actions) bins, what the demonstrator would do; -1 for a task kept out
    task: NDArray[np.int64]  # (S,)
    episode: NDArray[np.int64]  # (S,)
    first: NDArray[np.bool_]  # (S,)
    truth: NDArray[np.float64]  # (S, blocks, THING) as in policies/gato/config.py
    pixels: NDArray[np.float64]  # (S, cameras, blocks, 2) where they are in the images, [u, v] in [0, 1]
    finished: NDArray[np.int64]  # (S,) 0: no; 1: success; 2: failure, of the episode before this step
    clean: NDArray[np.bool_]  # (S,) that episode was the policy's own, undisturbed
    kind: NDArray[np.int64]  # (S,) and of this kind, a place in runtime.mixture.KINDS
    actions: NDArray[np.int64]  # (S, actions) ids, written by the policy's side
    share: NDArray[np.float64]  # (1,) of episodes that the policy drives

    @classmethod
    def shapes(cls, streams: int) -> dict[str, tuple[tuple[int, ...], type]]:
        return {
            "images": ((len(CAMERAS), streams, IMAGE, IMAGE, 3), np.uint8),
            "ids": ((streams, SEQUENCE.block_ids), np.int64),
            "labels": ((streams, len(TASKS), SEQUENCE.actions), np.int64),
            "task": ((streams,), np.int64),
            "episode": ((streams,), np.int64),
            "first": ((streams,), np.bool_),
            "truth": ((streams, len(COLOURS), THING), np.float64),
            "pixels": ((streams, len(CAMERAS), len(COLOURS), 2), np.float64),
            "finished": ((streams,), np.int64),
            "clean": ((streams,), np.bool_),
            "kind": ((streams,), np.int64),
            "actions": ((streams, SEQUENCE.actions), np.int64),
            "share": ((1,), np.float64),
        }


def _views(buffers: dict[str, Any], streams: int) -> Arrays:
    shapes = Arrays.shapes(streams)
    views: dict[str, NDArray[Any]] = {
        name: np.frombuffer(buffers[name], dtype=shapes[name][1]).reshape(shapes[name][0])
        for name in (field.name for field in fields(Arrays))
    }
    return Arrays(**views)


class RolloutError(RuntimeError):
    """The simulation stopped; one line."""


class Rollouts:
    """`workers` processes with `worlds` worlds each. Alternate `observe` and `act`; a context manager."""

    kinds = KINDS

    def __init__(self, workers: int, worlds: int, seed: Sequence[int], mixture: Mixture) -> None:
        context = multiprocessing.get_context("spawn")
        self.streams = workers * worlds
        buffers: dict[str, Any] = {
            name: context.RawArray("b", int(np.prod(shape)) * np.dtype(kind).itemsize)
            for name, (shape, kind) in Arrays.shapes(self.streams).items()
        }
        self.arrays = _views(buffers, self.streams)
        self._pipes: list[Connection] = []
        self._processes = []
        for worker in range(workers):
            ours, theirs = context.Pipe()
            arguments = (theirs, buffers, self.streams, worker * worlds, worlds, tuple(seed), mixture)
            process = context.Process(target=_work, args=arguments, daemon=True)
            process.start()
            theirs.close()
            self._pipes.append(ours)
            self._processes.append(process)
        self._waiting = set(self._pipes)

    def ready(self) -> bool:
        """True when `observe` would not wait."""
        self._collect(0)
        return not self._waiting

    def observe(self) -> Arrays:
        """Wait for every world; the arrays hold until `act`. Raises `RolloutError` when a worker died."""
        while self._waiting:
            self._collect(None)
        return self.arrays

    def _collect(self, timeout: float | None) -> None:
        ready = set(wait(list(self._waiting), timeout)) if self._waiting else set()
        for pipe in [pipe for pipe in self._waiting if pipe in ready]:
            try:
                pipe.recv_bytes()
            except (EOFError, ConnectionResetError):
                raise RolloutError(DIED) from None
            self._waiting.discard(pipe)

    def act(self, actions: NDArray[np.int64], share: float) -> None:
        """Go on with the policy's action ids (S, actions); `share` of new episodes are the policy's to drive.

        Raises `RolloutError` when a worker died.
        """
        self.arrays.actions[:] = actions
        self.arrays.share[0] = share
        for pipe in self._pipes:
            try:
                pipe.send_bytes(b"go")
            except BrokenPipeError:
                raise RolloutError(DIED) from None
        self._waiting = set(self._pipes)

    def close(self) -> None:
        """End the processes."""
        for process in self._processes:
            process.terminate()
        for process in self._processes:
            process.join()

    def __enter__(self) -> Rollouts:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def _work(
    pipe: Connection,
    buffers: dict[str, Any],
    streams: int,
    start: int,
    worlds: int,
    seed: tuple[int, ...],
    mixture: Mixture,
) -> None:
    arrays = _views(buffers, streams)
    numbers = range(start, start + worlds)
    rollouts = [Rollout(np.random.default_rng([*seed, number]), arrays, number, mixture) for number in numbers]
    try:
        while True:
            for rollout in rollouts:
                rollout.observe()
            pipe.send_bytes(b"ready")
            pipe.recv_bytes()
            for rollout in rollouts:
                rollout.act()
    except (EOFError, BrokenPipeError, KeyboardInterrupt):
        return


class Rollout:
    """One world, episode after episode."""

    def __init__(self, rng: np.random.Generator, arrays: Arrays, stream: int, mixture: Mixture) -> None:
        self._rng, self._arrays, self._stream, self._mixture = rng, arrays, stream, mixture
        self._world = World(image_size=(IMAGE, IMAGE))
        self._episode = stream * 1_000_000
        self._driven = False
        self._clean = False
        self._reset()

    def _reset(self) -> None:
        rng, world = self._rng, self._world
        self._driven = rng.random() < self._arrays.share[0]
        self._clean = self._driven and rng.random() < CLEAN
        self._setting = setting = self._mixture.draw(rng)
        pose = HOME if self._clean else random_pose(rng)
        world.reset(rng, arm_pose=pose, conditions=setting.conditions, shapes=setting.shapes)
        self._clock = SimulatedClock()
        self._loop = ServoLoop(SimulatedArm(world, clock=self._clock.now), self._clock)
        self._loop.connect()
        self._loop.start()
        self._judge = Judge(world, TASKS[setting.task])
        self._judge.limit = LIMIT
        kept_out = self._mixture.kept_out_tasks
        self._experts = {index: Expert(world, task) for index, task in enumerate(TASKS) if index not in kept_out}
        # Servo ticks from observation to target: exposure and computing, where the world adds no delay of its own.
        self._delay = 0 if setting.delayed else int(rng.integers(SERVO_TICKS))
        self._targets = self._loop.state().command.copy()
        self._executed: NDArray[np.int64] | None = None
        self._burst = 0
        self._push = np.zeros(6)
        self._episode += 1

    def observe(self) -> None:
        """Write this step's row of the arrays."""
        arrays, i, world = self._arrays, self._stream, self._world
        arrays.finished[i] = 0
        if self._judge.outcome is not None:
            arrays.finished[i] = 1 if self._judge.outcome == "success" else 2
            arrays.clean[i], arrays.kind[i] = self._clean, self._setting.kind
            self._reset()
        sensed = {"joint_positions": self._loop.state().positions, "joint_targets": self._targets}
        SEQUENCE.write_block(arrays.ids[i], self._executed, NO_WORDS, CODEC.sense(sensed))
        task = self._setting.task
        arrays.labels[i] = -1
        for index, expert in self._experts.items():
            wanted = expert.act(self._targets)
            arrays.labels[i, index] = CODEC.action_bins(wanted, self._targets)
            if index == task:
                self._wanted = wanted
        arrays.task[i], arrays.episode[i], arrays.first[i] = task, self._episode, self._executed is None
        points = np.stack([world.block_pose(colour)[0] for colour in COLOURS])
        arrays.truth[i] = np.column_stack([points, self._turns()])
        for camera, name in enumerate(CAMERAS):
            arrays.images[camera, i] = world.render(name)
            arrays.pixels[i, camera] = _project(points, *world.camera_matrices(name))

    def _turns(self) -> Array:
        """(blocks, 4): how each could be gripped, as THING says in policies/gato/config.py."""
        expert = next(iter(self._experts.values()))
        rows = []
        for colour in COLOURS:
            turn, box = expert.grasp_turn(colour), self._world.solids[colour].box
            half = (0.0, 0.0) if box else (math.cos(2 * turn), math.sin(2 * turn))
            rows.append((math.cos(4 * turn), math.sin(4 * turn), *half))
        return 0.2 * np.array(rows)

    def act(self) -> None:
        """Execute one control step."""
        targets = CODEC.targets(self._arrays.actions[self._stream], self._targets) if self._driven else self._wanted
        targets = np.clip(self._disturbed(targets), so101.SPEC.position_min, so101.SPEC.position_max)
        self._executed = CODEC.action_ids(targets, self._targets)
        self._targets = targets
        loop, clock = self._loop, self._clock
        for tick in range(SERVO_TICKS):
            now = clock.now()
            if tick == self._delay:
                loop.submit(Target(now, targets), now)
            loop.tick(now)
            self._world.step(2)
            clock.advance(10 * MILLISECOND)
        self._judge.update()

    def _disturbed(self, targets: Array) -> Array:
        if self._clean:
            return targets
        rng = self._rng
        if self._burst == 0 and rng.random() < BURST:
            self._burst = int(rng.integers(2, 10))
            self._push = rng.normal(0, 0.5 * STEP, 6)
            self._push[5] = rng.normal(0, 0.6)
        if self._burst > 0:
            self._burst -= 1
            return targets + self._push
        if not self._driven:
            return targets + rng.normal(0, 0.06 * STEP, 6)
        return targets


def random_pose(rng: np.random.Generator) -> Array:
    """A pose an episode may begin in: somewhere above the blocks' area; half of them near home."""
    if rng.random() < 0.4:
        return np.clip(HOME + rng.normal(0, 0.05, 6), so101.SPEC.position_min, so101.SPEC.position_max)
    while True:
        radius, bearing = rng.uniform(0.11, 0.24), rng.uniform(-1.2, 1.2)
        height = rng.uniform(0.065, 0.14)
        chain = so101.inverse(np.array([radius * np.cos(bearing), radius * np.sin(bearing), height]))
        if chain is not None:
            return np.array([*chain, rng.uniform(-1.2, 1.2), rng.uniform(0.4, 1.7)])


def _project(points: Array, view: Array, projection: Array) -> Array:
    """Points (n, 3) in m to [u, v] (n, 2), in [0, 1] from the top left inside the image; behind the camera: -1."""
    homogeneous = np.concatenate([points, np.ones((len(points), 1))], axis=1)
    clip = homogeneous @ (projection @ view).T
    depth = clip[:, 3:]
    inside = clip[:, :2] / np.where(np.abs(depth) < 1e-9, 1e-9, depth)
    uv = np.stack([(inside[:, 0] + 1) / 2, (1 - inside[:, 1]) / 2], axis=1)
    return np.where(depth > 0, uv, -1.0)
