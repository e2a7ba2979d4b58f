"""Scheduling is asked for, never required."""

from __future__ import annotations

import gc
import os

import pytest

from runtime import priority


def test_first_in_first_out_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[int, int, int]] = []

    def record(pid: int, policy: int, parameter: os.sched_param) -> None:
        asked.append((pid, policy, parameter.sched_priority))

    monkeypatch.setattr(os, "sched_setscheduler", record, raising=False)
    assert priority.prefer_real_time(priority.SERVO) is None
    assert asked == [(0, os.SCHED_FIFO, 50)]


def test_a_refusal_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "sched_setscheduler", refuse, raising=False)
    assert "refused" in str(priority.prefer_real_time(priority.SERVO))
    monkeypatch.delattr(os, "sched_setscheduler")
    assert "not available" in str(priority.prefer_real_time(priority.SERVO))


def fail_uncollected() -> None:
    with priority.no_collections():
        assert not gc.isenabled()
        raise KeyError


def test_no_collection_in_the_block_even_after_an_error() -> None:
    with pytest.raises(KeyError):
        fail_uncollected()
    assert gc.isenabled()
