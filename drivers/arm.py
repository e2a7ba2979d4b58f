"""What an arm is to the rest of the runtime: names, limits, and six verbs.

Knows no bus, no protocol and no robot model; drivers implement `Arm`, and every one of them passes the same
conformance suite (tests/drivers/arm_conformance.py).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

JERK_TIME = 0.02  # s to full acceleration where nothing else is said: two servo ticks


class ArmError(Exception):
    """The arm cannot do what was asked; the message says what, where and what to do."""


def frozen(values: object) -> Array:
    """A read-only float64 copy of `values`."""
    array = np.array(values, dtype=np.float64)
    array.flags.writeable = False
    return array


@dataclass(frozen=True)
class ArmSpec:
    """Names and limits of an arm's joints, in bus order; arrays have shape (n,) and are read-only.

    `velocity_max` and `acceleration_max` are what this runtime may ask for, not what the motor could give.
    """

    joint_names: tuple[str, ...]
    position_min: Array  # rad
    position_max: Array  # rad
    velocity_max: Array  # rad/s
    acceleration_max: Array  # rad/s^2
    jerk_max: Array = field(default_factory=lambda: frozen([]))  # rad/s^3; empty: from `acceleration_max`, `JERK_TIME`

    def __post_init__(self) -> None:
        n = len(self.joint_names)
        if not np.size(self.jerk_max):
            object.__setattr__(self, "jerk_max", frozen(self.acceleration_max) / JERK_TIME)
        for name in ("position_min", "position_max", "velocity_max", "acceleration_max", "jerk_max"):
            array = frozen(getattr(self, name))
            if array.shape != (n,):
                raise ValueError(f"{name} has shape {array.shape}, {n} joints {self.joint_names} need ({n},)")
            object.__setattr__(self, name, array)
        for joint, low, high in zip(self.joint_names, self.position_min, self.position_max, strict=True):
            if not low < high:
                raise ValueError(f"{joint}: position_min {low} is not below position_max {high}")

    @property
    def joints(self) -> int:
        """Number of joints, the gripper counted as one."""
        return len(self.joint_names)


@dataclass(frozen=True, slots=True)
class JointState:
    """One reading of every joint, in `ArmSpec.joint_names` order."""

    stamp: int  # monotonic ns, when the reply was complete
    positions: Array  # rad, shape (n,)
    velocities: Array  # rad/s, shape (n,)
    loads: Array  # share of stall torque in [-1, 1], shape (n,)
    temperatures_c: Array  # degrees Celsius, shape (n,)
    voltages: Array  # V, shape (n,)
    errors: tuple[str, ...] = ()  # one "joint: what" for each error bit that is set


@dataclass(slots=True)
class BusCounters:
    """What happened on the bus since it was opened."""

    sent: int = 0
    retried: int = 0
    corrupt: int = 0
    timed_out: int = 0
    failed: int = 0  # transactions given up after the last retry
    missing: dict[int, int] = field(default_factory=dict)  # servo id -> tries that ended without its reply

    def snapshot(self) -> dict[str, int]:
        """The totals, by name."""
        return {name: getattr(self, name) for name in self.__slots__ if name != "missing"}


@dataclass(frozen=True)
class ReleaseReport:
    """What `Arm.release` found when it read torque back: joints still energised, by name."""

    released: tuple[str, ...]
    still_energised: tuple[str, ...] = field(default=())


class Arm(Protocol):
    """An arm on its bus. Not thread-safe: one owner.

    Calls other than `connect` and `close` raise `ArmError` when not connected. `close` may be called at any time,
    more than once.
    """

    @property
    def spec(self) -> ArmSpec: ...

    @property
    def counters(self) -> BusCounters: ...

    def connect(self) -> None:
        """Open the bus and find every joint. Torque stays as it is. Raises `ArmError`.

        After the port was lost it may be called again: the port is looked for anew, under any name that its adapter's
        USB serial number has now.
        """

    def energised(self) -> tuple[str, ...]:
        """The joints whose torque is on, read from the servos. Raises `ArmError`."""

    def read(self) -> JointState:
        """One reading of all joints. Raises `ArmError` when bounded retries are used up; the bus stays usable."""

    def write(self, targets: Array) -> None:
        """Send joint targets (rad, shape (n,)). Raises `ArmError` for a wrong shape or a non-finite value, before
        anything is sent, and when the arm is released. Targets beyond the limits of `spec` are refused too."""

    def hold(self) -> JointState:
        """Set every goal to the present position, then switch torque on; returns the state held. Never jumps."""

    def release(self) -> ReleaseReport:
        """Torque off at every joint, whatever the others do, read back before it is reported."""

    def close(self) -> None:
        """Close the bus, leaving torque as it is."""
