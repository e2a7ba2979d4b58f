"""Block stacking as a Gymnasium environment: for those who bring their own learner. The runtime does not use it.

Importing this module registers it as "gato-arm/Stack-v0". Knows the world, the tasks and the judge; no policy and no
driver. One step is one control step of 1/20 s.
"""

from __future__ import annotations

from typing import Any, Final

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from sim.expert import STEP
from sim.tasks import CONTROL_RATE, TASKS, Judge, Task, parse_task
from sim.world import World

CAMERAS = ("fixed", "wrist")
ANGLE_BOUND: Final = 2 * np.pi  # rad; readings may stand a little beyond the limits that targets keep to
SPEED_BOUND: Final = 20.0  # rad/s, four times what the servos reach

Observation = dict[str, Any]


class StackEnv(gymnasium.Env[Observation, NDArray[np.float32]]):
    """Stack one block on another, from pixels and joints.

    Observation: images `fixed` and `wrist`, uint8 (H, W, 3) RGB; `joint_positions` and `joint_velocities` (rad, rad/s)
    and `joint_targets` (rad), float32 (6,). The task's sentence is `info["task"]`.

    Action: float32 (6,) in [-1, 1]: the joints' steps from the last target, +-1 for +-0.1 rad; the gripper's target,
    -1 closed, +1 open. Reward: 1 on success, otherwise 0. Terminated by success, truncated by the judge's time limit;
    `info["outcome"]` then says what came of it.
    """

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"], "render_fps": CONTROL_RATE}

    def __init__(
        self, task: str | None = None, image_size: tuple[int, int] = (64, 64), render_mode: str | None = None
    ) -> None:
        """`task` fixes the sentence for every episode (raises `TaskError`); None draws one of the six."""
        self.task: Task | None = None if task is None else parse_task(task)
        self.render_mode = render_mode
        self._image_size = image_size
        self._world: World | None = None
        self._judge: Judge | None = None
        self._targets = np.zeros(World.spec.joints)
        spec = World.spec
        low, high = spec.position_min.astype(np.float32), spec.position_max.astype(np.float32)
        ones = np.ones(spec.joints, dtype=np.float32)
        image = spaces.Box(0, 255, (*image_size, 3), np.uint8)
        self._joint_spaces = {
            "joint_positions": spaces.Box(-ANGLE_BOUND * ones, ANGLE_BOUND * ones),
            "joint_velocities": spaces.Box(-SPEED_BOUND * ones, SPEED_BOUND * ones),
            "joint_targets": spaces.Box(low, high),
        }
        self.observation_space = spaces.Dict({**dict.fromkeys(CAMERAS, image), **self._joint_spaces})
        self.action_space = spaces.Box(-1.0, 1.0, (spec.joints,), np.float32)

    @property
    def world(self) -> World:
        """The world behind the observations. Raises `gymnasium.error.ResetNeeded` before the first reset."""
        if self._world is None:
            raise gymnasium.error.ResetNeeded("reset the environment first: there is no world yet")
        return self._world

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """A new layout and, unless the task is fixed, a new task; `options={"task": sentence}` names it."""
        super().reset(seed=seed)
        wanted = (options or {}).get("task")
        drawn = TASKS[int(self.np_random.integers(len(TASKS)))]
        task = parse_task(wanted) if wanted is not None else self.task or drawn
        if self._world is None:
            self._world = World(image_size=self._image_size)
        self._world.reset(self.np_random)
        self._targets = self.world.joint_targets()
        self._judge = Judge(self.world, task)
        return self._observe(), {"task": task.text, "outcome": None}

    def step(self, action: NDArray[np.float32]) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """One control step. Raises `gymnasium.error.ResetNeeded` before the first reset."""
        if self._judge is None:
            raise gymnasium.error.ResetNeeded("reset the environment before the first step")
        world, spec = self.world, World.spec
        unit = np.clip(np.asarray(action, dtype=np.float64), -1.0, 1.0)
        targets = self._targets + STEP * unit
        targets[-1] = spec.position_min[-1] + (unit[-1] + 1) / 2 * (spec.position_max[-1] - spec.position_min[-1])
        self._targets = np.clip(targets, spec.position_min, spec.position_max)
        world.set_targets(self._targets)
        world.step(world.physics_rate // CONTROL_RATE)
        self._judge.update()
        outcome = self._judge.outcome
        terminated = outcome == "success"
        truncated = outcome is not None and not terminated
        info = {"task": self._judge.task.text, "outcome": outcome}
        return self._observe(), float(terminated), terminated, truncated, info

    def render(self) -> NDArray[np.uint8] | None:
        """The fixed camera's image when `render_mode` is "rgb_array"."""
        return self.world.render("fixed") if self.render_mode == "rgb_array" else None

    def close(self) -> None:
        """Let go of the world; `reset` makes another."""
        if self._world is not None:
            self._world.close()
            self._world = self._judge = None

    def _observe(self) -> Observation:
        readings = {
            "joint_positions": self.world.joint_positions(),
            "joint_velocities": self.world.joint_velocities(),
            "joint_targets": self._targets,
        }
        joints = {
            name: np.clip(readings[name].astype(np.float32), space.low, space.high)
            for name, space in self._joint_spaces.items()
        }
        return {**{camera: self.world.render(camera) for camera in CAMERAS}, **joints}


gymnasium.register("gato-arm/Stack-v0", entry_point="sim.env:StackEnv")
