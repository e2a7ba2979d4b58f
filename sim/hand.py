"""A person's hand that moves an emulated arm: from pose to pose, with the speed and the start and stop of a hand.

Knows no world: the plant asks where the hand is. Angles in rad.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from drivers.arm import Array
from sim.servo_body import Profile

ACCELERATION = 10.0  # rad/s^2 of the fastest joint: a tenth of a second to 1 rad/s


class Hand:
    """On its way through `poses` (each (n,), rad) from `start`, the joint with the longest part at `speed` rad/s.

    Joints move in proportion, as in one gesture. At the last pose it holds the arm until it is told otherwise.
    """

    def __init__(self, start: Array, poses: Sequence[Array], speed: float) -> None:
        if speed <= 0:
            raise ValueError(f"a hand moves at a speed above 0, not {speed:g} rad/s")
        for pose in poses:
            if np.shape(pose) != np.shape(start) or not np.isfinite(pose).all():
                raise ValueError(f"a pose is {np.size(start)} finite angles, not {np.asarray(pose).tolist()}")
        self.pose: Array = np.array(start, dtype=np.float64)
        self._poses = [np.array(pose, dtype=np.float64) for pose in poses]
        self._speed = speed
        self._leave()

    @property
    def arrived(self) -> bool:
        """The last pose is reached."""
        return not self._poses

    def advance(self, seconds: float) -> None:
        """Go on for `seconds`."""
        if not self._poses:
            return
        self._way.advance(self._length, seconds)
        if self._way.position == self._length and self._way.speed == 0.0:
            self.pose = self._poses.pop(0)
            self._leave()
        else:
            share = self._way.position / self._length
            self.pose = self._from + share * (self._poses[0] - self._from)

    def _leave(self) -> None:
        """Begin the way to the next pose; poses where the hand already is are passed."""
        self._from = self.pose
        while self._poses and not np.abs(self._poses[0] - self.pose).max():
            self._poses.pop(0)
        self._length = float(np.abs(self._poses[0] - self.pose).max()) if self._poses else 0.0
        self._way = Profile()
        self._way.velocity, self._way.acceleration = self._speed, ACCELERATION
