"""Joints and the servos that drive them: who is who on the bus, and counts against angles.

Knows no bus and no port. A joint has one servo or, where the second carries the load with it, a shadow too.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np

from drivers.arm import Array, frozen
from drivers.config import ArmConfig, ConfigError, JointConfig, suggest
from drivers.servo_protocol import ServoModel, ServoProtocol


class ServoJoints:
    """The servos of an arm's config. Raises `ConfigError` for an unknown model, a shadow whose id is taken, and limits
    that a servo cannot reach in any of its modes."""

    def __init__(self, config: ArmConfig, protocol: ServoProtocol) -> None:
        self.ids = tuple(joint.id for joint in config.joints)  # of the servo that speaks for its joint
        self.shadows = {joint.id: joint.shadow for joint in config.joints if joint.shadow is not None}
        self.servos = (*self.ids, *self.shadows.values())  # everyone on the bus
        for shadow in self.shadows.values():
            if self.servos.count(shadow) > 1:
                raise ConfigError(f"arm.joints: two servos have the id {shadow}")
        self.models: dict[int, ServoModel] = {}
        self._names: dict[int, str] = {}
        self._configs = {joint.id: joint for joint in config.joints}
        for joint in config.joints:
            model = _model(joint, protocol)
            for id in (joint.id, self.shadows.get(joint.id, joint.id)):
                self.models[id] = model
                self._names[id] = joint.name
        for id in self.ids:
            firsts, lasts = zip(*self.models[id].modes.values(), strict=True)
            if problem := self.beyond(id, min(firsts), max(lasts)):
                raise ConfigError(f"arm.joints: {problem}")
        self._zeros = frozen([joint.zero for joint in config.joints])
        directions = frozen([joint.direction for joint in config.joints])
        self._radians = frozen(directions * [2 * math.pi / self.models[id].counts_per_turn for id in self.ids])
        self._directions = directions

    def angles(self, counts: Iterable[float]) -> Array:
        """Joint angles (rad, shape (n,)) at these servo positions."""
        return frozen((np.array([*counts]) - self._zeros) * self._radians)

    def rates(self, counts: Iterable[float]) -> Array:
        """Joint velocities (rad/s, shape (n,)) at these servo velocities (counts/s)."""
        return frozen(np.array([*counts]) * self._radians)

    def directed(self, values: Iterable[float]) -> Array:
        """What servos measure along their own direction, along their joints' (shape (n,))."""
        return frozen(np.array([*values]) * self._directions)

    def counts(self, angles: Array) -> list[int]:
        """The servo positions nearest to joint angles (rad, shape (n,))."""
        return [round(count) for count in (self._zeros + np.rint(angles / self._radians)).tolist()]

    def joint(self, servo: int) -> str:
        """The name of the joint that a servo drives."""
        return self._names[servo]

    def of(self, id: int) -> tuple[int, ...]:
        """The servos of the joint whose first servo has that id."""
        return (id, self.shadows[id]) if id in self.shadows else (id,)

    def named(self, servos: Iterable[int]) -> str:
        """Servos as a person knows them: joint and id."""
        shadows = self.shadows.values()
        return ", ".join(f"{self._names[id]}{' shadow' if id in shadows else ''} (id {id})" for id in servos)

    def beyond(self, id: int, lowest: int, highest: int) -> str | None:
        """What is wrong with a joint whose servo takes only goals from `lowest` to `highest`; None: nothing."""
        joint, model = self._configs[id], self.models[id]
        for limit in (joint.minimum, joint.maximum):
            counts = round(joint.zero + joint.direction * limit * model.counts_per_turn / (2 * math.pi))
            if not lowest <= counts <= highest:
                return (
                    f"{joint.name}: limit {limit:g} rad is servo position {counts}, outside {lowest}..{highest}; "
                    "narrow the limit or calibrate its zero"
                )
        return None


def _model(joint: JointConfig, protocol: ServoProtocol) -> ServoModel:
    name = joint.servo or protocol.usual_model
    if name not in protocol.models:
        known = sorted(protocol.models)
        raise ConfigError(
            f"arm.joints: {joint.name}: no {protocol.name} servo {name!r}{suggest(name, known)}; "
            f"known: {', '.join(known)}"
        )
    return protocol.models[name]
