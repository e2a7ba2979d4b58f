from __future__ import annotations

import numpy as np
import pytest

from drivers.arm import Array, JointState, frozen
from drivers.config import SafetyConfig
from runtime.clock import MILLISECOND
from runtime.safety import COLLISION, TABLE, VELOCITY
from runtime.watch import Lasting, Trouble, Watch, gripping

NAMES = ("pan", "lift", "gripper")
PERIOD = 10 * MILLISECOND
ZERO = frozen(np.zeros(3))


def reading(
    positions: Array = ZERO,
    loads: Array = ZERO,
    temperatures: tuple[float, ...] = (30.0, 30.0, 30.0),
    voltages: tuple[float, ...] = (7.4, 7.4, 7.4),
    errors: tuple[str, ...] = (),
    velocities: Array = ZERO,
) -> JointState:
    return JointState(0, positions, velocities, loads, np.array(temperatures), np.array(voltages), errors)


def first_trouble(watch: Watch, joints: JointState, command: Array | None, ticks: int) -> tuple[int, Trouble] | None:
    """When (ms) and what, over so many ticks of the same reading."""
    for tick in range(ticks):
        trouble = watch.look(joints, command, tick * PERIOD)
        if trouble is not None:
            return tick * 10, trouble
    return None


def test_a_healthy_arm_has_no_trouble() -> None:
    safety = SafetyConfig(voltage_min=6.0, voltage_max=8.4)
    assert first_trouble(Watch(NAMES, safety), reading(), np.array([0.13, -0.13, 0.0]), 300) is None


def test_an_error_that_a_servo_reports_is_told_at_once() -> None:
    joints = reading(errors=("lift: overload", "pan: voltage"), temperatures=(90.0, 30.0, 30.0))
    assert Watch(NAMES, SafetyConfig()).look(joints, None, 0) == Trouble("servo: lift: overload; pan: voltage", False)


def test_of_many_errors_some_are_told() -> None:
    joints = reading(errors=tuple(f"joint{number}: voltage" for number in range(5)))
    text = "servo: joint0: voltage; joint1: voltage; joint2: voltage; and 2 more"
    assert Watch(NAMES, SafetyConfig()).look(joints, None, 0) == Trouble(text, False)


def test_the_hottest_joint_is_named() -> None:
    watch = Watch(NAMES, SafetyConfig())
    assert watch.look(reading(temperatures=(65.0, 65.0, 65.0)), None, 0) is None
    trouble = watch.look(reading(temperatures=(66.0, 70.0, 30.0)), None, 0)
    assert trouble == Trouble("servo: lift is at 70 C, above 65 C: let it cool down", False)


@pytest.mark.parametrize(
    ("voltage", "text"),
    [
        (5.94, "supply: gripper measures 5.9 V, below 6 V: check the power supply"),
        (12.0, "supply: gripper measures 12.0 V, above 8.4 V: check the power supply"),
    ],
)
def test_a_supply_that_stays_wrong_is_told_after_a_tenth_of_a_second(voltage: float, text: str) -> None:
    watch = Watch(NAMES, SafetyConfig(voltage_min=6.0, voltage_max=8.4))
    assert first_trouble(watch, reading(voltages=(7.4, 7.4, voltage)), None, 30) == (100, Trouble(text, False))


def test_a_supply_that_dips_is_no_trouble() -> None:
    watch = Watch(NAMES, SafetyConfig(voltage_min=6.0))
    for tick in range(60):
        low = tick % 9 != 8
        assert watch.look(reading(voltages=(5.0 if low else 7.0, 7.0, 7.0)), None, tick * PERIOD) is None


def test_without_bounds_any_supply_will_do() -> None:
    assert first_trouble(Watch(NAMES, SafetyConfig()), reading(voltages=(0.0, 99.0, 5.0)), None, 300) is None


def test_load_and_error_together_for_a_second_are_a_stall() -> None:
    joints, command = reading(loads=np.array([0.1, -0.95, 0.0])), np.array([0.0, 0.12, 0.0])
    text = "stall: lift pushes with 95% of its torque and stays 0.12 rad from its command: free it"
    assert first_trouble(Watch(NAMES, SafetyConfig()), joints, command, 200) == (1000, Trouble(text, True, pushes=True))


@pytest.mark.parametrize(("load", "error"), [(0.95, 0.05), (0.75, 0.13)])
def test_load_alone_and_error_alone_are_no_stall(load: float, error: float) -> None:
    joints = reading(loads=np.array([load, 0.0, 0.0]))
    assert first_trouble(Watch(NAMES, SafetyConfig()), joints, np.array([error, 0.0, 0.0]), 300) is None


def test_a_joint_that_does_not_follow_for_half_a_second_is_named() -> None:
    text = "tracking: pan has been 0.40 rad from its command for 500 ms: is it blocked, or without torque?"
    found = first_trouble(Watch(NAMES, SafetyConfig()), reading(), np.array([-0.4, 0.1, 0.0]), 200)
    assert found == (500, Trouble(text, True, pushes=True))


def test_one_that_its_command_waits_for_is_named_too() -> None:
    text = "tracking: lift has been 0.15 rad from its command for 500 ms: is it blocked, or without torque?"
    assert first_trouble(Watch(NAMES, SafetyConfig()), reading(), np.array([0.1, -0.15, 0.0]), 200) == (
        500,
        Trouble(text, True, pushes=True),
    )


@pytest.mark.parametrize("sign", [-1, 1])
def test_a_joint_that_comes_is_slow_and_not_blocked(sign: int) -> None:
    for command, loads in ((0.15, 0.0), (0.13, 0.95)):
        for speed, blocked in ((0.2, False), (0.05, True), (-0.2, True)):
            joints = reading(velocities=np.array([sign * speed, 0, 0]), loads=np.array([loads, 0, 0]))
            found = first_trouble(Watch(NAMES, SafetyConfig()), joints, np.array([sign * command, 0.0, 0.0]), 200)
            assert (found is not None) == blocked
    # However it moves, it is not to be further away than it is followed.
    joints = reading(velocities=np.array([sign * 2.0, 0, 0]))
    assert first_trouble(Watch(NAMES, SafetyConfig()), joints, np.array([sign * 0.36, 0, 0]), 200) is not None


def test_a_gripper_pushes_for_a_living() -> None:
    joints = reading(loads=np.array([0.0, 0.0, 1.0]))
    assert first_trouble(Watch(NAMES, SafetyConfig()), joints, np.array([0.0, 0.0, 1.7]), 300) is None
    exempt_none = Watch(NAMES, SafetyConfig(grippers=()))
    found = first_trouble(exempt_none, joints, np.array([0.0, 0.0, 1.7]), 300)
    assert found is not None and found[1].text.startswith("tracking: gripper")
    assert gripping(NAMES, SafetyConfig()).tolist() == [False, False, True]


def test_what_lasts_begins_anew_without_torque_and_after_a_reset() -> None:
    for forget in ("torque", "reset"):
        watch = Watch(NAMES, SafetyConfig())
        command = np.array([0.5, 0.0, 0.0])
        assert first_trouble(watch, reading(), command, 50) is None
        if forget == "torque":
            assert watch.look(reading(), None, 50 * PERIOD) is None
        else:
            watch.forget()
        assert watch.look(reading(), command, 51 * PERIOD) is None
        assert watch.look(reading(), command, 100 * PERIOD) is None
        assert watch.look(reading(), command, 101 * PERIOD) is not None


def test_a_trouble_is_told_once_in_its_time() -> None:
    watch = Watch(NAMES, SafetyConfig())
    told = [watch.look(reading(), np.array([0.5, 0.0, 0.0]), tick * PERIOD) is not None for tick in range(160)]
    assert [tick for tick, found in enumerate(told) if found] == [50, 100, 150]


def test_a_guard_that_says_no_for_a_second_is_a_trouble() -> None:
    watch = Watch(NAMES, SafetyConfig())
    for tick in range(100):
        assert watch.judge((VELOCITY, TABLE), tick * PERIOD) is None
    text = "guard: self-collision for 1 s: the policy asks for a pose that the arm must not take"
    assert watch.judge((COLLISION,), 100 * PERIOD) == Trouble(text, True)
    for tick in range(300):
        assert watch.judge((VELOCITY,), tick * PERIOD) is None


def test_a_guard_that_says_no_now_and_then_is_none() -> None:
    watch = Watch(NAMES, SafetyConfig())
    assert [watch.judge((TABLE,) if tick % 50 else (), tick * PERIOD) for tick in range(300)] == [None] * 300


def test_lasting_names_the_one_that_has_lasted() -> None:
    lasting = Lasting(2, 0.1)
    assert lasting.find(np.array([True, False]), 0) is None
    assert lasting.find(np.array([True, True]), 50 * MILLISECOND) is None
    assert lasting.find(np.array([False, True]), 100 * MILLISECOND) is None
    assert lasting.find(np.array([True, True]), 150 * MILLISECOND) == 1
