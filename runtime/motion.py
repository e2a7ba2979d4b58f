"""Motion with bounded velocity, acceleration and jerk: the step towards a goal, and the way to rest. Ruckig inside.

Knows limits and numbers, no rule about what may be asked. Every function is pure. What it returns is sampled from
trajectories that are continuous up to the acceleration and whose jerk is bounded, hence by the mean value theorem the
finite differences of the samples keep the same bounds, at any sampling period.

Both motions are time-optimal for each joint by itself. That is what makes the rules of `runtime/safety.py` hold from
one tick to the next: a step towards a goal never comes to a state from which the way to rest would lead further out
than the goal and the way to rest from the state before; and going on along the way to rest is the same way to rest.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import numpy as np
from ruckig import ControlInterface, InputParameter, Ruckig, RuckigError, Synchronization, Trajectory

from drivers.arm import Array

# rad. Ruckig finds no profile for a few distances at which one phase is exactly empty, as 0.064 rad from rest at
# 80 rad/s^2 and 4000 rad/s^3; 1e-15 rad further it finds one. Towards the joint, so that no goal is ever passed.
NUDGES = (0.0, 1e-9, 2e-9)
MOMENT = 1e-9  # s, before the end of a motion, from which on it counts as over


class Motion(NamedTuple):
    """Where the joints are, how fast, and how fast that changes; each of shape (n,), in rad and s."""

    positions: Array
    velocities: Array
    accelerations: Array


def step(
    state: Motion, goals: Array, velocity_max: Array, acceleration_max: Array, jerk_max: Array, dt: float
) -> Motion:
    """`state` after `dt` s on the fastest way to rest at `goals`.

    No joint passes its goal (by more than 1e-8 rad, as near as Ruckig lands), unless it is too fast by now to stop
    before it.
    """
    planner, request, trajectory = _planner(len(goals), ControlInterface.Position)
    request.max_velocity = velocity_max.tolist()
    for nudge in NUDGES:
        request.target_position = (goals - np.copysign(nudge, goals - state.positions)).tolist()
        try:
            _plan(planner, request, trajectory, state, acceleration_max, jerk_max)
        except RuckigError:
            continue
        return _sample(trajectory, dt)
    return way_to_rest(state, acceleration_max, jerk_max, dt)[0]


def way_to_rest(state: Motion, acceleration_max: Array, jerk_max: Array, dt: float) -> list[Motion]:
    """`state` after `dt` s, 2 `dt` s and so on as every joint comes to rest as fast as it can.

    The last entry, and no other, is at rest; there is always one.
    """
    planner, request, trajectory = _planner(len(state.positions), ControlInterface.Velocity)
    _plan(planner, request, trajectory, state, acceleration_max, jerk_max)
    # The plan ends with velocities of rounding size; what follows must not creep on with them.
    end = _sample(trajectory, trajectory.duration).positions
    ticks = int((trajectory.duration - MOMENT) / dt)
    return [
        *(_sample(trajectory, tick * dt) for tick in range(1, ticks + 1)),
        Motion(end, np.zeros_like(end), np.zeros_like(end)),
    ]


@functools.cache
def _planner(joints: int, interface: ControlInterface) -> tuple[Ruckig, InputParameter, Trajectory]:
    """Ruckig's objects, made once: every field that is ever read is written before each plan."""
    request = InputParameter(joints)
    request.control_interface = interface
    request.synchronization = Synchronization.No
    request.target_velocity = request.target_acceleration = [0.0] * joints
    return Ruckig(joints), request, Trajectory(joints)


def _plan(
    planner: Ruckig,
    request: InputParameter,
    trajectory: Trajectory,
    state: Motion,
    acceleration_max: Array,
    jerk_max: Array,
) -> None:
    request.current_position = state.positions.tolist()
    request.current_velocity = state.velocities.tolist()
    request.current_acceleration = state.accelerations.tolist()
    request.max_acceleration = acceleration_max.tolist()
    request.max_jerk = jerk_max.tolist()
    planner.calculate(request, trajectory)


def _sample(trajectory: Trajectory, time: float) -> Motion:
    return Motion(*map(np.array, trajectory.at_time(time)))
