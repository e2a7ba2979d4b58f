"""A person's hand on an arm without torque: takes every joint to both stops, then shows the centre pose.

Knows no bus and no clock: a joint is led through a function, and time passes in `wait`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Final

import numpy as np

from drivers.config import ArmConfig

SPEED: Final = 2.0  # rad/s, of a hand
STEP: Final = 0.02  # s
BEYOND: Final = 0.05  # rad past a limit that the hand pushes, to be sure of the stop
PRESS: Final = 0.3  # s that it presses there
# Where the other joints are while one is swept, so that nothing meets the table: for arms built like an SO-101.
CLEAR: Final = {"shoulder_lift": -0.3, "elbow_flex": -0.6, "wrist_flex": 0.0}
CLEAR_FOR: Final = {
    "shoulder_lift": {"elbow_flex": -1.6, "wrist_flex": 0.0},
    "elbow_flex": {"shoulder_lift": 0.0, "wrist_flex": -1.5},
}


class Hand:
    """`lead(joint, angle)` takes a joint to an angle (rad), None lets go; `wait(seconds)` lets time pass.

    `pose` is where the arm is at first. `unsteady` (rad) is how far each joint is off when the centre pose is shown.
    """

    def __init__(
        self,
        arm: ArmConfig,
        lead: Callable[[str, float | None], object],
        wait: Callable[[float], None],
        pose: Mapping[str, float],
        unsteady: Mapping[str, float] | None = None,
    ) -> None:
        self._arm, self._lead, self._wait = arm, lead, wait
        self._pose = dict(pose)
        self._unsteady = dict(unsteady or {})

    def sweep(self) -> Iterator[None]:
        """Every joint to both stops; time to look at the arm at each step."""
        for joint in self._arm.joints:
            others = CLEAR | CLEAR_FOR.get(joint.name, {})
            yield from self._go({name: angle for name, angle in others.items() if name in self._pose})
            back = self._pose[joint.name]
            for angle in (joint.minimum - BEYOND, joint.maximum + BEYOND):
                yield from self._go({joint.name: angle})
                for _ in range(round(PRESS / STEP)):
                    self._wait(STEP)
                    yield
            yield from self._go({joint.name: back})

    def centre(self) -> Iterator[None]:
        """The pose in which every angle is 0, as far as a person sees."""
        names = [joint.name for joint in self._arm.joints]
        yield from self._go({name: self._unsteady.get(name, 0.0) for name in names})
        for _ in range(round(2 * PRESS / STEP)):
            self._wait(STEP)
            yield

    def let_go(self) -> None:
        for joint in self._arm.joints:
            self._lead(joint.name, None)

    def _go(self, goals: Mapping[str, float]) -> Iterator[None]:
        start = dict(self._pose)
        longest = max((abs(goal - start[name]) for name, goal in goals.items()), default=0.0)
        steps = max(1, math.ceil(longest / SPEED / STEP))
        for share in np.linspace(0, 1, steps + 1)[1:]:
            for name, goal in goals.items():
                self._pose[name] = start[name] + float(share) * (goal - start[name])
                self._lead(name, self._pose[name])
            self._wait(STEP)
            yield
