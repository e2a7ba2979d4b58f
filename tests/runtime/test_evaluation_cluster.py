"""Backends: what is not there is one line; what is there gives the same rows."""

from __future__ import annotations

import sys

import pytest

from runtime.cli import main
from runtime.evaluation.cluster import cluster
from runtime.evaluation.trial import EvaluationError


@pytest.mark.parametrize(("backend", "module"), [("ray", "ray"), ("dask", "distributed")])
def test_a_backend_that_is_not_installed_is_one_line(
    backend: str, module: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    assert main(["eval", "--policy", "expert", "--episodes", "1", "--backend", backend]) == 2
    said = capsys.readouterr().err.splitlines()
    assert said == [f"gato-arm: {module} is not installed; pip install 'gato-arm[cluster]'"]


def test_a_backend_that_nobody_knows_is_refused() -> None:
    with pytest.raises(EvaluationError, match="no backend 'pigeon'; there are loky, ray, dask"), cluster("pigeon"):
        pass
