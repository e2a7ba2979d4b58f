"""Which memory is moved into huge pages, and that it holds the same afterwards."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from policies import huge_pages
from policies.huge_pages import SIZE, large_pieces, use_huge_pages

MAPS = """\
00400000-00800000 rw-p 00000000 00:00 0
00900000-01300000 rw-p 00000000 00:00 0                                  [heap]
01400000-01800000 r--p 00000000 08:01 12 /usr/lib/python3 with spaces
01800000-01c00000 rw-p 00000000 08:01 12 /usr/lib/libx.so
02000000-02100000 rw-p 00000000 00:00 0
02200000-02600000 rw-s 00000000 00:01 7 /dev/shm/psm
02a00000-02e00000 rw-p 00000000 00:00 0                                  [stack]
"""


def test_whole_pages_of_the_heap_and_of_unnamed_private_memory_are_large_pieces() -> None:
    assert list(large_pieces(MAPS)) == [(0x400000, 0x800000), (0xA00000, 0x1200000)]


def test_memory_holds_the_same_afterwards() -> None:
    kept = np.arange(4 * SIZE, dtype=np.int64)
    moved = use_huge_pages()
    assert moved >= 0
    np.testing.assert_array_equal(kept, np.arange(4 * SIZE))


def test_another_system_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(huge_pages, "MAPS", None)
    assert use_huge_pages() == 0
