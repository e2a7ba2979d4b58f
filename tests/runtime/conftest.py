"""A tiny artifact to be measured, exported once for each test module that asks."""

from __future__ import annotations

import pytest

from policies.artifact import Artifact
from tests.policies.gato.tiny import exported


@pytest.fixture(scope="module")
def tiny_artifact(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return exported(tmp_path_factory.mktemp("bench"))
