"""What a reading says is wrong with the arm: errors, heat, supply, stall, tracking, and a guard that keeps saying no.

Pure of buses and clocks: readings, commands and times are passed in, what lasts is remembered. A trouble is one line
that names the joint and what to do; what becomes of it is the servo loop's to decide.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from drivers.arm import Array, JointState
from drivers.config import SafetyConfig
from runtime.clock import MILLISECOND, SECOND
from runtime.safety import COLLISION, TABLE, WORKSPACE

VOLTAGE_TIME_S = 0.1  # a supply may dip while every motor starts at once
GUARD_TIME_S = 1.0  # a policy may touch the border of what is allowed, but not lean on it
ERRORS_TOLD = 3  # of the servos' own, in one line
AT_LEAD = 0.01  # rad: a joint that lags by all of `lead_max` but so much is held up: its command waits for it
COMES = 0.1  # rad/s towards its command, from which on a joint is slow and not blocked
GUARD_REASONS = (WORKSPACE, COLLISION, TABLE)
_NEVER = np.iinfo(np.int64).max  # ns: a moment that never comes


class Trouble(NamedTuple):
    """What is wrong. `blocked`: it is the motion itself, so the arm must not move any further, not even to lower.
    `pushes`: a joint is kept from its command, and must not go on pushing."""

    text: str
    blocked: bool
    pushes: bool = False


class Lasting:
    """Which of `n` conditions, seen at irregular times, has held for a while."""

    def __init__(self, n: int, seconds: float) -> None:
        self._duration = round(seconds * SECOND)
        self._since: NDArray[np.int64] = np.full(n, _NEVER)
        self._clear = True

    def find(self, true: Sequence[bool] | NDArray[np.bool_], now: int) -> int | None:
        """The first condition that has been true at every call for the duration, told once in that time; `true` has
        shape (n,)."""
        if not any(true):
            self.forget()
            return None
        self._clear = False
        self._since = np.where(true, np.minimum(self._since, now), _NEVER)
        first = int(self._since.argmin())
        if self._since[first] > now - self._duration:
            return None
        self._since[first] = now
        return first

    def forget(self) -> None:
        """Start anew."""
        if not self._clear:
            self._since.fill(_NEVER)
            self._clear = True


def gripping(joint_names: Sequence[str], safety: SafetyConfig) -> NDArray[np.bool_]:
    """Which joints grip: pushing against something and not arriving is their work. Shape (n,)."""
    return np.array([name in safety.grippers for name in joint_names])


class Watch:
    """Looks at each reading of an arm with these joints."""

    def __init__(self, joint_names: Sequence[str], safety: SafetyConfig) -> None:
        n = len(joint_names)
        self._names = tuple(joint_names)
        self._safety = safety
        self._low = -np.inf if safety.voltage_min is None else safety.voltage_min
        self._high = np.inf if safety.voltage_max is None else safety.voltage_max
        self._pushes = gripping(joint_names, safety).tolist()
        self._voltage = Lasting(n, VOLTAGE_TIME_S)
        self._stall = Lasting(n, safety.stall_time_s)
        self._tracking = Lasting(n, safety.tracking_time_s)
        self._guard = Lasting(1, GUARD_TIME_S)

    def look(self, joints: JointState, command: Array | None, now: int) -> Trouble | None:
        """What is wrong by a new reading; `command` (rad, shape (n,)) is what the arm was told before it, None without
        torque. The gravest first; `now` in ns."""
        if joints.errors:
            more = len(joints.errors) - ERRORS_TOLD
            text = "; ".join(joints.errors[:ERRORS_TOLD]) + (f"; and {more} more" if more > 0 else "")
            return Trouble(f"servo: {text}", False)
        return self._heat(joints) or self._supply(joints, now) or self._motion(joints, command, now)

    def judge(self, reasons: Sequence[str], now: int) -> Trouble | None:
        """What is wrong when the guard has kept the arm from following for a second; `reasons` are the filter's."""
        reason = next((reason for reason in reasons if reason in GUARD_REASONS), None)
        if self._guard.find((reason is not None,), now) is None:
            return None
        return Trouble(
            f"guard: {reason} for {GUARD_TIME_S:g} s: the policy asks for a pose that the arm must not take", True
        )

    def forget(self) -> None:
        """Start anew, after a reset."""
        for lasting in (self._voltage, self._stall, self._tracking, self._guard):
            lasting.forget()

    def _heat(self, joints: JointState) -> Trouble | None:
        temperatures, highest = joints.temperatures_c.tolist(), self._safety.temperature_max_c
        temperature = max(temperatures)
        if not temperature > highest:
            return None
        hottest = self._names[temperatures.index(temperature)]
        text = f"servo: {hottest} is at {temperature:.0f} C, above {highest:.0f} C: let it cool down"
        return Trouble(text, False)

    def _supply(self, joints: JointState, now: int) -> Trouble | None:
        voltages = joints.voltages.tolist()
        joint = self._voltage.find([not self._low <= voltage <= self._high for voltage in voltages], now)
        if joint is None:
            return None
        voltage = voltages[joint]
        bound = f"below {self._low:g} V" if voltage < self._low else f"above {self._high:g} V"
        return Trouble(f"supply: {self._names[joint]} measures {voltage:.1f} V, {bound}: check the power supply", False)

    def _motion(self, joints: JointState, command: Array | None, now: int) -> Trouble | None:
        if command is None:
            self._stall.forget()
            self._tracking.forget()
            return None
        safety = self._safety
        stalled, lagging = self._blocked(joints, command)
        joint = self._stall.find(stalled, now)
        if joint is not None:
            return Trouble(
                f"stall: {self._names[joint]} pushes with {abs(joints.loads[joint]):.0%} of its torque and stays "
                f"{abs(command[joint] - joints.positions[joint]):.2f} rad from its command: free it",
                True,
                pushes=True,
            )
        joint = self._tracking.find(lagging, now)
        if joint is None:
            return None
        return Trouble(
            f"tracking: {self._names[joint]} has been {abs(command[joint] - joints.positions[joint]):.2f} rad from its "
            f"command for {safety.tracking_time_s * SECOND / MILLISECOND:.0f} ms: is it blocked, or without torque?",
            True,
            pushes=True,
        )

    def _blocked(self, joints: JointState, command: Array) -> tuple[list[bool], list[bool]]:
        """Which joints push and do not come nearer to their command, and which are as far from it as they are let."""
        safety = self._safety
        lead = safety.lead_max - AT_LEAD
        stalled, lagging = [], []
        for told, here, speed, load, pushes in zip(
            command.tolist(),
            joints.positions.tolist(),
            joints.velocities.tolist(),
            joints.loads.tolist(),
            self._pushes,
            strict=True,
        ):
            error = 0.0 if pushes else abs(told - here)
            comes = (speed if told > here else -speed) > COMES
            stalled.append(error > safety.stall_error and abs(load) > safety.stall_load and not comes)
            lagging.append(error > safety.tracking_error_max or (error > lead and not comes))
        return stalled, lagging
