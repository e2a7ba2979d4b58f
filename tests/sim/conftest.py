"""One world for a test module: it costs 30 ms, and `reset` makes it as good as new."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from sim.world import World


@pytest.fixture(scope="module")
def shared() -> Iterator[World]:
    world = World()
    yield world
    world.close()
