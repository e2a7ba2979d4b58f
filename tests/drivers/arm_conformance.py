"""What every arm must do, whatever drives it: each clause of `drivers.arm.Arm`, run on simulated and emulated arms.

A test module derives from `ArmConformance` and gives the two fixtures `arm` and `advance`.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from drivers.arm import Arm, ArmError, Array


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

    def test_not_connected_refuses_all_but_close(self, arm: Arm) -> None:
        zeros = np.zeros(arm.spec.joints)
        for act in (arm.read, lambda: arm.write(zeros), arm.hold, arm.release):
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
        advance(0.5)
        np.testing.assert_allclose(arm.read().positions, held, atol=self.tolerance)

    def test_targets_are_reached(self, arm: Arm, advance: Callable[[float], None]) -> None:
        arm.connect()
        target = self.reachable(arm, arm.hold().positions)
        handed_over = target.copy()
        arm.write(handed_over)
        handed_over[:] = 0  # the arm must not keep the caller's array
        advance(2.0)
        np.testing.assert_allclose(arm.read().positions, target, atol=self.tolerance)

    def test_hold_forgets_the_old_target(self, arm: Arm, advance: Callable[[float], None]) -> None:
        arm.connect()
        start = arm.hold().positions
        arm.write(self.reachable(arm, start))
        held = arm.hold().positions
        advance(1.0)
        np.testing.assert_allclose(arm.read().positions, held, atol=self.tolerance)

    def test_hold_after_release_never_jumps_to_the_old_target(self, arm: Arm, advance: Callable[[float], None]) -> None:
        arm.connect()
        arm.write(self.reachable(arm, arm.hold().positions))
        arm.release()
        held = arm.hold().positions  # at once: a released arm falls, and what it falls on may move its joints
        advance(1.0)
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
        advance(0.2)
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
        advance(0.2)
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
