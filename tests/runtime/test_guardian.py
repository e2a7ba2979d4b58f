"""The guardian's decisions, under a simulated clock; tests/runtime/test_servo_process.py has it as a real process."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection

import numpy as np
import pytest

from drivers.arm import ReleaseReport
from runtime.clock import SECOND, MonotonicClock, SimulatedClock
from runtime.guardian import RELEASE, GuardianSettings, Notice, Takeover, ended_well, guard
from runtime.servo import ServoLoop, ServoSettings
from runtime.shared_block import ENDED, SharedBlock
from runtime.spawn import spawn
from tests.runtime.fake_arm import SPEC, START, FakeArm

REST = (0.0, -0.5, 0.2)


class Rig:
    """A takeover of a fake arm that has torque. `at` is filled by tests: what to do at a time (s)."""

    def __init__(self, rest: tuple[float, ...] | None = None) -> None:
        self.clock = SimulatedClock(SECOND)
        self.arm = FakeArm(self.clock.now)
        self.arm.torque = True
        self.heard: list[Notice] = []
        self.ours, theirs = multiprocessing.Pipe()
        self.block = SharedBlock(3)
        servo = ServoSettings(rest=rest)
        settings = GuardianSettings(FakeArm, 3, self.block.name, 0, servo, orphan_hold_s=2.0)
        loop = ServoLoop(self.arm, self.clock, servo)
        self.at: dict[float, Callable[[], object]] = {}
        self._theirs = theirs
        self.takeover = Takeover(loop, self.heard.append, self._due(theirs), settings)

    def _due(self, theirs: Connection) -> Connection:
        """The guardian's end of the pipe, asked every tick: what is due is done first."""
        rig = self

        class Asked:
            def poll(self) -> bool:
                for moment in [moment for moment in rig.at if rig.clock.now() >= moment * SECOND]:
                    rig.at.pop(moment)()
                return theirs.poll()

            def recv(self) -> object:
                return theirs.recv()

        return Asked()  # type: ignore[return-value]

    def run(self) -> list[str]:
        self.takeover.run()
        return [notice.text for notice in self.heard]

    def close(self) -> None:
        self.block.close()
        self.block.unlink()


@pytest.fixture
def make() -> Iterator[Callable[..., Rig]]:
    made: list[Rig] = []

    def make_rig(**options: object) -> Rig:
        made.append(Rig(**options))  # type: ignore[arg-type]
        return made[-1]

    yield make_rig
    for rig in made:
        rig.close()


def test_it_holds_then_lowers_slowly_and_releases(make: Callable[..., Rig]) -> None:
    rig = make(rest=REST)
    assert rig.run() == ["the guardian holds the arm", "the guardian has lowered and released the arm"]
    assert rig.heard[-1] == Notice(rig.heard[-1].text, True, ReleaseReport(SPEC.joint_names))
    path = np.array(rig.arm.written)
    assert not np.diff(path[:99], axis=0).any(), "a second of holding"
    np.testing.assert_allclose(path[-1], REST, atol=1e-6)
    assert np.abs(np.diff(path, axis=0)).max() <= 0.3 * np.pi / 2 * 0.01 + 1e-9
    assert not rig.arm.torque
    shown = rig.block.read_state()
    assert shown is not None and shown.counters.ticks == len(path) + 1, "the policy process sees what it does"


def test_joints_that_keep_their_torque_are_named(make: Callable[..., Rig]) -> None:
    rig = make(rest=REST)
    rig.arm.stubborn = ("lift",)
    assert rig.run()[-1] == "the guardian has lowered and released the arm, but for lift"
    report = rig.heard[-1].report
    assert report is not None and report.still_energised == ("lift",)


def test_an_arm_without_torque_is_not_touched(make: Callable[..., Rig]) -> None:
    rig = make(rest=REST)
    rig.arm.torque = False
    assert rig.run() == ["the arm has no torque: the guardian leaves it so"]
    assert rig.heard[0].last and rig.heard[0].report == ReleaseReport(SPEC.joint_names)
    assert rig.arm.written == [] and not rig.arm.torque


def test_without_a_rest_pose_it_holds_until_it_is_told(make: Callable[..., Rig]) -> None:
    rig = make()
    rig.at[30.0] = lambda: rig.ours.send(RELEASE)
    assert rig.run() == ["the guardian holds the arm", "the guardian has released the arm"]
    assert rig.clock.now() >= 30 * SECOND
    assert not rig.arm.torque


def test_without_a_rest_pose_and_a_policy_it_holds_for_a_while_and_leaves_torque_on(make: Callable[..., Rig]) -> None:
    rig = make()
    rig.at[10.0] = rig.ours.close
    assert rig.run() == ["the guardian holds the arm", "the guardian leaves the arm as it is, torque on"]
    assert rig.heard[-1] == Notice(rig.heard[-1].text, True, None)
    assert rig.clock.now() == pytest.approx(12 * SECOND, abs=0.05 * SECOND)
    assert rig.arm.torque
    np.testing.assert_array_equal(rig.arm.positions, START)


def test_a_lowering_that_meets_something_ends_in_holding(make: Callable[..., Rig]) -> None:
    rig = make(rest=(-1.5, -0.3, 0.5))
    rig.arm.stuck = (0,)
    rig.at[20.0] = rig.ours.close
    texts = rig.run()
    assert texts[1].startswith("the guardian holds the arm: tracking: pan has been 0.15")
    assert texts[2] == "the guardian leaves the arm as it is, torque on"
    assert rig.arm.torque


@pytest.mark.parametrize("reads", [1, 12, 150])
def test_a_bus_that_fails_on_the_way_down_is_waited_for(make: Callable[..., Rig], reads: int) -> None:
    rig = make(rest=REST)
    rig.at[2.5] = lambda: (setattr(rig.arm, "broken_reads", reads), rig.ours.send(RELEASE))
    assert rig.run() == ["the guardian holds the arm", "the guardian has lowered and released the arm"]
    np.testing.assert_allclose(rig.arm.positions, REST, atol=1e-6)


def test_an_arm_that_never_arrives_is_not_let_go(make: Callable[..., Rig]) -> None:
    rig = make(rest=REST)
    rig.at[2.5] = lambda: setattr(rig.arm, "broken_reads", 10**6)
    rig.at[9.0] = lambda: (setattr(rig.arm, "broken_reads", 0), rig.ours.send(RELEASE))
    texts = rig.run()
    assert texts[1].startswith("the guardian holds the arm: bus: 10 reads in a row failed")
    assert texts[2] == "the guardian leaves the arm as it is, torque on"
    assert rig.heard[-1] == Notice(texts[2], True, None)
    assert rig.arm.torque


def test_it_is_not_let_go_before_its_joints_are_at_rest(make: Callable[..., Rig]) -> None:
    rig = make()
    rig.arm.velocities[1] = 0.4
    rig.ours.send(RELEASE)
    rig.at[1.2] = lambda: rig.arm.velocities.fill(0.0)
    assert rig.run()[-1] == "the guardian has released the arm"
    assert rig.clock.now() == pytest.approx(1.2 * SECOND, abs=0.03 * SECOND)


def test_a_bus_that_is_gone_is_told_after_three_seconds(make: Callable[..., Rig]) -> None:
    rig = make(rest=REST)
    rig.arm.broken_reads = -1
    assert rig.run() == ["the guardian cannot take the bus: no such port; the servos keep their last goal"]
    assert rig.heard[0].last and rig.heard[0].report is None
    assert rig.clock.now() == pytest.approx(4 * SECOND, abs=0.02 * SECOND)


def test_a_bus_that_comes_late_is_taken(make: Callable[..., Rig]) -> None:
    rig = make(rest=REST)
    rig.arm.broken_reads = 50
    assert rig.run()[-1] == "the guardian has lowered and released the arm"


def test_an_arm_outside_its_limits_is_held_and_not_lowered(make: Callable[..., Rig]) -> None:
    rig = make(rest=REST)
    rig.arm.positions[0] = 2.2
    rig.at[10.0] = rig.ours.close
    texts = rig.run()
    assert texts[0].startswith("the guardian holds the arm and cannot lower it: pan rests at 2.200 rad")
    assert texts[1:] == ["the guardian leaves the arm as it is, torque on"]
    assert rig.arm.written == [] and rig.arm.torque


def test_a_release_that_fails_is_told(make: Callable[..., Rig]) -> None:
    rig = make()

    def break_bus() -> None:
        rig.arm.broken_writes = -1
        rig.ours.send(RELEASE)

    rig.at[5.0] = break_bus
    assert rig.run()[-1] == "the guardian could not release the arm: port is gone"
    report = rig.heard[-1].report
    assert report is not None and report.still_energised == SPEC.joint_names


# ---- watching a process


@pytest.fixture
def block() -> Iterator[SharedBlock]:
    block = SharedBlock(3)
    yield block
    block.close()
    block.unlink()


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as process:
        yield process
        process.kill()


def end_of(process: subprocess.Popen[bytes], block: SharedBlock) -> bool:
    return ended_well(os.pidfd_open(process.pid), block, MonotonicClock())


@pytest.mark.parametrize(("promise", "well"), [(None, True), (ENDED, True), (60, False)])
def test_a_process_that_ends_has_ended_well_if_it_said_so_or_never_moved(
    block: SharedBlock, sleeper: subprocess.Popen[bytes], promise: int | None, well: bool
) -> None:
    if promise is not None:
        block.write_promise(promise and time.monotonic_ns() + promise * SECOND)
    sleeper.kill()
    assert end_of(sleeper, block) is well
    assert sleeper.wait() == -signal.SIGKILL


def test_a_broken_promise_is_the_end_of_a_process(block: SharedBlock, sleeper: subprocess.Popen[bytes]) -> None:
    sleeper.send_signal(signal.SIGSTOP)
    block.write_promise(time.monotonic_ns() + SECOND // 10)
    began = time.monotonic()
    assert end_of(sleeper, block) is False
    assert time.monotonic() - began > 0.1
    assert sleeper.wait() == -signal.SIGKILL


def test_a_promise_that_is_renewed_late_is_forgiven(block: SharedBlock, sleeper: subprocess.Popen[bytes]) -> None:
    """The guardian itself may have slept: it looks twice."""

    class Looks:
        """A block whose promise is overdue at every other look."""

        looks = 0

        def read_promise(self) -> int:
            self.looks += 1
            if self.looks == 20:
                sleeper.terminate()
            if self.looks > 20:
                return ENDED
            return time.monotonic_ns() + (-SECOND if self.looks % 2 else SECOND)

    assert ended_well(os.pidfd_open(sleeper.pid), Looks(), MonotonicClock())  # type: ignore[arg-type]
    assert sleeper.wait() == -signal.SIGTERM


def test_a_servo_process_that_ended_before_it_was_watched_is_no_error(block: SharedBlock) -> None:
    gone = subprocess.Popen([sys.executable, "-c", "pass"])
    gone.wait()
    settings = GuardianSettings(FakeArm, 3, block.name, gone.pid, ServoSettings(), orphan_hold_s=2.0)
    process, connection = spawn("guardian", guard, settings)
    process.join(20)
    assert process.exitcode == 0
    connection.close()
