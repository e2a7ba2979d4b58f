"""Episodes without end on an arm with a slightly bad cable: does memory grow, do descriptors leak, is anything lost?

Samples every process of the run from outside; the traces are judged as in any trial.
"""

from __future__ import annotations

import resource
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from runtime.campaign import invariants
from runtime.campaign.recorded import Recorded
from runtime.campaign.rig import Bench, Run
from runtime.campaign.session import Session

CORRUPT = 0.005  # share of replies
EPISODE = 20.0  # s
SAMPLE = 5.0  # s
WARM_UP = 0.25  # of the time, in which memory may grow: caches and buffers fill
GROWTH_MAX = 4.0  # MB that a process may have grown from then on: malloc keeps pages that it may use again


@dataclass(frozen=True)
class Sample:
    """One process at one moment."""

    seconds: float  # since the beginning
    process: str
    resident_mb: float
    descriptors: int


@dataclass
class Soak:
    """What came of it."""

    seconds: float = 0.0
    episodes: int = 0
    samples: list[Sample] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)
    dropped: int | None = None  # records; None: the recording cannot be read

    def growth(self, process: str) -> tuple[float, float, int]:
        """After the warm-up: MB grown, MB an hour by a straight line, and descriptors more at the end."""
        late = [one for one in self.samples if one.process == process and one.seconds >= WARM_UP * self.seconds]
        if len(late) < 2:
            return 0.0, 0.0, 0
        moments = np.array([one.seconds for one in late])
        sizes = np.array([one.resident_mb for one in late])
        slope = float(np.polyfit(moments, sizes, 1)[0]) * 3600
        return float(sizes[-1] - sizes[0]), slope, late[-1].descriptors - late[0].descriptors

    @property
    def processes(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(one.process for one in self.samples))

    def problems(self) -> list[str]:
        """What is not as it should be, a line each."""
        found = [f"unexplained fault: {fault}" for fault in self.faults] + self.violations
        for process in self.processes:
            grown, _, descriptors = self.growth(process)
            if grown > GROWTH_MAX:
                found.append(f"{process}: {grown:.1f} MB more after the warm-up, {GROWTH_MAX:g} MB are allowed")
            if descriptors > 0:
                found.append(f"{process}: {descriptors} descriptors more after the warm-up")
        if self.dropped is None:
            found.append("the recording cannot be read")
        elif self.dropped:
            found.append(f"{self.dropped} records dropped")
        return found

    def to_json(self) -> dict[str, Any]:
        return {
            "seconds": self.seconds,
            "episodes": self.episodes,
            "corrupt": CORRUPT,
            "dropped": self.dropped,
            "faults": self.faults,
            "problems": self.problems(),
            "processes": {
                process: dict(zip(("grown_mb", "mb_per_hour", "descriptors_more"), self.growth(process), strict=True))
                for process in self.processes
            },
            "samples": [[one.seconds, one.process, one.resident_mb, one.descriptors] for one in self.samples],
        }


def soak(session: Session, minutes: float, on_sample: Callable[[Soak], None]) -> Soak:
    """Run for so long. Raises `RigError` when the arm does not begin to move."""
    bench, run = session.start()
    result = Soak()
    began = time.monotonic()
    bench.emulator.fault("corrupt", p=CORRUPT)
    bench.read()
    while (elapsed := time.monotonic() - began) < 60 * minutes:
        run.ask("play", task=f"move {result.episodes}")
        if run.wait_for("playing") is None:
            result.faults.append(f"the arm did not begin to move: {run.last_line()}")
            break
        result.episodes += 1
        _sample_until(min(began + 60 * minutes, time.monotonic() + EPISODE), bench, run, result, began, on_sample)
        run.ask("over")
        ended = run.wait_for("ended")
        _judge(bench, result)
        if ended is None or ended["fault"] is not None:
            result.faults.append(run.last_line() if ended is None else f"{ended['fault']} after {elapsed:.0f} s")
            run.ask("reset")
            run.wait_for("reset")
        run.events.clear()
    result.seconds = time.monotonic() - began
    recording = run.recording
    session.end_run()
    if recording.exists():
        result.dropped = Recorded.of(recording).dropped
    return result


def markdown(results: dict[str, Soak], command: str) -> str:
    """The page."""
    lines = ["# Episodes without end", "", f"Made by `{command}`; do not edit.", ""]
    for robot, result in results.items():
        lines += [
            f"## {robot}",
            "",
            f"{result.seconds / 60:.0f} minutes, {result.episodes} episodes, {CORRUPT:.1%} of the replies corrupt; "
            f"{len(result.faults)} unexplained faults, {result.dropped} records dropped.",
            "",
            "| process | MB at the end | MB grown after the warm-up | MB/h | descriptors more |",
            "|---|---:|---:|---:|---:|",
        ]
        for process in result.processes:
            last = next(one for one in reversed(result.samples) if one.process == process)
            grown, slope, descriptors = result.growth(process)
            lines.append(f"| {process} | {last.resident_mb:.1f} | {grown:+.2f} | {slope:+.2f} | {descriptors:+d} |")
        lines += ["", *(f"- {problem}" for problem in result.problems() or ["no problems found"]), ""]
    return "\n".join(lines)


def _sample_until(
    end: float, bench: Bench, run: Run, result: Soak, began: float, on_sample: Callable[[Soak], None]
) -> None:
    while (left := end - time.monotonic()) > 0:
        time.sleep(min(SAMPLE, left))
        result.seconds = time.monotonic() - began
        for process, pid in {**run.pids, "emulator": bench.emulator.pid}.items():
            if (sample := _sample(process, pid, result.seconds)) is not None:
                result.samples.append(sample)
        on_sample(result)


def _sample(process: str, pid: int, seconds: float) -> Sample | None:
    folder = Path(f"/proc/{pid}")
    try:
        pages = int((folder / "statm").read_text().split()[1])
        descriptors = sum(1 for _ in (folder / "fd").iterdir())
    except OSError:
        return None  # it is gone; the run says so
    return Sample(seconds, process, pages * resource.getpagesize() / 1e6, descriptors)


def _judge(bench: Bench, result: Soak) -> None:
    traces = bench.read()
    since = int(min((trace.goals.stamps[0] for trace in traces if trace.goals.stamps.size), default=0))
    rules: Sequence[Sequence[invariants.Violation]] = (
        invariants.goals_within_limits(traces, since),
        invariants.goals_within_speed(traces, (), since),
        invariants.goals_within_acceleration(traces, (), since),
        invariants.motion_within_speed(traces, since),
    )
    result.violations += [f"episode {result.episodes}: {found}" for rule in rules for found in rule]
