"""A servo's body without a protocol: profile, heat, strain, and what faults impose."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.plants import FirstOrderPlant
from sim.servo_body import AMBIENT_C, CENTRE, HEATING_C, HOT_C, THERMAL_TIME, Body, Profile

TICK = 0.005


def travel(profile: Profile, goal: float, limit: int = 20_000) -> list[float]:
    """The positions on the way to `goal`, the start first."""
    positions = [profile.position]
    while profile.position != goal or profile.speed:
        profile.advance(goal, TICK)
        positions.append(profile.position)
        assert len(positions) < limit, "it never arrives"
    return positions


@given(
    goal=st.floats(-4000, 4000),
    velocity=st.floats(50, 5000),
    acceleration=st.floats(100, 50_000),
)
def test_a_trapezoid_keeps_both_bounds_and_stops_on_the_goal(goal: float, velocity: float, acceleration: float) -> None:
    profile = Profile()
    profile.velocity, profile.acceleration = velocity, acceleration
    positions = np.array(travel(profile, goal))
    speeds = np.diff(positions) / TICK
    assert np.abs(speeds).max(initial=0) <= velocity * (1 + 1e-9)
    changes = np.abs(np.diff(speeds, prepend=0.0, append=0.0))
    assert changes.max(initial=0) <= acceleration * TICK * (1 + 1e-6) + 1e-3
    assert np.abs(positions).max() <= abs(goal) + acceleration * TICK**2 / 8 + 1e-6


def test_a_trapezoid_takes_the_time_that_it_should() -> None:
    profile = Profile()
    profile.velocity, profile.acceleration = 1000.0, 2000.0
    seconds = (len(travel(profile, 2000.0)) - 1) * TICK
    assert seconds == pytest.approx(2000 / 1000 + 1000 / 2000, abs=3 * TICK)


@given(turn=st.integers(1, 300), goal=st.floats(-2000, 2000))
def test_a_new_goal_on_the_way_is_reached_without_a_jump_in_speed(turn: int, goal: float) -> None:
    profile = Profile()
    profile.velocity, profile.acceleration = 800.0, 3000.0
    positions = [0.0]
    for _ in range(turn):
        profile.advance(1500.0, TICK)
        positions.append(profile.position)
    positions += travel(profile, goal)[1:]
    assert np.abs(np.diff(np.diff(positions) / TICK)).max() <= 3000 * TICK * (1 + 1e-6) + 1e-3


def test_a_bound_of_speed_alone_moves_evenly() -> None:
    profile = Profile()
    profile.velocity = 100.0
    np.testing.assert_allclose(np.diff(travel(profile, 5.0)), 0.5)


class TestBody:
    def setup_method(self) -> None:
        self.plant = FirstOrderPlant(1)
        self.body = Body(0, self.plant, supply=12.0)

    def test_without_a_profile_the_goal_is_the_plants_at_once(self) -> None:
        self.body.command(3000, True)
        assert self.plant.goals == [3000] and self.plant.torque == [True]
        assert not self.body.travelling

    def test_with_a_profile_the_set_point_travels(self) -> None:
        self.body.profile.velocity = 1000.0
        self.body.command(CENTRE + 100, True)
        assert self.body.travelling and self.plant.goals == [CENTRE]
        self.body.advance(0.05)
        assert self.plant.goals == [CENTRE + 50]
        self.body.advance(0.05)
        assert not self.body.travelling and self.plant.goals == [CENTRE + 100]

    def test_a_profile_begins_where_the_servo_is_when_torque_comes_on(self) -> None:
        self.body.profile.velocity = 1000.0
        self.body.command(3000, False)
        self.plant.positions[0] = 1000.0
        self.body.command(3000, True)
        assert self.plant.goals == [1000]

    def test_the_torque_limit_is_the_plants_strength(self) -> None:
        self.body.command(3000, True)
        self.body.limit_torque(0.25)
        assert self.plant.strengths == [0.25]
        self.body.command(3000, False)
        assert self.plant.strengths == [0.0]

    def test_the_watcher_is_told_of_every_command(self) -> None:
        told: list[tuple[int, int, bool, int]] = []
        self.body.watcher = lambda *line: told.append(line)
        self.body.command(3000, True)
        self.body.place()
        assert told == [(0, 3000, True, CENTRE), (0, CENTRE, True, CENTRE)]

    def test_it_warms_up_with_the_square_of_the_load_and_cools_down(self) -> None:
        assert self.body.temperature_c == AMBIENT_C
        self.plant.loads[0] = -0.5
        self.body.work(THERMAL_TIME)
        warm = AMBIENT_C + HEATING_C / 4 * (1 - math.exp(-1))
        assert self.body.temperature_c == pytest.approx(warm)
        self.plant.loads[0] = 0.0
        self.body.work(THERMAL_TIME)
        assert self.body.temperature_c == pytest.approx(AMBIENT_C + (warm - AMBIENT_C) / math.e)

    def test_strain_counts_seconds_in_a_row(self) -> None:
        self.body.strain_load = 0.8
        for load, strained in ((0.9, 0.5), (-0.9, 1.0), (0.7, 0.0), (0.9, 0.5)):
            self.plant.loads[0] = load
            self.body.work(0.5)
            assert self.body.strained == strained

    def test_a_stuck_joint_does_not_move_and_its_motor_stalls(self) -> None:
        self.body.stuck = True
        self.body.command(CENTRE - 500, True)
        for _ in range(50):
            self.plant.step()
        sensed = self.body.sense()
        assert (sensed.position, sensed.velocity, sensed.load) == (CENTRE, 0, -1.0)
        self.body.limit_torque(0.3)
        assert self.body.sense().load == -0.3
        self.body.command(CENTRE - 500, False)
        assert self.body.sense().load == 0.0
        self.body.stuck = False
        self.body.command(CENTRE - 500, True)
        for _ in range(50):
            self.plant.step()
        assert self.body.sense().position == CENTRE - 500

    def test_sag_and_heat_are_imposed_and_lifted(self) -> None:
        assert self.body.voltage == 12.0
        self.body.sag = 4.5
        assert self.body.voltage == 4.5
        self.body.sag = 24.0
        assert self.body.voltage == 12.0
        self.body.overheated = True
        assert self.body.temperature_c == HOT_C
        self.body.overheated = False
        assert self.body.temperature_c == AMBIENT_C
