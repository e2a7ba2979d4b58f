"""`gato-arm doctor`: what is connected, is it healthy, how long is a round trip. Reads only; moves nothing."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from drivers.arm import Arm, ArmError, JointState
from drivers.camera import Camera, CameraError
from drivers.config import RobotConfig, load_robot
from drivers.robot import open_arm, open_camera
from runtime.clock import MILLISECOND, percentiles
from runtime.picture import save_png

READS = 200  # for the round trip
WATCH = 1.5  # s that each camera is watched for its frame rate


@dataclass
class Diagnosis:
    """What was found; `problems` says each thing that is wrong in a line."""

    robot: str
    ports: list[dict[str, str]] = field(default_factory=list)
    joints: list[dict[str, Any]] = field(default_factory=list)
    round_trip_ms: dict[str, float] | None = None  # one reading of all joints
    failed_reads: int = 0
    counters: dict[str, int] = field(default_factory=dict)
    cameras: list[dict[str, Any]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        return dict(vars(self))


def serial_ports() -> list[dict[str, str]]:
    """The serial ports of this machine: device, description and hardware id."""
    from serial.tools import list_ports

    found = sorted(list_ports.comports(), key=lambda port: str(port.device))
    return [{"device": p.device, "description": p.description or "", "hardware": p.hwid or ""} for p in found]


def diagnose(name: str, pictures: Path | None = None, *, reads: int = READS, watch: float = WATCH) -> Diagnosis:
    """Look at the robot of that name or file; an emulated one is started for it.

    Snapshots of the cameras go to the folder `pictures`. What does not answer is a problem in the result; raises only
    `ConfigError` for a robot that is not described rightly, and `EmulatorError`.
    """
    config = load_robot(name)
    diagnosis = Diagnosis(config.name, ports=serial_ports())
    with _devices(config) as config:
        _look_at_arm(open_arm(config.arm), diagnosis, reads)
        for camera_name, camera in config.cameras.items():
            _look_at_camera(open_camera(camera_name, camera), diagnosis, pictures, watch)
    return diagnosis


@contextmanager
def _devices(config: RobotConfig) -> Iterator[RobotConfig]:
    """The robot on devices that exist."""
    if not config.emulated:
        yield config
        return
    from sim.emulator import EmulatorProcess

    size = next((camera.size for camera in config.cameras.values()), (64, 64))
    with EmulatorProcess(image_size=size) as emulator:
        sources = {name: emulator.camera_url(name) for name in config.cameras}
        yield config.with_devices(str(emulator.port), sources)


def _look_at_arm(arm: Arm, diagnosis: Diagnosis, reads: int) -> None:
    with ExitStack() as stack:
        stack.callback(arm.close)
        try:
            arm.connect()
        except ArmError as error:
            diagnosis.problems.append(str(error))
            return
        durations: list[float] = []
        state: JointState | None = None
        for _ in range(reads):
            started = time.perf_counter_ns()
            try:
                state = arm.read()
            except ArmError as error:
                diagnosis.failed_reads += 1
                if diagnosis.failed_reads == 1:
                    diagnosis.problems.append(str(error))
                continue
            durations.append((time.perf_counter_ns() - started) / MILLISECOND)
        diagnosis.counters = arm.counters.snapshot()
        if state is None:
            return
        diagnosis.round_trip_ms = {key: round(value, 3) for key, value in percentiles(durations).items()}
        diagnosis.problems += state.errors
        versions: Mapping[str, str] = {}
        try:
            versions = firmware(arm)
        except ArmError as error:
            diagnosis.problems.append(str(error))
        diagnosis.joints = _joints(arm, state, versions)


def firmware(arm: Arm) -> Mapping[str, str]:
    """Joint name to firmware version, for drivers that can tell (`firmware()`, not part of `Arm`)."""
    tell = getattr(arm, "firmware", None)
    return dict(tell()) if callable(tell) else {}


def _joints(arm: Arm, state: JointState, versions: Mapping[str, str]) -> list[dict[str, Any]]:
    rows = []
    for i, name in enumerate(arm.spec.joint_names):
        errors = [error for error in state.errors if error.startswith(f"{name}:")]
        rows.append(
            {
                "joint": name,
                "position": round(float(state.positions[i]), 4),
                "load": round(float(state.loads[i]), 3),
                "temperature_c": float(state.temperatures_c[i]),
                "voltage": round(float(state.voltages[i]), 2),
                "firmware": versions.get(name, ""),
                "errors": errors,
            }
        )
    return rows


def _look_at_camera(camera: Camera, diagnosis: Diagnosis, pictures: Path | None, watch: float) -> None:
    row: dict[str, Any] = {"camera": camera.name, "size": list(camera.size), "fps": None, "age_ms": None}
    diagnosis.cameras.append(row)
    with ExitStack() as stack:
        stack.callback(camera.close)
        try:
            camera.connect()
            first = camera.read()
            started = time.monotonic()
            while time.monotonic() - started < watch:
                time.sleep(0.02)
            last = camera.read()
            row["age_ms"] = round((time.monotonic_ns() - last.stamp) / MILLISECOND, 1)
            if last.stamp > first.stamp:
                row["fps"] = round((last.sequence - first.sequence) / ((last.stamp - first.stamp) / 1e9), 1)
            else:
                diagnosis.problems.append(f"camera {camera.name}: one frame in {watch:g} s; check its cable")
            if pictures is not None:
                row["snapshot"] = str(pictures / f"{camera.name}.png")
                save_png(pictures / f"{camera.name}.png", last.image)
        except CameraError as error:
            diagnosis.problems.append(str(error))


def show(diagnosis: Diagnosis, console: Console) -> None:
    """Tables for a person."""

    def table(title: str, rows: list[dict[str, Any]]) -> None:
        if not rows:
            return
        shown = Table(title=title, title_justify="left")
        for heading in rows[0]:
            shown.add_column(heading.replace("_c", " (C)").replace("_ms", " (ms)"))
        for row in rows:
            shown.add_row(*("" if row.get(key) in (None, []) else _text(row[key]) for key in rows[0]))
        console.print(shown)

    def say(text: str) -> None:
        console.print(text, highlight=False, markup=False, soft_wrap=True)

    if diagnosis.ports:
        table("Serial ports", [dict(row) for row in diagnosis.ports])
    else:
        say("no serial ports on this machine")
    table(f"Joints of {diagnosis.robot}", diagnosis.joints)
    if diagnosis.round_trip_ms is not None:
        timing = diagnosis.round_trip_ms
        say(f"reading all joints: {timing['p50']:.2f} ms p50, {timing['p99']:.2f} ms p99, {timing['max']:.2f} ms max")
        say("bus: " + ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in diagnosis.counters.items()))
    table(f"Cameras of {diagnosis.robot}", diagnosis.cameras)
    for problem in diagnosis.problems:
        say(f"problem: {problem}")
    if not diagnosis.problems:
        say("no problems found")


def _text(value: object) -> str:
    if not isinstance(value, list):
        return str(value)
    return ("x" if all(isinstance(part, int) for part in value) else ", ").join(map(str, value))
