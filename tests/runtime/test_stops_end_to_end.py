"""What the fault campaign found, in small: a lowering outlives its episode, and a power cut can be reset."""

from __future__ import annotations

import numpy as np
import pytest

from drivers.config import SafetyConfig
from runtime.clock import MILLISECOND, SECOND, Pacer, SimulatedClock
from runtime.loop import FAULT, ControlLoop, LockstepServo
from runtime.servo import ServoLoop
from runtime.servo_state import ServoSettings
from runtime.supervisor import State, Stop
from tests.drivers.servo_kit import KITS
from tests.runtime.fake_arm import START, FakeArm
from tests.runtime.test_loop import FakePolicy

REST = tuple(START - 0.3)


class Rig:
    """A control loop without cameras on an arm that lowers to a rest pose."""

    def __init__(self, safety: SafetyConfig) -> None:
        self.clock = SimulatedClock()
        self.arm = FakeArm(self.clock.now)
        self.servo_loop = ServoLoop(self.arm, self.clock, ServoSettings(safety=safety, rest=REST))
        self.servo_loop.connect()
        servo = LockstepServo(self.servo_loop, lambda seconds: self.clock.advance(round(seconds * SECOND)))
        self.policy = FakePolicy(np.array([0.01, -0.01, 0.01]))
        self.loop = ControlLoop(self.policy, {}, servo, self.clock, Pacer(self.clock, 50 * MILLISECOND))

    def tick(self, seconds: float) -> None:
        for _ in range(round(seconds * 100)):
            self.servo_loop.tick(self.clock.now())
            self.clock.advance(10 * MILLISECOND)


def test_an_operator_s_lowering_goes_on_when_the_episode_has_ended() -> None:
    rig = Rig(SafetyConfig())
    rig.policy.act_hook = lambda step: rig.servo_loop.stop(Stop.LOWER, "lowered by the operator") if step == 5 else None
    result = rig.loop.run_episode("stack", 20)
    assert result.outcome == f"{FAULT}lowered by the operator"
    rig.tick(6.0)
    assert not rig.arm.torque, "lowered, then released"
    np.testing.assert_allclose(rig.arm.positions, REST, atol=0.01)


def test_a_fault_that_is_to_lower_the_arm_does_so_when_the_episode_has_ended() -> None:
    rig = Rig(SafetyConfig(stop="lower"))
    rig.policy.act_hook = lambda step: rig.servo_loop.fault("a camera died") if step == 5 else None
    assert rig.loop.run_episode("stack", 20).outcome == f"{FAULT}a camera died"
    rig.tick(6.0)
    assert not rig.arm.torque
    np.testing.assert_allclose(rig.arm.positions, REST, atol=0.01)


@pytest.mark.parametrize("protocol", KITS)
def test_an_arm_whose_servos_all_lost_power_can_be_reset(protocol: str) -> None:
    kit = KITS[protocol]()
    arm = kit.arm()
    clock = SimulatedClock()
    loop = ServoLoop(arm, clock)
    loop.connect()
    loop.start()
    for servo in kit.bus.servos.values():
        servo.silent = True
    loop.tick(clock.now())
    for servo in kit.bus.servos.values():
        servo.restart()
        servo.silent = False
    loop.tick(clock.now())
    assert loop.supervisor.state is State.FAULT and "torque went off" in str(loop.supervisor.fault_text)
    loop.reset()
    for _ in range(3):
        loop.tick(clock.now())
    assert loop.supervisor.state is State.IDLE
    assert loop.supervisor.fault_text is None
    loop.start()
    assert loop.supervisor.state is State.HOLDING
