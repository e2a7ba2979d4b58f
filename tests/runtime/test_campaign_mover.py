"""The mover stays in its box, which is free; the misbehaving policy does as it is told."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from drivers.arm import ArmSpec, Array
from drivers.config import load_robot
from policies.policy import Action, Observation, PolicyError
from runtime.campaign.mover import HOWS, LIMIT_MARGIN, Misbehaving, Mover, free_box
from runtime.campaign.session import box_of
from runtime.clock import MILLISECOND, SimulatedClock
from runtime.guard import Guard

ROBOT = load_robot("emulated")
SPEC: ArmSpec = ROBOT.arm.spec()
LOW, HIGH = SPEC.position_min + 0.3, SPEC.position_max - 0.3


def observe(targets: Array) -> Observation:
    return Observation(0, {}, {"joint_positions": targets, "joint_targets": targets})


def play(policy: Mover, steps: int) -> Array:
    here = np.zeros(SPEC.joints)
    here = np.clip(here, LOW, HIGH)
    targets = []
    for _ in range(steps):
        here = policy.act(observe(here)).targets
        targets.append(here)
    return np.array(targets)


def test_the_mover_stays_in_its_box_and_uses_it() -> None:
    mover = Mover(LOW, HIGH)
    mover.reset("move 5")
    targets = play(mover, 2000)
    assert (targets >= LOW - 1e-12).all() and (targets <= HIGH + 1e-12).all()
    assert (np.ptp(targets, axis=0) > 0.9 * (HIGH - LOW)).all()


def test_the_mover_both_glides_and_jumps() -> None:
    mover = Mover(LOW, HIGH)
    mover.reset("move 5")
    steps = np.abs(np.diff(play(mover, 500), axis=0)).max(axis=1)
    assert (steps > 0.5).any()
    assert ((steps > 0) & (steps < 0.1)).any()


def test_the_same_seed_moves_the_same_way() -> None:
    first, second = Mover(LOW, HIGH), Mover(LOW, HIGH)
    first.reset("move 7")
    second.reset("move 7")
    np.testing.assert_array_equal(play(first, 50), play(second, 50))
    second.reset("move 8")
    assert (play(first, 50) != play(second, 50)).any()
    with pytest.raises(PolicyError, match="needs a number"):
        first.reset("about")


def test_a_free_box_has_no_pose_that_is_not_free() -> None:
    def free(pose: Array) -> bool:
        return bool(pose[0] + pose[1] < 0.5)

    low, high = free_box(SPEC, np.clip(np.zeros(6), LOW, HIGH), free, np.random.default_rng(1))
    assert high[0] + high[1] < 0.5
    assert (low >= SPEC.position_min + LIMIT_MARGIN - 1e-12).all()
    assert (high - low > 0.5).all()
    with pytest.raises(ValueError, match="not free"):
        free_box(SPEC, np.ones(6), free, np.random.default_rng(1))


@pytest.mark.parametrize("name", ["emulated", "emulated_dynamixel", "so101", "koch"])
def test_the_box_of_a_robot_is_clear_of_everything(name: str) -> None:
    robot = load_robot(name)
    low, high = box_of(robot)
    guard = Guard.of(robot)
    assert guard is not None
    poses = np.random.default_rng(2).uniform(low, high, (500, len(low)))
    assert [problem for pose in poses if (problem := guard.check(pose))] == []
    assert (high - low).max() > 0.8


class Steady:
    """Wants what is."""

    name, rate = "steady", 20.0

    def reset(self, task: str) -> None: ...

    def act(self, observation: Observation) -> Action:
        return Action(np.array(observation.proprioception["joint_targets"]), np.zeros(0, np.int64))


@pytest.fixture
def began() -> list[int]:
    return []


@pytest.fixture
def policy(began: list[int]) -> Misbehaving:
    return Misbehaving(Steady(), SPEC, SimulatedClock(), began.append)


HERE = np.full(SPEC.joints, 0.5)


def test_it_behaves_until_it_is_told_and_again_afterwards(policy: Misbehaving, began: list[int]) -> None:
    np.testing.assert_array_equal(policy.act(observe(HERE)).targets, HERE)
    policy.begin("nan")
    assert np.isnan(policy.act(observe(HERE)).targets).sum() == 1
    policy.act(observe(HERE))
    assert len(began) == 1, "told once"
    policy.end()
    np.testing.assert_array_equal(policy.act(observe(HERE)).targets, HERE)


def test_each_way_to_misbehave(policy: Misbehaving) -> None:
    policy.begin("inf")
    assert np.isinf(policy.act(observe(HERE)).targets).sum() == 1
    policy.begin("shape")
    assert policy.act(observe(HERE)).targets.shape == (SPEC.joints - 1,)
    policy.begin("raise")
    with pytest.raises(RuntimeError, match="crashed"):
        policy.act(observe(HERE))
    policy.begin("jumps")
    jumps = np.array([policy.act(observe(HERE)).targets for _ in range(50)])
    assert (jumps < SPEC.position_min).any() and (jumps > SPEC.position_max).any()
    with pytest.raises(ValueError, match="a policy cannot dance; there are raise"):
        policy.begin("dance")
    assert {"busy", "sleep", "late", "memory"} <= set(HOWS)


def test_a_late_policy_takes_longer_than_its_period(began: list[int]) -> None:
    clock = SimulatedClock()
    policy = Misbehaving(Steady(), SPEC, clock, began.append)
    policy.begin("late")
    policy.act(observe(HERE))
    assert clock.now() > 50 * MILLISECOND


@pytest.mark.parametrize("how", ["busy", "sleep"])
def test_a_hanging_policy_hangs_until_it_is_let_go(policy: Misbehaving, how: str) -> None:
    policy.begin(how)
    done = threading.Event()

    def act() -> None:
        policy.act(observe(HERE))
        done.set()

    thread = threading.Thread(target=act)
    thread.start()
    assert not done.wait(0.1)
    policy.end()
    assert done.wait(5)
    thread.join()
