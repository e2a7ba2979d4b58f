"""Which joints of a URDF an arm's joints drive, and how.

Knows no physics and no collision library; those that load URDFs (sim/articulated.py, runtime/guard.py) ask here how the
arm's joint positions become theirs, because PyBullet and Pinocchio both leave `<mimic>` to their caller.
"""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from drivers.config import ConfigError

MOVABLE = ("revolute", "continuous", "prismatic")


@dataclass(frozen=True, slots=True)
class DrivenJoint:
    """A movable joint of a URDF: its position is `multiplier` * (position of the arm's joint `index`) + `offset`."""

    name: str
    index: int  # in the arm's joint order
    multiplier: float = 1.0
    offset: float = 0.0
    prismatic: bool = False  # m, not rad


def driven_joints(urdf: Path, joint_names: Sequence[str]) -> tuple[DrivenJoint, ...]:
    """Every movable joint of the file, in its order, with the arm's joint that drives it: of its name, or mimicked.

    A joint may mimic a name that is an arm's joint and no joint of the file: so two jaws share one servo. Raises
    `ConfigError` for a file that is no URDF, and for joints of either side that the other lacks.
    """
    try:
        root = ElementTree.parse(urdf).getroot()
    except (OSError, ElementTree.ParseError) as error:
        raise ConfigError(f"{urdf}: not a URDF ({error})") from error
    found = []
    for joint in root.iter("joint"):
        if joint.get("type") in MOVABLE:
            found.append(_driven(joint, list(joint_names), urdf))
    for index, name in enumerate(joint_names):
        if all(joint.index != index for joint in found):
            raise ConfigError(f"{urdf}: has no joint {name!r}, which the robot's file lists, and none that mimics it")
    return tuple(found)


def _driven(joint: ElementTree.Element, joint_names: list[str], urdf: Path) -> DrivenJoint:
    name, prismatic = joint.get("name", ""), joint.get("type") == "prismatic"
    if name in joint_names:
        return DrivenJoint(name, joint_names.index(name), prismatic=prismatic)
    mimic = joint.find("mimic")
    if mimic is None or mimic.get("joint") not in joint_names:
        raise ConfigError(
            f"{urdf}: joint {name!r} is no joint of the robot's file and mimics none of {', '.join(joint_names)}; "
            "list it there, make it fixed, or add <mimic>"
        )
    try:
        multiplier, offset = float(mimic.get("multiplier", "1")), float(mimic.get("offset", "0"))
    except ValueError as error:
        raise ConfigError(f"{urdf}: joint {name!r}: mimic: {error}") from error
    return DrivenJoint(name, joint_names.index(mimic.get("joint", "")), multiplier, offset, prismatic)
