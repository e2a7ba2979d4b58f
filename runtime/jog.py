"""Leaders without an arm: keys of the terminal, and a gamepad. Both move a point in joint space at bounded speed.

Knows no follower's bus. Angles in rad. The gamepad is read with pygame, which is imported when one is asked for.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np

from drivers.arm import ArmError, ArmSpec, Array
from runtime.clock import SECOND, Clock
from runtime.loop import StaleError

SPEED = 0.6  # rad/s of a joint at full deflection, or while its key repeats
KEY_HOLD = 0.15  # s that one press lasts; a key held down repeats faster than that
DEAD_ZONE = 0.12  # of a stick, which does not return to its exact middle
JOG_KEYS = "123456789jkco"
KEYBOARD_HELP = "1-9: choose a joint   j/k: move it down/up   c/o: close/open the gripper"
GAMEPAD_HELP = "left stick: pan, lift   right stick: roll, elbow   bumpers: wrist   triggers: close/open the gripper"


class Input(Protocol):
    """Where a person pushes each joint now, (n,) in [-1, 1]. Raises `StaleError` when it is gone."""

    name: str

    def push(self, now: int) -> Array: ...


class JogLeader:
    """A `runtime.leader.Leader` that integrates what `source` pushes, within the follower's limits."""

    def __init__(self, source: Input, follower: ArmSpec, clock: Clock, speed: float = SPEED) -> None:
        self.name = source.name
        self._source, self._follower, self._clock, self._speed = source, follower, clock, speed
        self._targets = np.zeros(follower.joints)
        self._last = clock.now()

    def start(self, command: Array) -> Array:
        self._targets = np.clip(command, self._follower.position_min, self._follower.position_max)
        self._last = self._clock.now()
        return self._targets

    def targets(self) -> Array:
        now = self._clock.now()
        # A pause of the loop, as between two episodes, is not a push of that length.
        seconds = min((now - self._last) / SECOND, 0.1)
        self._last = now
        step = np.clip(self._source.push(now), -1, 1) * self._speed * seconds
        self._targets = np.clip(self._targets + step, self._follower.position_min, self._follower.position_max)
        return self._targets


class Keyboard:
    """Keys that come one by one from `take`; one press pushes for `KEY_HOLD`."""

    name = "keyboard"

    def __init__(self, take: Callable[[str], str | None], joints: int) -> None:
        """`take` gives the next of some keys, or None."""
        self._take, self._joints = take, joints
        self._chosen = 0
        self._pushed = np.zeros(joints)
        self._until = np.zeros(joints, dtype=np.int64)  # ns

    def push(self, now: int) -> Array:
        while (key := self._take(JOG_KEYS)) is not None:
            if key.isdigit():
                self._chosen = min(int(key), self._joints) - 1
            elif key in "jk":
                self._press(self._chosen, 1 if key == "k" else -1, now)
            else:
                self._press(self._joints - 1, 1 if key == "o" else -1, now)
        return np.where(self._until > now, self._pushed, 0.0)

    def _press(self, joint: int, way: int, now: int) -> None:
        self._pushed[joint] = way
        self._until[joint] = now + round(KEY_HOLD * SECOND)


class Gamepad:
    """The first gamepad that pygame finds, its axes as SDL numbers those of common pads."""

    name = "gamepad"

    def __init__(self, joints: int) -> None:
        """Raises `ArmError` when there is none."""
        os.environ.setdefault("SDL_VIDEODRIVER", "dummy")  # no window is wanted
        os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
        import pygame

        self._pygame: Any = pygame
        pygame.display.init()
        pygame.joystick.init()
        if not pygame.joystick.get_count():
            raise ArmError("leader gamepad: none is connected; plug one in, or take --leader keyboard")
        self._pad = pygame.joystick.Joystick(0)
        self._joints = joints

    def push(self, now: int) -> Array:
        for event in self._pygame.event.get():
            if event.type == self._pygame.JOYDEVICEREMOVED:
                raise StaleError("leader: the gamepad was unplugged; plug it in again")
        pushed = np.zeros(self._joints)
        wrist = self._pad.get_button(5) - self._pad.get_button(4)
        grip = (self._axis(5, 1.0) - self._axis(2, 1.0)) / 2  # triggers rest at -1
        wanted = [-self._axis(0), -self._axis(1), -self._axis(4), wrist, self._axis(3), grip]
        pushed[: min(self._joints, 6)] = wanted[: self._joints]
        return pushed

    def _axis(self, number: int, rest: float = 0.0) -> float:
        """An axis, 0 within its dead zone and where the pad has none; `rest` 1 for one that rests at -1."""
        if number >= self._pad.get_numaxes():
            return 0.0
        value = float(self._pad.get_axis(number)) + rest
        return 0.0 if abs(value) < DEAD_ZONE else value
