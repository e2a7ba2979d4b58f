"""An arm of bus servos, whatever their protocol: one sync read for a state, one sync write for a command.

Knows the order in which servos must be asked and told; what the bytes mean is a `ServoProtocol`, the transactions are
bus.py. Settings are sent by sync write, which no servo answers, and then read back: so it does not matter how the
servos' status level is set, and nothing is believed that was not seen.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Final

import numpy as np
from serial.tools.list_ports import comports

from drivers import servo_checks as checks
from drivers.arm import ArmError, ArmSpec, Array, BusCounters, JointState, ReleaseReport, frozen
from drivers.bus import Bus, BusError, PortLost, Reply, SerialPort, open_serial
from drivers.config import ArmConfig, ConfigError
from drivers.ports import ListPorts, find_port
from drivers.servo_group import ServoGroup
from drivers.servo_health import ServoHealth
from drivers.servo_joints import ServoJoints
from drivers.servo_protocol import ServoProtocol

LIMIT_TOLERANCE: Final = 1e-6  # rad; a target that was clipped to a limit in single precision is not beyond it
SHADOW_TOLERANCE: Final = 0.1  # rad between the two servos of a joint, beyond which they would fight each other
RELEASE_TRIES: Final = 2  # a torque off that nobody answers can be lost on the wire
ON, OFF = b"\x01", b"\x00"


class ServoArm:
    """`drivers.arm.Arm` over a serial port. `clock` returns monotonic ns; `open_port` and `list_ports` are for tests.

    Raises `ConfigError` for a config without a port, with a servo that is not known, with limits that a servo cannot
    reach, or with a deadline in which a reading does not fit.
    After `connect` and after `release`, targets are refused until `hold` has been called. Where servos have a bus
    watchdog, `hold` arms it: from then on the arm must be read at the rate of the servo loop. One that has tripped, or
    torque that went off by itself, is an error of every state until the arm is held again.
    """

    def __init__(
        self,
        config: ArmConfig,
        protocol: ServoProtocol,
        *,
        clock: Callable[[], int] = time.monotonic_ns,
        open_port: Callable[[str, int], SerialPort] = open_serial,
        list_ports: ListPorts = comports,
    ) -> None:
        if config.port is None and config.usb_serial is None:
            raise ConfigError(f"arm.port: missing; the {protocol.name} driver needs a serial port")
        self._config = config
        self._protocol = protocol
        self._joints = ServoJoints(config, protocol)
        self._wire = checks.check_deadline(config, protocol, self._joints)
        self._clock = clock
        self._open_port = open_port
        self._list_ports = list_ports
        self._spec = config.spec()
        self._counters = BusCounters()
        self._health = ServoHealth(protocol)
        self._port = config.port or f"USB serial number {config.usb_serial}"
        self._group: ServoGroup | None = None
        self._held = False
        self._put_off = False  # asking servos for their health
        self._watched: tuple[int, ...] = ()  # servos with a bus watchdog

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

        Torque and goals stay as they are. After the port was lost it is looked for anew. Raises `ArmError` that names
        the port and what is missing or wrong there.
        """
        if self._group is not None and not self._group.bus.lost:
            return
        self.close()
        config, protocol = self._config, self._protocol
        self._port = find_port(config.port, config.usb_serial, self._list_ports)
        bus = Bus(
            self._open_port(self._port, config.baudrate),
            protocol.framing,
            deadline=config.deadline,
            retries=config.retries,
            clock=self._clock,
            counters=self._counters,
        )
        self._group = group = ServoGroup(bus, protocol, self._joints, self._port)
        try:
            checks.find_servos(group, config.baudrate)
            checks.check_modes(group)
            raws = group.get(protocol.firmware, self._joints.servos)
            firmware = {id: protocol.decode_firmware(raw)[1] for id, raw in raws.items()}
            self._watched = tuple(id for id in self._joints.servos if self._has_watchdog(id, firmware[id]))
            group.fast = checks.choose_fast_read(group, firmware)
            checks.check_return_delays(group, self._wire, config.deadline)
            checks.let_follow(group)
        except ArmError:
            self.close()
            raise

    def energised(self) -> tuple[str, ...]:
        """The joints of which some servo's torque is on, read from the servos. Raises `ArmError`."""
        on = {id for id, raw in self._connected().get(self._protocol.torque, self._joints.servos).items() if raw != OFF}
        if not on:  # nothing is held that could be lost
            self._held = False
            self._health.released()
        return self._named(self._joints_of(on))

    def read(self) -> JointState:
        """One reading of all joints from one sync read. Raises `ArmError` naming the joints that did not answer.

        A joint with a shadow has the higher temperature of the two, and the errors of both.
        """
        group, begun = self._connected(), self._clock()
        replies, stamp = self._read_present(group)
        due = self._health.due(replies, stamp)
        alarmed = any(replies[id].error & self._protocol.alert for id in due)  # why is to be known at once
        if due and (alarmed or self._is_time_for_health(begun)):
            try:
                answers = group.get(self._protocol.health, due)
            except PortLost:
                raise
            except ArmError:
                self._health.failed()  # the reading is good; they are asked again with the next
            else:
                decode = self._protocol.decode_health
                self._health.note({id: decode(raw) for id, raw in answers.items()}, stamp)
        return self._state(replies, stamp)

    def write(self, targets: Array) -> None:
        """Send joint targets (rad, shape (n,)) in one sync write.

        Raises `ArmError` before anything is sent: not connected, not held, a wrong shape, a value that is not finite
        or beyond its joint's limits.
        """
        group = self._connected()
        values = self._checked(targets)
        if not self._held:
            raise ArmError(f"arm on {self._port}: torque is off or was never taken; hold the arm before moving it")
        counts = dict(zip(self._joints.ids, self._joints.counts(values), strict=True))
        group.tell(self._protocol.goal, self._goals(counts))

    def hold(self) -> JointState:
        """Goals to the present positions, seen to have arrived; only then torque on, and seen to be on.

        A joint beyond its limits is held where it is. Raises `ArmError` naming the joints that did not follow; if that
        is so before torque is switched on, it is not switched on.
        """
        group, protocol, servos = self._connected(), self._protocol, self._joints.servos
        replies, stamp = self._read_present(group)
        goals = self._goals_here(replies)
        not_on = "torque was not switched on"
        watchdog = protocol.watchdog
        if watchdog is not None:  # one that has tripped refuses goals
            group.settle(watchdog.register, dict.fromkeys(self._watched, watchdog.off), "clear its watchdog", not_on)
        group.settle(protocol.goal, goals, "take a goal", not_on)
        then = "release the arm; a servo with a latched error takes no torque until it is restarted"
        group.settle(protocol.torque, dict.fromkeys(servos, ON), "switch torque on", then)
        if watchdog is not None:
            armed = dict.fromkeys(self._watched, watchdog.armed)
            group.settle(watchdog.register, armed, "arm its watchdog", "release the arm")
        self._held = True
        self._health.held()
        return self._state(replies, stamp)

    def release(self) -> ReleaseReport:
        """Torque off at every servo, each asked by itself whether it is; one that cannot be asked counts as energised.

        Raises `ArmError` only when not connected.
        """
        group, watchdog = self._connected(), self._protocol.watchdog
        self._held = False
        self._health.released()
        on = set(self._joints.servos)
        for _ in range(RELEASE_TRIES):
            on -= self._switch_off(group, on)
        if watchdog is not None and (watched := [id for id in self._watched if id not in on]):
            with contextlib.suppress(BusError):  # left armed it does nothing without torque
                group.tell(watchdog.register, dict.fromkeys(watched, watchdog.off))
        energised = self._joints_of(on)
        return ReleaseReport(
            released=self._named(id for id in self._joints.ids if id not in energised),
            still_energised=self._named(energised),
        )

    def firmware(self) -> dict[str, str]:
        """Each joint's firmware as its maker writes it. Raises `ArmError` naming the joints that did not answer."""
        versions = self._connected().get(self._protocol.firmware, self._joints.ids)
        return {self._joints.joint(id): self._protocol.decode_firmware(raw)[0] for id, raw in versions.items()}

    def close(self) -> None:
        """Close the port, leaving torque as it is; may be called at any time, more than once."""
        group, self._group = self._group, None
        self._held = False
        self._health.released()
        if group is not None:
            group.bus.close()

    def _is_time_for_health(self, begun: int) -> bool:
        """Whether to ask for it after a reading begun then (ns). One that took more than a try leaves too little of a
        servo period: it is put off, to the next reading and not further."""
        slow = self._clock() - begun > self._config.deadline * 1e9
        self._put_off = slow and not self._put_off
        return not self._put_off

    def _connected(self) -> ServoGroup:
        if self._group is None:
            raise ArmError(f"arm on {self._port}: not connected; connect it first")
        return self._group

    def _has_watchdog(self, id: int, firmware: int) -> bool:
        first = self._joints.models[id].watchdog_from
        return first is not None and firmware >= first

    def _joints_of(self, servos: set[int]) -> list[int]:
        """The joints that one of these servos drives, by the id of their first servo."""
        return [id for id in self._joints.ids if servos.intersection(self._joints.of(id))]

    def _named(self, ids: Iterable[int]) -> tuple[str, ...]:
        return tuple(self._joints.joint(id) for id in ids)

    def _checked(self, targets: Array) -> Array:
        values = np.asarray(targets, dtype=np.float64)
        spec = self._spec
        if values.shape != (spec.joints,):
            raise ArmError(f"targets have shape {values.shape}, the arm's {spec.joints} joints need ({spec.joints},)")
        inside = (values >= spec.position_min - LIMIT_TOLERANCE) & (values <= spec.position_max + LIMIT_TOLERANCE)
        for index in np.flatnonzero(~inside):  # NaN is not inside
            name, low, high = spec.joint_names[index], spec.position_min[index], spec.position_max[index]
            raise ArmError(f"{name}: target {values[index]:g} rad is not within [{low:g}, {high:g}]; nothing was sent")
        return values

    def _goals(self, counts: Mapping[int, int]) -> dict[int, bytes]:
        """What to write for goals of the joints: a shadow is named too, whether or not it hears its joint's id."""
        joints, goal = self._joints, self._protocol.goal
        return {servo: joints.models[id].encode(goal, n) for id, n in counts.items() for servo in joints.of(id)}

    def _goals_here(self, replies: Mapping[int, Reply]) -> dict[int, bytes]:
        """Goals at the present positions. Refuses a joint whose two servos are apart: they would fight."""
        joints = self._joints
        counts = {id: joints.models[id].decode_present(reply.params).position for id, reply in replies.items()}
        for id, shadow in joints.shadows.items():
            apart = abs(counts[id] - counts[shadow]) * 2 * np.pi / joints.models[id].counts_per_turn
            if apart > SHADOW_TOLERANCE:
                raise ArmError(
                    f"arm on {self._port}: {joints.named([shadow])} is {apart:.2f} rad from its joint's other servo; "
                    "calibrate its homing offset; torque was not switched on"
                )
        return self._goals({id: counts[id] for id in joints.ids})

    def _switch_off(self, group: ServoGroup, ids: set[int]) -> set[int]:
        """Send torque off to the given servos at once, then ask each; returns those that were seen to be off."""
        off: set[int] = set()
        try:
            if ids:
                group.tell(self._protocol.torque, dict.fromkeys(ids, OFF))
        except BusError:
            return off
        for id in ids:
            try:
                if group.get(self._protocol.torque, [id])[id] == OFF:
                    off.add(id)
            except ArmError:
                continue  # silent: the next try, or the report, tells
        return off

    def _read_present(self, group: ServoGroup) -> tuple[dict[int, Reply], int]:
        """The present block of every servo, and the stamp at which the last reply was complete."""
        try:
            return group.ask(self._protocol.present, self._joints.servos), self._clock()
        except ArmError:
            self._health.failed()
            raise

    def _state(self, replies: Mapping[int, Reply], stamp: int) -> JointState:
        joints = self._joints
        presents = {id: joints.models[id].decode_present(reply.params) for id, reply in replies.items()}
        first = [presents[id] for id in joints.ids]
        errors = [
            f"{joints.joint(servo)}: {what}"
            for id in joints.ids
            for servo in joints.of(id)
            for what in self._health.errors(servo, replies[servo], presents[servo].alarms)
        ]
        hottest = [max(presents[servo].temperature_c for servo in joints.of(id)) for id in joints.ids]
        return JointState(
            stamp=stamp,
            positions=joints.angles(present.position for present in first),
            velocities=joints.rates(present.velocity for present in first),
            loads=joints.directed(present.load for present in first),
            temperatures_c=frozen(hottest),
            voltages=frozen([present.voltage for present in first]),
            errors=tuple(dict.fromkeys(errors)),
        )
