"""Traces of one joint made by hand: what an arm does that keeps every rule, for tests to break."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from drivers.arm import Array
from runtime.campaign.invariants import PHYSICS, TICK
from runtime.campaign.trace import COUNT, Goals, JointTrace, Motion
from runtime.clock import SECOND

VELOCITY, ACCELERATION = 2.5, 40.0
START = 10 * SECOND  # ns
TICK_NS, PHYSICS_NS = round(TICK * SECOND), round(PHYSICS * SECOND)


def path(speed: float = 2.0, seconds: float = 0.5, rest: float = 0.5) -> Array:
    """Goals, rad: away from 0 within the limits, then at rest."""
    ramp = np.arange(1, round(speed / ACCELERATION / TICK) + 1) * ACCELERATION * TICK
    cruise = np.full(max(0, round(seconds / TICK) - 2 * len(ramp)), speed)
    speeds = np.concatenate((np.zeros(10), ramp, cruise, ramp[::-1], np.zeros(round(rest / TICK))))
    return np.cumsum(speeds) * TICK


def trace_of(goals: Array, present: Array | None = None, servo: int = 1) -> JointTrace:
    """A joint that follows its goals two ticks later unless `present` says where it is at each tick."""
    goals = np.round(goals / COUNT) * COUNT
    if present is None:
        present = np.concatenate((np.full(2, goals[0]), goals[:-2]))
    stamps = START + np.arange(len(goals)) * TICK_NS
    fine = np.arange(2 * len(goals))
    moved = np.interp(fine / 2, np.arange(len(goals)), present)
    return JointTrace(
        "pan",
        servo,
        -2.0,
        2.0,
        VELOCITY,
        ACCELERATION,
        Goals(stamps, goals, np.ones(len(goals), bool), present),
        Motion(START + fine * PHYSICS_NS, np.round(moved / COUNT) * COUNT),
    )


def with_goal(trace: JointTrace, index: int, goal: float) -> JointTrace:
    """One goal changed."""
    goals = trace.goals.goals.copy()
    goals[index] = goal
    return replace(trace, goals=replace(trace.goals, goals=goals))


def with_torque_off(trace: JointTrace, start: int, end: int | None = None) -> JointTrace:
    """Torque off from one write to another."""
    torque = trace.goals.torque.copy()
    torque[start:end] = False
    return replace(trace, goals=replace(trace.goals, torque=torque))


def without_writes(trace: JointTrace, start: int, end: int) -> JointTrace:
    """Writes that never came."""
    goals = trace.goals
    keep = np.r_[0:start, end : len(goals.stamps)]
    kept = Goals(goals.stamps[keep], goals.goals[keep], goals.torque[keep], goals.present[keep])
    return replace(trace, goals=kept)
