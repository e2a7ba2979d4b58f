"""Zeros and offsets from sweeps: wherever the servo is mounted and whatever offset it held; each refusal."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from calibration.errors import CalibrationError
from calibration.joints import DYNAMIXEL, FEETECH, PER_RADIAN, TURN, FoundJoint, OffsetRule, Sweep, find_joint
from drivers.config import JointConfig, load_robot

JOINTS = load_robot("so101").arm.joints


def joint(low: float = -1.7, high: float = 1.7, direction: int = 1) -> JointConfig:
    return JointConfig.model_validate(
        {"name": "elbow", "id": 3, "minimum": low, "maximum": high, "velocity_max": 1.0, "acceleration_max": 1.0}
        | {"direction": direction}
    )


def shown(angle: float, mounted: int, direction: int, offset: int, rule: OffsetRule = FEETECH) -> int:
    return round(mounted + direction * angle * PER_RADIAN + rule.sign * offset) % TURN


def swept(config: JointConfig, mounted: int, offset: int, centre: float = 0.0, ends: tuple[float, float] | None = None,
          rule: OffsetRule = FEETECH, direction: int | None = None) -> Sweep:  # fmt: skip
    low, high = ends or (config.minimum, config.maximum)
    way: Iterable[float] = np.concatenate(
        [np.linspace(centre, low, 30), np.linspace(low, high, 60), np.linspace(high, centre, 30)]
    )
    sweep = Sweep(config.name)
    for angle in way:
        sweep.add(shown(angle, mounted, direction or config.direction, offset, rule))
    return sweep


def is_right(
    config: JointConfig, found: FoundJoint, mounted: int, tolerance: float, rule: OffsetRule = FEETECH
) -> None:
    """With the new offset the whole travel is shown without a seam, and the zero is where it is."""
    for angle in np.linspace(config.minimum, config.maximum, 7):
        count = shown(float(angle), mounted, config.direction, found.offset, rule)
        assert abs((count - found.zero) * config.direction / PER_RADIAN - angle) < tolerance


@given(
    st.sampled_from(JOINTS), st.integers(0, TURN - 1), st.integers(-FEETECH.limit, FEETECH.limit), st.floats(-0.1, 0.1)
)
def test_a_zero_is_found_however_the_servo_is_mounted(
    config: JointConfig, mounted: int, offset: int, centre: float
) -> None:
    centre = float(np.clip(centre, config.minimum, config.maximum))
    found = find_joint(config, swept(config, mounted, offset, centre), offset, FEETECH)
    assert abs(found.offset) <= FEETECH.limit and 0 < found.low < found.high < TURN - 1
    assert found.source == "stops" and found.disagreement == pytest.approx(centre, abs=0.004)
    is_right(config, found, mounted, 0.003)


def test_a_travel_across_the_seam_is_seen_and_moved_out_of_it() -> None:
    config = joint()
    sweep = swept(config, mounted=100, offset=0)
    assert sweep.seams > 0
    found = find_joint(config, sweep, 0, FEETECH)
    assert found.zero == TURN // 2
    again = swept(config, mounted=100, offset=found.offset)
    assert again.seams == 0


def test_minus_2048_is_not_written() -> None:
    """Sign and magnitude has no -2048: the zero moves by one count instead."""
    config = joint()
    for mounted in range(0, TURN, 1):
        if (mounted - TURN // 2) % TURN == TURN // 2:
            found = find_joint(config, swept(config, mounted, 0), 0, FEETECH)
            assert abs(found.offset) == FEETECH.limit
            is_right(config, found, mounted, 0.003)
            return
    pytest.fail("no mounting needs that offset")


def test_a_joint_that_turns_freely_takes_its_zero_from_the_centre_pose() -> None:
    config = joint(-2.8, 2.8)
    found = find_joint(config, swept(config, 3000, 0, centre=0.0, ends=(-4.0, 4.0)), 0, FEETECH)
    assert found.source == "centre"
    is_right(config, found, 3000, 0.003)


def test_dynamixel_offsets_are_added_and_small_in_position_mode() -> None:
    config = joint()
    found = find_joint(config, swept(config, 2500, 40, rule=DYNAMIXEL), 40, DYNAMIXEL)
    is_right(config, found, 2500, 0.003, DYNAMIXEL)
    with pytest.raises(CalibrationError, match=r"takes -1024 to 1024 \(more is ignored in position mode"):
        find_joint(config, swept(config, 100, 0, rule=DYNAMIXEL), 0, DYNAMIXEL)


@pytest.mark.parametrize(
    ("config", "sweep", "said"),
    [
        (joint(), swept(joint(), 2048, 0, ends=(-1.2, 1.7)), "swept 166 of the 195 degrees"),
        (joint(), swept(joint(), 2048, 0, centre=0.26), "15 degrees from where its stops say"),
        (joint(0, 1.7), swept(joint(0, 1.7), 2048, 0, direction=-1), "counts the other way round; set `direction: -1`"),
        (joint(-3.14, 3.14), swept(joint(-3.14, 3.14), 2048, 0), "begins anew within them wherever it is mounted"),
    ],
    ids=["not swept", "centre elsewhere", "other way round", "a whole turn"],
)
def test_what_cannot_be_calibrated_is_refused_with_the_reason(config: JointConfig, sweep: Sweep, said: str) -> None:
    with pytest.raises(CalibrationError, match=said):
        find_joint(config, sweep, 0, FEETECH)


def test_a_reading_too_far_from_the_last_is_refused() -> None:
    sweep = Sweep("elbow")
    sweep.add(100)
    sweep.add(3900)  # 296 counts the other way, through the seam
    assert sweep.travel == pytest.approx(296 / PER_RADIAN) and sweep.seams == 1
    with pytest.raises(CalibrationError, match="elbow: moved 91 degrees between two readings"):
        sweep.add(3900 - 1040)
    assert math.degrees(1040 / PER_RADIAN) > 90
