"""What the arm's value types promise by themselves."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from drivers.arm import ArmSpec, BusCounters, ReleaseReport, frozen


def spec(**changes: Any) -> ArmSpec:
    values: dict[str, Any] = {
        "joint_names": ("pan", "lift"),
        "position_min": np.array([-1.0, -0.5]),
        "position_max": np.array([1.0, 0.5]),
        "velocity_max": np.array([2.0, 2.0]),
        "acceleration_max": np.array([9.0, 9.0]),
    }
    return ArmSpec(**(values | changes))


def test_frozen_is_a_read_only_copy() -> None:
    source = np.array([1.0, 2.0])
    copy = frozen(source)
    source[0] = 5.0
    assert copy.tolist() == [1.0, 2.0]
    with pytest.raises(ValueError, match="read-only"):
        copy[0] = 3.0


def test_spec_counts_joints_and_keeps_its_own_arrays() -> None:
    low = np.array([-1.0, -0.5])
    made = spec(position_min=low)
    low[0] = 9.0
    assert made.joints == 2
    assert made.position_min.tolist() == [-1.0, -0.5]
    assert not made.velocity_max.flags.writeable


@pytest.mark.parametrize("name", ["position_min", "position_max", "velocity_max", "acceleration_max"])
def test_a_wrong_shape_names_the_array_and_both_shapes(name: str) -> None:
    with pytest.raises(ValueError, match=rf"{name} has shape \(3,\).*need \(2,\)"):
        spec(**{name: np.ones(3)})


@pytest.mark.parametrize("low", [0.5, 0.6, np.nan])
def test_limits_out_of_order_name_the_joint(low: float) -> None:
    with pytest.raises(ValueError, match="lift"):
        spec(position_min=np.array([-1.0, low]))


def test_counters_start_at_zero_and_a_snapshot_does_not_follow() -> None:
    counters = BusCounters()
    snapshot = counters.snapshot()
    counters.sent += 1
    counters.missing[3] = 1
    assert snapshot == {"sent": 0, "retried": 0, "corrupt": 0, "timed_out": 0, "failed": 0}


def test_a_release_report_without_remarks_leaves_nothing_energised() -> None:
    assert ReleaseReport(released=("pan",)).still_energised == ()
