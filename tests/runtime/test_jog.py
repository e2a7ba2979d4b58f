"""Keys and a gamepad as leaders: bounded speed, the follower's limits, no push without a hand."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import numpy as np
import pytest

from drivers.arm import ArmError
from runtime.clock import MILLISECOND, SECOND, SimulatedClock
from runtime.jog import KEY_HOLD, SPEED, Gamepad, JogLeader, Keyboard
from runtime.loop import StaleError
from tests.runtime.fake_arm import SPEC


class Typed:
    """Keys as they are typed."""

    def __init__(self) -> None:
        self.keys: list[str] = []

    def take(self, among: str) -> str | None:
        return self.keys.pop(0) if self.keys and self.keys[0] in among else None


def test_a_key_moves_the_chosen_joint_for_a_moment() -> None:
    typed, clock = Typed(), SimulatedClock()
    leader = JogLeader(Keyboard(typed.take, 3), SPEC, clock)
    began = leader.start(np.zeros(3)).copy()
    typed.keys = ["2", "k", "o"]
    for _ in range(50):
        clock.advance(10 * MILLISECOND)
        targets = leader.targets()
    moved = targets - began
    assert moved[0] == 0
    assert moved[1:] == pytest.approx([SPEED * KEY_HOLD] * 2, abs=SPEED * 0.011)


def test_a_key_held_down_moves_steadily_and_stops_at_the_limit() -> None:
    typed, clock = Typed(), SimulatedClock()
    leader = JogLeader(Keyboard(typed.take, 3), SPEC, clock)
    leader.start(np.zeros(3))
    path = []
    for index in range(600):
        typed.keys = ["1"] if index == 0 else ["j"] if index % 3 == 0 else []
        clock.advance(10 * MILLISECOND)
        path.append(leader.targets()[0])
    assert np.abs(np.diff(path)).max() <= SPEED * 0.0101
    assert path[-1] == SPEC.position_min[0]


def test_a_pause_is_no_push() -> None:
    clock = SimulatedClock()
    leader = JogLeader(SimpleNamespace(name="x", push=lambda now: np.ones(3)), SPEC, clock)
    leader.start(np.zeros(3))
    clock.advance(60 * SECOND)
    assert leader.targets()[0] <= SPEED * 0.1 + 1e-9


class Pygame(SimpleNamespace):
    """As much of pygame as a gamepad needs; axes and buttons are set by hand."""

    JOYDEVICEREMOVED = 7

    def __init__(self, count: int = 1) -> None:
        self.axes, self.buttons, self.events = [0.0, 0.0, -1.0, 0.0, 0.0, -1.0], [0] * 8, []
        pad = SimpleNamespace(
            get_numaxes=lambda: len(self.axes),
            get_axis=lambda number: self.axes[number],
            get_button=lambda number: self.buttons[number],
        )
        super().__init__(
            display=SimpleNamespace(init=lambda: None),
            joystick=SimpleNamespace(init=lambda: None, get_count=lambda: count, Joystick=lambda number: pad),
            event=SimpleNamespace(get=lambda: self.events),
        )


def test_sticks_push_joints_and_their_middle_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    pygame = Pygame()
    monkeypatch.setitem(sys.modules, "pygame", pygame)
    pad = Gamepad(6)
    pygame.axes[0] = 0.05  # not quite its middle
    assert not pad.push(0).any()
    pygame.axes[0], pygame.axes[5], pygame.buttons[4] = 1.0, 1.0, 1
    assert pad.push(0).tolist() == [-1.0, 0.0, 0.0, -1.0, 0.0, 1.0]
    assert Gamepad(3).push(0).shape == (3,)
    pygame.events = [SimpleNamespace(type=Pygame.JOYDEVICEREMOVED)]
    with pytest.raises(StaleError, match="unplugged"):
        pad.push(0)


def test_without_a_gamepad_there_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pygame", Pygame(count=0))
    with pytest.raises(ArmError, match="none is connected"):
        Gamepad(6)
