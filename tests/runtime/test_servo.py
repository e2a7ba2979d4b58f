from __future__ import annotations

import numpy as np
import pytest

from drivers.arm import ArmError, Array
from drivers.config import SafetyConfig, load_robot
from runtime.clock import MILLISECOND, SimulatedClock
from runtime.safety import TABLE
from runtime.servo import HISTORY, RESET_TRIES, ServoLoop, ServoSettings, Target
from runtime.supervisor import RefusedError, State, Stop
from tests.runtime.fake_arm import SPEC, START, FakeArm

PERIOD = 10 * MILLISECOND
GOAL = START + np.array([0.05, -0.05, 0.05])
FAR = START + np.array([1.5, -1.0, 1.0])
REST = (0.0, -1.2, 0.1)
AT_ONCE = 0.15  # s, from a policy's last target to rest


class Wall:
    """An obstacle in every path beyond a position of the first joint."""

    def __init__(self, at: float = np.inf) -> None:
        self.at = at

    def far(self, positions: Array, reach: Array) -> bool:
        return False

    def obstructs(self, positions: Array, path: Array) -> str | None:
        return TABLE if path[-1][0] > self.at else None


class Rig:
    """A servo loop on a fake arm under a simulated clock."""

    def __init__(self, settings: ServoSettings | None = None, wall: Wall | None = None) -> None:
        self.clock = SimulatedClock(1_000_000_000)
        self.arm = FakeArm(self.clock.now)
        self.loop = ServoLoop(self.arm, self.clock, settings, wall)

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

    def begin(self) -> None:
        """Running, and past the filter's slow start."""
        self.loop.connect()
        self.loop.start()
        self.follow(START, 7)

    def changes(self, since: int) -> float:
        """Seconds that the goals went on changing after write number `since`."""
        path = np.array(self.arm.written[since - 1 :])
        moved = np.flatnonzero(np.diff(path, axis=0).any(axis=1))
        return 0.01 * (moved[-1] + 1) if moved.size else 0.0


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


@pytest.fixture
def lowerable() -> Rig:
    rig = Rig(ServoSettings(rest=REST))
    rig.begin()
    return rig


def assert_decelerates_and_holds(rig: Rig, before: int) -> None:
    """From write number `before` on: no acceleration beyond the limit, and rest at the end."""
    path = np.array(rig.arm.written[before - 2 :])
    velocities = np.diff(path, axis=0) / 0.01
    accelerations = np.diff(velocities, axis=0) / 0.01
    assert (np.abs(accelerations) <= SPEC.acceleration_max + 1e-6).all()
    assert (np.abs(np.diff(accelerations, axis=0) / 0.01) <= SPEC.jerk_max + 1e-3).all()
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
    rig.begin()
    written = len(rig.arm.written)
    rig.follow(near)
    steps = np.diff([START[0], *(positions[0] for positions in rig.arm.written[written:])])
    np.testing.assert_allclose(rig.arm.positions, near, atol=2e-3)
    np.testing.assert_allclose(steps[2:], 0.002, atol=3e-4)
    rig.follow(near)
    np.testing.assert_allclose(rig.arm.positions, near, atol=1e-4)


def test_what_is_asked_goes_on_from_what_was_asked(rig: Rig) -> None:
    rig.begin()
    asked, target = [START[0]], np.array(START)
    for _ in range(8):
        target = target + np.array([0.1, 0.0, 0.0])  # 2 rad/s: the command lags behind
        rig.submit(target)
        for _ in range(5):
            rig.tick()
            seen = rig.loop.state().asked
            assert seen is not None
            asked.append(seen[0])
    np.testing.assert_allclose(np.diff(asked), 0.02, atol=1e-9)
    assert rig.arm.written[-1][0] < target[0] - 0.01


def test_after_a_pause_it_begins_at_the_command(running: Rig) -> None:
    running.tick(9)  # the last target is too old to be followed
    here = running.arm.written[-1]
    running.submit(FAR)
    running.tick()
    np.testing.assert_allclose(running.loop.state().asked, here + (FAR - here) / 5, atol=0.03)


def test_a_target_that_is_not_finite_and_replaced_in_time_spoils_nothing(running: Rig) -> None:
    running.submit(np.full(3, np.nan))
    running.submit(FAR)
    running.tick()
    assert running.fault == ""
    assert np.isfinite(np.array(running.arm.written)).all()


@pytest.mark.parametrize("steps", [2, 8, 20])
def test_a_policy_that_hangs_is_at_rest_after_150_ms_and_a_latched_fault_after_200(steps: int) -> None:
    running = Rig()
    running.begin()
    for _ in range(steps):  # one step at full speed, and far behind its target, as soon as the arm has taken up speed
        running.follow(running.arm.positions * 0 + np.clip(FAR, SPEC.position_min, SPEC.position_max))
    running.submit(np.clip(-FAR, SPEC.position_min, SPEC.position_max))
    written = len(running.arm.written)
    running.tick(20)
    assert running.state is State.RUNNING and running.fault == ""
    assert running.changes(written) <= AT_ONCE
    running.tick(10)
    assert running.state is State.FAULT
    assert running.fault == "policy silent for 210 ms: it hangs, was stopped, or is too slow"
    assert_decelerates_and_holds(running, written)
    running.follow(GOAL, 3)
    assert running.state is State.FAULT
    assert len(np.unique(np.array(running.arm.written[-15:]), axis=0)) == 1


def test_at_full_speed_the_last_target_is_left_in_time_to_be_at_rest(rig: Rig) -> None:
    rig.begin()
    target = START.copy()
    for _ in range(10):
        target = target + np.array([0.5, 0.0, 0.0])  # always far ahead
        rig.follow(np.clip(target, SPEC.position_min, SPEC.position_max))
        if np.diff([positions[0] for positions in rig.arm.written[-2:]])[0] > 0.999 * 0.025:
            break
    assert np.diff([positions[0] for positions in rig.arm.written[-2:]])[0] > 0.999 * 0.025, "at full speed"
    rig.submit(np.array([1.9, START[1], START[2]]))
    written = len(rig.arm.written)
    rig.tick(30)
    assert 0.1 < rig.changes(written) <= AT_ONCE
    assert_decelerates_and_holds(rig, written)


@pytest.mark.parametrize("late", [5, 7, 12])
def test_after_a_late_target_the_arm_goes_on_smoothly_without_a_fault(running: Rig, late: int) -> None:
    written = len(running.arm.written)
    running.tick(late)
    running.follow(FAR, 12)
    assert running.state is State.RUNNING
    running.loop.hold()
    running.tick(20)
    assert_decelerates_and_holds(running, written)
    assert running.fault == ""


def test_an_armed_policy_may_take_its_time_for_the_first_target(rig: Rig) -> None:
    rig.loop.start()
    rig.tick(100)
    assert rig.state is State.HOLDING
    rig.follow(GOAL)
    assert rig.state is State.RUNNING


def test_a_stamp_from_the_future_grows_stale_too(running: Rig) -> None:
    running.loop.submit(Target(running.clock.now() + 10**12, FAR), running.clock.now())
    running.tick(30)
    assert running.state is State.FAULT


def test_a_target_that_arrives_too_late_is_a_fault(running: Rig) -> None:
    running.loop.submit(Target(running.clock.now() - 300 * MILLISECOND, FAR), running.clock.now())
    running.tick()
    assert running.fault.startswith("policy silent for 300 ms")


def test_a_target_that_arrives_stale_starts_nothing(rig: Rig) -> None:
    rig.loop.start()
    rig.loop.submit(Target(rig.clock.now() - 100 * MILLISECOND, FAR), rig.clock.now())
    rig.tick(5)
    assert rig.state is State.HOLDING and rig.fault == ""


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
    assert (np.abs(np.diff(velocities, axis=0)) / 0.01 <= SPEC.acceleration_max + 1e-6).all()


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
    with pytest.raises(RefusedError, match="210 ms"):
        running.loop.start()
    running.loop.reset()
    assert running.state is State.HOLDING
    assert running.loop.fault_record == ()
    held = running.arm.positions
    running.follow(GOAL)
    np.testing.assert_array_equal(running.arm.positions, held)


def test_a_joint_outside_its_limits_refuses_the_start_and_gets_no_torque(rig: Rig) -> None:
    rig.arm.positions[2] = 1.9
    with pytest.raises(
        RefusedError, match=r"^gripper rests at 1\.900 rad, outside \[0\.000, 1\.750\]: move it inside by hand"
    ):
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


def test_a_stuck_joint_is_a_stall_named_and_held(running: Rig) -> None:
    running.arm.stuck, running.arm.loads = (1,), np.array([0.0, -0.95, 0.0])
    running.follow(FAR, 40)
    assert running.state is State.FAULT
    assert running.fault.startswith(("stall: lift pushes with 95%", "tracking: lift has been"))


@pytest.mark.parametrize("sign", [-1, 1])
def test_a_joint_that_is_held_up_is_not_left_far_behind_and_the_fault_ends_its_pushing(sign: int) -> None:
    rig = Rig()
    rig.begin()
    rig.arm.stuck = (1, 2)
    stays = rig.arm.positions[1:].copy()
    for _ in range(30):
        rig.follow(START + sign * np.array([0.0, 1.0, 0.4]))
        assert abs(rig.arm.written[-1][1] - stays[0]) < 0.15 + 1e-6
    assert rig.fault.startswith("tracking: lift has been 0.15 rad from its command")
    assert rig.state is State.FAULT
    # The gripper goes on gripping.
    np.testing.assert_allclose(rig.arm.written[-1][1:], stays + sign * np.array([0.02, 0.15]), atol=1e-6)
    assert_decelerates_and_holds(rig, 10)


def test_nothing_can_be_asked_of_an_arm_that_gives_way(rig: Rig) -> None:
    rig.loop.start()
    rig.arm.stuck = (1,)
    while not rig.fault:
        rig.follow(FAR)
    assert rig.state is State.STOPPING
    with pytest.raises(RefusedError, match="still stopping"):
        rig.loop.reset()
    rig.tick(40)
    assert rig.state is State.FAULT
    rig.loop.reset()
    rig.tick(30)
    np.testing.assert_array_equal(rig.arm.written[-1], rig.arm.positions)


def test_a_joint_that_someone_pushes_away_is_not_pushed_back_for_ever(rig: Rig) -> None:
    rig.loop.start()
    rig.arm.stuck = (0,)
    rig.arm.positions[0] += 0.5
    rig.tick(60)
    assert rig.fault.startswith("tracking: pan has been 0.50 rad from its command")
    assert rig.state is State.FAULT
    rig.tick(80)
    assert rig.arm.written[-1][0] == pytest.approx(rig.arm.positions[0] - 0.02, abs=1e-6)


def test_a_gripper_that_holds_something_is_no_fault(running: Rig) -> None:
    running.arm.stuck, running.arm.loads = (2,), np.array([0.0, 0.0, 1.0])
    running.follow(FAR, 60)
    assert running.fault == ""
    assert running.arm.written[-1][2] - running.arm.positions[2] == pytest.approx(0.15)


def test_low_supply_is_a_fault() -> None:
    rig = Rig(ServoSettings.of(SafetyConfig(voltage_min=6.0)))
    rig.begin()
    rig.arm.voltages[0] = 5.1
    rig.follow(FAR, 3)
    assert rig.fault == "supply: pan measures 5.1 V, below 6 V: check the power supply"


def test_a_guard_that_keeps_saying_no_is_a_fault() -> None:
    wall = Wall()
    rig = Rig(wall=wall)
    rig.begin()
    wall.at = 0.8
    rig.follow(FAR, 15)
    assert rig.fault == ""
    assert rig.arm.positions[0] <= 0.8
    assert TABLE in rig.loop.state().reasons
    rig.follow(FAR, 20)
    assert rig.fault.startswith("guard: table for 1 s")
    assert rig.arm.positions[0] <= 0.8


def test_what_was_asked_and_what_was_sent_are_both_told(running: Rig) -> None:
    running.follow(FAR)
    state = running.loop.state()
    assert state.asked is not None
    np.testing.assert_allclose(state.asked, FAR)
    assert (np.abs(state.command - FAR) > 0.1).any()
    running.loop.hold()
    running.tick(20)
    assert running.loop.state().asked is None


# ---- stops


def test_an_operator_s_stop_decelerates_holds_and_latches(running: Rig) -> None:
    written = len(running.arm.written)
    running.loop.stop(Stop.HOLD, "stopped by the operator")
    running.tick(20)
    assert (running.state, running.fault) == (State.FAULT, "stopped by the operator")
    assert running.arm.torque
    assert_decelerates_and_holds(running, written)


def test_power_off_is_at_once_and_in_motion(running: Rig) -> None:
    written = len(running.arm.written)
    running.loop.stop(Stop.POWER_OFF, "power switched off")
    assert not running.arm.torque
    assert (running.state, running.fault) == (State.FAULT, "power switched off")
    running.tick(5)
    assert len(running.arm.written) == written
    running.loop.reset()
    assert running.state is State.IDLE


def test_power_that_does_not_go_off_is_told_and_the_arm_stops(running: Rig) -> None:
    running.arm.broken_writes = 1
    with pytest.raises(ArmError, match="port is gone"):
        running.loop.stop(Stop.POWER_OFF, "power switched off")
    assert (running.state, running.fault) == (State.STOPPING, "power switched off")
    running.arm.broken_writes = 0
    running.arm.stubborn = ("lift",)
    running.tick(20)
    running.loop.reset()
    report = running.loop.release()
    assert report.still_energised == ("lift",)
    assert running.fault == "release: lift still energised: switch the arm's power off before touching it"


def test_lowering_goes_slowly_to_the_rest_pose_and_releases_there(lowerable: Rig) -> None:
    lowerable.follow(FAR, 4)
    written = len(lowerable.arm.written)
    lowerable.loop.stop(Stop.LOWER, "lowered by the operator")
    lowerable.tick(25)
    assert lowerable.state is State.STOPPING
    for _ in range(1000):
        lowerable.tick()
        if not lowerable.arm.torque:
            break
    assert (lowerable.state, lowerable.fault) == (State.FAULT, "lowered by the operator")
    np.testing.assert_allclose(lowerable.arm.written[-1], REST, atol=1e-5)
    path = np.array(lowerable.arm.written[written + 25 :])
    assert (np.abs(np.diff(path, axis=0)) <= 0.3 * np.pi / 2 * 0.01 + 1e-9).all()
    assert lowerable.loop.report is not None and lowerable.loop.report.released == SPEC.joint_names
    lowerable.loop.reset()
    assert lowerable.state is State.IDLE and not lowerable.arm.torque


def test_an_arm_that_is_not_seen_at_rest_is_not_released(lowerable: Rig) -> None:
    arm = lowerable.arm
    lowerable.loop.lower()
    arm.velocities = np.array([0.0, 0.06, 0.0])
    while np.abs(arm.written[-1] - REST).max() > 1e-5:
        lowerable.tick()
    lowerable.tick(50)
    assert arm.torque
    arm.velocities, arm.broken_reads = np.zeros(3), 1  # at rest, but a lost reading does not show it
    lowerable.tick()
    assert arm.torque
    lowerable.tick()
    assert not arm.torque


def test_lowering_without_a_rest_pose_holds(running: Rig) -> None:
    running.loop.stop(Stop.LOWER, "lowered by the operator")
    running.tick(100)
    assert running.fault == "lowered by the operator; it has no rest pose and holds"
    assert running.state is State.FAULT and running.arm.torque


def test_a_hold_ends_a_lowering_where_it_is(lowerable: Rig) -> None:
    lowerable.loop.lower()
    lowerable.tick(60)
    lowerable.loop.hold()
    lowerable.tick(20)
    held = lowerable.arm.positions
    lowerable.tick(500)
    assert lowerable.state is State.HOLDING and lowerable.arm.torque
    np.testing.assert_array_equal(lowerable.arm.positions, held)
    assert np.abs(held - REST).max() > 0.5


def test_a_lowering_that_meets_something_holds(lowerable: Rig) -> None:
    lowerable.loop.lower()
    lowerable.tick(20)
    lowerable.arm.stuck = (1,)
    lowerable.tick(600)
    assert lowerable.state is State.FAULT and lowerable.arm.torque
    assert lowerable.fault.startswith("tracking: lift")


def test_a_lowering_that_does_not_arrive_holds(lowerable: Rig) -> None:
    lowerable.loop.lower()
    lowerable.tick(20)
    lowerable.tick(60)
    lowerable.arm.stuck = (2,)  # a gripper never tracks badly
    lowerable.tick(800)
    assert lowerable.state is State.FAULT and lowerable.arm.torque
    assert lowerable.fault.startswith("lowering: the arm stays 0.")


def test_a_lowering_whose_release_fails_holds(lowerable: Rig) -> None:
    lowerable.loop.lower()
    while lowerable.arm.torque and np.abs(lowerable.arm.positions - REST).max() > 1e-4:
        lowerable.tick()
    lowerable.arm.broken_writes = 3
    lowerable.tick(60)
    assert lowerable.fault == "release: port is gone"
    assert lowerable.state is State.FAULT and lowerable.arm.torque


def test_with_stop_lower_a_fault_lowers_and_a_trouble_with_the_motion_holds() -> None:
    for trouble, lowered in (("hot", True), ("stuck", False)):
        rig = Rig(ServoSettings.of(SafetyConfig(stop="lower"), list(REST)))
        rig.begin()
        if trouble == "hot":
            rig.arm.temperatures_c[0] = 90.0
        else:
            rig.arm.stuck = (1,)
        rig.follow(FAR, 200)
        assert rig.state is State.FAULT
        assert rig.arm.torque is not lowered


# ---- resets


def test_after_a_lost_port_a_reset_reconnects_and_holds_where_the_arm_is(running: Rig) -> None:
    running.arm.broken_reads = -1
    running.follow(FAR, 4)
    assert running.fault.startswith("bus: 10 reads")
    with pytest.raises(ArmError, match="no such port"):
        running.loop.reset()
    assert running.fault.startswith("bus: 10 reads")
    running.arm.broken_reads = 0
    running.arm.positions = START + 0.1
    running.loop.reset()
    assert (running.state, running.fault) == (State.HOLDING, "")
    running.tick(20)
    np.testing.assert_array_equal(running.arm.positions, START + 0.1)


def test_after_a_power_cut_a_reset_finds_no_torque(running: Rig) -> None:
    running.arm.broken_reads = -1
    running.follow(FAR, 4)
    running.arm.broken_reads = 0
    running.arm.torque = False
    running.loop.reset()
    assert running.state is State.IDLE
    running.tick(5)
    assert not running.arm.torque


def test_a_reset_finds_a_limp_joint_and_holds_the_whole_arm(running: Rig) -> None:
    running.loop.fault("it smokes")
    running.tick(20)
    running.arm.limp = ("lift",)
    running.loop.reset()
    assert running.state is State.HOLDING


def test_take_over_leaves_an_arm_without_torque_alone(rig: Rig) -> None:
    assert rig.loop.take_over() is False
    assert rig.state is State.IDLE and not rig.arm.torque
    rig.arm.torque = True
    assert rig.loop.take_over() is True
    assert rig.state is State.HOLDING


def test_settings_come_from_the_robot() -> None:
    config = load_robot("emulated")
    settings = ServoSettings.of_robot(config)
    assert settings.safety == config.safety
    assert settings.rest == tuple(config.arm.rest or ())
    assert ServoSettings.of(config.safety).rest is None


def test_a_fault_from_outside_carries_the_record(running: Rig) -> None:
    running.loop.fault("camera wrist: frozen")
    assert running.fault == "camera wrist: frozen"
    assert len(running.loop.fault_record) == 10
    running.loop.fault("another")
    assert running.fault == "camera wrist: frozen"


def test_a_reset_asks_again_before_it_gives_up(running: Rig) -> None:
    running.arm.broken_reads = -1
    running.follow(FAR, 4)
    assert "reads in a row failed" in running.fault
    running.arm.broken_reads = RESET_TRIES
    with pytest.raises(ArmError, match="no answer"):
        running.loop.reset()
    running.arm.broken_reads = RESET_TRIES - 1
    running.loop.reset()
    assert not running.fault
