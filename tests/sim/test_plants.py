"""Servos on the stacking world's joints, and the trace of what they are told."""

from __future__ import annotations

import io
import math

import numpy as np
import pytest

from sim.plants import Mount, WorldPlant
from sim.servo_trace import HEADER, ServoTrace
from sim.world import HOME, World

COUNT = 2 * math.pi / 4096


@pytest.fixture
def world(shared: World) -> World:
    shared.reset(np.random.default_rng(0))
    return shared


@pytest.fixture
def plant(world: World) -> WorldPlant:
    return WorldPlant(world)


def counts(angle: float) -> int:
    return 2048 + round(angle / COUNT)


def positions(plant: WorldPlant) -> list[int]:
    return [plant.sense(servo).position for servo in range(6)]


def test_servos_sense_the_joints(plant: WorldPlant) -> None:
    np.testing.assert_allclose(positions(plant), [counts(angle) for angle in HOME], atol=2)


def test_a_placed_arm_stands_until_a_servo_gets_torque(plant: WorldPlant, world: World) -> None:
    plant.drive(1, 3000, 0.0)  # a goal without torque moves nothing
    plant.step(100)
    np.testing.assert_allclose(world.joint_positions(), HOME, atol=0.02)
    plant.drive(0, counts(HOME[0]), 1.0)
    plant.step(100)
    assert abs(world.joint_positions()[1] - HOME[1]) > 0.1  # the others are limp now
    assert abs(world.joint_positions()[0] - HOME[0]) < 0.1


def test_goals_are_reached(plant: WorldPlant) -> None:
    for servo in range(6):
        plant.drive(servo, counts(HOME[servo]) + (100 if servo == 0 else 0), 1.0)
    plant.step(200)
    assert positions(plant)[0] == pytest.approx(counts(HOME[0]) + 100, abs=3)


def test_a_weak_servo_does_not_hold_the_arm(world: World) -> None:
    sagged = []
    for strength in (1.0, 0.02):
        world.reset(np.random.default_rng(0))
        plant = WorldPlant(world)
        for servo in range(6):
            plant.drive(servo, counts(HOME[servo]), strength)
        plant.step(100)
        sagged.append(abs(world.joint_positions()[2] - HOME[2]))
    assert sagged[0] < 0.03 < 0.2 < sagged[1]


def test_a_jammed_joint_stays_whatever_drives_it(plant: WorldPlant, world: World) -> None:
    plant.jam(0, True)
    for servo in range(6):
        plant.drive(servo, counts(HOME[servo]) + 200 * (servo == 0), 1.0)
    plant.step(100)
    assert abs(world.joint_positions()[0] - HOME[0]) < 0.01
    plant.jam(0, False)
    plant.step(200)
    assert abs(world.joint_positions()[0] - HOME[0] - 200 * COUNT) < 0.01


def test_a_jam_moves_along_when_the_arm_is_placed(plant: WorldPlant, world: World) -> None:
    plant.jam(0, True)
    world.place_arm(np.array([0.5, *HOME[1:]]))
    plant.placed()
    plant.step(50)
    assert abs(world.joint_positions()[0] - 0.5) < 0.01


def test_mounts_say_zero_and_direction(world: World) -> None:
    plant = WorldPlant(world, [Mount(1, 1000, -1)])
    assert plant.sense(0).position == pytest.approx(1000 - HOME[1] / COUNT, abs=2)
    plant.drive(0, 1000 + 0.7 / COUNT, 1.0)
    plant.step(100)
    assert world.joint_positions()[1] == pytest.approx(-0.7, abs=0.02)
    up = plant.sense(0).load
    assert up == pytest.approx(-world.joint_loads()[1])


def test_a_trace_line_is_stamp_id_goal_torque_present() -> None:
    file, now = io.StringIO(), iter((5, 7))
    trace = ServoTrace(file, (4, 9), lambda: next(now))
    trace(1, 2100, True, 2048)
    assert file.getvalue() == ""
    trace.flush()
    assert file.getvalue() == HEADER + "5,9,2100,1,2048\n"
    trace(0, -3, False, 12)
    trace.flush()
    trace.flush()
    assert file.getvalue().splitlines()[2:] == ["7,4,-3,0,12"]


def test_a_hand_leads_a_limp_joint_and_lets_go_when_it_gets_torque(world: World) -> None:
    plant = WorldPlant(world)
    plant.lead(0, 0.8)
    for _ in range(200):
        plant.step(1)
    assert world.joint_positions()[0] == pytest.approx(0.8, abs=0.02)
    plant.drive(0, counts(0.0), 1.0)
    for _ in range(200):
        plant.step(1)
    assert world.joint_positions()[0] == pytest.approx(0.0, abs=0.02)
