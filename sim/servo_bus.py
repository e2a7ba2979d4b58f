"""Servos on one half-duplex line: request bytes in, reply bytes out, each with its time.

Knows addressing, the instructions that every protocol has, faults and wire timing. Knows no protocol's bytes (that is
a `Wire`), no serial port, no clock and no physics: time passes when `advance` is called.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from typing import NamedTuple, Protocol

import numpy as np

from sim.faults import Fault, Faults
from sim.line_noise import LineNoise
from sim.servo_body import Watcher
from sim.servo_table import TableServo

BROADCAST = 0xFE
BITS_PER_BYTE = 10  # on the wire: start, eight, stop
UPKEEP = 0.02  # s between two looks at heat, strain and watchdogs


class Instruction(IntEnum):
    """Instruction codes that both protocols have."""

    PING = 0x01
    READ = 0x02
    WRITE = 0x03
    REGISTER_WRITE = 0x04
    ACTION = 0x05


class Request(NamedTuple):
    """One request off the wire."""

    id: int
    instruction: int
    params: bytes


class Reads(NamedTuple):
    """A group read: id, address and length of each; `joined` when all answer in one packet."""

    of: list[tuple[int, int, int]]
    joined: bool = False


class Writes(NamedTuple):
    """A group write: id, address and data of each. Nobody answers it."""

    of: list[tuple[int, int, bytes]]


class Wire(Protocol):
    """One protocol's packets."""

    name: str
    address_size: int  # bytes of an address, and of a length

    def take(self, buffer: bytearray) -> Request | None:
        """Remove the first whole request and all noise before it; None when there is none (yet)."""

    def group(self, request: Request) -> Reads | Writes | None:
        """The request as a group's, as far as it can be understood; None when it is none."""

    def status(self, servo_id: int, error: int, data: bytes = b"") -> bytes:
        """A status packet."""

    def joined(self, answers: Sequence[tuple[int, int, bytes]], servos: int, length: int) -> list[bytes]:
        """What each of `answers` (id, error byte, data) adds to one packet that was asked of `servos` servos, `length`
        bytes of data from each."""


class ServoBus:
    """`servos` on one line that speak `wire`.

    `joints` names what each servo moves. With `baud_true`, replies carry the time that the wire takes. `rng` makes
    faults by chance repeatable.
    """

    def __init__(
        self,
        wire: Wire,
        servos: Sequence[TableServo],
        *,
        joints: Sequence[str] = (),
        cameras: Sequence[str] = (),
        rng: np.random.Generator | None = None,
        baud_true: bool = False,
    ) -> None:
        self.wire, self.servos = wire, tuple(servos)
        self.requests = 0  # sound requests seen
        self.eeprom_changed = False
        self.joints = tuple(joints)
        self._baud_true = baud_true
        self._baudrate: int | None = None  # of the client; None: every servo understands
        self._listeners: dict[int, list[TableServo]] | None = None  # by id; None: to be found out
        self._silent: frozenset[int] = frozenset()
        self._buffer = bytearray()
        self._replies: list[tuple[float, bytes]] = []
        self._line_time = 0.0
        self._since_upkeep = 0.0
        self._heard = False
        self._noise = LineNoise(rng or np.random.default_rng(0))
        known: dict[str, Sequence[object]] = {"ids": [id for servo in self.servos for id in servo.ids]}
        self.faults = Faults(known | {"joint": self.joints, "camera": cameras})
        self.faults.subscribe(self._noise)
        self.faults.subscribe(self._on_fault)
        for servo in self.servos:
            servo.on_change = self._on_change

    def feed(self, data: bytes, baudrate: int | None = None) -> list[tuple[float, bytes]]:
        """Take bytes off the line, sent at `baudrate`; returns pieces of reply and the seconds until each has arrived.

        Noise is skipped; an incomplete request waits for the rest.
        """
        if baudrate != self._baudrate:
            self._baudrate, self._listeners = baudrate, None
        self._buffer += data
        self._line_time = len(data) * self._byte_time if self._baud_true else 0.0
        while (request := self.wire.take(self._buffer)) is not None:
            self.requests += 1
            self._heard = True
            self._answer(request)
        replies, self._replies = self._replies, []
        if len(replies) > 1 and not any(late for late, _ in replies):
            return [(0.0, b"".join(packet for _, packet in replies))]
        return replies

    def forget(self) -> None:
        """Drop an incomplete request, as servos do when the line falls silent within one."""
        self._buffer.clear()

    def advance(self, seconds: float) -> None:
        """Let time pass: profiles move, servos warm up, watchdogs run."""
        for servo in self.servos:
            if servo.body.travelling:
                servo.body.advance(seconds)
        self._since_upkeep += seconds
        if self._since_upkeep >= UPKEEP:
            elapsed, self._since_upkeep = self._since_upkeep, 0.0
            hearing = self._hearing() if self._heard else ()
            self._heard = False
            for servo in self.servos:
                servo.age(elapsed, servo in hearing)

    def sample(self, watcher: Watcher) -> None:
        """Tell `watcher` where every servo is and what it was told."""
        for index, servo in enumerate(self.servos):
            body = servo.body
            watcher(index, body.goal, body.torque, body.sense().position)

    def goals_to_present(self) -> None:
        """Set every goal to the present position: for a world whose arm has been moved by hand."""
        for servo in self.servos:
            servo.goal_to_present()

    def _answer(self, request: Request) -> None:
        group = self.wire.group(request)
        if isinstance(group, Reads):
            self._read_group(group)
        elif isinstance(group, Writes):
            for servo_id, address, data in group.of:
                for servo in self._addressed(servo_id):
                    servo.write(address, data)
        else:
            broadcast = request.id == BROADCAST
            for servo in self._addressed(request.id):
                # Found before: a change of id or status level is still answered under the old one.
                own_id, answers = servo.id, servo.answers(request.instruction)
                result = self._execute(servo, request, broadcast)
                if broadcast and request.instruction != Instruction.PING:
                    continue
                if result is not None and answers and request.id in (own_id, BROADCAST):
                    self._say(servo, own_id, self.wire.status(own_id, *result))

    def _execute(self, servo: TableServo, request: Request, broadcast: bool) -> tuple[int, bytes] | None:
        """Carry out an instruction for one servo: error byte and data, or None where it keeps silent."""
        _, instruction, params = request
        size = self.wire.address_size
        address, rest = int.from_bytes(params[:size], "little"), params[size:]
        if instruction == Instruction.PING:
            return servo.ping()
        if instruction == Instruction.READ and len(rest) == size:
            return servo.read(address, int.from_bytes(rest, "little"))
        if instruction == Instruction.WRITE and rest:
            return servo.write(address, rest), b""
        if instruction == Instruction.REGISTER_WRITE and rest:
            return servo.store(address, rest), b""
        if instruction == Instruction.ACTION:
            return servo.action(), b""
        error = servo.special(instruction, params, broadcast)
        return None if error is None else (error, b"")

    def _read_group(self, group: Reads) -> None:
        answers = []
        for servo_id, address, length in group.of:
            found = [servo for servo in self._addressed(servo_id) if servo.id == servo_id]
            if not found and group.joined:
                break  # each waits for the one before it: the packet ends here
            answers += [(servo, servo_id, *servo.read(address, length)) for servo in found]
        if group.joined and group.of:
            packets = self.wire.joined([answer[1:] for answer in answers], len(group.of), group.of[0][2])
        else:
            packets = [self.wire.status(*answer[1:]) for answer in answers]
        for (servo, servo_id, _, _), packet in zip(answers, packets, strict=True):
            self._say(servo, servo_id, packet)

    def _say(self, servo: TableServo, servo_id: int, packet: bytes) -> None:
        late = 0.0
        if not self._noise.quiet:
            late, packet = self._noise.spoil(servo_id, packet)
        if self._baud_true:
            self._line_time += servo.return_delay + len(packet) * self._byte_time
        if packet:
            self._replies.append((self._line_time + late, packet))

    @property
    def _byte_time(self) -> float:
        rate = self._baudrate or max(servo.baudrate for servo in self.servos)
        return BITS_PER_BYTE / rate

    def _addressed(self, servo_id: int) -> list[TableServo]:
        if self._listeners is None:
            self._listeners = {BROADCAST: self._hearing()}
            for servo in self._listeners[BROADCAST]:
                for own_id in servo.ids:
                    self._listeners.setdefault(own_id, []).append(servo)
        return self._listeners.get(servo_id, [])

    def _hearing(self) -> list[TableServo]:
        """Servos that are up, not silenced, and listen at the client's speed."""
        return [
            servo
            for servo in self.servos
            if not servo.boots_for and servo.id not in self._silent and self._baudrate in (None, servo.baudrate)
        ]

    def _on_change(self) -> None:
        self._listeners = None
        self.eeprom_changed = True

    def _on_fault(self, fault: Fault, begins: bool) -> None:
        arguments = fault.arguments
        if fault.name == "silent":
            self._silent = arguments["ids"] if begins else frozenset()
            self._listeners = None
        elif fault.name == "stuck":
            for servo, joint in zip(self.servos, self.joints, strict=True):
                if joint == arguments["joint"]:
                    servo.body.stuck = begins
        elif fault.name == "sag":
            for servo in self.servos:
                servo.body.sag = arguments["voltage"] if begins else None
                servo.judge()
        elif fault.name in ("reboot", "overload", "overheat"):
            for servo in self.servos:
                if servo.id in arguments["ids"]:
                    _strike(servo, fault.name, begins)


def _strike(servo: TableServo, name: str, begins: bool) -> None:
    """Let one servo reboot, trip by load, or be hot."""
    if name == "reboot":
        if begins:
            servo.reboot()
    elif name == "overheat":
        servo.body.overheated = begins
        servo.judge()
    else:
        servo.overload(begins)
