"""A robot file's joints as servos on one bus: which models with which ids, and how they sit on a world's joints."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from drivers.config import ArmConfig, JointConfig, suggest
from sim import dynamixel_servo, feetech_servo
from sim.dynamixel_table import MODELS
from sim.dynamixel_wire import DynamixelWire
from sim.faults import EmulatorError
from sim.feetech_wire import FeetechWire
from sim.plants import Joints, Mount, WorldPlant
from sim.servo_body import COUNTS_PER_TURN, Plant
from sim.servo_bus import ServoBus, Wire
from sim.servo_table import TableServo

FEETECH, DYNAMIXEL = "feetech", "dynamixel"
PROTOCOLS = (FEETECH, DYNAMIXEL)
USUAL_DYNAMIXEL = "xl330-m288"


def make_chain(
    arm: ArmConfig,
    world: Joints,
    protocol: str | None = None,
    *,
    cameras: Sequence[str] = (),
    rng: np.random.Generator | None = None,
    baud_true: bool = False,
) -> tuple[ServoBus, WorldPlant]:
    """The bus that `arm` describes, on the joints of `world` in the same order, and the plant between them.

    `protocol` replaces that of the arm's driver, and with it every servo by that protocol's usual one. Raises
    `EmulatorError` for a protocol, a model or a baud rate that is not emulated.
    """
    spoken = protocol or (arm.driver if arm.driver in PROTOCOLS else FEETECH)
    if spoken not in PROTOCOLS:
        raise EmulatorError(f"--bus {spoken}: is not emulated; there are {', '.join(PROTOCOLS)}")
    if spoken != arm.driver:  # another bus has other servos
        plain = [joint.model_copy(update={"servo": None, "shadow": None}) for joint in arm.joints]
        arm = arm.model_copy(update={"joints": plain})
    joints = [(index, joint, shadow) for index, joint in enumerate(arm.joints) for shadow in _servos_of(joint)]
    plant = WorldPlant(world, [_mount(*servo) for servo in joints])
    make = _make_feetech if spoken == FEETECH else _make_dynamixel
    wire: Wire = FeetechWire() if spoken == FEETECH else DynamixelWire()
    try:
        servos = [make(index, plant, joint, shadow, arm.baudrate) for index, (_, joint, shadow) in enumerate(joints)]
    except ValueError:
        raise EmulatorError(f"arm.baudrate: no {spoken} servo knows {arm.baudrate}; take 1000000") from None
    names = [joint.name for _, joint, _ in joints]
    return ServoBus(wire, servos, joints=names, cameras=cameras, rng=rng, baud_true=baud_true), plant


def _servos_of(joint: JointConfig) -> tuple[bool, ...]:
    """For each servo on the joint, whether it is the shadow."""
    return (False,) if joint.shadow is None else (False, True)


def _mount(index: int, joint: JointConfig, shadow: bool) -> Mount:
    """A shadow is mounted the other way round."""
    if shadow:
        return Mount(index, COUNTS_PER_TURN - joint.zero, -joint.direction)
    return Mount(index, joint.zero, joint.direction)


def _make_feetech(index: int, plant: Plant, joint: JointConfig, shadow: bool, baudrate: int) -> TableServo:
    if shadow:
        raise EmulatorError(f"arm.joints: {joint.name}: Feetech servos have no shadows; remove it")
    return feetech_servo.FeetechServo(index, plant, joint.id, baudrate)


def _make_dynamixel(index: int, plant: Plant, joint: JointConfig, shadow: bool, baudrate: int) -> TableServo:
    """Set up as the arm's maker does: it answers without delay, a shadow obeys its joint's id as well."""
    model = joint.servo or USUAL_DYNAMIXEL
    if model not in MODELS:
        raise EmulatorError(
            f"arm.joints: {joint.name}: no servo {model!r}{suggest(model, MODELS)}; there are {', '.join(MODELS)}"
        )
    if not shadow or joint.shadow is None:
        return dynamixel_servo.DynamixelServo(index, plant, joint.id, baudrate, model)
    return dynamixel_servo.DynamixelServo(index, plant, joint.shadow, baudrate, model, shadow_of=joint.id)
