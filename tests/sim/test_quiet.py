"""Silence for native code, and for nothing else."""

from __future__ import annotations

import os
import sys

import pytest

from sim.quiet import quiet


def test_nothing_written_inside_is_seen_and_all_outside_is(capfd: pytest.CaptureFixture[str]) -> None:
    print("before")
    with quiet():
        os.write(1, b"native")
        os.write(2, b"native")
    print("after")
    print("error", file=sys.stderr)
    sys.stdout.flush()
    output = capfd.readouterr()
    assert output.out == "before\nafter\n" and output.err == "error\n"


def test_an_exception_ends_the_silence_and_no_descriptor_is_lost(capfd: pytest.CaptureFixture[str]) -> None:
    free = os.dup(0)
    os.close(free)
    for _ in range(3):
        with pytest.raises(RuntimeError), quiet():
            raise RuntimeError
    again = os.dup(0)
    os.close(again)
    assert again == free
    os.write(1, b"heard")
    assert capfd.readouterr().out == "heard"


def test_loading_the_world_says_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    from sim.world import World

    World().close()
    assert capfd.readouterr() == ("", "")
