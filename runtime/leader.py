"""What drives a follower arm by hand: a leader arm, and the policy as which the control loop sees whatever leads.

Knows no follower's bus: where the follower should be comes out, and goes through servo loop and safety filter like
every policy's wish. Angles in rad.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from drivers.arm import Arm, ArmError, ArmSpec, Array, frozen
from drivers.config import ConfigError
from policies.policy import Action, Observation
from runtime.clock import SECOND
from runtime.loop import StaleError

# From a leader's position to the follower's lies a constant delay: up to a tick until the target is taken, one tick to
# reach it, and the 25 ms by which a position-controlled servo trails. `gato-arm teleop --rehearse 1 --json` measures
# what is left of it.
LOOKAHEAD = 0.045  # s
WINDOW = 4  # readings that the leader's speed is taken from
CATCH_UP = 1.0  # s in which the follower makes up for what the leader moved while it was on its way to it
FAILURES = 10  # readings in a row that may fail before the leader counts as lost
NO_TOKENS: NDArray[np.int64] = np.zeros(0, dtype=np.int64)


class Leader(Protocol):
    """Says where the follower should be; `name` is what a recording says of who drove."""

    name: str

    def start(self, command: Array) -> Array:
        """Where the follower should go before it follows, from its `command` (n,); following begins there."""

    def targets(self) -> Array:
        """Where the follower should be now, (n,). Raises `StaleError` when the leader is gone."""


class LeaderPolicy:
    """A leader as a policy of `rate` Hz. It looks at nothing and has no tokens."""

    def __init__(self, leader: Leader, rate: float) -> None:
        self.name, self.rate = leader.name, rate
        self._leader = leader

    def reset(self, task: str) -> None:
        """Whatever is asked, a person knows it."""

    def act(self, observation: Observation) -> Action:
        return Action(frozen(self._leader.targets()), NO_TOKENS)


@dataclass(frozen=True)
class Mapping:
    """How a leader's joints stand for the follower's: (n,) each, `follower = low + (leader - base) * scale`."""

    base: Array
    low: Array
    scale: Array

    @classmethod
    def between(cls, leader: ArmSpec, follower: ArmSpec, grippers: tuple[str, ...]) -> Mapping:
        """Joint for joint by name, angle for angle; a gripper by its share of the way. Raises `ConfigError`."""
        if leader.joint_names != follower.joint_names:
            raise ConfigError(
                f"leader: its joints are {', '.join(leader.joint_names)}, the follower's "
                f"{', '.join(follower.joint_names)}; they must be the same, in the same order"
            )
        grips = np.array([name in grippers for name in leader.joint_names])
        span = (follower.position_max - follower.position_min) / (leader.position_max - leader.position_min)
        zeros, ones = np.zeros(grips.size), np.ones(grips.size)
        return cls(
            frozen(np.where(grips, leader.position_min, zeros)),
            frozen(np.where(grips, follower.position_min, zeros)),
            frozen(np.where(grips, span, ones)),
        )

    def __call__(self, positions: Array) -> Array:
        """The follower's angles at these of the leader."""
        angles: Array = self.low + (positions - self.base) * self.scale
        return angles


class ArmLeader:
    """A leader arm, connected and without torque, that a person moves.

    Its motion is extrapolated by `lookahead` s, which takes the constant part of the follower's delay away.
    `on_reading` is told each reading's stamp (ns) and the follower's angles that it stands for.
    """

    def __init__(
        self,
        arm: Arm,
        follower: ArmSpec,
        grippers: tuple[str, ...],
        *,
        name: str = "leader",
        lookahead: float = LOOKAHEAD,
        on_reading: Callable[[int, Array], None] = lambda stamp, angles: None,
    ) -> None:
        """Raises `ConfigError` when the joints are not those of the follower."""
        self.name = name
        self._arm, self._follower, self._lookahead, self._on_reading = arm, follower, lookahead, on_reading
        self._mapped = Mapping.between(arm.spec, follower, grippers)
        self._readings: deque[tuple[int, Array]] = deque(maxlen=WINDOW)
        self._failures = 0
        self._began: tuple[int, Array] | None = None  # stamp, and how far the follower was off, when it began to follow
        self._started: Array | None = None

    def connect(self) -> None:
        """Find the leader and let its joints go. Raises `ArmError`."""
        self._arm.connect()
        if self._arm.energised():
            report = self._arm.release()
            if report.still_energised:
                raise ArmError(
                    f"leader: {', '.join(report.still_energised)} keep their torque; switch its power off and on again"
                )

    def close(self) -> None:
        self._arm.close()

    def start(self, command: Array) -> Array:
        self._readings.clear()
        self._began, self._started = None, self._within(self._read()[1])
        return self._started

    def targets(self) -> Array:
        try:
            self._read()
            self._failures = 0
        except ArmError as error:
            self._failures += 1
            if self._failures >= FAILURES or not self._readings:
                raise StaleError(f"leader: {self._failures} readings in a row failed: {error}") from error
        stamp, angles = self._readings[-1]
        if self._began is None:
            self._began = stamp, (angles if self._started is None else self._started) - self._within(angles)
        begun, off = self._began
        share = max(0.0, 1 - (stamp - begun) / SECOND / CATCH_UP)
        return self._within(self._ahead() + share * off)

    def _read(self) -> tuple[int, Array]:
        state = self._arm.read()
        reading = state.stamp, self._mapped(state.positions)
        self._readings.append(reading)
        self._on_reading(*reading)
        return reading

    def _ahead(self) -> Array:
        """The last reading, carried on at the speed of the last few (least squares)."""
        angles = np.array([angles for _, angles in self._readings])
        times = np.array([stamp for stamp, _ in self._readings], dtype=np.float64) / SECOND
        times -= times.mean()
        if not (spread := times @ times):
            return frozen(angles[-1])
        speed: Array = times @ angles / spread
        ahead: Array = angles[-1] + self._lookahead * speed
        return ahead

    def _within(self, angles: Array) -> Array:
        within: Array = np.clip(angles, self._follower.position_min, self._follower.position_max)
        return within
