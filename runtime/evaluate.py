"""Policies and worlds for many episodes on many workers: what `eval`, `collect` and the suite share.

A process opens each policy once and one thread runs it, because the workers share the cores. Knows no command line and
no report; what an episode of an evaluation is, is said in runtime/evaluation.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from policies.artifact import Artifact
    from policies.onnx_policy import OnnxPolicy
    from policies.policy import Policy
    from sim.world import World

EXPERT = "expert"
LOKY, RAY = "loky", "ray"
BATCH = 8  # items a worker, where a backend gives results in batches

S = TypeVar("S")
T = TypeVar("T")


def verified(policy: str) -> Path:
    """The folder of a policy that can be loaded. Raises `PolicyError`."""
    from policies.artifact import find_artifact, load_artifact

    return load_artifact(find_artifact(policy)).folder.resolve()


def default_workers() -> int:
    """One for each core that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def spread(
    run: Callable[[S], T],
    items: Sequence[S],
    workers: int | None,
    *,
    ordered: bool = False,
    backend: str = LOKY,
    wanted: Callable[[], bool] = lambda: True,
) -> Iterator[T]:
    """`run` every item on `workers` processes (default one for each core); results as they come, or `ordered`.

    `backend` is one of joblib's, set up by runtime/evaluation/cluster.py where it is not "loky"; on it, `workers` None
    means all that the cluster has. No further item is begun once `wanted` says no; those that were begun are finished.
    With one worker of this machine everything happens in this process.
    """
    local = backend == LOKY
    count = min(workers or default_workers(), max(1, len(items)))
    if count == 1 and local:
        for item in items:
            if wanted():
                yield run(item)
        return
    from joblib import Parallel, delayed, effective_n_jobs, parallel_config

    with parallel_config(backend, **({"inner_max_num_threads": 1} if local else {})):
        if not local:
            count = workers or effective_n_jobs(-1)
        streams = "generator" if ordered else "generator_unordered"
        # Ray's pool hands results over in batches only.
        returned, batch = ("list", count * BATCH) if backend == RAY else (streams, len(items))
        for start in range(0, len(items), batch):
            calls = (delayed(run)(item) for item in takewhile(lambda _: wanted(), items[start : start + batch]))
            yield from Parallel(n_jobs=count, return_as=returned, batch_size=1)(calls)


@lru_cache(maxsize=2)
def artifact_at(folder: Path) -> Artifact:
    """The artifact in `folder`, verified once in each process. Raises `PolicyError`."""
    from policies.artifact import load_artifact

    return load_artifact(folder)


@lru_cache(maxsize=2)
def session(folder: Path) -> OnnxPolicy:
    """The artifact's policy, opened once in each process; one thread."""
    from policies.onnx_policy import OnnxPolicy

    return OnnxPolicy(artifact_at(folder), threads=1)


def make_policy(folder: Path | None, world: World) -> Policy:
    """The policy of an artifact; the demonstrator when `folder` is None."""
    from runtime.lockstep import ExpertPolicy

    if folder is None:
        return ExpertPolicy(world)
    return session(folder)


def image_size(folder: Path | None) -> tuple[int, int]:
    """The (height, width) that an artifact's cameras have; the project's own without one.

    Raises `PolicyError` when they differ from one another: the simulator renders one size.
    """
    from policies.policy import PolicyError
    from runtime.lockstep import IMAGE_SIZE

    if folder is None:
        return IMAGE_SIZE
    sizes = {(camera.height, camera.width) for camera in artifact_at(folder).card.cameras.values()}
    if len(sizes) != 1:
        raise PolicyError(f"{folder}: its cameras have the sizes {sorted(sizes)}; the simulator renders only one")
    return sizes.pop()
