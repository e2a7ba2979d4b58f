"""`gato-arm dataset check`: what in a dataset spoils a policy, episode by episode and frame by frame.

Everything is judged from what was recorded: true capture stamps, images to the last bit, joints, actions, and the robot
as it was described. Knows no command line and draws nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from policies.dataset import SUCCESS, Dataset, Episode
from policies.dataset_format import ACTION
from policies.dataset_images import Images
from runtime.clock import MILLISECOND, SECOND

GAP = 1.7  # periods between two observations, from which a frame was dropped
GAPS_MAX = 0.05  # share of an episode's frames that may be followed by a gap
LONG_GAP = 0.25  # s that spoil an episode at once: five steps at 20 Hz
FROZEN = 8  # identical images in a row while the arm moves: 0.4 s at 20 Hz
MOVES = 0.02  # rad within these, from which the arm moves
STALE_MS = 200.0  # an image older than that when the joints were read
SPEED = 6.0  # rad/s where the robot does not say how fast its joints may move
JUMP_SLACK = 1.6  # of what a joint's speed allows in a frame
REACH = 1e-3  # rad beyond a joint's limit that rounding explains
STEP = 0.1  # rad a control step: the largest that the shipped policies' actions can say
STEPS_MAX = 0.1  # share of frames whose action may be larger
SHORTEST = 10  # frames


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong; `episode` and `frame` None where it is about more. `spoils`: not fit to learn from."""

    kind: str
    text: str
    spoils: bool
    episode: int | None = None
    frame: int | None = None


def check(dataset: Dataset, on_episode: Callable[[int], None] = lambda index: None) -> list[Finding]:
    """Everything found, in the order of the episodes; what is about the whole dataset comes first."""
    findings = list(_of_all(dataset))
    for index, episode in enumerate(dataset):
        findings += check_episode(episode, index, dataset.fps, _limits(dataset, episode))
        on_episode(index)
    return findings


def check_episode(episode: Episode, index: int, fps: int, limits: Mapping[str, NDArray[np.float64]]) -> list[Finding]:
    """What is wrong with one episode; `limits` (n,) each: minimum, maximum, velocity_max, and `stepped`, which joints'
    actions are steps; empty where nothing is known."""
    found = [
        *_gaps(episode, fps),
        *_cameras(episode),
        *_jumps(episode, fps, limits),
        *_clipped(episode, limits),
        *_whole(episode),
    ]
    return [Finding(each.kind, each.text, each.spoils, index, each.frame) for each in found]


def _gaps(episode: Episode, fps: int) -> Iterator[Finding]:
    if episode.stamps is None or len(episode) < 2:
        return
    seconds = np.diff(episode.stamps[:, 0]) / SECOND
    if (seconds <= 0).any():
        frame = int(np.argmin(seconds)) + 1
        yield Finding("dropped frames", "the joints' stamps do not go on: an old reading came again", True, None, frame)
    gaps = seconds * fps > GAP
    if not gaps.any():
        return
    worst = int(seconds.argmax())
    text = f"{gaps.sum()} of {len(seconds)} steps came late; the longest gap is {seconds[worst] * 1000:.0f} ms"
    spoils = bool(gaps.mean() > GAPS_MAX or seconds[worst] > LONG_GAP)
    yield Finding("dropped frames", text, spoils, None, worst + 1)


def _cameras(episode: Episode) -> Iterator[Finding]:
    positions = episode.joint_positions
    for column, camera in enumerate(sorted(episode.images)):
        same = _repeats(episode.images[camera])
        start, length = _longest_run(same)
        moved = np.ptp(positions[start : start + length + 1], axis=0).max() if length else 0.0
        if length >= FROZEN and moved > MOVES:
            text = f"camera {camera} shows the same image {length + 1} times while the arm moves {moved:.2f} rad"
            yield Finding("frozen camera", text, True, None, start)
        if episode.stamps is None:
            continue
        age_ms = (episode.stamps[:, 0] - episode.stamps[:, 1 + column]) / MILLISECOND
        if age_ms.max() > STALE_MS:
            frame = int(age_ms.argmax())
            text = f"camera {camera}: an image was {age_ms[frame]:.0f} ms old when the joints were read"
            yield Finding("stale image", text, True, None, frame)


def _repeats(images: Images) -> NDArray[np.bool_]:
    """(T - 1,): is an image the same as the one before, to the last bit?"""
    if isinstance(images, np.ndarray):
        flat = images.reshape(len(images), -1)
        return np.array((flat[1:] == flat[:-1]).all(axis=1))
    return np.array([one == other for one, other in zip(images[1:], images[:-1], strict=True)], dtype=bool)


def _longest_run(marks: NDArray[np.bool_]) -> tuple[int, int]:
    """Where the longest row of True begins, and how long it is."""
    best, start, length = (0, 0), 0, 0
    for index, mark in enumerate(marks):
        if mark:
            start = index if length == 0 else start
            length += 1
            best = (start, length) if length > best[1] else best
        else:
            length = 0
    return best


def _jumps(episode: Episode, fps: int, limits: Mapping[str, NDArray[np.float64]]) -> Iterator[Finding]:
    if len(episode) < 2:
        return
    if episode.stamps is None:
        seconds = np.full(len(episode) - 1, 1 / fps)
    else:
        seconds = np.maximum(np.diff(episode.stamps[:, 0]) / SECOND, 1 / fps)
    steps = np.abs(np.diff(episode.joint_positions.astype(np.float64), axis=0))
    allowed = limits.get("velocity_max", np.full(steps.shape[1], SPEED)) * JUMP_SLACK
    over = steps / seconds[:, None] / allowed
    if over.max() > 1:
        frame, joint = np.unravel_index(over.argmax(), over.shape)
        text = f"joint {joint} jumps by {steps[frame, joint]:.2f} rad in {seconds[frame] * 1000:.0f} ms"
        yield Finding("joint jump", text, True, None, int(frame) + 1)


def _clipped(episode: Episode, limits: Mapping[str, NDArray[np.float64]]) -> Iterator[Finding]:
    actions = episode.actions.astype(np.float64)
    if "minimum" in limits:
        beyond = np.maximum(limits["minimum"] - actions, actions - limits["maximum"])
        if beyond.max() > REACH:
            frame, joint = np.unravel_index(beyond.argmax(), beyond.shape)
            share = (beyond > REACH).any(axis=1).mean()
            text = f"joint {joint} is asked {beyond[frame, joint]:.2f} rad beyond its limit; {share:.0%} of the frames"
            yield Finding("clipped action", text, True, None, int(frame))
    stepped = limits.get("stepped", np.ones(actions.shape[1])).astype(bool)
    large = np.abs(actions - episode.joint_targets)[:, stepped]
    over = (large > STEP * 1.01).any(axis=1)
    if over.any():
        largest = int(large.max(axis=1).argmax())
        text = f"{over.mean():.0%} of the actions are steps beyond {STEP} rad, up to {large.max():.2f}: they are cut"
        yield Finding("clipped action", text, bool(over.mean() > STEPS_MAX), None, largest)


def _whole(episode: Episode) -> Iterator[Finding]:
    if len(episode) < SHORTEST:
        yield Finding("short episode", f"it has {len(episode)} frames", True)
    elif np.ptp(episode.joint_positions, axis=0).max() < MOVES:
        yield Finding("still episode", "no joint moves", True)
    if episode.facts.outcome not in (None, SUCCESS):
        yield Finding("not a success", f"its outcome is: {episode.facts.outcome}", False)


def _of_all(dataset: Dataset) -> Iterator[Finding]:
    facts = [dataset.facts(index) for index in range(len(dataset))]
    robots = Counter(each.robot for each in facts)
    if len(robots) > 1:
        (first, _), *others = robots.most_common()
        for other, count in others:
            episode = next(index for index, each in enumerate(facts) if each.robot == other)
            text = f"{count} episodes are of another robot or calibration: {_difference(dataset, first, other)}"
            yield Finding("mixed calibrations", text, True, episode)
    layouts = Counter((each.seed, dataset.rows[i]["tasks"][0]) for i, each in enumerate(facts) if each.seed is not None)
    twice = [seed for (seed, _), count in layouts.items() if count > 1]
    if twice:
        text = f"{len(twice)} layouts were recorded more than once, as seed {twice[0]}"
        yield Finding("repeated layout", text, False)


def _difference(dataset: Dataset, one: str | None, other: str | None) -> str:
    """The first thing in which two robots' descriptions differ."""
    if one is None or other is None:
        return "of some it is not known which"
    left, right = dataset.robot(one), dataset.robot(other)
    for key in sorted(left.keys() | right.keys()):
        ours, theirs = left.get(key), right.get(key)
        if ours == theirs:
            continue
        if isinstance(ours, list) and isinstance(theirs, list) and len(ours) == len(theirs):
            ours, theirs = next((a, b) for a, b in zip(ours, theirs, strict=True) if a != b)
        if isinstance(ours, dict) and isinstance(theirs, dict):
            name = f" of {ours['name']}" if "name" in ours else ""
            part = next(each for each in sorted(ours.keys() | theirs.keys()) if ours.get(each) != theirs.get(each))
            return f"{key}{name}: {part} {theirs.get(part)} instead of {ours.get(part)}"
        return f"{key} {theirs} instead of {ours}"
    return "it was recorded differently"


def _limits(dataset: Dataset, episode: Episode) -> dict[str, NDArray[np.float64]]:
    """What the robot's description says of its joints, where it says so of all."""
    if episode.facts.robot is None:
        return {}
    joints: list[dict[str, Any]] = dataset.robot(episode.facts.robot).get("joints", [])
    names = dataset.features[ACTION].get("names") or []
    limits = {"stepped": np.array([name != "gripper" for name in names], dtype=np.float64)} if names else {}
    for key in ("minimum", "maximum", "velocity_max"):
        values = [joint.get(key) for joint in joints]
        if values and all(isinstance(value, int | float) for value in values):
            limits[key] = np.array(values, dtype=np.float64)
    return limits
