"""What must hold before servos may be moved: all there, of the right model, in a mode that follows goals, fast enough.

Each function asks a `ServoGroup` and raises `ArmError` (one line) that names the port, the servo and what to do. None
changes where a servo is or whether it has torque.
"""

from __future__ import annotations

from typing import Final

from drivers.arm import ArmError
from drivers.bus import Reply
from drivers.config import ArmConfig, ConfigError
from drivers.servo_group import ServoGroup
from drivers.servo_joints import ServoJoints
from drivers.servo_protocol import ServoProtocol

BITS_PER_BYTE: Final = 10  # on the wire, with start and stop bit
RETURN_DELAY_STEP: Final = 2e-6  # s, of the register "return_delay" in both protocols


def check_deadline(config: ArmConfig, protocol: ServoProtocol, joints: ServoJoints) -> float:
    """How long one reading of all servos takes on the wire, s. Raises `ConfigError` if the deadline is shorter."""
    reply = protocol.overhead + protocol.present.size
    size = len(protocol.sync_read(joints.servos, protocol.present)) + len(joints.servos) * reply
    wire = BITS_PER_BYTE * size / config.baudrate
    if config.deadline <= wire:
        raise ConfigError(
            f"arm.deadline: {config.deadline:g} s is too short, a reading takes {wire:.4f} s on the wire at "
            f"{config.baudrate} baud; raise one of them"
        )
    return wire


def find_servos(group: ServoGroup, baudrate: int) -> None:
    """Every servo answers, and is of the model in the config."""
    protocol, joints = group.protocol, group.joints
    missing: list[int] = []
    numbers: dict[int, Reply] = {}
    for id in joints.servos:
        if group.bus.exchange(lambda ids: protocol.ping(*ids), {id: protocol.ping_size}):
            numbers |= group.ask_alone(id, protocol.model_number)
        if id not in numbers:
            missing.append(id)
    if not numbers:
        raise ArmError(f"{group.port}: no servo answers at {baudrate} baud; is the arm powered?")
    if missing:
        raise ArmError(
            f"{group.port}: no answer from {joints.named(missing)}; check the cable before it and the servo's id"
        )
    for id, reply in numbers.items():
        wanted, found = joints.models[id], protocol.model_of(reply.params)
        if found is not wanted:
            number = found.number if found else int.from_bytes(reply.params, wanted.byteorder)
            raise ArmError(
                f"{group.port}: {joints.named([id])} is model {number} ({found.name if found else 'not known here'}), "
                f"not {wanted.number} ({wanted.name}); is this the arm of the config, with this joint's servo?"
            )


def check_modes(group: ServoGroup) -> None:
    """Every servo follows goal positions, over the whole travel of its joint."""
    joints = group.joints
    for register in dict.fromkeys(model.mode for model in joints.models.values() if model.mode is not None):
        ids = [id for id in joints.servos if joints.models[id].mode == register]
        for id, raw in group.get(register, ids).items():
            modes, mode = joints.models[id].modes, int.from_bytes(raw, "little")
            if mode not in modes:
                raise ArmError(
                    f"{group.port}: {joints.named([id])} is in operating mode {mode}, which follows no goal position; "
                    f"set it to {' or '.join(map(str, modes))} with torque off"
                )
            if id in joints.ids and (problem := joints.beyond(id, *modes[mode])):
                raise ArmError(f"{group.port}: {problem}, or change its operating mode ({mode})")


def choose_fast_read(group: ServoGroup, firmware: dict[int, int]) -> bool:
    """Whether every servo answers a fast sync read: by its firmware, and because it does."""
    protocol, joints = group.protocol, group.joints
    fast = protocol.fast_sync_read
    if fast is None:
        return False
    for id in joints.servos:
        first = joints.models[id].fast_read_from
        if first is None or firmware[id] < first:
            return False
    sizes = dict.fromkeys(joints.servos, protocol.present.size)
    return len(group.bus.exchange(lambda ids: fast(ids, protocol.present), sizes)) == len(sizes)


def check_return_delays(group: ServoGroup, wire: float, deadline: float) -> None:
    """The servos do not wait so long before they answer that a reading cannot be done in time."""
    joints = group.joints
    raws = group.get(group.protocol.registers["return_delay"], joints.servos)
    delays = {id: raw[0] * RETURN_DELAY_STEP for id, raw in raws.items()}
    waiting = max(delays.values()) if group.fast else sum(delays.values())  # a fast sync read is one answer
    if wire + waiting >= deadline:
        slow = [id for id, delay in delays.items() if delay]
        raise ArmError(
            f"{group.port}: {joints.named(slow)} wait before they answer, a reading takes {wire + waiting:.4f} s and "
            f"arm.deadline is {deadline:g} s; set their return delay to 0 or raise the deadline"
        )


def let_follow(group: ServoGroup) -> None:
    """Set every motion profile to 0: servos then go to each goal as fast as they can."""
    joints = group.joints
    for register in dict.fromkeys(register for model in joints.models.values() for register in model.follow):
        ids = [id for id in joints.servos if register in joints.models[id].follow]
        zeros = dict.fromkeys(ids, bytes(register.size))
        group.settle(register, zeros, "take its motion settings", "connect again")
