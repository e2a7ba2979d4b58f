"""What a policy is to the rest of the runtime: a task in, then one observation in, one action out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


class PolicyError(Exception):
    """The policy cannot serve this robot or task; the message says what, where and what to do."""


@dataclass(frozen=True, slots=True)
class Observation:
    """What the robot senses at one control step. Keys are taken in lexicographic order, as Gato does."""

    stamp: int  # monotonic ns
    images: Mapping[str, NDArray[np.uint8]]  # camera name -> (H, W, 3) RGB
    proprioception: Mapping[str, NDArray[np.float64]]  # name -> values, SI units


@dataclass(frozen=True, slots=True)
class Action:
    """What the policy wants, and the tokens it came from."""

    targets: NDArray[np.float64]  # rad, one for each joint
    tokens: NDArray[np.int64]  # action token ids in decoding order


class Policy(Protocol):
    """Decides. `act` is one control step; `reset` starts an episode."""

    @property
    def name(self) -> str: ...

    @property
    def rate(self) -> float:
        """Control steps a second that the policy was trained for, Hz."""

    def reset(self, task: str) -> None:
        """Begin an episode. Raises `PolicyError` when the task names what this policy does not know."""

    def act(self, observation: Observation) -> Action:
        """One control step. Proprioception must hold `joint_positions` (measured, rad) and `joint_targets`
        (the last command in force, rad): actions are steps from the latter."""
