"""What every arm must do, whatever drives it: each clause of `drivers.arm.Arm`, run on simulated and emulated arms.

A test module derives from `ArmConformance` and gives the two fixtures `arm` and `advance`. Where the arm's cable can be
pulled and its servos made ill, it derives from `FaultyArmConformance` and gives `cable` and `overheat` too.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np
import pytest

from drivers.arm import Arm, ArmError, Array

READING_PERIOD = 0.02  # s; servos with a watchdog stop when nobody reads them for long


def refused(act: Callable[[], object]) -> str:
    """The message of the `ArmError` that `act` raises: one line, not empty."""
    with pytest.raises(ArmError) as caught:
        act()
    message = str(caught.value)
    assert message and "\n" not in message
    return message


class ArmConformance:
    """Derive, name the class Test..., and override both fixtures."""

    tolerance = 0.05  # rad, how near a joint comes to its goal under gravity
    step = 0.2  # rad, how far a target is moved towards the middle of the travel

    @pytest.fixture
    def arm(self) -> Arm:
        """A fresh arm at rest inside its limits, not connected; the fixture closes it afterwards."""
        raise NotImplementedError

    @pytest.fixture
    def advance(self) -> Callable[[float], None]:
        """Lets that many seconds pass for the arm's plant and for the clock of its stamps."""
        raise NotImplementedError

    def reachable(self, arm: Arm, positions: Array) -> Array:
        """Targets near `positions` and inside the limits, every joint moved."""
        middle = (arm.spec.position_min + arm.spec.position_max) / 2
        direction = np.where(middle >= positions, 1.0, -1.0)
        return np.clip(positions + direction * self.step, arm.spec.position_min, arm.spec.position_max)

    def live(self, arm: Arm, advance: Callable[[float], None], seconds: float) -> None:
        """Let that much time pass while somebody reads the arm, as the servo loop does."""
        for _ in range(round(seconds / READING_PERIOD)):
            advance(READING_PERIOD)
            arm.read()

    def test_not_connected_refuses_all_but_close(self, arm: Arm) -> None:
        zeros = np.zeros(arm.spec.joints)
        for act in (arm.read, lambda: arm.write(zeros), arm.hold, arm.release, arm.energised):
            refused(act)

    def test_close_at_any_time_and_more_than_once(self, arm: Arm) -> None:
        arm.close()
        arm.connect()
        arm.close()
        arm.close()
        refused(arm.read)

    def test_connects_again_after_close(self, arm: Arm) -> None:
        arm.connect()
        arm.hold()
        arm.close()
        arm.connect()
        assert arm.read().positions.shape == (arm.spec.joints,)

    def test_reading_is_whole_and_finite(self, arm: Arm) -> None:
        arm.connect()
        state = arm.read()
        for values in (state.positions, state.velocities, state.loads, state.temperatures_c, state.voltages):
            assert values.shape == (arm.spec.joints,)
            assert values.dtype == np.float64
            assert np.isfinite(values).all()
        assert (np.abs(state.loads) <= 1).all()
        assert isinstance(state.stamp, int)
        assert all(error.split(": ")[0] in arm.spec.joint_names for error in state.errors)

    def test_stamps_never_go_back_and_move_with_time(self, arm: Arm, advance: Callable[[float], None]) -> None:
        arm.connect()
        stamps = [arm.read().stamp for _ in range(3)]
        assert stamps == sorted(stamps)
        advance(0.1)
        assert arm.read().stamp > stamps[-1]

    def test_hold_takes_the_present_pose(self, arm: Arm, advance: Callable[[float], None]) -> None:
        arm.connect()
        before = arm.read().positions
        held = arm.hold().positions
        np.testing.assert_allclose(held, before, atol=self.tolerance)
        self.live(arm, advance, 0.5)
        np.testing.assert_allclose(arm.read().positions, held, atol=self.tolerance)

    def test_targets_are_reached(self, arm: Arm, advance: Callable[[float], None]) -> None:
        arm.connect()
        target = self.reachable(arm, arm.hold().positions)
        handed_over = target.copy()
        arm.write(handed_over)
        handed_over[:] = 0  # the arm must not keep the caller's array
        self.live(arm, advance, 2.0)
        np.testing.assert_allclose(arm.read().positions, target, atol=self.tolerance)

    def test_hold_forgets_the_old_target(self, arm: Arm, advance: Callable[[float], None]) -> None:
        arm.connect()
        start = arm.hold().positions
        arm.write(self.reachable(arm, start))
        held = arm.hold().positions
        self.live(arm, advance, 1.0)
        np.testing.assert_allclose(arm.read().positions, held, atol=self.tolerance)

    def test_hold_after_release_never_jumps_to_the_old_target(self, arm: Arm, advance: Callable[[float], None]) -> None:
        arm.connect()
        arm.write(self.reachable(arm, arm.hold().positions))
        arm.release()
        held = arm.hold().positions  # at once: a released arm falls, and what it falls on may move its joints
        self.live(arm, advance, 1.0)
        np.testing.assert_allclose(arm.read().positions, held, atol=self.tolerance)

    @pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
    def test_non_finite_targets_send_nothing(self, arm: Arm, advance: Callable[[float], None], value: float) -> None:
        arm.connect()
        held = arm.hold().positions
        sent = arm.counters.sent
        for joint in range(arm.spec.joints):
            target = self.reachable(arm, held)
            target[joint] = value
            refused(lambda target=target: arm.write(target))
        assert arm.counters.sent == sent
        self.live(arm, advance, 0.2)
        np.testing.assert_allclose(arm.read().positions, held, atol=self.tolerance)

    def test_wrong_shapes_send_nothing(self, arm: Arm) -> None:
        arm.connect()
        held = arm.hold().positions
        sent = arm.counters.sent
        for target in (held[:-1], np.append(held, 0.0), held[:, None], held[0]):
            refused(lambda target=target: arm.write(target))
        assert arm.counters.sent == sent

    def test_targets_beyond_a_limit_send_nothing(self, arm: Arm, advance: Callable[[float], None]) -> None:
        arm.connect()
        held = arm.hold().positions
        sent = arm.counters.sent
        for joint, name in enumerate(arm.spec.joint_names):
            for beyond in (arm.spec.position_min[joint] - 0.01, arm.spec.position_max[joint] + 0.01):
                target = self.reachable(arm, held)
                target[joint] = beyond
                assert name in refused(lambda target=target: arm.write(target))
        assert arm.counters.sent == sent
        self.live(arm, advance, 0.2)
        np.testing.assert_allclose(arm.read().positions, held, atol=self.tolerance)

    def test_limits_themselves_are_allowed(self, arm: Arm) -> None:
        arm.connect()
        arm.hold()
        arm.write(arm.spec.position_min.copy())
        arm.write(arm.spec.position_max.copy())
        arm.hold()

    def test_release_reports_every_joint(self, arm: Arm) -> None:
        arm.connect()
        arm.hold()
        report = arm.release()
        assert report.released == arm.spec.joint_names
        assert report.still_energised == ()

    def test_torque_is_on_from_hold_to_release_and_nowhere_else(self, arm: Arm) -> None:
        arm.connect()
        assert arm.energised() == ()
        arm.hold()
        assert arm.energised() == arm.spec.joint_names
        arm.release()
        assert arm.energised() == ()

    def test_connecting_leaves_torque_as_it_is(self, arm: Arm) -> None:
        arm.connect()
        arm.connect()
        assert arm.energised() == ()
        arm.hold()
        arm.close()
        arm.connect()
        assert arm.energised() == arm.spec.joint_names
        arm.release()

    def test_a_healthy_arm_has_no_errors(self, arm: Arm, advance: Callable[[float], None]) -> None:
        arm.connect()
        assert arm.read().errors == ()
        assert arm.hold().errors == ()
        self.live(arm, advance, 0.2)
        assert arm.read().errors == ()

    def test_release_ends_writing_until_the_next_hold(self, arm: Arm) -> None:
        arm.connect()
        target = arm.hold().positions.clip(arm.spec.position_min, arm.spec.position_max)
        arm.write(target)
        arm.release()
        refused(lambda: arm.write(target))
        arm.release()
        refused(lambda: arm.write(target))
        arm.hold()
        arm.write(target)

    def test_counters_never_go_back(self, arm: Arm) -> None:
        arm.connect()
        before = arm.counters.snapshot()
        arm.read()
        after = arm.counters.snapshot()
        assert after.keys() == before.keys()
        assert all(after[name] >= before[name] >= 0 for name in before)


class Cable(Protocol):
    """The arm's USB cable."""

    def pull(self) -> None: ...

    def put_back(self) -> None: ...


class FaultyArmConformance(ArmConformance):
    """Also what must hold when servos fall ill and the cable is pulled."""

    @pytest.fixture
    def cable(self) -> Cable:
        """The cable of `arm`."""
        raise NotImplementedError

    @pytest.fixture
    def overheat(self) -> Callable[[str, bool], None]:
        """Makes the servo of a joint report that it is too hot, or well again."""
        raise NotImplementedError

    def test_what_a_servo_reports_is_told_by_its_joint_while_it_lasts(
        self, arm: Arm, advance: Callable[[float], None], overheat: Callable[[str, bool], None]
    ) -> None:
        arm.connect()
        arm.hold()
        name = arm.spec.joint_names[1]
        overheat(name, True)
        self.live(arm, advance, 0.1)
        errors = arm.read().errors
        assert errors and all(error.startswith(f"{name}: ") for error in errors)
        overheat(name, False)
        self.live(arm, advance, 0.1)
        assert arm.read().errors == ()

    def test_a_pulled_cable_is_told_and_leaves_nothing_believed(self, arm: Arm, cable: Cable) -> None:
        arm.connect()
        held = arm.hold().positions
        cable.pull()
        refused(arm.read)
        refused(lambda: arm.write(held))
        assert arm.release().released == ()
        refused(arm.connect)

    def test_connecting_again_after_an_unplug_moves_nothing(
        self, arm: Arm, advance: Callable[[float], None], cable: Cable
    ) -> None:
        arm.connect()
        target = self.reachable(arm, arm.hold().positions)
        cable.pull()
        refused(arm.read)
        cable.put_back()
        arm.connect()
        refused(lambda: arm.write(target))
        before = arm.read().positions
        self.live(arm, advance, 0.2)
        np.testing.assert_allclose(arm.read().positions, before, atol=self.tolerance)
        arm.hold()
        arm.write(target)
        self.live(arm, advance, 2.0)
        np.testing.assert_allclose(arm.read().positions, target, atol=self.tolerance)
