"""What is shipped: a folder with policy.onnx, its text model, and card.yaml that hashes every file.

Verified before anything parses the graph, so that a changed byte is one line and never a strange robot. Knows cards,
files and robot configs; opening the graph is onnx_policy.py's.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from drivers.config import RobotConfig
from policies.card import GRAPH, Card
from policies.policy import PolicyError

CARD = "card.yaml"
MAX_CARD_BYTES = 64 << 10  # the shipped card has 2 KB; parsing this much takes a second at worst
MAX_BYTES = 512 << 20  # of all files together
PRETRAINED = Path(__file__).parent / "pretrained"

# What the runtime can tell a policy about the arm, one value for each joint.
PROPRIOCEPTION = ("joint_positions", "joint_targets")


class ArtifactError(PolicyError):
    """An artifact that cannot be used; the message says what, where and what to do."""


@dataclass(frozen=True, slots=True)
class Artifact:
    """A verified artifact."""

    folder: Path
    card: Card

    @property
    def graph(self) -> Path:
        """The ONNX graph."""
        return self.folder / GRAPH

    @property
    def text_model(self) -> Path:
        """The SentencePiece model that the graph's text ids belong to."""
        return self.folder / self.card.text_model


def find_artifact(name_or_path: str) -> Path:
    """The folder of a shipped policy's name, or the folder at that path. Raises `ArtifactError`."""
    shipped = PRETRAINED / name_or_path
    if Path(name_or_path).name == name_or_path and (shipped / CARD).is_file():
        return shipped
    path = Path(name_or_path)
    if path.is_dir():
        return path
    known = sorted(card.parent.name for card in PRETRAINED.glob(f"*/{CARD}"))
    raise ArtifactError(f"no policy {name_or_path!r}: give an artifact's folder or one of {', '.join(known) or 'none'}")


def load_artifact(folder: Path) -> Artifact:
    """Read the card of `folder` and verify every file against it. Raises `ArtifactError`, always one line."""
    if not folder.is_dir():
        raise ArtifactError(f"{folder}: no such artifact folder; export one or give a shipped policy's name")
    total = 0
    present = set()
    for file in _regular_files(folder):
        present.add(file.name)
        total += file.stat().st_size
    if total > MAX_BYTES:
        raise ArtifactError(f"{folder}: {total >> 20} MB of files, an artifact has at most {MAX_BYTES >> 20}")
    card = _read_card(folder / CARD)
    for name in (GRAPH, card.text_model):
        if name not in card.files:
            raise ArtifactError(f"{folder / CARD}: files: {name} has no hash; export the artifact again")
    for name in sorted(present - card.files.keys() - {CARD}):
        raise ArtifactError(f"{folder / name}: the card has no hash of it; remove it or export the artifact again")
    for name, expected in card.files.items():
        if name not in present:
            raise ArtifactError(f"{folder / name}: missing, though the card lists it; restore it or export again")
        found = _sha256(folder / name)
        if found != expected:
            raise ArtifactError(
                f"{folder / name}: changed since the export: the card says sha256 {expected[:12]}, the file has "
                f"{found[:12]}; restore it or export again"
            )
    return Artifact(folder, card)


def write_card(folder: Path, card: Card) -> Card:
    """Write `card` into `folder` with the hashes of all files there, and return it as written.

    Raises `ArtifactError` when the folder holds anything but regular files or lacks what the card names.
    """
    names = [file.name for file in _regular_files(folder) if file.name != CARD]
    for name in (GRAPH, card.text_model):
        if name not in names:
            raise ArtifactError(f"{folder / name}: missing, an artifact needs it")
    complete = Card.model_validate({**card.model_dump(), "files": hash_files(folder, names)})
    text = yaml.dump(
        complete.model_dump(mode="json"), Dumper=_PlainDumper, sort_keys=False, allow_unicode=True, width=120
    )
    staged = folder / f".{CARD}"
    staged.write_text(text, encoding="utf-8")
    os.replace(staged, folder / CARD)
    return complete


def hash_files(folder: Path, names: Iterable[str]) -> dict[str, str]:
    """File name to sha256, in hexadecimal and in order of the names."""
    return {name: _sha256(folder / name) for name in sorted(names)}


def check_robot(card: Card, robot: RobotConfig) -> None:
    """Raise `ArtifactError` naming both sides where `robot` lacks what `card` asks for. More cameras are no fault."""
    for name, camera in card.cameras.items():
        wanted = (camera.height, camera.width)
        if name not in robot.cameras:
            has = ", ".join(robot.cameras) or "none"
            raise ArtifactError(f"policy {card.name} needs a camera {name!r}, robot {robot.name} has {has}")
        if robot.cameras[name].size != wanted:
            height, width = robot.cameras[name].size
            raise ArtifactError(
                f"policy {card.name} needs camera {name!r} at {wanted[0]}x{wanted[1]} (height x width), "
                f"robot {robot.name} gives {height}x{width}; set its size in the robot's file"
            )
    joints = [joint.name for joint in robot.arm.joints]
    if joints != card.actions.joint_names:
        wanted_joints = ", ".join(card.actions.joint_names)
        raise ArtifactError(
            f"policy {card.name} moves {wanted_joints}; robot {robot.name} has {', '.join(joints)}: another arm"
        )
    for name, quantity in card.proprioception.items():
        if name not in PROPRIOCEPTION:
            gives = ", ".join(PROPRIOCEPTION)
            raise ArtifactError(f"policy {card.name} senses {name!r}, robot {robot.name} gives {gives}")
        if quantity.size != len(joints):
            raise ArtifactError(
                f"policy {card.name} senses {quantity.size} {name}, robot {robot.name} has {len(joints)} joints"
            )


class _PlainLoader(yaml.SafeLoader):
    """YAML without aliases: a card needs none, and nested ones can grow without bound."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("aliases are not allowed")
        return super().compose_node(parent, index)


class _PlainDumper(yaml.SafeDumper):
    """YAML without aliases, lists of numbers on one line."""

    def ignore_aliases(self, data: object) -> bool:
        return True


def _represent_list(dumper: yaml.SafeDumper, data: list[Any]) -> yaml.Node:
    plain = not any(isinstance(item, dict | list | str) for item in data)
    return dumper.represent_sequence("tag:yaml.org,2002:seq", data, flow_style=plain)


_PlainDumper.add_representer(list, _represent_list)


def _regular_files(folder: Path) -> Iterator[Path]:
    """The files of a folder, refusing what could lead out of it: links, folders, devices."""
    for path in sorted(folder.iterdir()):
        if path.is_symlink() or not path.is_file():
            raise ArtifactError(f"{path}: neither link nor folder may stand in an artifact; remove it")
        yield path


def _read_card(path: Path) -> Card:
    if not path.is_file():
        raise ArtifactError(f"{path}: missing; an artifact folder has one, export the policy again")
    if path.stat().st_size > MAX_CARD_BYTES:
        raise ArtifactError(f"{path}: {path.stat().st_size} bytes, a card has at most {MAX_CARD_BYTES}")
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=_PlainLoader)
        return Card.model_validate(content)
    except ValidationError as error:
        raise ArtifactError(f"{path}: {_first_mistake(error)}") from error
    # ValueError: bytes that are no text, and dates and numbers that YAML's own rules let through and Python does not.
    except (yaml.YAMLError, ValueError, RecursionError, OverflowError) as error:
        raise ArtifactError(f"{path}: not a YAML card: {' '.join(str(error).split())}") from error


def _first_mistake(error: ValidationError) -> str:
    """Where and what, an unknown key before all others: a misspelt key is also a missing one."""
    first = min(error.errors(include_url=False), key=lambda detail: detail["type"] != "extra_forbidden")
    place = ".".join(str(part) for part in first["loc"])
    what = "unknown key" if first["type"] == "extra_forbidden" else " ".join(first["msg"].split())
    message = f"{place}: {what}" if place else what
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in message)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
