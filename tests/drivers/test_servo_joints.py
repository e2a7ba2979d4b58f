"""Counts against angles, and who is who on the bus."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from drivers.config import ArmConfig, load_robot
from drivers.feetech import FEETECH
from drivers.servo_joints import ServoJoints

BASE = load_robot("emulated").arm.joints[0]


def joints(**changes: Any) -> ServoJoints:
    """One joint, and one more with a shadow."""
    first = BASE.model_copy(update={"minimum": -0.01, "maximum": 0.01} | changes)
    second = first.model_copy(update={"name": "lift", "id": 2, "shadow": 9})
    return ServoJoints(ArmConfig(driver="feetech", joints=[first, second]), FEETECH)


@given(st.floats(-10, 10), st.integers(10, 4085), st.sampled_from([-1, 1]))
def test_angles_survive_within_half_a_count(angle: float, zero: int, direction: int) -> None:
    made = joints(zero=zero, direction=direction)
    back = made.angles(made.counts(np.full(2, angle)))
    assert np.abs(back - angle).max() <= math.pi / 4096 + 1e-9


@given(st.integers(-32767, 32767), st.integers(10, 4085), st.sampled_from([-1, 1]))
def test_counts_survive_exactly(counts: int, zero: int, direction: int) -> None:
    made = joints(zero=zero, direction=direction)
    assert made.counts(made.angles([counts, counts])) == [counts, counts]


def test_velocities_have_no_zero_and_loads_no_unit() -> None:
    made = joints(zero=1000, direction=-1)
    np.testing.assert_allclose(made.rates([4096, 0]), [-2 * math.pi, 0])
    np.testing.assert_allclose(made.directed([0.5, 0]), [-0.5, 0])


def test_a_shadow_belongs_to_its_joint() -> None:
    made = joints()
    assert (made.ids, made.servos) == ((1, 2), (1, 2, 9))
    assert (made.of(1), made.of(2)) == ((1,), (2, 9))
    assert made.joint(9) == "lift"
    assert made.named((1, 9)) == "shoulder_pan (id 1), lift shadow (id 9)"


def test_limits_are_checked_against_what_a_servo_takes() -> None:
    made = joints(zero=100, minimum=-0.1, maximum=0.1)
    assert made.beyond(1, 0, 4095) is None
    assert "shoulder_pan: limit -0.1 rad is servo position 35, outside 40..4095" in str(made.beyond(1, 40, 4095))
