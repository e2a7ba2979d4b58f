"""Who goes first on a shared machine: real-time scheduling where it is granted, cores that stay awake, collections off
the tick, memory.

Only the servo loop asks for it. The policy's threads must not: they fill every core for a third of the time, and at
real-time priority they starve the kernel's own workers, which carry a serial line's bytes. Measured once on 2 cores,
5 episodes each: control step 17 instead of 25 ms, but 270 bus replies of 3,500 too late instead of none.
"""

from __future__ import annotations

import gc
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

SERVO = 50  # what ros2_control asks for
LATENCY = Path("/dev/cpu_dma_latency")  # Linux's power management quality of service (pm_qos_interface)
EXPENDABLE = 500  # of 1000, added to the share of memory that a process has (proc_pid_oom_score_adj(5))


@contextmanager
def real_time(priority: int) -> Iterator[str | None]:
    """This thread, and those it starts, go first in, first out while the block runs; a sentence when that is refused.

    Not until the process ends: an interpreter that takes itself apart computes for 0.1 s, in which whatever else wants
    that core, a policy or another arm, would stand still.
    """
    if not hasattr(os, "sched_setscheduler"):
        yield "real-time scheduling is not available on this system: expect some jitter"
        return
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(priority))
    except PermissionError:
        yield f"real-time scheduling was refused: expect some jitter, or allow it with `ulimit -r {priority}`"
        return
    try:
        yield None
    finally:
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


def prefer_to_be_killed() -> None:
    """When memory runs out the system should end this process, the policy's, and not the one that holds the arm.

    Those that it starts afterwards take this over; what the system refuses is no worse than before.
    """
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(str(EXPENDABLE))


@contextmanager
def no_collections() -> Iterator[None]:
    """Collect garbage now, and not again while the block runs: a collection in the middle of a tick is a stall."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


@contextmanager
def cores_awake() -> Iterator[None]:
    """Idle cores stay awake while the block runs, where the system allows that; it costs power, and nothing else.

    Between two control steps a core has 40 ms to fall asleep in, and is slow for a while after: on 2 cores of a virtual
    machine the median step then takes twice what it takes without pauses (docs/performance.md).
    """
    try:
        request = LATENCY.open("wb", buffering=0)
    except OSError:
        yield
        return
    with request:  # the request holds for as long as the file is open, and ends with the process at the latest
        request.write(struct.pack("i", 0))
        yield


@contextmanager
def undisturbed() -> Iterator[None]:
    """What a stretch of control steps in real time runs in: `cores_awake`, `no_collections`."""
    with cores_awake(), no_collections():
        yield
