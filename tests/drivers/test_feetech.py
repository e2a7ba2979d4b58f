"""The Feetech arm on emulated servos behind a pseudo-terminal."""

from __future__ import annotations

import math
import os
import pty
import select
import threading
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from drivers import feetech_codec as codec
from drivers.arm import ArmError
from drivers.config import ArmConfig, ConfigError, load_robot
from drivers.feetech import FeetechArm
from sim.faults import Faults
from sim.plants import FirstOrderPlant
from sim.servo_bus import ServoBus
from tests.drivers.arm_conformance import ArmConformance, refused

IDS = (1, 2, 3, 4, 5, 6)
Hears = Callable[[bytes], bool]


class PtyServos:
    """Emulated servos answering on a pseudo-terminal from a thread; time passes for them only in `advance`.

    `hears` says of each request whether the servos get it.
    """

    def __init__(self, faults: Faults | None = None, hears: Hears = lambda request: True) -> None:
        self.plant = FirstOrderPlant(len(IDS))
        self.bus = ServoBus(IDS, self.plant, faults)
        self.hears = hears
        self.heard: list[bytes] = []
        self._master, self._slave = pty.openpty()
        self.path = os.ttyname(self._slave)
        self._lock = threading.Lock()
        self._wake, self._stop = os.pipe()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while self._wake not in (ready := select.select([self._master, self._wake], [], [])[0]):
            assert ready == [self._master]
            request = os.read(self._master, 4096)
            with self._lock:
                self.heard.append(request)
                os.write(self._master, self.bus.feed(request) if self.hears(request) else b"")

    def advance(self, seconds: float) -> None:
        with self._lock:
            for _ in range(round(seconds / 0.01)):
                self.plant.step(0.01)

    def close(self) -> None:
        if not self._thread.is_alive():
            return
        os.write(self._stop, b"x")
        self._thread.join()
        for fd in (self._master, self._slave, self._wake, self._stop):
            os.close(fd)


def config(port: str, deadline: float = 0.2, retries: int = 1) -> ArmConfig:
    changes = {"port": port, "deadline": deadline, "retries": retries}
    return load_robot("emulated").arm.model_copy(update=changes)


@pytest.fixture
def servos() -> Iterator[PtyServos]:
    made = PtyServos()
    yield made
    made.close()


@pytest.fixture
def arm(servos: PtyServos) -> Iterator[FeetechArm]:
    made = FeetechArm(config(servos.path))
    yield made
    made.close()


def writes(servos: PtyServos, register: codec.Register) -> list[bytes]:
    """The sync writes to a register that went over the line."""
    return [packet for packet in servos.heard if packet[4] == 0x83 and packet[5] == register.address]


class TestFeetechConformance(ArmConformance):
    tolerance = 0.01

    @pytest.fixture
    def arm(self, servos: PtyServos) -> Iterator[FeetechArm]:
        made = FeetechArm(config(servos.path))
        yield made
        made.close()

    @pytest.fixture
    def advance(self, servos: PtyServos, arm: FeetechArm) -> Callable[[float], None]:
        def settle_and_advance(seconds: float) -> None:
            arm.read()  # a command is not acknowledged; the line is in order, so after a reply it has arrived
            servos.advance(seconds)

        return settle_and_advance


def test_firmware_is_told_by_joint(arm: FeetechArm) -> None:
    with pytest.raises(ArmError, match="not connected"):
        arm.firmware()
    arm.connect()
    assert arm.firmware() == dict.fromkeys(arm.spec.joint_names, "3.10")


def test_a_reading_is_one_request_and_a_command_is_one(arm: FeetechArm) -> None:
    arm.connect()
    held = arm.hold().positions
    sent = arm.counters.sent
    arm.read()
    assert arm.counters.sent == sent + 1
    arm.write(held)
    assert arm.counters.sent == sent + 2


def test_zero_and_direction_turn_counts_into_angles(servos: PtyServos) -> None:
    base = config(servos.path)
    joints = [joint.model_copy(update={"zero": 2000, "direction": -1}) for joint in base.joints[:5]]
    arm = FeetechArm(base.model_copy(update={"joints": joints}))
    arm.connect()
    np.testing.assert_allclose(arm.hold().positions, -48 * 2 * math.pi / 4096)
    arm.write(np.full(5, 0.1))
    arm.read()  # the line is in order: the goals have arrived
    assert servos.plant.goals[:5] == [2000 - round(0.1 * 4096 / (2 * math.pi))] * 5
    assert servos.plant.goals[5] == 2048 or not servos.plant.torque[5]
    arm.close()


def test_connect_leaves_torque_and_goals_alone(arm: FeetechArm, servos: PtyServos) -> None:
    arm.connect()
    assert not writes(servos, codec.GOAL_POSITION)
    assert not writes(servos, codec.TORQUE_ENABLE)
    assert writes(servos, codec.ACCELERATION) and writes(servos, codec.GOAL_TIME_AND_VELOCITY)


def test_writing_needs_a_hold_first(arm: FeetechArm) -> None:
    arm.connect()
    assert "hold" in refused(lambda: arm.write(np.zeros(6)))


def test_a_lost_goal_packet_is_sent_again_before_torque(servos: PtyServos, arm: FeetechArm) -> None:
    lost: list[bytes] = []

    def hears(request: bytes) -> bool:
        if request[4:6] == bytes((0x83, 42)) and not lost:
            lost.append(request)
            return False
        return True

    servos.hears = hears
    arm.connect()
    arm.hold()
    assert lost
    servos.advance(0.5)
    assert servos.plant.positions == [2048.0] * 6
    assert all(servos.plant.torque)


def test_no_torque_without_the_goals(servos: PtyServos, arm: FeetechArm) -> None:
    servos.hears = lambda request: request[4:6] != bytes((0x83, 42))
    arm.connect()
    assert "torque was not switched on" in refused(arm.hold)
    assert not any(servos.plant.torque)
    refused(lambda: arm.write(np.zeros(6)))


def test_hold_beyond_the_limits_stays_there(servos: PtyServos, arm: FeetechArm) -> None:
    servos.plant.positions[0] = 3800.0
    arm.connect()
    assert arm.hold().positions[0] > arm.spec.position_max[0]
    servos.advance(0.5)
    assert servos.plant.positions[0] == 3800.0


def test_release_visits_every_servo_and_tells_who_did_not_follow(servos: PtyServos) -> None:
    arm = FeetechArm(config(servos.path, deadline=0.05, retries=0))
    arm.connect()
    arm.hold()
    servos.bus.faults.silent = frozenset({2})
    report = arm.release()
    assert report.still_energised == ("shoulder_lift",)
    assert report.released == tuple(name for name in arm.spec.joint_names if name != "shoulder_lift")
    assert servos.plant.torque == [False, True, False, False, False, False]
    arm.close()


def test_a_lost_torque_off_is_sent_again(servos: PtyServos, arm: FeetechArm) -> None:
    arm.connect()
    arm.hold()
    lost: list[bytes] = []

    def hears(request: bytes) -> bool:
        if request[4:6] == bytes((0x83, 40)) and not lost:
            lost.append(request)
            return False
        return True

    servos.hears = hears
    assert arm.release().still_energised == ()
    assert not any(servos.plant.torque)


def test_status_bits_reach_the_state_by_joint_name() -> None:
    servos = PtyServos(Faults(hot=frozenset({3, 5})))
    arm = FeetechArm(config(servos.path))
    arm.connect()
    state = arm.read()
    assert state.errors == ("elbow_flex: overheat", "wrist_roll: overheat")
    assert state.temperatures_c[2] == 80
    arm.close()
    servos.close()


def test_a_missing_servo_is_named_with_its_id_and_port() -> None:
    servos = PtyServos(Faults(silent=frozenset({3})))
    arm = FeetechArm(config(servos.path, deadline=0.1))
    message = refused(arm.connect)
    assert "elbow_flex (id 3)" in message and servos.path in message and "shoulder" not in message
    refused(arm.read)  # the failed connect has closed the port
    servos.close()


def test_no_servo_at_all_asks_for_power() -> None:
    servos = PtyServos(Faults(silent=frozenset(IDS)))
    arm = FeetechArm(config(servos.path, deadline=0.01, retries=0))
    assert "powered" in refused(arm.connect)
    servos.close()


def test_another_servo_model_is_refused(arm: FeetechArm, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codec, "MODEL_STS3215", 1234)
    assert "shoulder_pan (id 1) is model 777" in refused(arm.connect)


def test_a_missing_port_is_one_line(tmp_path: object) -> None:
    assert "no such serial port" in refused(FeetechArm(config(f"{tmp_path}/tty")).connect)


def test_a_port_that_goes_away_is_reported_not_raised_raw(servos: PtyServos) -> None:
    arm = FeetechArm(config(servos.path, deadline=0.05))
    arm.connect()
    arm.hold()
    servos.close()
    refused(arm.read)
    assert arm.release().still_energised == arm.spec.joint_names
    arm.close()


def test_one_silent_servo_is_named_and_the_bus_stays_usable(servos: PtyServos) -> None:
    arm = FeetechArm(config(servos.path, deadline=0.05))
    arm.connect()
    servos.bus.faults.silent = frozenset({6})
    assert "gripper (id 6)" in refused(arm.read)
    assert arm.counters.failed == 1
    servos.bus.faults.silent = frozenset()
    assert arm.read().positions.shape == (6,)
    arm.close()


def test_a_noisy_line_costs_retries_not_readings() -> None:
    servos = PtyServos(Faults(drop=0.05, corrupt=0.05, seed=3))
    arm = FeetechArm(config(servos.path, deadline=0.02, retries=5))
    arm.connect()
    for _ in range(20):
        np.testing.assert_allclose(arm.read().positions, 0.0)
    counters = arm.counters
    assert counters.retried > 0 and counters.corrupt > 0 and counters.timed_out > 0 and counters.failed == 0
    arm.close()
    servos.close()


def test_a_config_without_a_port_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"arm\.port"):
        FeetechArm(config("x").model_copy(update={"port": None}))


def test_limits_that_a_servo_cannot_reach_are_refused() -> None:
    base = config("x")
    joints = [base.joints[0].model_copy(update={"zero": 3500}), *base.joints[1:]]
    with pytest.raises(ConfigError, match=r"shoulder_pan: limit 1\.92 rad is servo position 4752"):
        FeetechArm(base.model_copy(update={"joints": joints}))


def test_a_deadline_shorter_than_the_wire_takes_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"arm\.deadline: 0\.004 s is too short, a reading takes 0\.0243 s"):
        FeetechArm(config("x", deadline=0.004).model_copy(update={"baudrate": 57_600}))
