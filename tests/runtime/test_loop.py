from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from drivers.arm import Array
from drivers.camera import CameraError, Frame
from drivers.config import SafetyConfig
from policies.policy import Action, Observation, PolicyError
from runtime.clock import MILLISECOND, SECOND, Pacer, SimulatedClock
from runtime.loop import FAULT, INTERRUPTED, TIME_LIMIT, ControlLoop, EpisodeInfo, EpisodeResult, LockstepServo, Step
from runtime.servo import ServoLoop
from runtime.supervisor import RefusedError, State
from tests.runtime.fake_arm import SPEC, START, FakeArm

PERIOD = 50 * MILLISECOND


class FakeCamera:
    """A new grey image at each read; `freeze` makes the last one stay."""

    size = (4, 6)

    def __init__(self, name: str, clock: SimulatedClock) -> None:
        self.name = name
        self.freeze = self.dead = False
        self.repeats = 0
        self._clock = clock
        self._frame: Frame | None = None

    def connect(self) -> None: ...

    def read(self) -> Frame:
        if self.dead:
            raise CameraError(f"camera {self.name}: unplugged")
        if self._frame is None or not self.freeze:
            sequence = 0 if self._frame is None else self._frame.sequence + 1
            self._frame = Frame(self._clock.now(), sequence, np.full((4, 6, 3), sequence, dtype=np.uint8), self.repeats)
        return self._frame

    def close(self) -> None: ...


class FakePolicy:
    """Moves every joint by `delta` from the last target; `act_hook` may do something else meanwhile."""

    name = "fake"
    rate = 20.0

    def __init__(self, delta: Array) -> None:
        self.delta = delta
        self.tasks: list[str] = []
        self.observations: list[Observation] = []
        self.act_hook: Callable[[int], object] = lambda step: None

    def reset(self, task: str) -> None:
        if "purple" in task:
            raise PolicyError("there is no purple block")
        self.tasks.append(task)

    def act(self, observation: Observation) -> Action:
        self.act_hook(len(self.observations))
        self.observations.append(observation)
        return Action(observation.proprioception["joint_targets"] + self.delta, np.arange(3))


class Log:
    """A subscriber that keeps everything."""

    def __init__(self) -> None:
        self.starts: list[EpisodeInfo] = []
        self.steps: list[Step] = []
        self.ends: list[EpisodeResult] = []

    def on_episode_start(self, info: EpisodeInfo) -> None:
        self.starts.append(info)

    def on_step(self, step: Step) -> None:
        self.steps.append(step)

    def on_episode_end(self, result: EpisodeResult) -> None:
        self.ends.append(result)


class Rig:
    """Both loops in lock-step on a fake arm."""

    def __init__(self, delta: Array | None = None, safety: SafetyConfig | None = None) -> None:
        self.clock = SimulatedClock(SECOND)
        self.arm = FakeArm(self.clock.now)
        self.servo_loop = ServoLoop(self.arm, self.clock)
        self.servo_loop.connect()
        self.servo = LockstepServo(self.servo_loop, lambda seconds: self.clock.advance(round(seconds * SECOND)))
        self.cameras = {name: FakeCamera(name, self.clock) for name in ("wrist", "fixed")}
        self.policy = FakePolicy(np.array([0.01, -0.01, 0.01]) if delta is None else delta)
        self.log = Log()
        self.loop = ControlLoop(
            self.policy, self.cameras, self.servo, self.clock, Pacer(self.clock, PERIOD), [self.log], safety=safety
        )

    @property
    def state(self) -> State:
        return self.servo_loop.supervisor.state


@pytest.fixture
def rig() -> Rig:
    return Rig()


def test_an_episode_ends_at_its_time_limit_with_an_arm_that_holds(rig: Rig) -> None:
    result = rig.loop.run_episode("stack", 8)
    assert (result.outcome, result.steps, result.missed) == (TIME_LIMIT, 8, 0)
    assert result.step_ms.shape == (8,)
    assert rig.policy.tasks == ["stack"]
    assert rig.state is State.HOLDING
    np.testing.assert_allclose(rig.arm.positions, START + 8 * rig.policy.delta, atol=0.02)


def test_done_is_asked_after_every_step_and_ends_the_episode(rig: Rig) -> None:
    answers = iter([None, None, "success"])
    result = rig.loop.run_episode("stack", 8, lambda: next(answers))
    assert (result.outcome, result.steps) == ("success", 3)
    assert rig.state is State.HOLDING


def test_subscribers_hear_of_everything_in_order(rig: Rig) -> None:
    rig.loop.run_episode("stack", 3)
    rig.loop.run_episode("unstack", 2)
    log = rig.log
    assert [(info.index, info.task, info.policy, info.max_steps) for info in log.starts] == [
        (0, "stack", "fake", 3),
        (1, "unstack", "fake", 2),
    ]
    assert [step.index for step in log.steps] == [0, 1, 2, 0, 1]
    assert np.diff([step.stamp for step in log.steps[:3]]).tolist() == [PERIOD, PERIOD]
    assert [end.index for end in log.ends] == [0, 1]
    assert set(log.steps[0].split_ms) == {"observe", "decide", "act"}
    assert not any(step.missed for step in log.steps)


def test_observations_name_cameras_in_order_and_carry_both_proprioceptions(rig: Rig) -> None:
    rig.loop.run_episode("stack", 3)
    first, second, _ = rig.policy.observations
    assert list(first.images) == ["fixed", "wrist"]
    np.testing.assert_array_equal(first.proprioception["joint_positions"], START)
    np.testing.assert_array_equal(first.proprioception["joint_targets"], START)
    np.testing.assert_allclose(second.proprioception["joint_targets"], START + rig.policy.delta)
    assert (second.images["fixed"] == 1).all()


def test_targets_do_not_wind_up_beyond_a_limit() -> None:
    rig = Rig(delta=np.array([0.0, 0.0, -0.4]))
    rig.loop.run_episode("stack", 16)
    assert rig.policy.observations[-1].proprioception["joint_targets"][2] == 0.0
    assert rig.arm.positions[2] == pytest.approx(0.0, abs=1e-3)


def test_the_next_episode_goes_on_from_the_held_pose(rig: Rig) -> None:
    rig.loop.run_episode("stack", 4)
    held = rig.arm.positions
    rig.loop.run_episode("stack", 1)
    np.testing.assert_array_equal(rig.policy.observations[4].proprioception["joint_targets"], held)


def test_a_late_step_is_a_missed_deadline(rig: Rig) -> None:
    def stall(step: int) -> None:
        if step == 2:
            rig.clock.advance(60 * MILLISECOND)

    rig.policy.act_hook = stall
    result = rig.loop.run_episode("stack", 5)
    assert [step.missed for step in rig.log.steps] == [False, False, True, False, False]
    assert result.missed == 1
    assert rig.log.steps[2].split_ms["decide"] == 60.0
    assert result.step_ms[2] == 60.0


def test_a_stopwatch_may_be_another_clock(rig: Rig) -> None:
    watch = SimulatedClock()
    rig.policy.act_hook = lambda step: watch.advance(7 * MILLISECOND)
    pacer = Pacer(rig.clock, PERIOD)
    loop = ControlLoop(rig.policy, rig.cameras, rig.servo, rig.clock, pacer, [rig.log], stopwatch=watch)
    assert loop.run_episode("stack", 2).step_ms.tolist() == [7.0, 7.0]
    assert not rig.log.steps[0].missed


def test_a_servo_fault_ends_the_episode_and_stays(rig: Rig) -> None:
    def overload(step: int) -> None:
        if step == 3:
            rig.arm.errors = ("lift: overload",)

    rig.policy.act_hook = overload
    result = rig.loop.run_episode("stack", 8)
    assert (result.outcome, result.steps) == (f"{FAULT}servo: lift: overload", 4)
    assert rig.state is State.FAULT
    with pytest.raises(RefusedError, match="lift: overload"):
        rig.loop.run_episode("stack", 8)
    assert len(rig.log.starts) == 1


def test_targets_that_are_not_finite_end_the_episode_as_a_fault() -> None:
    rig = Rig(delta=np.array([0.0, np.nan, 0.0]))
    result = rig.loop.run_episode("stack", 8)
    assert result.outcome.startswith(f"{FAULT}target not finite")
    np.testing.assert_array_equal(rig.arm.positions, START)


@pytest.mark.parametrize("broken", ["freeze", "dead"])
def test_a_camera_that_fails_ends_the_episode_with_an_arm_that_holds(rig: Rig, broken: str) -> None:
    def fail(step: int) -> None:
        if step == 1:
            setattr(rig.cameras["wrist"], broken, True)

    rig.policy.act_hook = fail
    result = rig.loop.run_episode("stack", 30)
    assert result.outcome.startswith(f"{FAULT}camera wrist:")
    assert result.steps == (2 if broken == "dead" else 12)
    assert rig.state is State.FAULT and rig.arm.torque
    assert f"{FAULT}{rig.servo.state().fault}" == result.outcome
    assert rig.log.ends == [result]


def test_a_camera_that_repeats_itself_is_frozen_however_fresh_its_stamps(rig: Rig) -> None:
    rig.policy.act_hook = lambda step: setattr(rig.cameras["fixed"], "repeats", 18 + step)
    result = rig.loop.run_episode("stack", 30)
    text = "camera fixed: the last 21 frames are the same to the last bit: it is frozen, plug it in anew"
    assert (result.outcome, result.steps) == (f"{FAULT}{text}", 3)
    assert rig.servo.state().fault == text


def test_an_old_reading_of_the_joints_is_a_fault() -> None:
    rig = Rig(safety=SafetyConfig(observation_age_max_s=0.12))
    rig.policy.act_hook = lambda step: setattr(rig.arm, "broken_reads", 9 if step % 2 else 0)

    def stall(seconds: float) -> None:
        rig.clock.advance(round(seconds * SECOND))

    rig.servo._advance = lambda seconds: stall(3 * seconds)
    result = rig.loop.run_episode("stack", 30)
    assert result.outcome.startswith(f"{FAULT}joints: the last reading is ")


def test_deadlines_missed_in_a_row_are_a_fault() -> None:
    rig = Rig(safety=SafetyConfig(deadline_misses_max=4))
    late = {1, 2, 3, 5, 6, 7, 8}  # three in a row, a good one, four in a row
    rig.policy.act_hook = lambda step: rig.clock.advance((60 if step in late else 2) * MILLISECOND)
    result = rig.loop.run_episode("stack", 30)
    text = "policy loop: 4 control steps in a row came late; the last took observe 0, decide 60, act 0 ms"
    assert (result.outcome, result.steps) == (f"{FAULT}{text}", 9)
    assert rig.state is State.FAULT


def test_ctrl_c_holds_tells_the_subscribers_and_is_passed_on(rig: Rig) -> None:
    def press(step: int) -> None:
        if step == 3:
            raise KeyboardInterrupt

    rig.policy.act_hook = press
    with pytest.raises(KeyboardInterrupt):
        rig.loop.run_episode("stack", 8)
    assert rig.state is State.HOLDING
    assert [(end.outcome, end.steps) for end in rig.log.ends] == [(INTERRUPTED, 3)]


def test_a_policy_that_fails_leaves_an_arm_that_holds(rig: Rig) -> None:
    def fail(step: int) -> None:
        if step == 3:
            raise PolicyError("out of tokens")

    rig.policy.act_hook = fail
    with pytest.raises(PolicyError):
        rig.loop.run_episode("stack", 8)
    assert rig.state is State.HOLDING


def test_a_task_that_the_policy_refuses_starts_nothing(rig: Rig) -> None:
    with pytest.raises(PolicyError):
        rig.loop.run_episode("stack the purple block", 8)
    assert rig.state is State.IDLE
    assert rig.log.starts == []


def test_a_policy_for_another_arm_is_refused() -> None:
    rig = Rig(delta=np.zeros((2, 3)))
    with pytest.raises(PolicyError, match=r"\(2, 3\).*3 joints"):
        rig.loop.run_episode("stack", 8)


def test_stop_releases_and_closes(rig: Rig) -> None:
    rig.loop.run_episode("stack", 2)
    report = rig.servo.stop()
    assert report is not None
    assert report.released == SPEC.joint_names
    assert not rig.arm.torque
    assert not rig.arm.connected


def test_stop_without_release_leaves_torque_on(rig: Rig) -> None:
    rig.loop.run_episode("stack", 2)
    assert rig.servo.stop(release=False) is None
    assert rig.arm.torque
    assert not rig.arm.connected
