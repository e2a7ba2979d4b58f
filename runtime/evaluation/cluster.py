"""Workers on other machines: joblib's Ray and Dask backends, made ready. Loads neither unless it is asked for.

The policy and this package must lie at the same paths on every machine of the cluster.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from runtime.evaluate import LOKY
from runtime.evaluation.trial import EvaluationError

BACKENDS = (LOKY, "ray", "dask")


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
    elif backend == "ray":
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
    from distributed import Client

    try:
        client = Client()
    except OSError as error:
        where = os.environ.get("DASK_SCHEDULER_ADDRESS", "")
        raise EvaluationError(
            f"no Dask scheduler answers at {where!r}: {error}; set DASK_SCHEDULER_ADDRESS or unset it"
        ) from error
    with client:
        yield
