from __future__ import annotations

import numpy as np
import pytest

from drivers.config import load_robot
from runtime.guard import Guard


@pytest.mark.parametrize("name", ["emulated", "koch", "viperx300"])
def test_no_clearance_changes_by_more_than_the_levers_say(name: str) -> None:
    config = load_robot(name)
    guard, spec = Guard(config), config.arm.spec()
    rng = np.random.default_rng(0)
    closest = np.zeros(len(guard.levers))
    for trial in range(500):
        start = rng.uniform(spec.position_min, spec.position_max)
        turn = rng.uniform(-0.3, 0.3, spec.joints) * (1.0 if trial % 2 else rng.random(spec.joints) < 0.3)
        end = np.clip(start + turn, spec.position_min, spec.position_max)
        before, after = guard.clearances(start), guard.clearances(end)
        apart = (before > 0) & (after > 0)  # depths inside each other are no distances
        change, bound = np.abs(after - before), guard.levers @ np.abs(end - start)
        assert (change[apart] <= bound[apart] + 1e-6).all()
        share = np.where(apart & (bound > 1e-3), change, 0.0) / np.maximum(bound, 1e-3)
        closest = np.maximum(closest, share)
    # And they say not much more: some motion comes near to the bound of most pairs.
    assert np.median(closest) > 0.7


def test_what_a_joint_does_not_carry_or_carries_all_of_it_does_not_change() -> None:
    guard = Guard(load_robot("emulated"))
    levers = dict(zip((pair.text for pair in guard.pairs), guard.levers.tolist(), strict=True))
    pan, lift, elbow, flex, roll, gripper = levers["left finger would hit the table"]
    assert (pan, gripper) == (0.0, 0.0)  # it turns about the table's normal; the guard's fingers stand open
    assert lift > elbow > flex > roll > 0
    assert levers["hand would hit forearm"][:3] == [0.0, 0.0, 0.0]
    assert levers["right finger would hit left finger"] == [0.0] * 6
