from __future__ import annotations

import numpy as np
import pytest

from drivers.arm import Array
from runtime.clock import MILLISECOND, SimulatedClock
from runtime.servo import HISTORY, ServoLoop, ServoSettings, Target
from runtime.supervisor import RefusedError, State
from tests.runtime.fake_arm import SPEC, START, FakeArm

PERIOD = 10 * MILLISECOND
GOAL = START + np.array([0.05, -0.05, 0.05])
FAR = START + np.array([1.5, -1.0, 1.0])


class Rig:
    """A servo loop on a fake arm under a simulated clock."""

    def __init__(self, settings: ServoSettings | None = None) -> None:
        self.clock = SimulatedClock(1_000_000_000)
        self.arm = FakeArm(self.clock.now)
        self.loop = ServoLoop(self.arm, self.clock, settings)

    @property
    def state(self) -> State:
        return self.loop.supervisor.state

    @property
    def fault(self) -> str:
        return self.loop.supervisor.fault_text or ""

    def submit(self, positions: Array) -> None:
        self.loop.submit(Target(self.clock.now(), positions), self.clock.now())

    def tick(self, ticks: int = 1) -> None:
        for _ in range(ticks):
            self.loop.tick(self.clock.now())
            self.clock.advance(PERIOD)

    def follow(self, positions: Array, steps: int = 1) -> None:
        for _ in range(steps):
            self.submit(positions)
            self.tick(5)


@pytest.fixture
def rig() -> Rig:
    rig = Rig()
    rig.loop.connect()
    return rig


@pytest.fixture
def running(rig: Rig) -> Rig:
    rig.loop.start()
    rig.follow(FAR, 2)
    assert rig.state is State.RUNNING
    return rig


def assert_decelerates_and_holds(rig: Rig, before: int) -> None:
    """From write number `before` on: no acceleration beyond the limit, and rest at the end."""
    path = np.array(rig.arm.written[before - 2 :])
    velocities = np.diff(path, axis=0) / 0.01
    accelerations = np.diff(velocities, axis=0) / 0.01
    assert (np.abs(accelerations) <= SPEC.acceleration_max + 1e-9).all()
    speeds = np.abs(velocities)
    assert (np.diff(speeds, axis=0) <= 1e-9).all()
    assert not velocities[-1].any()


def test_nothing_is_written_before_a_start(rig: Rig) -> None:
    rig.submit(GOAL)
    rig.tick(5)
    assert rig.state is State.IDLE
    assert rig.arm.written == []
    assert rig.loop.state().counters.targets == 0


def test_nothing_happens_before_connect() -> None:
    rig = Rig()
    rig.tick(3)
    assert rig.state is State.DISCONNECTED
    assert rig.loop.supervisor.energised is False


def test_a_start_holds_where_the_arm_is_and_waits_for_a_target(rig: Rig) -> None:
    rig.loop.start()
    rig.tick(50)
    assert rig.state is State.HOLDING
    assert rig.arm.torque
    np.testing.assert_array_equal(rig.arm.written, np.tile(START, (50, 1)))


def test_a_near_target_is_reached_in_one_policy_period_by_equal_steps(rig: Rig) -> None:
    near = START + np.array([0.01, 0.0, 0.0])
    rig.loop.start()
    rig.follow(near)
    steps = np.diff([START[0], *(positions[0] for positions in rig.arm.written)])
    np.testing.assert_allclose(rig.arm.positions, near, atol=1e-3)
    np.testing.assert_allclose(steps, 0.002, atol=1e-3)
    rig.follow(near)
    np.testing.assert_allclose(rig.arm.positions, near, atol=1e-12)


def test_a_stale_target_decelerates_holds_and_latches(running: Rig) -> None:
    written = len(running.arm.written)
    running.tick(30)
    assert running.state is State.FAULT
    assert "130 ms old" in running.fault
    assert_decelerates_and_holds(running, written + 8)
    running.follow(GOAL, 3)
    assert running.state is State.FAULT
    assert len(np.unique(np.array(running.arm.written[-15:]), axis=0)) == 1


def test_a_stamp_from_the_future_grows_stale_too(running: Rig) -> None:
    running.loop.submit(Target(running.clock.now() + 10**12, FAR), running.clock.now())
    running.tick(30)
    assert running.state is State.FAULT


def test_a_target_that_arrives_stale_is_a_fault(running: Rig) -> None:
    running.loop.submit(Target(running.clock.now() - 200 * MILLISECOND, FAR), running.clock.now())
    running.tick()
    assert "200 ms old" in running.fault


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_target_that_is_not_finite_stops_the_arm(running: Rig, value: float) -> None:
    written = len(running.arm.written)
    running.submit(np.array([0.0, value, 0.0]))
    running.tick(20)
    assert running.state is State.FAULT
    assert "not finite" in running.fault
    assert_decelerates_and_holds(running, written)


def test_a_target_of_another_shape_is_refused(running: Rig) -> None:
    with pytest.raises(ValueError, match=r"\(2,\).*\(3,\)"):
        running.submit(np.zeros(2))


def test_hold_decelerates_and_needs_a_new_start(running: Rig) -> None:
    written = len(running.arm.written)
    running.loop.hold()
    assert running.state is State.STOPPING
    running.tick(20)
    assert running.state is State.HOLDING
    assert running.fault == ""
    assert_decelerates_and_holds(running, written)
    running.follow(GOAL)
    assert running.state is State.HOLDING
    held = running.arm.written[-1]
    running.loop.start()
    running.tick(20)
    np.testing.assert_array_equal(running.arm.written[-1], held)
    running.follow(GOAL)
    assert running.state is State.RUNNING


def test_every_write_is_within_limits(running: Rig) -> None:
    rng = np.random.default_rng(0)
    for _ in range(40):
        running.submit(rng.normal(scale=2.0, size=3))
        running.tick(int(rng.integers(1, 8)))
    path = np.array(running.arm.written)
    velocities = np.diff(path, axis=0) / 0.01
    assert (path >= SPEC.position_min).all()
    assert (path <= SPEC.position_max).all()
    assert (np.abs(velocities) <= SPEC.velocity_max + 1e-9).all()
    assert (np.abs(np.diff(velocities, axis=0)) / 0.01 <= SPEC.acceleration_max + 1e-9).all()


def test_single_failed_reads_are_counted_and_survived(running: Rig) -> None:
    running.arm.broken_reads = 3
    running.follow(FAR)
    assert running.state is State.RUNNING
    assert running.loop.state().counters.read_failures == 3
    assert running.loop.state().joints.stamp < running.clock.now()


def test_reads_that_keep_failing_are_a_fault(running: Rig) -> None:
    running.arm.broken_reads = -1
    running.follow(FAR, 4)
    assert running.state is State.FAULT
    assert running.fault == "bus: 10 reads in a row failed: no answer from lift"


def test_writes_that_keep_failing_are_a_fault_and_the_arm_does_not_jump_when_the_bus_is_back(running: Rig) -> None:
    running.arm.broken_writes = 12
    last = running.arm.positions
    running.follow(FAR, 3)
    assert running.state is State.FAULT
    assert running.fault == "bus: 10 writes in a row failed: port is gone"
    assert running.loop.state().counters.write_failures == 12
    running.tick(10)
    np.testing.assert_array_equal(running.arm.positions, last)


def test_a_hot_servo_is_a_fault(running: Rig) -> None:
    running.arm.temperatures_c[1] = 66
    running.tick()
    assert running.fault == "servo: lift is at 66 C, above 65 C: let it cool down"


def test_a_servo_that_reports_an_error_is_a_fault(running: Rig) -> None:
    running.arm.errors = ("gripper: overload",)
    running.tick(20)
    assert running.fault == "servo: gripper: overload"
    assert running.state is State.FAULT
    assert running.arm.torque


def test_overruns_in_a_row_are_a_fault(running: Rig) -> None:
    for _ in range(19):
        running.loop.overrun(2)
    running.loop.overrun(0)
    assert running.fault == ""
    for _ in range(20):
        running.loop.overrun(1)
    assert running.fault.startswith("servo loop: 20 ticks in a row overran")
    assert running.loop.state().counters.skipped == 58


def test_the_fault_record_ends_before_the_fault_and_is_bounded(running: Rig) -> None:
    running.follow(FAR, 20)
    assert running.loop.fault_record == ()
    running.arm.errors = ("lift: overload",)
    running.tick(30)
    record = running.loop.fault_record
    assert len(record) == HISTORY
    stamps = [entry.stamp for entry in record]
    assert stamps == sorted(stamps)
    assert stamps[-1] == running.clock.now() - 31 * PERIOD


def test_a_reset_never_starts_motion(running: Rig) -> None:
    running.tick(30)
    with pytest.raises(RefusedError, match="130 ms old"):
        running.loop.start()
    running.loop.reset()
    assert running.state is State.HOLDING
    assert running.loop.fault_record == ()
    held = running.arm.positions
    running.follow(GOAL)
    np.testing.assert_array_equal(running.arm.positions, held)


def test_a_joint_outside_its_limits_refuses_the_start_and_gets_no_torque(rig: Rig) -> None:
    rig.arm.positions[2] = 1.9
    with pytest.raises(RefusedError, match=r"joint 2 .*2=gripper"):
        rig.loop.start()
    assert not rig.arm.torque


def test_release_needs_an_arm_at_rest(running: Rig) -> None:
    with pytest.raises(RefusedError):
        running.loop.release()
    running.loop.hold()
    running.tick(20)
    assert running.loop.release().released == SPEC.joint_names
    written = len(running.arm.written)
    running.tick(5)
    assert running.state is State.IDLE
    assert len(running.arm.written) == written


def test_after_a_release_the_next_start_takes_the_present_pose(running: Rig) -> None:
    running.loop.hold()
    running.tick(20)
    running.loop.release()
    running.arm.positions = np.array([-1.0, 0.5, 0.1])
    running.loop.start()
    running.tick()
    np.testing.assert_array_equal(running.arm.written[-1], [-1.0, 0.5, 0.1])


def test_close_disconnects_and_leaves_torque(running: Rig) -> None:
    running.loop.close()
    assert running.state is State.DISCONNECTED
    assert running.arm.torque
    assert not running.arm.connected


def test_state_tells_command_and_measurement(running: Rig) -> None:
    state = running.loop.state()
    np.testing.assert_array_equal(state.command, running.arm.written[-1])
    np.testing.assert_array_equal(state.positions, running.arm.written[-2])
    assert state.state is State.RUNNING
    assert state.fault is None
    assert state.counters.ticks == 10
    assert state.counters.targets == 2
