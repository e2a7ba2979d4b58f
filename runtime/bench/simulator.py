"""What a control step of the simulator costs, by part: `gato-arm bench sim`.

The very lock-step that `eval` and `collect` run, with random targets in the place of a policy. The floor is the
physics alone. All times are processor time of one core: another program on the machine does not count.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from time import thread_time_ns
from typing import Any

import numpy as np

from drivers.arm import frozen
from policies.policy import Action, Observation
from runtime.bench.figures import Contender, Figure, Floats, Section, in_turns
from runtime.clock import MILLISECOND
from runtime.lockstep import IMAGE_SIZE, run_lockstep, task_of
from runtime.servo import ServoLoop
from sim.tasks import CONTROL_RATE, Judge
from sim.world import World

EPISODES = 6
REACH = 0.1  # rad, of a random step


class _Wanderer:
    """Random targets, at no cost."""

    name = "wanderer"
    rate = float(CONTROL_RATE)

    def __init__(self, seed: int) -> None:
        self._rng = np.random.default_rng(seed)

    def reset(self, task: str) -> None:
        """Any task will do."""

    def act(self, observation: Observation) -> Action:
        spec, before = World.spec, observation.proprioception["joint_targets"]
        targets = before + self._rng.uniform(-REACH, REACH, spec.joints)
        return Action(frozen(np.clip(targets, spec.position_min, spec.position_max)), np.zeros(0, dtype=np.int64))


class _Episodes:
    """Episodes in lock-step; the processor time of each control step, altogether and by part, ms.

    Each is played twice: looking at a processor's clock costs some microseconds, 26 times a step, so that the whole is
    taken from an episode whose parts are not.
    """

    def __init__(self, seed: int) -> None:
        self._seed, self._count = seed, 0
        self.parts: dict[str, list[float]] = {
            name: [] for name in ("whole", "physics", "pictures", "servo loop", "judge", "the rest")
        }

    def run(self) -> None:
        seed = self._seed + self._count
        self._count += 1
        started = thread_time_ns()
        steps = run_lockstep(lambda world: _Wanderer(seed), task_of(0), seed).result.steps
        self.parts["whole"].append((thread_time_ns() - started) / steps / MILLISECOND)
        self._run_watched(seed)

    def _run_watched(self, seed: int) -> None:
        spent = dict.fromkeys(("physics", "pictures", "servo loop", "judge"), 0)
        with ExitStack() as watches:
            for name, owner, method in (
                ("physics", World, "step"),
                ("pictures", World, "render"),
                ("servo loop", ServoLoop, "tick"),
                ("judge", Judge, "update"),
            ):
                watches.enter_context(_watched(owner, method, name, spent))
            started = thread_time_ns()
            result = run_lockstep(lambda world: _Wanderer(seed), task_of(0), seed).result
            spent["the rest"] = thread_time_ns() - started - sum(spent.values())
        for name, duration in spent.items():
            self.parts[name].append(duration / result.steps / MILLISECOND)


@contextmanager
def _watched(owner: type, method: str, name: str, spent: dict[str, int]) -> Iterator[None]:
    """While it lasts, calls of `owner.method` add their processor time (ns) to `spent[name]`."""
    original: Callable[..., Any] = getattr(owner, method)

    def timed(*arguments: Any, **named: Any) -> Any:
        started = thread_time_ns()
        result = original(*arguments, **named)
        spent[name] += thread_time_ns() - started
        return result

    setattr(owner, method, timed)
    try:
        yield
    finally:
        setattr(owner, method, original)


class _Physics:
    """A world of its own that does nothing but physics, with as many random targets."""

    STEPS = 100

    def __init__(self, seed: int) -> None:
        self._rng = np.random.default_rng(seed)
        self._world = World(image_size=IMAGE_SIZE)
        self.samples: list[float] = []

    def run(self) -> None:
        world, spec = self._world, World.spec
        world.reset(self._rng)
        substeps = world.physics_rate // CONTROL_RATE
        spent = 0
        for _ in range(self.STEPS):
            targets = world.joint_targets() + self._rng.uniform(-REACH, REACH, spec.joints)
            world.set_targets(np.clip(targets, spec.position_min, spec.position_max))
            started = thread_time_ns()
            world.step(substeps)
            spent += thread_time_ns() - started
        self.samples.append(spent / self.STEPS / MILLISECOND)

    def close(self) -> None:
        self._world.close()


def measure(*, seed: int = 0, episodes: int = EPISODES) -> Section:
    """The section "sim": a sample is an episode's mean."""
    whole, physics = _Episodes(seed), _Physics(seed)
    whole.run()  # the first one makes the world
    for samples in whole.parts.values():
        samples.clear()
    try:
        in_turns({"lock-step": Contender(whole.run), "physics": Contender(physics.run)}, episodes)
    finally:
        physics.close()
    parts: dict[str, Floats] = {name: np.array(samples) for name, samples in whole.parts.items()}
    total = parts.pop("whole")
    rest = parts.pop("the rest")
    floor = float(np.median(physics.samples))
    rate = 1000 / float(np.median(total))
    note = f"{rate:.0f} control steps a second and core, both cameras"
    figures = [Figure("simulated control step", total, floor, {}, note)]
    figures += [Figure(f"  {name}", samples, floor if name == "physics" else None) for name, samples in parts.items()]
    figures.append(Figure("  the rest", rest, note="observations, targets, the control loop"))
    raw = {"steps_per_second_and_core": rate, "times_real_time": rate / CONTROL_RATE}
    lines = (f"processor time, {episodes} episodes in turns with physics alone; floor: physics alone",)
    return Section("sim", tuple(figures), lines, raw)
