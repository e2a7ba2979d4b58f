"""The servos of one arm on an open bus, asked and told together.

Knows a protocol's requests, not what its registers mean, and no angle. One that does not answer is named.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from drivers.arm import ArmError
from drivers.bus import Bus, Reply
from drivers.servo_joints import ServoJoints
from drivers.servo_protocol import Register, ServoProtocol

SETTING_TRIES: Final = 2  # an unanswered sync write can be lost on the wire: write, read back, once more


class ServoGroup:
    """`port` names the bus in errors. Every method raises `PortLost` when the port is gone."""

    def __init__(self, bus: Bus, protocol: ServoProtocol, joints: ServoJoints, port: str) -> None:
        self.bus = bus
        self.protocol = protocol
        self.joints = joints
        self.port = port
        self.fast = False  # every servo answers a fast sync read

    def ask(self, register: Register, ids: Iterable[int]) -> dict[int, Reply]:
        """One register of the given servos, in their order. Raises `ArmError` naming those that did not answer."""
        protocol, models = self.protocol, self.joints.models
        sizes = dict.fromkeys(ids, register.size)
        together = {id: size for id, size in sizes.items() if models[id].sync_read}
        replies: dict[int, Reply] = {}
        if together:
            fast = protocol.fast_sync_read if self.fast and protocol.fast_sync_read else protocol.sync_read
            replies = self.bus.exchange(
                lambda missing: fast(missing, register),
                together,
                retry=lambda missing: protocol.sync_read(missing, register),
            )
        for id in sizes:
            if id not in together:
                replies |= self.ask_alone(id, register)
        if missing := [id for id in sizes if id not in replies]:
            raise ArmError(
                f"arm on {self.port}: no answer from {self.joints.named(missing)}; check its cable and power"
            )
        return {id: replies[id] for id in sizes}

    def ask_alone(self, id: int, register: Register) -> dict[int, Reply]:
        """One register of one servo by a plain read, which every model answers; empty if it did not."""
        request = self.protocol.read(id, register)
        return self.bus.exchange(lambda _: request, {id: register.size})

    def get(self, register: Register, ids: Iterable[int]) -> dict[int, bytes]:
        """Like `ask`, without the error bytes."""
        return {id: reply.params for id, reply in self.ask(register, ids).items()}

    def tell(self, register: Register, values: Mapping[int, bytes]) -> None:
        """Write one register of the given servos; whether it arrived is not known."""
        self.bus.send(self.protocol.sync_write(register, values))

    def set(self, register: Register, values: Mapping[int, bytes]) -> list[int]:
        """Write one register and read it back; returns the servos that hold another value after all tries.

        Raises `ArmError` naming servos that cannot be asked.
        """
        unset = dict(values)
        for _ in range(SETTING_TRIES):
            if not unset:
                break
            self.tell(register, unset)
            found = self.get(register, unset)
            unset = {id: value for id, value in unset.items() if found[id] != value}
        return list(unset)

    def settle(self, register: Register, values: Mapping[int, bytes], what: str, then: str) -> None:
        """Write one register and see it there. Raises `ArmError`: the servos that did not `what`, and what to do."""
        if unset := self.set(register, values):
            raise ArmError(f"arm on {self.port}: {self.joints.named(unset)} did not {what}; {then}")
