"""The loop of the emulated arm: servos on a pseudo-terminal, cameras on a stream, a world behind both, in real time.

One thread and one selector: bytes on the bus come first, and between two looks at the bus at most one piece of other
work is done (a batch of physics, one render), so that a request waits some milliseconds at most.
"""

from __future__ import annotations

import base64
import os
import selectors
import time
from collections import deque
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from sim.camera_stream import CameraStream
from sim.control_socket import ControlServer
from sim.faults import EmulatorError, Faults
from sim.plants import Joints, TracedPlant, WorldPlant
from sim.pseudo_terminal import PseudoTerminal
from sim.servo_bus import Plant, ServoBus

IDS = (1, 2, 3, 4, 5, 6)
CAMERAS = ("fixed", "wrist")
CAMERA_RATE = 30  # Hz, a common webcam's
JUDGE_RATE = 20  # Hz of the emulator's own time
BATCH = 4  # physics substeps in a row at most, before the bus is looked at again
LAG_LIMIT = 20  # physics substeps behind real time; what is beyond is given up
LINE_SILENCE_NS = 20_000_000  # after this an incomplete request is forgotten
HOUSEKEEPING_NS = 250_000_000


class WorldLike(Joints, Protocol):
    """The part of `sim.world.World` that the emulator needs."""

    physics_rate: int

    def reset(self, rng: np.random.Generator, *, keep_arm: bool = False) -> None: ...
    def render(self, camera: str) -> NDArray[np.uint8]: ...


class JudgeLike(Protocol):
    """Watches one episode (`sim.tasks.Judge`)."""

    outcome: str | None
    steps: int

    def update(self) -> None: ...


class Emulator:
    """Servos 1..6, cameras "fixed" and "wrist" and a control socket on top of `world`, which must have been reset.

    `link` is the symlink to the pseudo-terminal, `control` the path of the control socket, `trace` the CSV file that
    every goal on the bus is written to (see `TracedPlant`). `make_judge` makes the judge of a task's text. With
    `orphan_timeout` (s) the emulator ends that long after its parent has died and no client holds the port any more.
    Raises `EmulatorError` when one of the paths or the port cannot be had.
    """

    def __init__(
        self,
        world: WorldLike,
        *,
        make_judge: Callable[[str], JudgeLike],
        link: Path | None = None,
        camera_port: int = 0,
        control: Path | None = None,
        trace: Path | None = None,
        faults: Faults | None = None,
        orphan_timeout: float | None = None,
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._world, self._make_judge, self._clock = world, make_judge, clock
        self._judge: JudgeLike | None = None
        self._judge_at = 0  # substep count
        self._period_ns = 1_000_000_000 // world.physics_rate
        self._substeps_per_judgement = world.physics_rate // JUDGE_RATE
        self._substeps = self._skipped = 0
        self._lag_max_ns = 0
        self._camera_period_ns = 1_000_000_000 // CAMERA_RATE
        self._running = True
        self._parent, self._orphan_timeout, self._alone_since = os.getppid(), orphan_timeout, 0
        self._late: deque[tuple[int, bytes]] = deque()  # replies held back by a fault, with their time
        self._last_byte = 0

        with ExitStack() as stack:
            # A SelectSelector has microsecond timeouts, epoll only milliseconds.
            self._selector = stack.enter_context(selectors.SelectSelector())
            self._plant = WorldPlant(world)
            self._trace_path = trace
            self._trace: TracedPlant | None = None
            plant: Plant = self._plant
            if trace is not None:
                plant = self._trace = TracedPlant(self._plant, IDS, stack.enter_context(trace.open("w")), clock)
                stack.callback(self._trace.flush)
            self._bus = ServoBus(IDS, plant, faults)
            self._terminal = PseudoTerminal(link)
            stack.callback(self._terminal.close)
            self._selector.register(self._terminal, selectors.EVENT_READ, self._serve_bus)
            self._stream = CameraStream(CAMERAS, self._selector, camera_port)
            stack.callback(self._stream.close)
            self._control = control
            if control is not None:
                server = ControlServer(control, self._handlers(), self._selector, (EmulatorError, ValueError))
                stack.callback(server.close)
            self._stack = stack.pop_all()

    def ready(self) -> dict[str, Any]:
        """Where everything is: what is printed when the emulator is up."""
        return {
            "port": str(self._terminal.path),
            "cameras": {camera: self._stream.url(camera) for camera in CAMERAS},
            "control": self._control and str(self._control),
            "trace": self._trace_path and str(self._trace_path),
            "pid": os.getpid(),
        }

    def run(self) -> None:
        """Emulate until `stop` is called or the emulator is an orphan."""
        now = self._clock()
        self._next_step = now
        self._next_frame = {
            camera: now + i * self._camera_period_ns // len(CAMERAS) for i, camera in enumerate(CAMERAS)
        }
        self._next_housekeeping = now
        while self._running:
            due = min(self._next_step, self._next_housekeeping, *self._next_frame.values())
            if self._late:
                due = min(due, self._late[0][0])
            ready = self._selector.select(max(0, due - self._clock()) / 1e9)
            for key, mask in sorted(ready, key=lambda item: item[0].fileobj is not self._terminal):
                key.data(key, mask)
            self._work(self._clock())

    def stop(self) -> None:
        """End `run` within some milliseconds; may be called from a signal handler or another thread."""
        self._running = False

    def close(self) -> None:
        """Hang up everywhere, remove link and socket, write the trace out."""
        self._stack.close()

    def _work(self, now: int) -> None:
        """The one piece of work that is due and most urgent."""
        if self._late and now >= self._late[0][0]:
            self._terminal.write(self._late.popleft()[1])
        elif now >= self._next_step:
            self._advance(now)
        elif now >= min(self._next_frame.values()):
            camera = min(self._next_frame, key=lambda name: self._next_frame[name])
            # Phase kept: a late frame does not shift the later ones.
            periods = (now - self._next_frame[camera]) // self._camera_period_ns + 1
            self._next_frame[camera] += periods * self._camera_period_ns
            if self._stream.watched(camera):
                self._stream.publish(camera, self._world.render(camera))
        elif now >= self._next_housekeeping:
            self._next_housekeeping = now + HOUSEKEEPING_NS
            self._keep_house(now)

    def _advance(self, now: int) -> None:
        """Physics up to now, a batch at most; judge at its own rate."""
        behind = (now - self._next_step) // self._period_ns + 1
        self._lag_max_ns = max(self._lag_max_ns, now - self._next_step)
        if behind > LAG_LIMIT:
            self._skipped += behind - 1
            self._next_step += (behind - 1) * self._period_ns
            behind = 1
        for _ in range(min(behind, BATCH)):
            self._plant.step(1)
            self._substeps += 1
            self._next_step += self._period_ns
            if self._judge is not None and self._judge.outcome is None and self._substeps >= self._judge_at:
                self._judge_at += self._substeps_per_judgement
                self._judge.update()

    def _serve_bus(self, key: selectors.SelectorKey, mask: int) -> None:
        data = self._terminal.read()
        now = self._clock()
        if now - self._last_byte > LINE_SILENCE_NS:
            self._bus.forget()
        self._last_byte = now
        replies = self._bus.feed(data)
        delay = self._bus.faults.take_delay()
        if delay or self._late:  # the line keeps its order
            self._late.append((now + round(delay * 1e9), replies))
        elif replies:
            self._terminal.write(replies)

    def _keep_house(self, now: int) -> None:
        if self._trace is not None:
            self._trace.flush()
        if self._orphan_timeout is None or os.getppid() == self._parent or self._terminal.in_use():
            self._alone_since = now
        elif now - self._alone_since > self._orphan_timeout * 1e9:
            self._running = False

    def _handlers(self) -> dict[str, Callable[..., Any]]:
        return {
            "reset": self._reset,
            "judge": self._verdict,
            "trace": self._flush_trace,
            "frame": self._frame,
            "stats": self._statistics,
            "ready": self.ready,
        }

    def _reset(self, seed: int, task: str, home: bool = False) -> dict[str, int]:
        self._make_judge(task)  # refuses a task before anything has moved
        self._world.reset(np.random.default_rng(seed), keep_arm=not home)
        if home:
            self._plant.placed()
            self._bus.goals_to_present()
        else:
            self._plant.disturbed()
        self._judge = self._make_judge(task)
        self._judge_at = self._substeps + self._substeps_per_judgement
        for i, camera in enumerate(CAMERAS):  # nobody should see the old layout for longer than needed
            self._next_frame[camera] = self._clock() + i * self._camera_period_ns // len(CAMERAS)
        return {"stamp": self._clock()}

    def _verdict(self) -> dict[str, Any]:
        if self._judge is None:
            raise EmulatorError("no episode is running; ask for a reset first")
        return {"outcome": self._judge.outcome, "steps": self._judge.steps}

    def _flush_trace(self) -> str:
        if self._trace is None:
            raise EmulatorError("goals are not being traced; start the emulator with --trace FILE")
        self._trace.flush()
        return str(self._trace_path)

    def _frame(self, camera: str) -> dict[str, Any]:
        if camera not in CAMERAS:
            raise EmulatorError(f"there is no camera {camera}; there are {', '.join(CAMERAS)}")
        image = self._world.render(camera)
        return {"shape": image.shape, "rgb": base64.b64encode(image.tobytes()).decode()}

    def _statistics(self) -> dict[str, float]:
        return {
            "substeps": self._substeps,
            "skipped": self._skipped,
            "lag_max_ms": self._lag_max_ns / 1e6,
            "requests": self._bus.requests,
            "cpu_seconds": time.process_time(),
        }
