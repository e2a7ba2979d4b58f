from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.supervisor import RefusedError, State, Stop, Supervisor

EVENTS: dict[str, Callable[[Supervisor], object]] = {
    "connected": Supervisor.connected,
    "disconnected": Supervisor.disconnected,
    "held": Supervisor.held,
    "released": Supervisor.released,
    "start": Supervisor.start,
    "target": Supervisor.target_is_fresh,
    "stop": Supervisor.stop,
    "lower": lambda supervisor: supervisor.stop(Stop.LOWER),
    "at_rest": Supervisor.at_rest,
    "fault": lambda supervisor: supervisor.fault("it smokes"),
    "reset": Supervisor.reset,
}


def reach(*events: str) -> Supervisor:
    supervisor = Supervisor()
    for event in events:
        EVENTS[event](supervisor)
    return supervisor


HELD = ("connected", "held")
RUNNING = (*HELD, "start", "target")
OFF, ON = False, True  # torque


# What is reached: state, torque, armed, lowering, and whether a fault is latched.
@pytest.mark.parametrize(
    ("events", "state", "energised", "armed", "lowering", "faulted"),
    [
        ((), State.DISCONNECTED, OFF, False, False, False),
        (("connected",), State.IDLE, OFF, False, False, False),
        (HELD, State.HOLDING, ON, False, False, False),
        ((*HELD, "start"), State.HOLDING, ON, True, False, False),
        ((*HELD, "target"), State.HOLDING, ON, False, False, False),
        (RUNNING, State.RUNNING, ON, True, False, False),
        ((*RUNNING, "target"), State.RUNNING, ON, True, False, False),
        ((*RUNNING, "stop"), State.STOPPING, ON, False, False, False),
        ((*RUNNING, "stop", "target"), State.STOPPING, ON, False, False, False),
        ((*RUNNING, "stop", "at_rest"), State.HOLDING, ON, False, False, False),
        ((*RUNNING, "stop", "at_rest", "target"), State.HOLDING, ON, False, False, False),
        ((*RUNNING, "stop", "at_rest", "start", "target"), State.RUNNING, ON, True, False, False),
        ((*RUNNING, "at_rest"), State.RUNNING, ON, True, False, False),
        ((*HELD, "start", "stop", "target"), State.HOLDING, ON, False, False, False),
        (("connected", "stop"), State.IDLE, OFF, False, False, False),
        (("stop",), State.DISCONNECTED, OFF, False, False, False),
        # Lowering: category 1.
        ((*RUNNING, "lower"), State.STOPPING, ON, False, True, False),
        ((*RUNNING, "lower", "at_rest"), State.STOPPING, ON, False, True, False),
        ((*RUNNING, "lower", "released"), State.IDLE, OFF, False, False, False),
        ((*RUNNING, "lower", "stop"), State.STOPPING, ON, False, False, False),
        ((*RUNNING, "lower", "stop", "at_rest"), State.HOLDING, ON, False, False, False),
        ((*RUNNING, "stop", "lower"), State.STOPPING, ON, False, True, False),
        ((*HELD, "lower"), State.STOPPING, ON, False, True, False),
        ((*HELD, "start", "lower", "target"), State.STOPPING, ON, False, True, False),
        (("connected", "lower"), State.IDLE, OFF, False, False, False),
        (("lower",), State.DISCONNECTED, OFF, False, False, False),
        # Faults.
        (("fault",), State.DISCONNECTED, OFF, False, False, True),
        (("fault", "connected"), State.FAULT, OFF, False, False, True),
        (("connected", "fault"), State.FAULT, OFF, False, False, True),
        ((*HELD, "fault"), State.FAULT, ON, False, False, True),
        ((*HELD, "start", "fault"), State.FAULT, ON, False, False, True),
        ((*HELD, "start", "fault", "target"), State.FAULT, ON, False, False, True),
        ((*RUNNING, "fault"), State.STOPPING, ON, False, False, True),
        ((*RUNNING, "fault", "at_rest"), State.FAULT, ON, False, False, True),
        ((*RUNNING, "stop", "fault"), State.STOPPING, ON, False, False, True),
        ((*RUNNING, "fault", "stop"), State.STOPPING, ON, False, False, True),
        ((*RUNNING, "fault", "at_rest", "stop"), State.FAULT, ON, False, False, True),
        ((*RUNNING, "fault", "at_rest", "fault"), State.FAULT, ON, False, False, True),
        ((*RUNNING, "fault", "at_rest", "lower"), State.STOPPING, ON, False, True, True),
        ((*RUNNING, "lower", "fault"), State.STOPPING, ON, False, True, True),
        ((*RUNNING, "lower", "fault", "released"), State.FAULT, OFF, False, False, True),
        ((*HELD, "fault", "released"), State.FAULT, OFF, False, False, True),
        ((*HELD, "fault", "held"), State.FAULT, ON, False, False, True),
        ((*HELD, "fault", "disconnected"), State.DISCONNECTED, OFF, False, False, True),
        ((*HELD, "fault", "disconnected", "connected"), State.FAULT, OFF, False, False, True),
        # Resets.
        ((*HELD, "fault", "reset"), State.HOLDING, ON, False, False, False),
        ((*HELD, "start", "fault", "reset", "target"), State.HOLDING, ON, False, False, False),
        ((*HELD, "start", "reset"), State.HOLDING, ON, True, False, False),
        ((*HELD, "reset"), State.HOLDING, ON, False, False, False),
        (("connected", "fault", "reset"), State.IDLE, OFF, False, False, False),
        (("fault", "reset"), State.DISCONNECTED, OFF, False, False, False),
        ((*RUNNING, "reset"), State.RUNNING, ON, True, False, False),
        ((*HELD, "lower", "held"), State.HOLDING, ON, False, False, False),
        # Torque off and the bus closed.
        ((*HELD, "released"), State.IDLE, OFF, False, False, False),
        ((*RUNNING, "released"), State.IDLE, OFF, False, False, False),
        (("released",), State.DISCONNECTED, OFF, False, False, False),
        ((*RUNNING, "disconnected"), State.DISCONNECTED, OFF, False, False, False),
        ((*RUNNING, "lower", "disconnected"), State.DISCONNECTED, OFF, False, False, False),
        ((*RUNNING, "connected"), State.IDLE, OFF, False, False, False),
    ],
)
def test_states(
    events: tuple[str, ...], state: State, energised: bool, armed: bool, lowering: bool, faulted: bool
) -> None:
    reached = reach(*events)
    assert reached.state is state
    assert reached.energised is energised
    assert reached.armed is armed
    assert reached.lowering is lowering
    assert reached.fault_text == ("it smokes" if faulted else None)


@pytest.mark.parametrize(
    ("events", "why"),
    [
        ((), "the arm is not connected: connect it first"),
        (("connected",), "the arm has no torque: hold it first"),
        ((*RUNNING, "stop"), "the arm is still stopping: wait until it holds"),
        ((*RUNNING, "lower"), "the arm is still stopping: wait until it holds"),
        ((*HELD, "fault"), "the arm is in a fault (it smokes): remove the cause, then reset it"),
        (("fault",), "the arm is in a fault (it smokes): remove the cause, then reset it"),
    ],
)
def test_start_is_refused_with_the_reason(events: tuple[str, ...], why: str) -> None:
    supervisor = reach(*events)
    with pytest.raises(RefusedError) as refused:
        supervisor.start()
    assert str(refused.value) == why
    assert not supervisor.armed


def test_whether_a_start_is_possible_can_be_asked_before_there_is_torque() -> None:
    reach("connected").check_start()
    reach(*RUNNING).check_start()


def test_the_first_fault_stands_until_the_reset() -> None:
    supervisor = reach(*HELD)
    assert supervisor.fault("first") is True
    assert supervisor.fault("second") is False
    assert supervisor.fault_text == "first"
    supervisor.reset()
    assert supervisor.fault_text is None
    assert supervisor.fault("third") is True


def test_a_fault_without_words_is_a_fault() -> None:
    supervisor = reach(*HELD)
    supervisor.fault("")
    supervisor.held()
    assert supervisor.state is State.FAULT
    with pytest.raises(RefusedError):
        supervisor.start()


@pytest.mark.parametrize("events", [(*RUNNING, "fault"), (*RUNNING, "lower", "fault")])
def test_a_reset_waits_for_the_arm_to_stop(events: tuple[str, ...]) -> None:
    supervisor = reach(*events)
    with pytest.raises(RefusedError, match=r"^the arm is still stopping: wait until it holds$"):
        supervisor.reset()
    assert supervisor.fault_text == "it smokes"


def test_the_numbers_that_travel_and_those_of_the_standard() -> None:
    assert [int(state) for state in State] == [0, 1, 2, 3, 4, 5]
    assert [(stop.name, int(stop)) for stop in Stop] == [("POWER_OFF", 0), ("LOWER", 1), ("HOLD", 2)]


@given(st.lists(st.sampled_from([*EVENTS]), max_size=30))
def test_a_fault_is_latched_and_only_a_start_leads_to_motion(events: list[str]) -> None:
    supervisor = Supervisor()
    started = False
    for event in events:
        faulted = supervisor.fault_text is not None
        try:
            EVENTS[event](supervisor)
        except RefusedError:
            assert event in ("start", "reset")
        else:
            if event == "reset":
                assert supervisor.fault_text is None
                assert not (faulted and supervisor.armed)
            else:
                assert not faulted or supervisor.fault_text is not None
            started = event == "start" or (started and event not in ("stop", "lower", "fault"))
        if supervisor.fault_text is not None:
            assert not supervisor.armed
            assert supervisor.state in (State.STOPPING, State.FAULT, State.DISCONNECTED)
        if supervisor.state is State.RUNNING:
            assert supervisor.energised
        assert not supervisor.armed or started
        if supervisor.lowering:
            assert supervisor.state is State.STOPPING and supervisor.energised
