"""A scripted policy that keeps the arm in motion, and one that misbehaves when it is told to.

The mover wanders through a box of joint angles in which no pose is in anything's way, half of the time smoothly, half
of the time in jumps that the safety filter must make something of. It costs no processor time, so what is measured
around it is the runtime's. Knows no arm: the box is passed in.
"""

from __future__ import annotations

import itertools
import re
import resource
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from drivers.arm import ArmSpec, Array, frozen
from policies.policy import Action, Observation, Policy, PolicyError
from runtime.clock import MILLISECOND, SECOND, Clock

RATE = 20.0  # Hz
LIMIT_MARGIN = 0.1  # rad between the box and a joint limit
GROWTH = 0.2  # rad by which a side of the box is tried further out
SAMPLES = 400  # poses looked at before a side may grow
SMOOTH_SPEED = 1.0  # rad/s on average, of the joint with the longest way
JUMP_STEPS = (2, 8)  # control steps for which a jump's goal stands
WILD = 3.0  # rad beyond every limit: what a policy that jumps asks for
HANG_MAX_S = 10.0  # a policy that hangs and is forgotten comes back
LATE_NS = 75 * MILLISECOND  # what a late policy thinks for: half a period too long
ROOM = 32 << 20  # bytes that a policy may still have before its memory is exhausted

HOWS = ("raise", "busy", "sleep", "memory", "nan", "inf", "jumps", "shape", "late")


def free_box(
    spec: ArmSpec, centre: Array, free: Callable[[Array], bool], rng: np.random.Generator
) -> tuple[Array, Array]:
    """The lower and upper corner (rad, shape (n,)) of a large box around `centre` in which every pose is `free`.

    Sides grow in turn as long as all corners and `SAMPLES` poses inside are free. Raises `ValueError` when `centre`
    itself is not.
    """
    low, high = np.array(centre, dtype=float), np.array(centre, dtype=float)
    if not free(low):
        raise ValueError("the pose in the middle is not free")
    ends = spec.position_min + LIMIT_MARGIN, spec.position_max - LIMIT_MARGIN
    growing = set(itertools.product(range(spec.joints), (0, 1)))
    while growing:
        for joint, side in sorted(growing):
            tried = low.copy(), high.copy()
            step = GROWTH if side else -GROWTH
            tried[side][joint] = np.clip(
                tried[side][joint] + step, min(ends[0][joint], low[joint]), max(ends[1][joint], high[joint])
            )
            if tried[side][joint] != (low, high)[side][joint] and _all_free(*tried, free, rng):
                low, high = tried
            else:
                growing.discard((joint, side))
    return frozen(low), frozen(high)


def _all_free(low: Array, high: Array, free: Callable[[Array], bool], rng: np.random.Generator) -> bool:
    corners = (np.array(corner) for corner in itertools.product(*zip(low, high, strict=True)))
    return all(free(pose) for pose in itertools.chain(corners, rng.uniform(low, high, (SAMPLES, len(low)))))


class Mover:
    """Moves through the box from `low` to `high` (rad, shape (n,)). A `Policy`; its task is any text with a number,
    which seeds it."""

    def __init__(self, low: Array, high: Array) -> None:
        self._low, self._high = low, high
        self.reset("0")

    @property
    def name(self) -> str:
        return "mover"

    @property
    def rate(self) -> float:
        return RATE

    def reset(self, task: str) -> None:
        found = re.search(r"\d+", task)
        if found is None:
            raise PolicyError(f'task "{task}": the mover needs a number in it, its seed')
        self._rng = np.random.default_rng(int(found[0]))
        self._path: list[Array] = []

    def act(self, observation: Observation) -> Action:
        if not self._path:
            self._path = self._plan(np.asarray(observation.proprioception["joint_targets"]))
        return Action(self._path.pop(0), np.zeros(0, np.int64))

    def _plan(self, here: Array) -> list[Array]:
        """The next targets: a smooth way to a pose of the box, or that pose at once."""
        pose = self._rng.uniform(self._low, self._high)
        if self._rng.random() < 0.5:
            return [pose] * int(self._rng.integers(*JUMP_STEPS))
        steps = max(2, round(float(np.abs(pose - here).max()) / SMOOTH_SPEED * RATE))
        shares = 0.5 - 0.5 * np.cos(np.pi * np.arange(1, steps + 1) / steps)
        return [here + share * (pose - here) for share in shares]


class Misbehaving:
    """`policy`, until `begin` is called (from another thread): from the next control step on it misbehaves so.

    `tell` is given the monotonic stamp (ns) at which it began. What is no crash ends with `end`.
    """

    def __init__(self, policy: Policy, spec: ArmSpec, clock: Clock, tell: Callable[[int], None]) -> None:
        self._policy, self._spec, self._clock, self._tell = policy, spec, clock, tell
        self._how: str | None = None
        self._told = False
        self._over = threading.Event()
        self._rng = np.random.default_rng(0)
        self._hoard: list[bytearray] = []

    @property
    def name(self) -> str:
        return self._policy.name

    @property
    def rate(self) -> float:
        return self._policy.rate

    def begin(self, how: str) -> None:
        """Misbehave in one of the ways of `HOWS`. Raises `ValueError` for another."""
        if how not in HOWS:
            raise ValueError(f"a policy cannot {how}; there are {', '.join(HOWS)}")
        self._over.clear()
        self._told = False
        self._how = how

    def end(self) -> None:
        """Behave again."""
        self._how = None
        self._over.set()

    def reset(self, task: str) -> None:
        self.end()
        self._policy.reset(task)

    def act(self, observation: Observation) -> Action:
        action = self._policy.act(observation)
        how = self._how
        if how is None:
            return action
        if not self._told:
            self._told = True
            self._tell(self._clock.now())
        return Action(self._spoiled(how, action.targets), action.tokens)

    def _spoiled(self, how: str, targets: NDArray[np.float64]) -> NDArray[np.float64]:
        if how == "raise":
            raise RuntimeError("the policy has crashed: as it was told to")
        if how == "sleep":
            self._over.wait(HANG_MAX_S)
        elif how == "busy":
            end = self._clock.now() + round(HANG_MAX_S * SECOND)
            while not self._over.is_set() and self._clock.now() < end:
                continue
        elif how == "late":
            self._clock.sleep_until(self._clock.now() + LATE_NS)
        elif how == "memory":
            self._exhaust()
        elif how == "shape":
            return targets[:-1]
        elif how in ("nan", "inf"):
            spoiled = np.array(targets)
            spoiled[self._rng.integers(spoiled.size)] = np.nan if how == "nan" else np.inf
            return spoiled
        elif how == "jumps":
            return self._rng.uniform(self._spec.position_min - WILD, self._spec.position_max + WILD)
        return targets

    def _exhaust(self) -> None:
        """Keep memory until there is none left: whatever runs afterwards must do without."""
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        limit = pages * resource.getpagesize() + ROOM
        resource.setrlimit(resource.RLIMIT_AS, (limit, resource.getrlimit(resource.RLIMIT_AS)[1]))
        while True:
            self._hoard.append(bytearray(1 << 20))
