"""Single servos on a line, by register name: what bringing up an arm needs, one servo after the other.

Knows no joint and no angle. A value that was written is read back before it is believed, and EEPROM is written only
while the servo's torque is off.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Literal, Self

from drivers.arm import BusCounters
from drivers.bus import Bus, BusError, SerialPort, open_serial
from drivers.dynamixel import DYNAMIXEL
from drivers.feetech import FEETECH
from drivers.servo_protocol import Register, ServoModel, ServoProtocol

PROTOCOLS: Final = {protocol.name: protocol for protocol in (FEETECH, DYNAMIXEL)}
BAUDRATES: Final = {name: dict(protocol.baudrates) for name, protocol in PROTOCOLS.items()}  # name -> baud -> code
LOCK: Final = "lock"  # the register that keeps EEPROM from being written, where a servo has one


@dataclass(frozen=True, slots=True)
class FoundServo:
    """A servo that answered."""

    id: int
    number: int  # model number
    model: str | None  # None: not known here
    firmware: str
    errors: tuple[str, ...]  # from its status byte, and what it says of itself when asked


class ServoLine:
    """One line at one baud rate; also a context manager. Not thread-safe.

    `deadline` (s) bounds one try of one transaction, `retries` more tries follow; `clock` returns monotonic ns. Raises
    `BusError` (one line) for a port that does not open, an id that is no servo's, a servo that does not answer and a
    value that was not taken; `PortLost` when the port is gone.
    """

    def __init__(
        self,
        protocol: Literal["feetech", "dynamixel"],
        port: str,
        baudrate: int,
        *,
        deadline: float = 0.01,
        retries: int = 1,
        clock: Callable[[], int] = time.monotonic_ns,
        open_port: Callable[[str, int], SerialPort] = open_serial,
    ) -> None:
        if protocol not in PROTOCOLS:
            raise BusError(f"no servo protocol {protocol!r}; known: {', '.join(PROTOCOLS)}")
        self.protocol: ServoProtocol = PROTOCOLS[protocol]
        self.baudrates = BAUDRATES[protocol]
        self.baudrate = baudrate
        self.counters = BusCounters()
        self._port = port
        self._deadline, self._retries, self._clock = deadline, retries, clock
        self._open_port = open_port
        self._bus = self._open(baudrate)

    def ping(self, id: int) -> FoundServo | None:
        """The servo with that id, or None if none answers."""
        protocol = self.protocol
        reply = self._bus.exchange(lambda _: protocol.ping(_checked(id)), {id: protocol.ping_size}).get(id)
        if reply is None:
            return None
        raw = self._get(id, protocol.model_number)
        model = protocol.model_of(raw)
        health = protocol.decode_health(self._get(id, protocol.health))
        errors = dict.fromkeys((*protocol.status_errors(reply.error), *health.errors))
        return FoundServo(
            id=id,
            number=int.from_bytes(raw, model.byteorder if model else "little"),
            model=model.name if model else None,
            firmware=protocol.decode_firmware(self._get(id, protocol.firmware))[0],
            errors=tuple(errors),
        )

    def scan(self, ids: Iterable[int]) -> list[FoundServo]:
        """The servos that answer, of these ids."""
        return [found for id in ids if (found := self.ping(id)) is not None]

    def read(self, id: int, register: str) -> int:
        """The number in a servo's register."""
        model = self._model(id)
        place = self._register(model, register)
        return model.decode(place, self._get(id, place))

    def write(self, id: int, register: str, value: int) -> None:
        """Set a servo's register and read it back.

        "id" is read back under the new id; after "baudrate" this line goes on at the new rate, on which only this
        servo may answer. EEPROM is refused while torque is on; a servo's lock is opened for it and closed again.
        """
        model = self._model(id)
        place = self._register(model, register)
        try:
            raw = model.encode(place, value)
        except ValueError as error:
            raise BusError(f"{self._port}: {register} of servo {id}: {error}") from error
        if not place.eeprom:
            self._put(id, place, raw, register, id)
            return
        if self.read(id, "torque_enable"):
            raise BusError(f"{self._port}: servo {id} has torque; release it before its {register} is written")
        new_id = _checked(value) if register == "id" else id
        lock = {**self.protocol.registers, **model.registers}.get(LOCK)
        if lock is None or self._get(id, lock) == bytes(lock.size):
            self._put(id, place, raw, register, new_id)
            return
        self._put(id, lock, model.encode(lock, 0), LOCK, id)
        try:
            self._put(id, place, raw, register, new_id)
        except BusError:
            with contextlib.suppress(BusError):  # the first reason is the one to tell
                self._put(id, lock, model.encode(lock, 1), LOCK, id)
            raise
        self._put(new_id, lock, model.encode(lock, 1), LOCK, new_id)

    def reboot(self, id: int) -> None:
        """Restart a servo: torque goes off, a latched error is cleared. It is silent for some 100 ms afterwards."""
        if self.protocol.reboot is None:
            raise BusError(f"{self._port}: {self.protocol.name} servos know no restart; switch their power off and on")
        self._bus.send(self.protocol.reboot(_checked(id)))

    def close(self) -> None:
        """Close the port; may be called more than once."""
        self._bus.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _open(self, baudrate: int) -> Bus:
        return Bus(
            self._open_port(self._port, baudrate),
            self.protocol.framing,
            deadline=self._deadline,
            retries=self._retries,
            clock=self._clock,
            counters=self.counters,
        )

    def _model(self, id: int) -> ServoModel:
        """The servo's model; one that is not known here is taken for its protocol's usual one."""
        model = self.protocol.model_of(self._get(id, self.protocol.model_number))
        return model or self.protocol.models[self.protocol.usual_model]

    def _register(self, model: ServoModel, name: str) -> Register:
        registers = {**self.protocol.registers, **model.registers}
        if name not in registers:
            raise BusError(
                f"{self._port}: {model.name} has no register {name!r}; known: {', '.join(sorted(registers))}"
            )
        return registers[name]

    def _get(self, id: int, register: Register) -> bytes:
        request = self.protocol.read(_checked(id), register)
        replies = self._bus.exchange(lambda _: request, {id: register.size})
        if id not in replies:
            raise BusError(
                f"{self._port}: no answer from servo {id} at {self.baudrate} baud; check its cable and power"
            )
        return replies[id].params

    def _put(self, id: int, register: Register, raw: bytes, name: str, new_id: int) -> None:
        """Write, whether or not the servo acknowledges it, then believe what is read back from `new_id`."""
        request = self.protocol.write(id, register, raw)
        reply = self._bus.exchange(lambda _: request, {id: 0}).get(id)
        if name == "baudrate":
            self._change_baudrate(raw[0])
        found = self._get(new_id, register)
        if found != raw:
            refusal = self.protocol.status_errors(reply.error) if reply is not None else ()
            why = f" ({', '.join(refusal)})" if refusal else ""
            raise BusError(
                f"{self._port}: servo {id} did not take {name} {raw.hex(' ')}{why}, it holds {found.hex(' ')}"
            )

    def _change_baudrate(self, code: int) -> None:
        rates = {value: baud for baud, value in self.baudrates.items()}
        if rates.get(code, self.baudrate) != self.baudrate:
            self._bus.close()
            self.baudrate = rates[code]
            self._bus = self._open(self.baudrate)


def _checked(id: int) -> int:
    """An id that a servo may have; anything else would reach several or none."""
    if not 0 <= id <= 252:
        raise BusError(f"id {id}: servos have ids 0 to 252")
    return id
