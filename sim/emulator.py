"""The emulated arm as a process of its own, behind the same driver and the same camera code as a real arm.

`emulate` is that process, `EmulatorProcess` starts one and `EmulatorClient` talks to one. Knows no policy and no servo
loop.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sim.control_socket import ControlClient
from sim.emulated_arm import Emulator
from sim.faults import EmulatorError, parse_faults
from sim.tasks import Judge, TaskError, parse_task
from sim.world import World

__all__ = ["Emulator", "EmulatorClient", "EmulatorError", "EmulatorProcess", "emulate", "main"]

START_TIMEOUT = 15.0  # s
PRIORITY = 10  # of SCHED_FIFO, 1 to 99
STOP_TIMEOUT = 3.0  # s between SIGTERM and SIGKILL


def emulate(
    *,
    link: Path | None = None,
    camera_port: int = 0,
    control: Path | None = None,
    trace: Path | None = None,
    faults: str = "",
    seed: int = 0,
    image_size: tuple[int, int] = (64, 64),
    orphan_timeout: float | None = None,
    on_ready: Callable[[dict[str, Any]], None],
) -> None:
    """Run the emulated arm in this process until SIGTERM or SIGINT.

    `seed` chooses the first layout and the faults; `on_ready` is given `Emulator.ready()`. Raises `EmulatorError` when
    a path, the port or a fault cannot be had.
    """
    chosen_faults = parse_faults(faults, seed)
    world = World(image_size=image_size)
    world.reset(np.random.default_rng(seed))
    emulator = Emulator(
        world,
        make_judge=lambda text: Judge(world, parse_task(text)),
        link=link,
        camera_port=camera_port,
        control=control,
        trace=trace,
        faults=chosen_faults,
        orphan_timeout=orphan_timeout,
    )
    _ask_for_priority()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: emulator.stop())
    try:
        on_ready(emulator.ready())
        emulator.run()
    finally:
        emulator.close()
        world.close()


def _ask_for_priority() -> None:
    """Stand in for hardware, which shares its processor with nobody: real-time priority where that is granted.

    Below the servo loop's, so that it never delays the part that keeps the arm safe. Measured once on 2 busy cores,
    the client at real-time priority too: bus replies later than 4 ms fell from 18% to 1.4%.
    """
    if hasattr(os, "sched_setscheduler"):
        with contextlib.suppress(OSError):
            os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(PRIORITY))


class EmulatorClient:
    """Asks a running emulator through its control socket. Every method raises `EmulatorError` when it is gone."""

    def __init__(self, control: Path) -> None:
        self._asking = ControlClient(control, refusals=(TaskError,))

    def reset(self, seed: int, task: str, home: bool = False) -> int:
        """A new episode: blocks laid out as `World.reset(default_rng(seed))` does, and a judge for `task`.

        The arm stays as it is; with `home` it is placed at its home pose, and goals in force are set there. Returns the
        monotonic time, ns: frames stamped before may still show the old layout. Raises `TaskError`.
        """
        return int(self._asking.ask("reset", seed=seed, task=task, home=home)["stamp"])

    def judge(self) -> dict[str, Any]:
        """`outcome` ("success", a kind of failure, or None while the episode runs) and `steps` judged, at 20 Hz."""
        return dict(self._asking.ask("judge"))

    def trace(self) -> Path:
        """The file of every servo goal so far: CSV with monotonic_ns, id, goal, torque, present, in counts."""
        return Path(self._asking.ask("trace"))

    def frame(self, camera: str) -> NDArray[np.uint8]:
        """What `camera` sees now, uncompressed: (H, W, 3) RGB."""
        answer = self._asking.ask("frame", camera=camera)
        return np.frombuffer(base64.b64decode(answer["rgb"]), dtype=np.uint8).reshape(answer["shape"])

    def stats(self) -> dict[str, float]:
        """`substeps` of physics done, `skipped` to keep up with real time, `lag_max_ms`, bus `requests`,
        `cpu_seconds`."""
        return dict(self._asking.ask("stats"))

    def close(self) -> None:
        """Stop asking; the emulator goes on."""
        self._asking.close()


class EmulatorProcess(EmulatorClient):
    """An emulator in a process of its own, up when the constructor returns and gone after `close`.

    Without `link` and `trace` both are made in a temporary folder that `close` removes. Ctrl-C does not reach it, and
    when this process dies it ends itself `orphan_timeout` s after the last client has closed the port. Raises
    `EmulatorError` when it does not come up.
    """

    def __init__(
        self,
        *,
        link: Path | None = None,
        camera_port: int = 0,
        trace: Path | None = None,
        faults: str = "",
        seed: int = 0,
        image_size: tuple[int, int] = (64, 64),
        orphan_timeout: float = 2.0,
    ) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="gato-arm-")
        folder = Path(self._folder.name)
        self._log = folder / "stderr"
        options: dict[str, object] = {
            "link": link or folder / "servos",
            "control": folder / "control",
            "trace": trace or folder / "goals.csv",
            "camera-port": camera_port,
            "fault": faults,
            "seed": seed,
            "orphan-timeout": orphan_timeout,
        }
        command = [sys.executable, "-m", "sim.emulator", *(f"--{name}={value}" for name, value in options.items())]
        root = str(Path(__file__).resolve().parents[1])
        path = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [*command, "--image-size", *map(str, image_size)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                env=os.environ | {"PYTHONPATH": path},
                start_new_session=True,
            )
        try:
            self._ready = self._await_ready()
            super().__init__(folder / "control")
        except EmulatorError:
            self._end()
            raise

    @property
    def port(self) -> Path:
        """The serial port of the servos."""
        return Path(self._ready["port"])

    @property
    def control(self) -> Path:
        """The control socket, for another `EmulatorClient`."""
        return Path(self._ready["control"])

    @property
    def pid(self) -> int:
        return self._process.pid

    def camera_url(self, camera: str) -> str:
        """Where `camera` is streamed."""
        return str(self._ready["cameras"][camera])

    def close(self) -> None:
        """End the emulator; may be called more than once."""
        super().close()
        self._end()

    def __enter__(self) -> EmulatorProcess:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _await_ready(self) -> dict[str, Any]:
        """The first line of JSON on stdout; PyBullet prints its build time before it."""
        output = self._process.stdout
        assert output is not None
        received = b""
        deadline = time.monotonic() + START_TIMEOUT
        while (left := deadline - time.monotonic()) > 0:
            if not select.select([output], [], [], left)[0]:
                break
            data = os.read(output.fileno(), 65536)
            if not data:
                last = (self._log.read_text(errors="replace").strip() or "it said nothing").splitlines()[-1]
                raise EmulatorError(f"the emulator did not start: {last}")
            received += data
            for line in received.split(b"\n")[:-1]:
                if line.startswith(b"{"):
                    return dict(json.loads(line))
        raise EmulatorError(f"the emulator did not come up within {START_TIMEOUT:g} s; is the machine overloaded?")

    def _end(self) -> None:
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(STOP_TIMEOUT)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()
        self._folder.cleanup()


def _announce(ready: dict[str, Any]) -> None:
    """Say where everything is as one JSON line; whatever libraries print afterwards goes to stderr."""
    print(json.dumps(ready), flush=True)
    os.dup2(2, 1)


def main(arguments: Sequence[str] | None = None) -> int:
    """`python -m sim.emulator`; returns the exit code."""
    parser = argparse.ArgumentParser(prog="sim.emulator", description="The emulated arm, in real time.")
    parser.add_argument("--link", type=Path, help="symlink to the pseudo-terminal, made and removed")
    parser.add_argument("--camera-port", type=int, default=0, help="TCP port of the camera stream (default: any)")
    parser.add_argument("--control", type=Path, help="Unix socket for resets and verdicts")
    parser.add_argument("--trace", type=Path, help="CSV file for every goal that reaches a servo")
    parser.add_argument("--fault", default="", help="e.g. drop=0.01,corrupt=0.01,delay=0.02,delay_ms=20,silent=3,hot=2")
    parser.add_argument("--seed", type=int, default=0, help="of the first layout and of the faults")
    parser.add_argument("--image-size", type=int, nargs=2, default=(64, 64), metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--orphan-timeout", type=float, help="s after which an emulator nobody uses ends itself")
    options = parser.parse_args(arguments)
    try:
        emulate(
            link=options.link,
            camera_port=options.camera_port,
            control=options.control,
            trace=options.trace,
            faults=options.fault,
            seed=options.seed,
            image_size=tuple(options.image_size),
            orphan_timeout=options.orphan_timeout,
            on_ready=_announce,
        )
    except EmulatorError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
