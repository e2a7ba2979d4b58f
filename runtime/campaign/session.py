"""Trials one after another on one robot: a bench and a run are kept as long as a trial leaves them whole.

What a run has recorded is read when it is over; only then are its trials judged.
"""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np

from drivers.arm import Array
from drivers.config import ConfigError, RobotConfig
from runtime.campaign.judge import Verdict, judge
from runtime.campaign.mover import free_box
from runtime.campaign.plan import Plan
from runtime.campaign.recorded import Recorded
from runtime.campaign.rig import Bench, RigError, Run
from runtime.campaign.trial import Observed, perform, recover
from runtime.guard import Guard
from runtime.recording import Recording, RecordingError
from runtime.recovery import recover as recover_recording

RUN_TRIALS = 12  # on one run: its recording is read as a whole
BENCH_TRIALS = 60  # on one emulator: its traces grow
ORPHAN_HOLD_S = 1.0  # instead of the program's 5 s: how long an arm without a policy process is held before it is left
ABOVE_TABLE = 0.07  # m: the mover keeps clear of what lies there
TRIES = 3  # of a run that does not come up


class Session:
    """Plays trials on `robot` with files in `folder`; a context manager. `policy` None: the mover.

    Sessions that run side by side share `starting`: programs are started one after another, and only their start, which
    costs as much as seconds of a trial, is.
    """

    def __init__(
        self,
        robot: RobotConfig,
        folder: Path,
        *,
        policy: str | None = None,
        orphan_hold_s: float = ORPHAN_HOLD_S,
        starting: threading.Lock | None = None,
    ) -> None:
        self._robot, self._folder = robot, folder
        self._policy, self._orphan_hold_s = policy, orphan_hold_s
        self._starting = starting or threading.Lock()
        self._box = box_of(robot)
        self._bench: Bench | None = None
        self._run: Run | None = None
        self._pending: list[Observed] = []
        self._made = 0
        self._on_bench = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._run is not None:
            self._run.end()
        if self._bench is not None:
            self._bench.close()

    def play(self, plans: Iterable[Plan], on_verdict: Callable[[Verdict], None]) -> None:
        """Play every trial; verdicts come when the run that they were played on is over. Raises `RigError`."""
        for plan in plans:
            observed = self._played(plan, on_verdict)
            self._pending.append(observed)
            worn = len(self._pending) >= RUN_TRIALS or self._on_bench >= BENCH_TRIALS
            if plan.fatal or observed.event is None or worn:
                self._finish(on_verdict)
                continue
            assert self._bench is not None and self._run is not None
            recover(self._bench, self._run, observed)
            if observed.reset_refused is not None:
                self._finish(on_verdict)
        self._finish(on_verdict)

    def start(self) -> tuple[Bench, Run]:
        """The bench and a run on it, new where there is none; the arm is at rest at its home pose then."""
        bench, run = self._bench, self._run
        if bench is not None and (not bench.alive or self._on_bench >= BENCH_TRIALS):
            assert run is None  # it was ended with the trial before
            bench.close()
            bench = None
        if bench is None:
            with self._starting:
                bench = self._bench = Bench(self._robot, self._next("bench"), self._made)
            self._on_bench = 0
        if run is None:
            bench.emulator.clear()
            bench.power_cycle(bench.emulator.ids)
            if bench.can_place:
                bench.place(self._made)
            with self._starting:
                run = self._run = Run(bench, self._next("run"), *self._box, self._policy, self._orphan_hold_s)
        return bench, run

    def _played(self, plan: Plan, on_verdict: Callable[[Verdict], None]) -> Observed:
        for left in reversed(range(TRIES)):
            try:
                observed = perform(plan, *self.start())
            except RigError:
                self._finish(on_verdict)  # what was played on it before is judged by its own recording
                if self._bench is not None:
                    self._bench.close()
                    self._bench = None
                if not left:
                    raise
                continue
            self._on_bench += 1
            return observed
        raise AssertionError("the last try returns or raises")

    def _finish(self, on_verdict: Callable[[Verdict], None]) -> None:
        """End the run and judge its trials by its recording."""
        run, self._run = self._run, None
        if run is None:
            return
        if not any(observed.plan.fatal for observed in self._pending):
            self._pending[-1:] = [replace(last, closed=time.monotonic_ns()) for last in self._pending[-1:]]
            run.ask("stop", category=0)  # nothing is judged any more: no need to lower the arm first
        left = run.end()
        recorded: Recorded | None = None
        unreadable = ""
        try:
            recorded = _recorded(run)
        except RecordingError as error:
            unreadable = str(error)
        pending, self._pending = self._pending, []
        for observed in pending:
            observed.recorded, observed.unreadable = recorded, unreadable
            if observed is pending[-1]:
                observed.left |= left
            on_verdict(judge(observed))
        shutil.rmtree(run.folder, ignore_errors=True)

    def end_run(self) -> None:
        """End the run that `start` began, in good order."""
        run, self._run = self._run, None
        if run is not None:
            run.end()

    def _next(self, what: str) -> Path:
        self._made += 1
        return self._folder / f"{what}{self._made}"


def _recorded(run: Run) -> Recorded:
    """What a run has recorded, of one that broke off what can be recovered. Raises `RecordingError`."""
    path = run.recording
    if not Recording(path).complete:
        path = run.folder / "recovered.mcap"
        recover_recording(run.recording, path)
    return Recorded.of(path)


def box_of(robot: RobotConfig) -> tuple[Array, Array]:
    """Where the mover may wander: around the home pose, clear of itself, of the walls, and of what is on the table.

    Raises `ConfigError` for a robot without a home pose, or with one that is too low.
    """
    home = robot.arm.home_pose()
    if home is None:
        raise ConfigError(f"{robot.name}: arm.home: missing; the campaign moves about it")
    safety = robot.safety
    if robot.emulated and safety.table_height is not None:  # blocks lie on it
        safety = safety.model_copy(update={"table_height": safety.table_height + ABOVE_TABLE})
        arm = robot.arm.model_copy(update={"rest": None})  # which is lower
        robot = robot.model_copy(update={"safety": safety, "arm": arm})
    guard = Guard.of(robot)

    def free(pose: Array) -> bool:
        return guard is None or guard.check(pose) is None

    return free_box(robot.arm.spec(), home, free, np.random.default_rng(0))
