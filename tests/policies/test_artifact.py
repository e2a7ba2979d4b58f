"""Artifacts: what is written is what loads, and every way to spoil one is one line."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from pydantic import ValidationError

from drivers.config import RobotConfig, load_robot
from policies.artifact import MAX_CARD_BYTES, ArtifactError, check_robot, find_artifact, load_artifact, write_card
from policies.card import Card
from policies.policy import PolicyError

JOINTS = ["shoulder_pan", "shoulder_lift", "elbow_flex", "wrist_flex", "wrist_roll", "gripper"]
LIMITS = [1.92, 1.75, 1.69, 1.66, 2.79, 1.75]


def card(**changes: Any) -> Card:
    low = [-limit for limit in LIMITS]
    fields: dict[str, Any] = {
        "name": "test",
        "created": "2026-01-01T00:00:00Z",
        "description": "A policy \u00e0 la carte.",
        "cameras": {"wrist": {"height": 64, "width": 64}, "fixed": {"height": 64, "width": 64}},
        "proprioception": {
            "joint_targets": {"size": 6, "low": low, "high": LIMITS, "companded": True},
            "joint_positions": {"size": 6, "low": low, "high": LIMITS},
        },
        "actions": {
            "joint_names": JOINTS,
            "low": [-0.1] * 5 + [0],
            "high": [0.1] * 5 + [1.75],
            "mode": ["delta"] * 5 + ["absolute"],
        },
        "rate": 20,
        "sequence": {"prompt_tokens": 16, "window": 8, "timestep_tokens": 51},
        "text_model": "text.model",
        "tasks": ["stack the red block on the blue block"],
        "parameters": 10_000_000,
        "architecture": {"layers": 8, "width": 256},
        "training": {"seed": 0},
        "evaluation": {"success_rate": 0.98},
    }
    return Card.model_validate(fields | changes)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "artifact"
    folder.mkdir()
    (folder / "policy.onnx").write_bytes(bytes(range(256)) * 8)
    (folder / "text.model").write_bytes(b"pieces")
    write_card(folder, card())
    return folder


def edit(folder: Path, **changes: Any) -> None:
    content = yaml.safe_load((folder / "card.yaml").read_text(encoding="utf-8"))
    (folder / "card.yaml").write_text(yaml.safe_dump(content | changes), encoding="utf-8")


def refusal(folder: Path) -> str:
    with pytest.raises(ArtifactError) as raised:
        load_artifact(folder)
    message = str(raised.value)
    assert isinstance(raised.value, PolicyError)
    assert "\n" not in message and str(folder) in message
    return message


def test_what_is_written_loads(folder: Path) -> None:
    artifact = load_artifact(folder)
    assert artifact.card == card(files=artifact.card.files)
    assert sorted(artifact.card.files) == ["policy.onnx", "text.model"]
    assert artifact.graph == folder / "policy.onnx" and artifact.text_model == folder / "text.model"
    assert sorted(path.name for path in folder.iterdir()) == ["card.yaml", "policy.onnx", "text.model"]


def test_writing_again_changes_nothing(folder: Path) -> None:
    before = (folder / "card.yaml").read_bytes()
    write_card(folder, load_artifact(folder).card)
    assert (folder / "card.yaml").read_bytes() == before


def test_modalities_are_in_lexicographic_order(folder: Path) -> None:
    loaded = load_artifact(folder).card
    assert list(loaded.cameras) == ["fixed", "wrist"]
    assert list(loaded.proprioception) == ["joint_positions", "joint_targets"]


def test_scales_are_those_of_tokens() -> None:
    assert card().proprioception["joint_targets"].scale().companded
    scale = card().actions.scale()
    assert scale.size == 6 and not scale.companded
    np.testing.assert_allclose(scale.normalise([0.1, -0.1, 0, 0, 0, 1.75]), [1, -1, 0, 0, 0, 1])


@pytest.mark.parametrize("name", ["policy.onnx", "text.model"])
def test_one_changed_byte_is_named_with_both_hashes(folder: Path, name: str) -> None:
    expected = load_artifact(folder).card.files[name]
    content = bytearray((folder / name).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / name).write_bytes(content)
    message = refusal(folder)
    assert name in message and expected[:12] in message and message.count("sha256") == 1


@pytest.mark.parametrize("name", ["policy.onnx", "text.model", "card.yaml"])
def test_a_missing_file_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    assert f"{name}: missing" in refusal(folder)


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    assert "no such artifact folder" in refusal(tmp_path / "nowhere")


def test_an_unlisted_file_is_refused(folder: Path) -> None:
    (folder / "weights.data").write_bytes(b"x")
    assert "weights.data" in refusal(folder)


@pytest.mark.parametrize("name", ["policy.onnx", "text.model"])
def test_links_are_refused_even_to_the_right_bytes(folder: Path, name: str) -> None:
    outside = folder.parent / name
    (folder / name).rename(outside)
    (folder / name).symlink_to(outside)
    assert "link" in refusal(folder)


def test_folders_and_pipes_are_refused(folder: Path) -> None:
    os.mkfifo(folder / "pipe")
    assert "pipe" in refusal(folder)
    (folder / "pipe").unlink()
    (folder / "inner").mkdir()
    assert "inner" in refusal(folder)


@pytest.mark.parametrize("name", ["../policy.onnx", "/etc/hostname", "a/b", ".hidden", ""])
def test_names_that_leave_the_folder_are_refused(folder: Path, name: str) -> None:
    edit(folder, files=load_artifact(folder).card.files | {name: "0" * 64})
    assert "files" in refusal(folder)
    edit(folder, files=load_artifact_files(folder), text_model=name)
    assert "text_model" in refusal(folder)


def load_artifact_files(folder: Path) -> dict[str, str]:
    content = yaml.safe_load((folder / "card.yaml").read_text(encoding="utf-8"))
    return {name: digest for name, digest in content["files"].items() if name in ("policy.onnx", "text.model")}


def test_too_many_bytes_are_refused_before_hashing(folder: Path) -> None:
    with (folder / "policy.onnx").open("r+b") as file:
        file.truncate(513 << 20)  # sparse: takes no room
    assert "at most 512" in refusal(folder)


def test_a_huge_card_is_refused(folder: Path) -> None:
    with (folder / "card.yaml").open("a") as file:
        file.write("#" * MAX_CARD_BYTES)
    assert "card.yaml" in refusal(folder)


def test_an_unknown_key_is_named_before_what_it_left_missing(folder: Path) -> None:
    content = yaml.safe_load((folder / "card.yaml").read_text(encoding="utf-8"))
    content["sequence"]["windw"] = content["sequence"].pop("window")
    edit(folder, sequence=content["sequence"])
    assert "sequence.windw: unknown key" in refusal(folder)


def test_a_file_without_a_hash_is_refused(folder: Path) -> None:
    files = load_artifact_files(folder)
    edit(folder, files={"text.model": files["text.model"]})
    assert "policy.onnx has no hash" in refusal(folder)


@pytest.mark.parametrize(
    "text",
    ["", "- 1", "a: [", "a: !!python/object:os.system {}", "a: &x [1]\nb: *x", "[" * 5000, "\x00", "name: \udcff"],
)
def test_what_is_no_card_is_one_line(folder: Path, text: str) -> None:
    (folder / "card.yaml").write_bytes(text.encode(errors="surrogateescape"))
    assert "card.yaml" in refusal(folder)


@pytest.mark.parametrize(
    "changes",
    [
        {"cameras": {"fixed": {"height": 60, "width": 64}}},
        {"cameras": {}},
        {"proprioception": {"joint_positions": {"size": 2, "low": [0.0], "high": [1.0]}}},
        {"proprioception": {"joint_positions": {"size": 1, "low": [1.0], "high": [1.0]}}},
        {"proprioception": {"joint_positions": {"size": 1, "low": [float("nan")], "high": [1.0]}}},
        {"actions": {"joint_names": ["a"], "low": [0.0], "high": [1.0], "mode": ["relative"]}},
        {"actions": {"joint_names": ["a"], "low": [0.0], "high": [1.0], "mode": ["delta", "delta"]}},
        {"rate": 0},
        {"format": 2},
    ],
)
def test_cards_that_contradict_themselves_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        card(**changes)


def test_a_card_is_not_written_over_missing_files(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"policy\.onnx: missing"):
        write_card(tmp_path, card())


def test_finding_by_path_and_not_by_wishful_name(folder: Path) -> None:
    assert find_artifact(str(folder)) == folder
    with pytest.raises(ArtifactError, match="no policy 'wishful'"):
        find_artifact("wishful")


def robot(**changes: Any) -> RobotConfig:
    return load_robot("simulated").model_copy(update=changes)


def test_the_robot_it_was_made_for_passes() -> None:
    check_robot(card(), robot())


def test_robots_that_lack_something_are_named_with_the_policy() -> None:
    cameras = robot().cameras
    arm = robot().arm
    large = cameras["wrist"].model_copy(update={"size": (96, 128)})
    mismatches = [
        (robot(cameras={"fixed": cameras["fixed"]}), ["'wrist'", "has fixed"]),
        (robot(cameras=cameras | {"wrist": large}), ["64x64", "96x128"]),
        (robot(arm=arm.model_copy(update={"joints": arm.joints[:5]})), ["gripper", "another arm"]),
        (robot(arm=arm.model_copy(update={"joints": arm.joints[::-1]})), ["another arm"]),
    ]
    for other, words in mismatches:
        with pytest.raises(ArtifactError) as raised:
            check_robot(card(), other)
        message = str(raised.value)
        assert "\n" not in message
        for word in ["policy test", "robot simulated", *words]:
            assert word in message


def test_senses_that_no_robot_has_are_named() -> None:
    sense = {"size": 6, "low": [-1.0] * 6, "high": [1.0] * 6}
    with pytest.raises(ArtifactError, match="'smell'"):
        check_robot(card(proprioception={"smell": sense}), robot())
    with pytest.raises(ArtifactError, match="senses 1 joint_positions"):
        check_robot(card(proprioception={"joint_positions": {"size": 1, "low": [0.0], "high": [1.0]}}), robot())
