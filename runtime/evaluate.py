"""Many episodes in lock-step over held-out seeds, on many workers, to one report.

Episode i has seed `seed` + i and the (i mod 6)th task, whatever worker runs it, so a seed gives the same figures on
every run. Knows no command line.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray

from runtime.picture import Cell, contact_sheet, save_png
from runtime.report import SUCCESS, EpisodeOutcome, Report

if TYPE_CHECKING:
    from policies.artifact import Artifact
    from policies.policy import Policy
    from sim.world import World

EXPERT = "expert"
SHEET_CELLS = 24  # failures shown at most

T = TypeVar("T")


@dataclass(frozen=True)
class Evaluated:
    """One episode: its outcome, and the last frames where it failed."""

    outcome: EpisodeOutcome
    frames: tuple[NDArray[np.uint8], ...]


def evaluate(
    policy: str,
    episodes: int,
    seed: int,
    *,
    workers: int | None = None,
    task: str | None = None,
    on_result: Callable[[EpisodeOutcome], None] = lambda outcome: None,
) -> tuple[Report, list[Evaluated]]:
    """Run `episodes` with `policy` (a shipped policy's name, an artifact's folder, or "expert").

    `on_result` is called in this process as episodes finish, in any order. Returns the report and the failures, both
    in episode order. Raises `PolicyError` before anything starts when the policy cannot be used.
    """
    folder = None if policy == EXPERT else verified(policy)
    run = partial(_run_one, folder, seed, task)
    done: list[Evaluated] = []
    for evaluated in spread(run, range(episodes), workers):
        on_result(evaluated.outcome)
        done.append(evaluated)
    done.sort(key=lambda item: item.outcome.index)
    failures = [item for item in done if not item.outcome.success]
    name = EXPERT if folder is None else folder.name
    return Report(name, seed, tuple(item.outcome for item in done)), failures


def failure_sheet(failures: Sequence[Evaluated], path: Path) -> bool:
    """Write the contact sheet of the first failures; False, and no file, when there are none."""
    cells = [
        Cell(item.frames, f"seed {item.outcome.seed}: {item.outcome.task}: {item.outcome.outcome}", "bad")
        for item in failures[:SHEET_CELLS]
        if item.frames
    ]
    if not cells:
        return False
    save_png(path, contact_sheet(cells))
    return True


def verified(policy: str) -> Path:
    """The folder of a policy that can be loaded. Raises `PolicyError`."""
    from policies.artifact import find_artifact, load_artifact

    return load_artifact(find_artifact(policy)).folder.resolve()


def default_workers() -> int:
    """One for each core that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def spread(
    run: Callable[[int], T], indices: Sequence[int], workers: int | None, *, ordered: bool = False
) -> Iterator[T]:
    """`run` every index on `workers` processes (default one for each core); results as they come, or `ordered`.

    With one worker everything happens in this process.
    """
    count = min(workers or default_workers(), max(1, len(indices)))
    if count == 1:
        yield from map(run, indices)
        return
    from joblib import Parallel, delayed, parallel_config

    returned = "generator" if ordered else "generator_unordered"
    with parallel_config("loky", inner_max_num_threads=1):
        yield from Parallel(n_jobs=count, return_as=returned, batch_size=1)(delayed(run)(i) for i in indices)


@lru_cache(maxsize=2)
def _artifact(folder: Path) -> Artifact:
    from policies.artifact import load_artifact

    return load_artifact(folder)


@lru_cache(maxsize=2)
def _session(folder: Path) -> Policy:
    """Opened once in each process, not once an episode; one thread, because the workers share the cores."""
    from policies.onnx_policy import OnnxPolicy

    return OnnxPolicy(_artifact(folder), threads=1)


def _run_one(folder: Path | None, seed: int, task: str | None, index: int) -> Evaluated:
    from runtime.lockstep import run_lockstep, task_of

    asked = task_of(index, task)
    episode = run_lockstep(partial(make_policy, folder), asked, seed + index, image_size=image_size(folder))
    result = episode.result
    outcome = EpisodeOutcome(
        index,
        seed + index,
        asked,
        result.outcome,
        result.steps,
        result.seconds,
        tuple(float(ms) for ms in result.step_ms),
        result.missed,
    )
    return Evaluated(outcome, () if result.outcome == SUCCESS else episode.frames)


def make_policy(folder: Path | None, world: World) -> Policy:
    """The policy of an artifact; the demonstrator when `folder` is None."""
    from runtime.lockstep import ExpertPolicy

    if folder is None:
        return ExpertPolicy(world)
    return _session(folder)


def image_size(folder: Path | None) -> tuple[int, int]:
    """The (height, width) that an artifact's cameras have; the project's own without one.

    Raises `PolicyError` when they differ from one another: the simulator renders one size.
    """
    from policies.policy import PolicyError
    from runtime.lockstep import IMAGE_SIZE

    if folder is None:
        return IMAGE_SIZE
    sizes = {(camera.height, camera.width) for camera in _artifact(folder).card.cameras.values()}
    if len(sizes) != 1:
        raise PolicyError(f"{folder}: its cameras have the sizes {sorted(sizes)}; the simulator renders only one")
    return sizes.pop()
