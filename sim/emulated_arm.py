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
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from drivers.arm import Array
from sim.camera_stream import CameraStream
from sim.control_socket import ControlServer
from sim.eeprom import save_eeprom
from sim.faults import EmulatorError, Fault
from sim.hand import Hand
from sim.plants import Joints, WorldPlant
from sim.pseudo_terminal import PseudoTerminal
from sim.servo_bus import ServoBus
from sim.servo_trace import ServoTrace

CAMERA_RATE = 30  # Hz, a common webcam's
JUDGE_RATE = 20  # Hz of the emulator's own time
BATCH = 4  # physics substeps in a row at most, before the bus is looked at again
LAG_LIMIT = 20  # physics substeps behind real time; what is beyond is given up
LINE_SILENCE_NS = 20_000_000  # after this an incomplete request is forgotten
HOUSEKEEPING_NS = 250_000_000


class WorldLike(Joints, Protocol):
    """The part of `sim.world.World` and `sim.articulated.ArticulatedWorld` that the emulator needs."""

    physics_rate: int

    def reset(self, rng: np.random.Generator, *, keep_arm: bool = False) -> None: ...
    def render(self, camera: str) -> NDArray[np.uint8]: ...


class JudgeLike(Protocol):
    """Watches one episode (`sim.tasks.Judge`)."""

    outcome: str | None
    steps: int
    limit: int

    def update(self) -> None: ...


class ExpertLike(Protocol):
    """Demonstrates one task (`sim.expert.Expert`)."""

    def act(self, command: Array) -> Array: ...


class Emulator:
    """`bus` on a pseudo-terminal, `cameras` on a stream and a control socket, on top of `world`, which must have been
    reset; `plant` is what the servos of the bus move in it.

    `link` is the symlink to the pseudo-terminal, `control` the path of the control socket, `trace` and `motion` the CSV
    files of every goal and of every physics step (see `ServoTrace`), `eeprom` where the servos' settings are kept.
    `make_judge` makes the judge of a task's text, `make_expert` its demonstrator. With `orphan_timeout` (s) the
    emulator ends that long after its
    parent has died and no client holds the port any more. Raises `EmulatorError` when one of the paths or the port
    cannot be had.
    """

    def __init__(
        self,
        world: WorldLike,
        bus: ServoBus,
        plant: WorldPlant,
        *,
        make_judge: Callable[[str], JudgeLike],
        make_expert: Callable[[str], ExpertLike],
        cameras: Sequence[str],
        link: Path | None = None,
        camera_port: int = 0,
        control: Path | None = None,
        trace: Path | None = None,
        motion: Path | None = None,
        eeprom: Path | None = None,
        orphan_timeout: float | None = None,
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self.bus = bus
        self._world, self._plant, self._clock = world, plant, clock
        self._make_judge, self._make_expert = make_judge, make_expert
        self._expert: ExpertLike | None = None
        self._hand: Hand | None = None
        self._cameras = tuple(cameras)
        self._judge: JudgeLike | None = None
        self._judge_at = 0  # substep count
        self._period = 1 / world.physics_rate
        self._period_ns = 1_000_000_000 // world.physics_rate
        self._substeps_per_judgement = world.physics_rate // JUDGE_RATE
        self._substeps = self._skipped = 0
        self._lag_max_ns = 0
        self._camera_period_ns = 1_000_000_000 // CAMERA_RATE
        self._running = True
        self._parent, self._orphan_timeout, self._alone_since = os.getppid(), orphan_timeout, 0
        self._late: deque[tuple[int, bytes]] = deque()  # replies on their way, with their time
        self._last_byte = 0
        self._started = clock()
        self._control, self._trace_path, self._motion_path, self._eeprom = control, trace, motion, eeprom

        with ExitStack() as stack:
            # A SelectSelector has microsecond timeouts, epoll only milliseconds.
            self._selector = stack.enter_context(selectors.SelectSelector())
            self._trace = self._open_trace(trace, stack)
            self._motion = self._open_trace(motion, stack)
            for servo in bus.servos:
                servo.body.watcher = self._trace
            if eeprom is not None:
                stack.callback(self._keep_eeprom)
            self._terminal = PseudoTerminal(link, max(servo.baudrate for servo in bus.servos))
            stack.callback(self._terminal.close)
            self._selector.register(self._terminal, selectors.EVENT_READ, self._serve_bus)
            self._stream = CameraStream(self._cameras, self._selector, camera_port, noise=np.random.default_rng(0))
            stack.callback(self._stream.close)
            if control is not None:
                server = ControlServer(control, self._handlers(), self._selector, (EmulatorError, ValueError))
                stack.callback(server.close)
            self._stack = stack.pop_all()
        bus.faults.subscribe(self._on_fault)

    def ready(self) -> dict[str, Any]:
        """Where everything is: what is printed when the emulator is up."""
        return {
            "port": str(self._terminal.path),
            "bus": self.bus.wire.name,
            "ids": [servo.id for servo in self.bus.servos],
            "cameras": {camera: self._stream.url(camera) for camera in self._cameras},
            "control": self._control and str(self._control),
            "trace": self._trace_path and str(self._trace_path),
            "motion": self._motion_path and str(self._motion_path),
            "pid": os.getpid(),
        }

    def run(self) -> None:
        """Emulate until `stop` is called or the emulator is an orphan."""
        now = self._clock()
        self._started = self._next_step = now
        self._next_housekeeping = now
        self._next_frame: dict[str, int] = {}
        self._schedule_frames(now)
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
        """Hang up everywhere, remove link and socket, write traces and EEPROM out."""
        self._stack.close()

    def _open_trace(self, path: Path | None, stack: ExitStack) -> ServoTrace | None:
        if path is None:
            return None
        trace = ServoTrace(stack.enter_context(path.open("w")), [servo.id for servo in self.bus.servos], self._clock)
        stack.callback(trace.flush)
        return trace

    def _schedule_frames(self, now: int) -> None:
        """One frame of each camera from now on, evenly spread."""
        for i, camera in enumerate(self._cameras):
            self._next_frame[camera] = now + i * self._camera_period_ns // len(self._cameras)

    def _work(self, now: int) -> None:
        """The one piece of work that is due and most urgent."""
        if self._late and now >= self._late[0][0]:
            self._terminal.write(self._late.popleft()[1])
        elif now >= self._next_step:
            self._advance(now)
        elif now >= min(self._next_frame.values(), default=now + 1):
            self._show(min(self._next_frame, key=lambda name: self._next_frame[name]), now)
        elif now >= self._next_housekeeping:
            self._next_housekeeping = now + HOUSEKEEPING_NS
            self._keep_house(now)

    def _advance(self, now: int) -> None:
        """Physics up to now, a batch at most; faults that begin or end; judge at its own rate."""
        if now - self._started >= self.bus.faults.due * 1e9:
            self.bus.faults.advance((now - self._started) / 1e9)
        behind = (now - self._next_step) // self._period_ns + 1
        self._lag_max_ns = max(self._lag_max_ns, now - self._next_step)
        if behind > LAG_LIMIT:
            self._skipped += behind - 1
            self._next_step += (behind - 1) * self._period_ns
            behind = 1
        for _ in range(min(behind, BATCH)):
            self.bus.advance(self._period)
            if self._hand is not None:
                self._hand.advance(self._period)
                self._plant.hold(self._hand.pose)
            self._plant.step(1)
            if self._motion is not None:
                self.bus.sample(self._motion)
            self._substeps += 1
            self._next_step += self._period_ns
            if self._judge is not None and self._judge.outcome is None and self._substeps >= self._judge_at:
                self._judge_at += self._substeps_per_judgement
                self._judge.update()

    def _show(self, camera: str, now: int) -> None:
        """One frame, if anybody looks; the phase is kept: a late frame does not shift the later ones."""
        periods = (now - self._next_frame[camera]) // self._camera_period_ns + 1
        self._next_frame[camera] += periods * self._camera_period_ns
        if self._stream.frozen(camera):
            self._stream.repeat(camera)
        elif self._stream.watched(camera):
            self._stream.publish(camera, self._world.render(camera))

    def _serve_bus(self, key: selectors.SelectorKey, mask: int) -> None:
        data = self._terminal.read()
        now = self._clock()
        if now - self._last_byte > LINE_SILENCE_NS:
            self.bus.forget()
        self._last_byte = now
        for delay, reply in self.bus.feed(data, self._terminal.baudrate()):
            if delay or self._late:  # the line keeps its order
                after = self._late[-1][0] if self._late else 0
                self._late.append((max(after, now + round(delay * 1e9)), reply))
            else:
                self._terminal.write(reply)

    def _on_fault(self, fault: Fault, begins: bool) -> None:
        if fault.name == "freeze_camera":
            self._stream.freeze(fault.arguments["camera"], begins)
        elif fault.name == "drop_camera":
            self._stream.drop(fault.arguments["camera"], begins)
        elif fault.name == "unplug" and begins:
            self._selector.unregister(self._terminal)
            self._terminal.unplug()
            self._late.clear()
            self.bus.forget()
        elif fault.name == "unplug":
            self._terminal.plug()
            self._selector.register(self._terminal, selectors.EVENT_READ, self._serve_bus)

    def _keep_house(self, now: int) -> None:
        for trace in (self._trace, self._motion):
            if trace is not None:
                trace.flush()
        if self.bus.eeprom_changed:
            self._keep_eeprom()
        if self._orphan_timeout is None or os.getppid() == self._parent or self._terminal.in_use():
            self._alone_since = now
        elif now - self._alone_since > self._orphan_timeout * 1e9:
            self._running = False

    def _keep_eeprom(self) -> None:
        self.bus.eeprom_changed = False
        if self._eeprom is not None:
            save_eeprom(self._eeprom, self.bus.servos)

    def _handlers(self) -> dict[str, Callable[..., Any]]:
        return {
            "reset": self._reset,
            "judge": self._verdict,
            "demonstrate": self._demonstrate,
            "hand": self._take,
            "let_go": self._let_go,
            "fault": self._fault,
            "clear": self._clear,
            "faults": self._in_force,
            "trace": lambda: self._flush(self._trace, self._trace_path, "goals are", "--trace"),
            "motion": lambda: self._flush(self._motion, self._motion_path, "motion is", "--motion"),
            "frame": self._frame,
            "stats": self._statistics,
            "lead": self._lead,
            "ready": self.ready,
        }

    def _reset(self, seed: int, task: str, home: bool = False, limit: int | None = None) -> dict[str, int]:
        self._make_judge(task)  # refuses a task before anything has moved
        self._world.reset(np.random.default_rng(seed), keep_arm=not home)
        if home:
            self._plant.placed()
            self.bus.goals_to_present()
        else:
            self._plant.disturbed()
        self._judge, self._expert = self._make_judge(task), None
        if limit is not None:
            self._judge.limit = limit
        self._judge_at = self._substeps + self._substeps_per_judgement
        self._schedule_frames(self._clock())  # nobody should see the old layout for longer than needed
        return {"stamp": self._clock()}

    def _verdict(self) -> dict[str, Any]:
        if self._judge is None:
            raise EmulatorError("no episode is running; ask for a reset first")
        return {"outcome": self._judge.outcome, "steps": self._judge.steps}

    def _demonstrate(self, task: str, command: list[float]) -> list[float]:
        self._expert = self._expert or self._make_expert(task)
        return [float(angle) for angle in self._expert.act(np.array(command))]

    def _take(self, poses: list[list[float]], speed: float) -> dict[str, int]:
        start = self._world.joint_positions() if self._hand is None else self._hand.pose
        self._hand = Hand(start, [np.array(pose) for pose in poses], speed)
        return {"stamp": self._clock()}

    def _let_go(self, when_arrived: bool = False) -> bool:
        if self._hand is None or (when_arrived and not self._hand.arrived):
            return False
        self._hand = None
        self._plant.hold(None)
        return True

    def _fault(self, name: str, after: float = 0.0, duration: float | None = None, **arguments: Any) -> dict[str, int]:
        self.bus.faults.advance((self._clock() - self._started) / 1e9)
        self.bus.faults.set(name, after=after, duration=duration, **arguments)
        return {"stamp": self._clock()}

    def _clear(self, name: str | None = None) -> dict[str, int]:
        self.bus.faults.clear(name)
        return {"stamp": self._clock()}

    def _in_force(self) -> list[str]:
        return list(self.bus.faults.active)

    def _flush(self, trace: ServoTrace | None, path: Path | None, what: str, option: str) -> str:
        if trace is None:
            raise EmulatorError(f"{what} not being traced; start the emulator with {option} FILE")
        trace.flush()
        return str(path)

    def _frame(self, camera: str) -> dict[str, Any]:
        if camera not in self._cameras:
            raise EmulatorError(f"there is no camera {camera}; there are {', '.join(self._cameras)}")
        image = self._world.render(camera)
        return {"shape": image.shape, "rgb": base64.b64encode(image.tobytes()).decode()}

    def _lead(self, joint: str, angle: float | None) -> dict[str, int]:
        if joint not in self.bus.joints:
            raise EmulatorError(f"there is no joint {joint}; there are {', '.join(self.bus.joints)}")
        servo = self.bus.joints.index(joint)
        if angle is not None and self.bus.servos[servo].body.torque:
            raise EmulatorError(f"{joint} has torque: a hand would not move it; release the arm first")
        self._plant.lead(servo, angle)
        return {"stamp": self._clock()}

    def _statistics(self) -> dict[str, float]:
        return {
            "substeps": self._substeps,
            "skipped": self._skipped,
            "lag_max_ms": self._lag_max_ns / 1e6,
            "requests": self.bus.requests,
            "cpu_seconds": time.process_time(),
        }
