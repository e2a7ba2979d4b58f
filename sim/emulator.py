"""The emulated arm as a process of its own, behind the same driver and the same camera code as a real arm.

`emulate` is that process, `EmulatorProcess` starts one. Knows no policy and no servo loop.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn, Protocol

import numpy as np

from drivers.config import ConfigError, RobotConfig, load_robot
from sim.eeprom import load_eeprom
from sim.emulated_arm import Emulator, ExpertLike, JudgeLike, WorldLike
from sim.emulator_client import EmulatorClient
from sim.expert import Expert
from sim.faults import EmulatorError, load_script, parse_faults
from sim.rig import Rig
from sim.servo_chain import PROTOCOLS, make_chain
from sim.tasks import Judge, parse_task
from sim.world import World

__all__ = ["Emulator", "EmulatorClient", "EmulatorError", "EmulatorProcess", "emulate", "main"]

START_TIMEOUT = 15.0  # s
PRIORITY = 10  # of SCHED_FIFO, 1 to 99
STOP_TIMEOUT = 3.0  # s between SIGTERM and SIGKILL


def emulate(
    *,
    robot: RobotConfig | None = None,
    bus: str | None = None,
    link: Path | None = None,
    camera_port: int = 0,
    control: Path | None = None,
    trace: Path | None = None,
    motion: Path | None = None,
    faults: str = "",
    script: Path | None = None,
    eeprom: Path | None = None,
    baud_true: bool = False,
    seed: int = 0,
    image_size: tuple[int, int] = (64, 64),
    orphan_timeout: float | None = None,
    on_ready: Callable[[dict[str, Any]], None],
) -> None:
    """Run an emulated arm in this process until SIGTERM or SIGINT.

    `robot` says which servos there are (None: those of the robot "emulated"); one that is `emulated` by its file has
    the stacking world, any other the world that its URDF describes. `bus` replaces the protocol of its driver. `seed`
    chooses the first layout and the faults; `faults` and `script` are those to begin with (see `parse_faults`,
    `load_script`). `on_ready` is given `Emulator.ready()`. Raises `EmulatorError`, and `ConfigError` for a robot whose
    file is not complete.
    """
    plans = parse_faults(faults) + (load_script(script) if script else [])
    config = robot or load_robot("emulated")
    with ExitStack() as stack:
        world, make_judge, make_expert = _make_world(config, image_size)
        stack.callback(world.close)
        world.reset(np.random.default_rng(seed))
        cameras = tuple(config.cameras)
        chain, plant = make_chain(
            config.arm, world, bus, cameras=cameras, rng=np.random.default_rng(seed), baud_true=baud_true
        )
        if eeprom is not None:
            load_eeprom(eeprom, chain.servos)
        emulator = Emulator(
            world,
            chain,
            plant,
            make_judge=make_judge,
            make_expert=make_expert,
            cameras=cameras,
            link=link,
            camera_port=camera_port,
            control=control,
            trace=trace,
            motion=motion,
            eeprom=eeprom,
            orphan_timeout=orphan_timeout,
        )
        stack.callback(emulator.close)
        chain.faults.plan(plans)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: emulator.stop())
        with _priority():
            on_ready(emulator.ready())
            emulator.run()


class _AnyWorld(WorldLike, Protocol):
    def close(self) -> None: ...


def _make_world(
    config: RobotConfig, image_size: tuple[int, int]
) -> tuple[_AnyWorld, Callable[[str], JudgeLike], Callable[[str], ExpertLike]]:
    """The world that the robot stands in, and what makes a task's judge and its demonstrator there."""
    if not config.emulated:
        # PyBullet loads many modules; the other world's are not needed for the stacking one.
        from sim.articulated import ArticulatedWorld

        def refuse(task: str) -> NoReturn:
            raise EmulatorError(f'robot "{config.name}" has an empty table: there is no task "{task}" to judge')

        return ArticulatedWorld(config, image_size=image_size), refuse, refuse
    names = config.arm.spec().joint_names
    if names != World.spec.joint_names:
        raise EmulatorError(
            f'robot "{config.name}": the stacking world has the joints {", ".join(World.spec.joint_names)}; '
            f"name them so, or leave out `emulated`"
        )
    world = Rig.of(config, image_size=image_size)
    return world, lambda text: Judge(world, parse_task(text)), lambda text: Expert(world, parse_task(text))


@contextlib.contextmanager
def _priority() -> Iterator[None]:
    """Stand in for hardware, which shares its processor with nobody: real-time priority where that is granted.

    Below the servo loop's, so that it never delays the part that keeps the arm safe. Measured once on 2 busy cores,
    the client at real-time priority too: bus replies later than 4 ms fell from 18% to 1.4%. Not while the world is
    taken down, which takes a tenth of a second.
    """
    granted = False
    if hasattr(os, "sched_setscheduler"):
        with contextlib.suppress(OSError):
            os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(PRIORITY))
            granted = True
    try:
        yield
    finally:
        if granted:
            os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


class EmulatorProcess(EmulatorClient):
    """An emulator in a process of its own, up when the constructor returns and gone after `close`.

    The arguments are those of `emulate`. Without `link` and `trace` both are made in a temporary folder that `close`
    removes. Ctrl-C does not reach it, and when this process dies it ends itself `orphan_timeout` s after the last
    client has closed the port. Raises `EmulatorError` when it does not come up.
    """

    def __init__(
        self,
        robot: RobotConfig | None = None,
        *,
        bus: str | None = None,
        link: Path | None = None,
        camera_port: int = 0,
        trace: Path | None = None,
        motion: Path | None = None,
        faults: str = "",
        script: Path | None = None,
        eeprom: Path | None = None,
        baud_true: bool = False,
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
            "bus": bus,
            "motion": motion,
            "script": script,
            "eeprom": eeprom,
        }
        if robot is not None:
            options["robot"] = folder / "robot.yaml"
            (folder / "robot.yaml").write_text(robot.model_dump_json())  # JSON is YAML
        given = [f"--{name}={value}" for name, value in options.items() if value is not None]
        command = [sys.executable, "-m", "sim.emulator", *given, *(["--baud-true"] if baud_true else [])]
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
    def ids(self) -> tuple[int, ...]:
        """The ids that the servos had at the start, joint by joint, a shadow after the servo that it follows."""
        return tuple(self._ready["ids"])

    @property
    def pid(self) -> int:
        return self._process.pid

    def camera_url(self, camera: str) -> str:
        """Where `camera` is streamed."""
        return str(self._ready["cameras"][camera])

    def on_devices(self, config: RobotConfig) -> RobotConfig:
        """`config` on this emulator's port and streams."""
        return config.with_devices(str(self.port), {name: self.camera_url(name) for name in config.cameras})

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
    parser.add_argument("--robot", help="a robot's name or YAML file (default: emulated)")
    parser.add_argument("--bus", choices=PROTOCOLS, help="the protocol of the servos (default: the robot's)")
    parser.add_argument("--link", type=Path, help="symlink to the pseudo-terminal, made and removed")
    parser.add_argument("--camera-port", type=int, default=0, help="TCP port of the camera stream (default: any)")
    parser.add_argument("--control", type=Path, help="Unix socket for resets, verdicts and faults")
    parser.add_argument("--trace", type=Path, help="CSV file for every goal that reaches a servo")
    parser.add_argument("--motion", type=Path, help="CSV file for every servo's position at every physics step")
    parser.add_argument("--fault", default="", help="e.g. drop=0.01,delay=0.02:ms=30,silent=3+4@2.5+1,unplug=2@5")
    parser.add_argument("--script", type=Path, help="YAML file of faults and their times")
    parser.add_argument("--eeprom", type=Path, help="JSON file in which ids, offsets and limits survive a restart")
    parser.add_argument("--baud-true", action="store_true", help="replies take the time that they take on the wire")
    parser.add_argument("--seed", type=int, default=0, help="of the first layout and of the faults")
    parser.add_argument("--image-size", type=int, nargs=2, default=(64, 64), metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--orphan-timeout", type=float, help="s after which an emulator nobody uses ends itself")
    options = parser.parse_args(arguments)
    try:
        emulate(
            robot=load_robot(options.robot) if options.robot else None,
            bus=options.bus,
            link=options.link,
            camera_port=options.camera_port,
            control=options.control,
            trace=options.trace,
            motion=options.motion,
            faults=options.fault,
            script=options.script,
            eeprom=options.eeprom,
            baud_true=options.baud_true,
            seed=options.seed,
            image_size=tuple(options.image_size),
            orphan_timeout=options.orphan_timeout,
            on_ready=_announce,
        )
    except (EmulatorError, ConfigError) as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
