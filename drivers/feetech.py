"""An arm of Feetech STS3215 servos: one sync read for a state, one sync write for a command.

Knows the servos' registers and the order in which they may be written; the wire format is feetech_codec.py, the
transactions are bus.py. Settings are sent by sync write, which no servo answers, and then read back: so it does not
matter how the servos' status level is set, and nothing is believed that was not seen.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping

import numpy as np

from drivers import feetech_codec as codec
from drivers.arm import ArmError, ArmSpec, Array, BusCounters, JointState, ReleaseReport, frozen
from drivers.bus import Bus, BusError, open_serial
from drivers.config import ArmConfig, ConfigError, JointConfig

LIMIT_TOLERANCE = 1e-6  # rad; a target that was clipped to a limit in single precision is not beyond it
SETTING_TRIES = 2  # an unanswered sync write can be lost on the wire: write, read back, once more
ON, OFF = b"\x01", b"\x00"


class FeetechArm:
    """`drivers.arm.Arm` over a serial port. `clock` returns monotonic ns.

    Raises `ConfigError` for a config without a port, with limits that a servo cannot reach within its turn, or with a
    deadline in which a reading does not fit.
    After `connect` and after `release`, targets are refused until `hold` has been called.
    """

    def __init__(self, config: ArmConfig, *, clock: Callable[[], int] = time.monotonic_ns) -> None:
        if config.port is None:
            raise ConfigError("arm.port: missing; the feetech driver needs a serial port")
        for joint in config.joints:
            _check_reach(joint)
        _check_deadline(config)
        self._port = config.port
        self._config = config
        self._clock = clock
        self._spec = config.spec()
        self._counters = BusCounters()
        self._joints = {joint.id: joint for joint in config.joints}
        self._bus: Bus | None = None
        self._held = False

    @property
    def spec(self) -> ArmSpec:
        """Names and limits of the joints, as configured."""
        return self._spec

    @property
    def counters(self) -> BusCounters:
        """What happened on the bus since this arm was constructed."""
        return self._counters

    def connect(self) -> None:
        """Open the port, find every servo, and let it follow a stream: no acceleration ramp, no velocity limit.

        Torque and goals stay as they are. Raises `ArmError` that names the port and what is missing or wrong there.
        """
        if self._bus is not None:
            return
        self._held = False
        self._bus = Bus(
            open_serial(self._port, self._config.baudrate),
            codec.FeetechFraming(),
            deadline=self._config.deadline,
            retries=self._config.retries,
            clock=self._clock,
            counters=self._counters,
        )
        try:
            self._find_servos()
            self._let_follow()
        except ArmError:
            self.close()
            raise

    def read(self) -> JointState:
        """One reading of all joints from one sync read. Raises `ArmError` naming the joints that did not answer."""
        return self._state(*self._read_present())

    def write(self, targets: Array) -> None:
        """Send joint targets (rad, shape (n,)) in one sync write.

        Raises `ArmError` before anything is sent: not connected, not held, a wrong shape, a value that is not finite
        or beyond its joint's limits.
        """
        bus = self._connected()
        values = self._checked(targets)
        if not self._held:
            raise ArmError(f"arm on {self._port}: torque is off or was never taken; hold the arm before moving it")
        goals = {
            id: codec.encode_goal(codec.radians_to_counts(value, joint.zero, joint.direction))
            for (id, joint), value in zip(self._joints.items(), values.tolist(), strict=True)
        }
        bus.send(codec.sync_write(codec.GOAL_POSITION, goals))

    def hold(self) -> JointState:
        """Goals to the present positions, seen to have arrived; only then torque on, and seen to be on.

        A joint beyond its limits is held where it is. Raises `ArmError` naming the joints that did not follow; if that
        is so before torque is switched on, it is not switched on.
        """
        replies, stamp = self._read_present()
        goals = {id: codec.encode_goal(present.position) for id, (_, present) in replies.items()}
        if unset := self._set(codec.GOAL_POSITION, goals):
            raise ArmError(f"arm on {self._port}: {self._named(unset)} did not take a goal; torque was not switched on")
        if unset := self._set(codec.TORQUE_ENABLE, dict.fromkeys(self._joints, ON)):
            raise ArmError(f"arm on {self._port}: {self._named(unset)} did not switch torque on; release the arm")
        self._held = True
        return self._state(replies, stamp)

    def release(self) -> ReleaseReport:
        """Torque off at every servo, each asked by itself whether it is; one that cannot be asked counts as energised.

        Raises `ArmError` only when not connected.
        """
        self._connected()
        self._held = False
        energised = set(self._joints)
        for _ in range(SETTING_TRIES):
            energised -= self._switch_off(energised)
        names = {id: joint.name for id, joint in self._joints.items()}
        return ReleaseReport(
            released=tuple(name for id, name in names.items() if id not in energised),
            still_energised=tuple(name for id, name in names.items() if id in energised),
        )

    def firmware(self) -> dict[str, str]:
        """Each joint's firmware as "major.minor". Raises `ArmError` naming the joints that did not answer."""
        versions = self._get(codec.FIRMWARE, self._joints)
        return {self._joints[id].name: ".".join(map(str, version)) for id, version in versions.items()}

    def close(self) -> None:
        """Close the port, leaving torque as it is; may be called at any time, more than once."""
        bus, self._bus = self._bus, None
        self._held = False
        if bus is not None:
            bus.close()

    def _connected(self) -> Bus:
        if self._bus is None:
            raise ArmError(f"arm on {self._port}: not connected; connect it first")
        return self._bus

    def _checked(self, targets: Array) -> Array:
        values = np.asarray(targets, dtype=np.float64)
        spec = self._spec
        if values.shape != (spec.joints,):
            raise ArmError(f"targets have shape {values.shape}, the arm's {spec.joints} joints need ({spec.joints},)")
        outside = (values < spec.position_min - LIMIT_TOLERANCE) | (values > spec.position_max + LIMIT_TOLERANCE)
        for index in np.flatnonzero(outside | ~np.isfinite(values)):
            name, low, high = spec.joint_names[index], spec.position_min[index], spec.position_max[index]
            raise ArmError(f"{name}: target {values[index]:g} rad is not within [{low:g}, {high:g}]; nothing was sent")
        return values

    def _find_servos(self) -> None:
        bus = self._connected()
        missing = [id for id in self._joints if not bus.exchange(lambda ids: codec.ping(*ids), {id: 0})]
        if len(missing) == len(self._joints):
            raise ArmError(f"{self._port}: no servo answers at {self._config.baudrate} baud; is the arm powered?")
        if missing:
            raise ArmError(
                f"{self._port}: no answer from {self._named(missing)}; check the cable before it and the servo's id"
            )
        for id, raw in self._get(codec.MODEL_NUMBER, self._joints).items():
            model = int.from_bytes(raw, "little")
            if model != codec.MODEL_STS3215:
                raise ArmError(
                    f"{self._port}: {self._named([id])} is model {model}, not an STS3215 ({codec.MODEL_STS3215}); "
                    "is this the arm of the config?"
                )

    def _let_follow(self) -> None:
        for register in (codec.ACCELERATION, codec.GOAL_TIME_AND_VELOCITY):
            if unset := self._set(register, dict.fromkeys(self._joints, bytes(register.size))):
                raise ArmError(f"{self._port}: {self._named(unset)} did not take its motion settings; connect again")

    def _get(self, register: codec.Register, ids: Iterable[int]) -> dict[int, bytes]:
        """One register of the given servos. Raises `ArmError` naming those that did not answer."""
        return {id: params for id, (_, params) in self._ask(register, ids).items()}

    def _ask(self, register: codec.Register, ids: Iterable[int]) -> dict[int, tuple[int, bytes]]:
        """Like `_get`, with each servo's error bits: id -> (bits, value)."""
        expected = dict.fromkeys(ids, register.size)
        replies = self._connected().exchange(lambda missing: codec.sync_read(missing, register), expected)
        if missing := [id for id in expected if id not in replies]:
            raise ArmError(f"arm on {self._port}: no answer from {self._named(missing)}; check its cable and power")
        return {id: (replies[id].error, replies[id].params) for id in expected}

    def _set(self, register: codec.Register, values: Mapping[int, bytes]) -> list[int]:
        """Write one register and read it back; returns the ids of servos that hold another value after all tries."""
        unset = dict(values)
        for _ in range(SETTING_TRIES):
            self._connected().send(codec.sync_write(register, unset))
            found = self._get(register, unset)
            unset = {id: value for id, value in unset.items() if found[id] != value}
            if not unset:
                break
        return list(unset)

    def _switch_off(self, ids: set[int]) -> set[int]:
        """Send torque off to the given servos at once, then ask each; returns those that were seen to be off."""
        off: set[int] = set()
        try:
            if ids:
                self._connected().send(codec.sync_write(codec.TORQUE_ENABLE, dict.fromkeys(ids, OFF)))
        except BusError:
            return off
        for id in ids:
            try:
                if self._get(codec.TORQUE_ENABLE, [id])[id] == OFF:
                    off.add(id)
            except ArmError:
                continue  # silent: the next try, or the report, tells
        return off

    def _read_present(self) -> tuple[dict[int, tuple[int, codec.Present]], int]:
        """Error bits and present block of every servo, and the stamp at which the last reply was complete."""
        replies = self._ask(codec.PRESENT, self._joints)
        stamp = self._clock()
        return {id: (bits, codec.decode_present(params)) for id, (bits, params) in replies.items()}, stamp

    def _state(self, replies: Mapping[int, tuple[int, codec.Present]], stamp: int) -> JointState:
        joints = [(joint, *replies[id]) for id, joint in self._joints.items()]
        return JointState(
            stamp=stamp,
            positions=frozen([codec.counts_to_radians(p.position, j.zero, j.direction) for j, _, p in joints]),
            velocities=frozen([codec.counts_to_radians(p.velocity, 0, j.direction) for j, _, p in joints]),
            loads=frozen([j.direction * max(-1.0, min(1.0, p.load / 1000)) for j, _, p in joints]),
            temperatures_c=frozen([p.temperature_c for _, _, p in joints]),
            voltages=frozen([p.voltage for _, _, p in joints]),
            errors=tuple(f"{j.name}: {what}" for j, bits, p in joints for what in codec.error_names(bits | p.status)),
        )

    def _named(self, ids: Iterable[int]) -> str:
        return ", ".join(f"{self._joints[id].name} (id {id})" for id in ids)


def _check_reach(joint: JointConfig) -> None:
    """Refuse limits outside the one turn in which a servo tells its position."""
    for limit in (joint.minimum, joint.maximum):
        counts = codec.radians_to_counts(limit, joint.zero, joint.direction)
        if not 0 <= counts < codec.COUNTS_PER_TURN:
            raise ConfigError(
                f"arm.joints: {joint.name}: limit {limit:g} rad is servo position {counts}, outside "
                f"0..{codec.COUNTS_PER_TURN - 1}; narrow the limit or calibrate its zero"
            )


def _check_deadline(config: ArmConfig) -> None:
    """Refuse a deadline shorter than one reading of all servos on the wire, at 10 bits a byte."""
    ids = [joint.id for joint in config.joints]
    reply = len(codec.packet(codec.BROADCAST, 0, bytes(codec.PRESENT.size)))
    wire = 10 * (len(codec.sync_read(ids, codec.PRESENT)) + len(ids) * reply) / config.baudrate
    if config.deadline <= wire:
        raise ConfigError(
            f"arm.deadline: {config.deadline:g} s is too short, a reading takes {wire:.4f} s on the wire at "
            f"{config.baudrate} baud; raise one of them"
        )
