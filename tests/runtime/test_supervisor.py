from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.supervisor import RefusedError, State, Supervisor

EVENTS: dict[str, Callable[[Supervisor], object]] = {
    "connected": Supervisor.connected,
    "disconnected": Supervisor.disconnected,
    "held": Supervisor.held,
    "released": Supervisor.released,
    "start": Supervisor.start,
    "target": Supervisor.target_is_fresh,
    "stop": Supervisor.stop,
    "at_rest": Supervisor.at_rest,
    "fault": lambda supervisor: supervisor.fault("it smokes"),
}


def reach(*events: str) -> Supervisor:
    supervisor = Supervisor()
    for event in events:
        EVENTS[event](supervisor)
    return supervisor


RUNNING = ("connected", "held", "start", "target")


@pytest.mark.parametrize(
    ("events", "state"),
    [
        ((), State.DISCONNECTED),
        (("connected",), State.IDLE),
        (("connected", "held"), State.HOLDING),
        (("connected", "held", "start"), State.HOLDING),
        (("connected", "held", "target"), State.HOLDING),
        (RUNNING, State.RUNNING),
        ((*RUNNING, "stop"), State.STOPPING),
        ((*RUNNING, "stop", "target"), State.STOPPING),
        ((*RUNNING, "stop", "at_rest"), State.HOLDING),
        ((*RUNNING, "stop", "at_rest", "target"), State.HOLDING),
        ((*RUNNING, "at_rest"), State.RUNNING),
        ((*RUNNING, "fault"), State.STOPPING),
        ((*RUNNING, "fault", "at_rest"), State.FAULT),
        (("connected", "fault"), State.FAULT),
        (("connected", "held", "fault", "released"), State.FAULT),
        (("connected", "held", "fault", "disconnected"), State.DISCONNECTED),
        (("connected", "held", "fault", "disconnected", "connected"), State.FAULT),
        (("connected", "held", "released"), State.IDLE),
        ((*RUNNING, "disconnected"), State.DISCONNECTED),
    ],
)
def test_states(events: tuple[str, ...], state: State) -> None:
    assert reach(*events).state is state


@pytest.mark.parametrize(
    ("events", "why"),
    [
        ((), "not connected"),
        (("connected",), "no torque"),
        ((*RUNNING, "stop"), "still stopping"),
        (("connected", "held", "fault"), "it smokes"),
    ],
)
def test_start_is_refused_with_the_reason(events: tuple[str, ...], why: str) -> None:
    with pytest.raises(RefusedError, match=why):
        reach(*events).start()


def test_the_first_fault_stands_until_the_reset() -> None:
    supervisor = reach("connected", "held")
    assert supervisor.fault("first")
    assert not supervisor.fault("second")
    assert supervisor.fault_text == "first"
    supervisor.reset()
    assert supervisor.fault_text is None
    assert supervisor.state is State.HOLDING


def test_a_reset_waits_for_the_arm_to_stop() -> None:
    supervisor = reach(*RUNNING, "fault")
    with pytest.raises(RefusedError):
        supervisor.reset()
    assert supervisor.fault_text is not None


def test_a_reset_without_torque_ends_idle() -> None:
    supervisor = reach("connected", "fault")
    supervisor.reset()
    assert supervisor.state is State.IDLE


@given(st.lists(st.sampled_from([*EVENTS, "reset"]), max_size=30))
def test_a_fault_is_latched_and_only_a_start_leads_to_motion(events: list[str]) -> None:
    supervisor = Supervisor()
    started = False
    for event in events:
        faulted = supervisor.fault_text is not None
        try:
            if event == "reset":
                supervisor.reset()
                assert supervisor.fault_text is None
                assert not supervisor.armed
                started = False
            else:
                EVENTS[event](supervisor)
                started = started or event == "start"
                assert not faulted or supervisor.fault_text is not None
        except RefusedError:
            assert event in ("start", "reset")
        if supervisor.fault_text is not None:
            assert not supervisor.armed
            assert supervisor.state in (State.STOPPING, State.FAULT, State.DISCONNECTED)
        if supervisor.state is State.RUNNING:
            assert started
            assert supervisor.energised
