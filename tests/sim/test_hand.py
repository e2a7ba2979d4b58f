"""A hand that moves an emulated arm: through its poses, as fast as it was told, and then it holds."""

from __future__ import annotations

import time

import numpy as np
import pytest

from drivers.config import load_robot
from sim.emulator import EmulatorError, EmulatorProcess
from sim.hand import ACCELERATION, Hand
from sim.tasks import TASKS
from tests.sim.servo_clients import FeetechClient, wait_for

DT = 1 / 200


def walk(hand: Hand, limit: int = 4000) -> np.ndarray:
    """Every pose on its way."""
    poses = [hand.pose.copy()]
    while not hand.arrived:
        hand.advance(DT)
        poses.append(hand.pose.copy())
        assert len(poses) < limit
    return np.array(poses)


def test_it_passes_every_pose_at_its_speed() -> None:
    stops = [np.array([0.5, 0.1]), np.array([0.5, 0.1]), np.array([-0.5, 0.0])]
    poses = walk(Hand(np.zeros(2), stops, 1.0))
    for stop in stops:
        assert np.abs(poses - stop).max(axis=1).min() < 1e-9
    speeds = np.abs(np.diff(poses, axis=0)) / DT
    assert speeds.max() == pytest.approx(1.0, abs=1e-6)
    assert np.abs(np.diff(speeds[:, 0])).max() <= ACCELERATION * DT * 2.01
    assert len(poses) * DT == pytest.approx(0.5 + 1.0 + 2 * 1.0 / ACCELERATION, abs=0.05)


def test_it_holds_where_it_has_arrived() -> None:
    hand = Hand(np.zeros(2), [np.array([0.1, 0.0])], 2.0)
    walk(hand)
    hand.advance(1.0)
    assert hand.arrived and hand.pose.tolist() == [0.1, 0.0]
    assert Hand(np.ones(2), [np.ones(2)], 1.0).arrived


@pytest.mark.parametrize(
    ("poses", "speed"), [([np.zeros(3)], 1.0), ([np.array([np.nan, 0.0])], 1.0), ([np.zeros(2)], 0.0)]
)
def test_what_a_hand_cannot_do(poses: list[np.ndarray], speed: float) -> None:
    with pytest.raises(ValueError):
        Hand(np.zeros(2), poses, speed)


def test_a_leader_without_torque_is_moved_and_let_go() -> None:
    config = load_robot("so101_leader")
    home = config.arm.home_pose()
    assert home is not None
    goal = home + np.array([0.4, 0.0, -0.2, 0.0, 0.3, 0.1])
    with EmulatorProcess(config) as emulator:
        client = FeetechClient(emulator.port)
        before = np.array(client.positions())
        emulator.hand([goal], 1.5)
        wait_for(lambda: emulator.let_go(when_arrived=True))
        moved = np.array(client.positions()) - before
        directions = np.array([joint.direction for joint in config.arm.joints])
        np.testing.assert_allclose(moved, directions * (goal - home) * 4096 / (2 * np.pi), atol=25)
        assert not emulator.let_go()
        with pytest.raises(EmulatorError, match="a pose is 6 finite angles"):
            emulator.hand([goal[:3]], 1.0)
        client.close()


def test_the_demonstrator_is_asked_from_outside(emulator: EmulatorProcess) -> None:
    emulator.reset(5, TASKS[0].text, home=True, limit=7)
    home = load_robot("emulated").arm.home_pose()
    assert home is not None
    targets = emulator.demonstrate(TASKS[0].text, home)
    assert 0.01 < np.abs(targets - home)[:5].max() <= 0.1 + 1e-9
    wait_for(lambda: emulator.judge()["outcome"] == "never moved")
    assert emulator.judge()["steps"] == 7
    started = time.monotonic()
    with pytest.raises(ValueError, match="purple"):
        emulator.reset(5, "stack the purple block on the red block")
    assert time.monotonic() - started < 5
