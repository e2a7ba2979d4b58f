"""The states of an arm, its stops, and the one latch that matters: a fault stays until an operator resets it.

Knows no bus and no clock; the servo loop tells it what happened and asks it what is allowed.

    disconnected -> idle -> holding -> running -> stopping -> holding, or idle once lowered
                                 any -> fault, by way of stopping when the arm may be in motion

A reset leaves the fault for holding (torque on) or idle (torque off), and never starts motion.
"""

from __future__ import annotations

from enum import IntEnum


class State(IntEnum):
    """What the arm is doing; the numbers travel through shared memory."""

    DISCONNECTED = 0
    IDLE = 1  # torque off
    HOLDING = 2  # torque on, at rest
    RUNNING = 3  # following targets
    STOPPING = 4  # decelerating, or lowering
    FAULT = 5  # latched; holding if torque was on, else idle


class Stop(IntEnum):
    """The stop categories of IEC 60204-1; the numbers are the standard's. No conformity is claimed."""

    POWER_OFF = 0  # torque off at once: an arm in the air falls
    LOWER = 1  # decelerate, move slowly to the rest pose, torque off
    HOLD = 2  # decelerate, hold


class RefusedError(Exception):
    """The arm's state does not allow what was asked; the message says which state, why and what to do."""


class Supervisor:
    """Decides what the servo loop may do. Every method is cheap enough for the tick."""

    def __init__(self) -> None:
        self._state = State.DISCONNECTED
        self._energised = False
        self._armed = False
        self._lowering = False
        self._fault: str | None = None

    @property
    def state(self) -> State:
        return self._state

    @property
    def fault_text(self) -> str | None:
        """Why the arm was stopped; the first cause stands until `reset`."""
        return self._fault

    @property
    def energised(self) -> bool:
        """Torque is on: commands must be written, or the last one is what the servos hold."""
        return self._energised

    @property
    def armed(self) -> bool:
        """Somebody asked for motion: the first fresh target starts it."""
        return self._armed

    @property
    def lowering(self) -> bool:
        """Once decelerated, the arm goes slowly to its rest pose and is released there."""
        return self._lowering

    def connected(self) -> None:
        """The bus is open and every joint answered; torque counts as off until `held`."""
        self.disconnected()
        self._state = self._at_rest(State.IDLE)

    def disconnected(self) -> None:
        """The bus is closed."""
        self._state = State.DISCONNECTED
        self._energised = self._armed = self._lowering = False

    def held(self) -> None:
        """Torque is on and the goals are where the arm is."""
        self._energised = True
        self._lowering = False
        self._state = self._at_rest(State.HOLDING)

    def released(self) -> None:
        """Torque is off."""
        if self._state is not State.DISCONNECTED:
            self.connected()

    def check_start(self) -> None:
        """Raise `RefusedError` unless motion may be asked for."""
        if self._fault is not None:
            raise RefusedError(f"the arm is in a fault ({self._fault}): remove the cause, then reset it")
        if self._state is State.DISCONNECTED:
            raise RefusedError("the arm is not connected: connect it first")
        self.check_stopped()

    def check_stopped(self) -> None:
        """Raise `RefusedError` while the arm decelerates or is lowered."""
        if self._state is State.STOPPING:
            raise RefusedError("the arm is still stopping: wait until it holds")

    def start(self) -> None:
        """Allow motion from the next fresh target on. Raises `RefusedError`; needs torque."""
        self.check_start()
        if not self._energised:
            raise RefusedError("the arm has no torque: hold it first")
        self._armed = True

    def target_is_fresh(self) -> None:
        """A target that may be followed is there."""
        if self._armed and self._state is State.HOLDING:
            self._state = State.RUNNING

    def stop(self, category: Stop = Stop.HOLD) -> None:
        """Decelerate, then hold, or be lowered; a later motion needs a new `start`.

        The last word counts: a HOLD ends a lowering where it is. POWER_OFF is no state: switch torque off and say so
        by `released`.
        """
        self._armed = False
        self._lowering = category is Stop.LOWER and self._energised
        if self._lowering or self._state is State.RUNNING:
            self._state = State.STOPPING

    def at_rest(self) -> None:
        """The command has stopped moving."""
        if self._state is State.STOPPING and not self._lowering:
            self._state = self._at_rest(State.HOLDING)

    def fault(self, text: str) -> bool:
        """Latch a fault and stop; returns whether it is a new one (the first cause stands).

        An arm that is being lowered still is: whoever says that it must not calls `stop` as well.
        """
        if self._fault is not None:
            return False
        self._fault = text
        self._armed = False
        if self._state is State.RUNNING:
            self._state = State.STOPPING
        elif self._state in (State.HOLDING, State.IDLE):
            self._state = State.FAULT
        return True

    def reset(self) -> None:
        """An operator has removed the cause; does nothing without a fault. Raises `RefusedError` while the arm is
        still stopping."""
        self.check_stopped()
        self._fault = None
        if self._state is State.FAULT:
            self._state = State.HOLDING if self._energised else State.IDLE

    def _at_rest(self, state: State) -> State:
        return State.FAULT if self._fault is not None else state
