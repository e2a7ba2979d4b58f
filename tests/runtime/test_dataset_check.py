"""What spoils a policy is found where it is, and a good recording is clean."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from policies.dataset import Dataset, Episode, Facts
from policies.dataset_images import encoded
from policies.dataset_writer import DatasetWriter
from runtime.cli import main
from runtime.dataset_check import check, check_episode

JOINTS = ("pan", "lift", "gripper")
LIMITS = {
    "minimum": np.array([-1.5, -1.5, 0.0]),
    "maximum": np.array([1.5, 1.5, 1.75]),
    "velocity_max": np.array([2.5, 2.5, 4.0]),
    "stepped": np.array([1.0, 1.0, 0.0]),
}
ROBOT = {
    "name": "toy",
    "joints": [
        {"name": name, "zero": 2048, "minimum": low, "maximum": high, "velocity_max": speed}
        for name, low, high, speed in (("pan", -1.5, 1.5, 2.5), ("lift", -1.5, 1.5, 2.5), ("gripper", 0.0, 1.75, 4.0))
    ],
}
TASK = "stack the red block on the blue block"


def good(length: int = 60, seed: int = 0) -> Episode:
    """A smooth motion at 20 Hz, with noise in every image."""
    rng = np.random.default_rng(seed)
    at = np.arange(length)
    targets, actions = (
        np.column_stack([0.5 * np.sin(t / 15), 0.3 * np.cos(t / 20), 0.8 + 0.5 * np.sin(t / 9)]) for t in (at, at + 1)
    )
    images = {name: rng.integers(0, 256, (length, 8, 8, 3), dtype=np.uint8) for name in ("fixed", "wrist")}
    stamps = (10**15 + at[:, None] * 50_000_000 + rng.integers(0, 5_000_000, (length, 3))).astype(np.int64)
    stamps[:, 1:] -= 30_000_000
    vectors = [values.astype(np.float32) for values in (targets - 0.01, targets, actions)]
    return Episode(TASK, images, *vectors, stamps=stamps, facts=Facts(seed, "success"))


def test_a_good_episode_is_clean() -> None:
    assert check_episode(good(), 0, 20, LIMITS) == []
    assert check_episode(replace(good(), stamps=None), 0, 20, {}) == []


def spoilt(kind: str) -> tuple[Episode, int | None]:
    """A good episode with one thing wrong, and the frame where."""
    episode = good()
    assert episode.stamps is not None
    if kind == "dropped frames":
        episode.stamps[31:] += 400_000_000
        return episode, 31
    if kind == "frozen camera":
        images = dict(episode.images)
        images["wrist"] = np.array(images["wrist"])
        images["wrist"][20:33] = images["wrist"][20]
        return replace(episode, images={name: encoded(frames) for name, frames in images.items()}), 20
    if kind == "stale image":
        episode.stamps[12, 2] -= 400_000_000
        return episode, 12
    if kind == "joint jump":
        episode.joint_positions[41:, 1] += 0.7
        return episode, 41
    if kind == "clipped action":
        episode.actions[7, 0] = 1.9
        episode.joint_targets[7, 0] = 1.85
        return episode, 7
    if kind == "short episode":
        return good(6), None
    still = np.zeros((60, 3), dtype=np.float32)
    return replace(episode, joint_positions=still, joint_targets=still, actions=still), None


KINDS = "dropped frames,frozen camera,stale image,joint jump,clipped action,short episode,still episode"


@pytest.mark.parametrize("kind", KINDS.split(","))
def test_what_is_wrong_is_found_where_it_is(kind: str) -> None:
    episode, frame = spoilt(kind)
    found = check_episode(episode, 3, 20, LIMITS)
    first = next(each for each in found if each.kind == kind)
    assert first.spoils and first.episode == 3 and (frame is None or first.frame == frame), found


def test_steps_that_an_action_cannot_say_are_named() -> None:
    episode = good()
    episode.actions[::5, 0] += 0.3
    found = check_episode(episode, 0, 20, LIMITS)
    assert any(each.kind == "clipped action" and each.spoils and "beyond 0.1 rad" in each.text for each in found)
    lone = good()
    lone.actions[10, 0] += 0.2
    assert [each.spoils for each in check_episode(lone, 0, 20, LIMITS)] == [False], "one of sixty is a note"
    wide = good()
    wide.actions[:, 2] += 0.4  # a gripper's action is an angle
    assert check_episode(wide, 0, 20, LIMITS) == []


def write(folder: Path, robots: list[dict[str, object]], episodes: list[Episode]) -> None:
    with DatasetWriter(
        folder, fps=20, images={"fixed": (8, 8), "wrist": (8, 8)}, joint_names=JOINTS, robot_type="toy"
    ) as writer:
        for robot, episode in zip(robots, episodes, strict=True):
            facts = replace(episode.facts, robot=writer.add_robot(robot))
            writer.add(replace(episode, facts=facts))


def test_a_clean_dataset_is_said_to_be_so_and_drawn(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "data", [ROBOT] * 3, [good(seed=seed) for seed in range(3)])
    assert main(["dataset", "check", str(tmp_path / "data")]) == 0
    assert "3 episodes, 180 frames: nothing spoils it; 0 notes" in capsys.readouterr().out
    assert (tmp_path / "data/check.png").stat().st_size > 5000
    picture = tmp_path / "ends.png"
    assert main(["dataset", "show", str(tmp_path / "data"), "--picture", str(picture)]) == 0
    assert "3 on toy" in capsys.readouterr().out and picture.stat().st_size > 1000


def test_a_spoilt_dataset_is_exit_code_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = json.loads(json.dumps(ROBOT))
    other["joints"][1]["zero"] = 2100
    failed = replace(good(seed=1), facts=Facts(1, "never moved"))
    write(tmp_path / "data", [ROBOT, ROBOT, other], [spoilt("joint jump")[0], failed, good(seed=1)])
    report = tmp_path / "check.json"
    words = ["dataset", "check", str(tmp_path / "data"), "--json", str(report), "--picture", str(tmp_path / "a.png")]
    assert main(words) == 1
    out = capsys.readouterr().out
    assert "episode 0, frame 41: joint jump: joint 1 jumps by 0." in out
    assert "episode 2: mixed calibrations: 1 episodes are of another robot" in out
    assert "joints of lift: zero 2100 instead of 2048" in out
    assert "episode 1: not a success" in out and "repeated layout" in out
    figures = json.loads(report.read_text())
    assert figures["spoilt"] and figures["counts"]["joint jump"] == 1
    assert {each.kind for each in check(Dataset(tmp_path / "data"))} == set(figures["counts"])
