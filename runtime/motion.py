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
        request.target_position = (goals - np.copysign(nudge, goals - state.positions) if nudge else goals).tolist()
        try:
            _plan(planner, request, trajectory, state, acceleration_max, jerk_max)
        except RuckigError:
            continue
        return _sample(trajectory, dt)
    return rest_step(state, acceleration_max, jerk_max, dt)


def rest_step(state: Motion, acceleration_max: Array, jerk_max: Array, dt: float) -> Motion:
    """`state` after `dt` s as every joint comes to rest as fast as it can; at rest once that is over."""
    trajectory = _braking(state, acceleration_max, jerk_max)
    if trajectory.duration - MOMENT >= dt:
        return _sample(trajectory, dt)
    # The plan ends with velocities of rounding size; what follows must not creep on with them.
    still = np.zeros(len(state.positions))
    return Motion(np.array(trajectory.at_time(trajectory.duration)[0]), still, still)


def way_to_rest(state: Motion, acceleration_max: Array, jerk_max: Array, dt: float) -> Array:
    """Where the joints are after `dt` s, 2 `dt` s and so on as in `rest_step`, shape (ticks, n); the last row, and
    there is always one, is where they come to rest."""
    trajectory = _braking(state, acceleration_max, jerk_max)
    ticks = int((trajectory.duration - MOMENT) / dt)
    moments = [*(tick * dt for tick in range(1, ticks + 1)), trajectory.duration]
    return np.array([trajectory.at_time(moment)[0] for moment in moments])


def reach_to_rest(state: Motion, acceleration_max: Array, jerk_max: Array) -> Array:
    """How far each joint gets on its way to rest at most, to either side, shape (n,): cheaper than the way itself.

    Its acceleration runs out first, in which time it gets faster at most; then it brakes, up to full deceleration and
    down again, which from a speed v takes v / a + a / j (2 sqrt(v / j), which is less, where a is not reached), at half
    of that speed on average.
    """
    accelerations = np.abs(state.accelerations)
    ramp = accelerations / jerk_max
    speeds = np.abs(state.velocities) + accelerations * ramp / 2
    reach: Array = speeds * (ramp + (speeds / acceleration_max + acceleration_max / jerk_max) / 2)
    return reach


@functools.cache
def _planner(joints: int, interface: ControlInterface) -> tuple[Ruckig, InputParameter, Trajectory]:
    """Ruckig's objects, made once: every field that is ever read is written before each plan."""
    request = InputParameter(joints)
    request.control_interface = interface
    request.synchronization = Synchronization.No
    request.target_velocity = request.target_acceleration = [0.0] * joints
    return Ruckig(joints), request, Trajectory(joints)


def _braking(state: Motion, acceleration_max: Array, jerk_max: Array) -> Trajectory:
    """The way to rest; valid until the next plan for as many joints."""
    planner, request, trajectory = _planner(len(state.positions), ControlInterface.Velocity)
    _plan(planner, request, trajectory, state, acceleration_max, jerk_max)
    return trajectory


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
    positions, velocities, accelerations = trajectory.at_time(time)
    return Motion(np.array(positions), np.array(velocities), np.array(accelerations))
