"""Workers on other machines: joblib's Ray and Dask backends, made ready. Loads neither unless it is asked for.

The policy and this package must lie at the same paths on every machine of the cluster.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from runtime.evaluate import LOKY, RAY
from runtime.evaluation.trial import EvaluationError

BACKENDS = (LOKY, RAY, "dask")


@contextmanager
def cluster(backend: str) -> Iterator[None]:
    """Within, `backend` is known to joblib. A cluster is found where its own settings say (RAY_ADDRESS,
    DASK_SCHEDULER_ADDRESS); without one, a cluster of this machine is started and ended.

    Raises `EvaluationError` for another backend and when the cluster does not answer, and `ModuleNotFoundError` when
    it is not installed.
    """
    if backend not in BACKENDS:
        raise EvaluationError(f"no backend {backend!r}; there are {', '.join(BACKENDS)}")
    if backend == LOKY:
        yield
    elif backend == RAY:
        with _ray():
            yield
    else:
        with _dask():
            yield


@contextmanager
def _ray() -> Iterator[None]:
    import ray
    from ray.util.joblib import register_ray

    try:
        ray.init(log_to_driver=False, configure_logging=False)
    except ConnectionError as error:
        where = os.environ.get("RAY_ADDRESS", "")
        raise EvaluationError(f"no Ray cluster answers at {where!r}: {error}; set RAY_ADDRESS or unset it") from error
    try:
        register_ray()
        yield
    finally:
        ray.shutdown()


@contextmanager
def _dask() -> Iterator[None]:
    import distributed
    from dask import config

    where = config.get("scheduler-address", None)
    try:
        client = distributed.Client(where) if where else distributed.Client(threads_per_worker=1)
    except OSError as error:
        raise EvaluationError(
            f"no Dask scheduler answers at {where!r}: {error}; set DASK_SCHEDULER_ADDRESS or unset it"
        ) from error
    with client:
        if any(threads != 1 for threads in client.nthreads().values()):
            raise EvaluationError("Dask: a worker has several threads, and a world is for one: use --nthreads 1")
        yield
