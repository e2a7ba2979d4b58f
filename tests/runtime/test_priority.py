"""Scheduling is asked for, never required."""

from __future__ import annotations

import gc
import os
import struct
from pathlib import Path

import pytest

from runtime import priority


def fail_in_real_time() -> None:
    with priority.real_time(priority.SERVO) as refused:
        assert refused is None
        raise KeyError


def test_first_in_first_out_while_the_block_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[int, int, int]] = []

    def record(pid: int, policy: int, parameter: os.sched_param) -> None:
        asked.append((pid, policy, parameter.sched_priority))

    monkeypatch.setattr(os, "sched_setscheduler", record, raising=False)
    with pytest.raises(KeyError):
        fail_in_real_time()
    assert asked == [(0, os.SCHED_FIFO, 50), (0, os.SCHED_OTHER, 0)]


def test_a_refusal_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "sched_setscheduler", refuse, raising=False)
    with priority.real_time(priority.SERVO) as refused:
        assert "refused" in str(refused)
    monkeypatch.delattr(os, "sched_setscheduler")
    with priority.real_time(priority.SERVO) as refused:
        assert "not available" in str(refused)


def fail_uncollected() -> None:
    with priority.no_collections():
        assert not gc.isenabled()
        raise KeyError


def test_no_collection_in_the_block_even_after_an_error() -> None:
    with pytest.raises(KeyError):
        fail_uncollected()
    assert gc.isenabled()


def test_cores_are_asked_to_stay_awake_for_the_block_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    request = tmp_path / "latency"
    request.touch()
    monkeypatch.setattr(priority, "LATENCY", request)
    with priority.undisturbed():
        assert struct.unpack("i", request.read_bytes()) == (0,)
        assert str(request) in held_files()
        assert not gc.isenabled()
    assert str(request) not in held_files()
    assert gc.isenabled()


def test_where_that_is_not_allowed_the_block_runs_all_the_same(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(priority, "LATENCY", tmp_path / "missing" / "latency")
    with priority.cores_awake():
        pass
    with pytest.raises(KeyError), priority.cores_awake():
        raise KeyError


def held_files() -> list[str]:
    folder = Path("/proc/self/fd")
    return [os.readlink(folder / name) for name in os.listdir(folder) if (folder / name).is_symlink()]
