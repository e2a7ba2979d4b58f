"""A lens that is known, and pictures taken through it: drawn once for all tests of this folder."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import pytest

from calibration.board import BOARDS, Image
from calibration.rehearsal.drawing import TrueLens
from calibration.rehearsal.shots import random_lens, shots


@dataclass(frozen=True)
class Album:
    lens: TrueLens
    images: list[Image]


@pytest.fixture(scope="session")
def album() -> Album:
    rng = np.random.default_rng(4)
    lens = random_lens(rng)
    return Album(lens, list(itertools.islice(shots(BOARDS["table"], lens, rng), 34)))
