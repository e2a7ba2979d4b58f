"""A leader arm's readings as a follower's targets."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from drivers.arm import ArmError, ArmSpec, frozen
from drivers.config import ConfigError
from policies.policy import Observation
from runtime.clock import MILLISECOND, SECOND, SimulatedClock
from runtime.leader import CATCH_UP, FAILURES, LOOKAHEAD, ArmLeader, LeaderPolicy, Mapping
from runtime.loop import StaleError
from tests.runtime.fake_arm import SPEC, FakeArm

LEADER = replace(SPEC, position_max=np.array([1.92, 1.75, 1.0]))
GRIPPERS = ("gripper",)


class LeaderArm(FakeArm):
    """A leader whose trigger has another range than the follower's gripper."""

    def __init__(self, clock: SimulatedClock) -> None:
        super().__init__(clock.now)
        self.spec = LEADER


def leader(clock: SimulatedClock, **options: float) -> tuple[ArmLeader, LeaderArm]:
    arm = LeaderArm(clock)
    made = ArmLeader(arm, SPEC, GRIPPERS, **options)
    made.connect()
    return made, arm


def test_angles_are_the_same_and_a_gripper_goes_by_its_share() -> None:
    mapped = Mapping.between(LEADER, SPEC, GRIPPERS)
    np.testing.assert_allclose(mapped(np.array([0.3, -0.4, 0.5])), [0.3, -0.4, 0.875])
    other = ArmSpec(("pan",), np.zeros(1), np.ones(1), np.ones(1), np.ones(1))
    with pytest.raises(ConfigError, match="must be the same"):
        Mapping.between(other, SPEC, GRIPPERS)


def test_a_leader_that_has_torque_is_let_go() -> None:
    clock = SimulatedClock()
    arm = LeaderArm(clock)
    arm.torque = True
    ArmLeader(arm, SPEC, GRIPPERS).connect()
    assert not arm.torque
    stubborn = LeaderArm(clock)
    stubborn.torque, stubborn.stubborn = True, ("lift",)
    with pytest.raises(ArmError, match="lift keep their torque"):
        ArmLeader(stubborn, SPEC, GRIPPERS).connect()


def test_motion_is_carried_on_by_the_delay_that_it_has() -> None:
    clock = SimulatedClock()
    made, arm = leader(clock)
    arm.positions = np.zeros(3)
    made.start(np.zeros(3))
    for _ in range(120):
        clock.advance(10 * MILLISECOND)
        arm.positions = arm.positions + np.array([0.01, -0.005, 0.0])  # 1 and -0.5 rad/s
        targets = made.targets()
    np.testing.assert_allclose(targets - [1.2, -0.6, 0.0], [LOOKAHEAD, -LOOKAHEAD / 2, 0.0], atol=1e-9)


def test_a_leader_at_rest_is_where_it_is_and_limits_hold() -> None:
    clock = SimulatedClock()
    made, arm = leader(clock)
    arm.positions = np.array([0.2, 9.0, 0.5])
    made.start(np.zeros(3))
    for _ in range(3):
        clock.advance(10 * MILLISECOND)
        np.testing.assert_allclose(made.targets(), [0.2, SPEC.position_max[1], 0.875])


def test_what_the_leader_moved_meanwhile_is_made_up_for_slowly() -> None:
    clock = SimulatedClock()
    made, arm = leader(clock)
    arm.positions = np.zeros(3)
    began = made.start(np.ones(3))
    arm.positions = np.array([0.4, 0.0, 0.0])  # while the follower was on its way
    clock.advance(2 * SECOND)
    seen = []
    for _ in range(round(CATCH_UP * 100) + 5):
        clock.advance(10 * MILLISECOND)
        seen.append(made.targets())
    path = np.array([began, *seen])
    assert np.abs(np.diff(path[:, 0])).max() < 0.012, "no jump"
    assert path[-1, 0] == pytest.approx(0.4)


def test_a_leader_that_is_silent_is_stale_after_a_while() -> None:
    clock = SimulatedClock()
    made, arm = leader(clock)
    made.start(np.zeros(3))
    last = made.targets()
    arm.broken_reads = -1
    for _ in range(FAILURES - 1):
        np.testing.assert_allclose(made.targets(), last)
    with pytest.raises(StaleError, match="10 readings in a row failed"):
        made.targets()


def test_a_leader_is_a_policy() -> None:
    clock = SimulatedClock()
    made, _ = leader(clock)
    made.start(np.zeros(3))
    policy = LeaderPolicy(made, 100.0)
    policy.reset("anything")
    action = policy.act(Observation(0, {}, {}))
    assert policy.rate == 100.0 and action.targets.shape == (3,) and action.tokens.size == 0
    np.testing.assert_array_equal(action.targets, frozen(made.targets()))
