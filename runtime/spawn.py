"""Processes that begin with a clean interpreter: nothing of this program's main module, no library that it has loaded.

Knows nothing of what they do.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import sys
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from types import ModuleType


def spawn(name: str, target: Callable[..., None], settings: object) -> tuple[SpawnProcess, Connection]:
    """Start `target(settings, connection)` in a process; returns it and this side of the connection.

    `target` and `settings` are pickled. Daemonic: a program that ends without stopping it sends it SIGTERM and waits.
    """
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=target, args=(settings, theirs), name=name, daemon=True)
    with _without_main():
        process.start()
    theirs.close()
    return process, ours


@contextlib.contextmanager
def _without_main() -> Iterator[None]:
    """Keep a spawned child from importing this program's main module, and with it OpenCV or an inference library."""
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main
