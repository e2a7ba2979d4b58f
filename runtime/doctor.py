"""`gato-arm doctor`: what is connected, is it healthy, how long is a round trip. Moves nothing.

Knows no servo protocol and no terminal: doctor_tables.py shows what was found.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from drivers.arm import Arm, ArmError, JointState
from drivers.config import ArmConfig, RobotConfig, load_robot
from drivers.ports import find_port
from drivers.robot import open_arm, open_camera
from runtime.clock import MILLISECOND, percentiles
from runtime.doctor_cameras import look_at_camera
from runtime.serial_ports import USB_SERIAL, latency_problem, serial_ports
from runtime.servo_scan import OnProgress, protocol_named, scan

READS = 200  # for the round trip
WATCH = 1.5  # s that each camera is watched for its frame rate
MISSING_MAX = 0.02  # share of a servo's replies that may be missing: the retry covers so many
ROUND_TRIP_MAX_MS = 5.0  # p50: half of the servo loop's period


@dataclass
class Diagnosis:
    """What was found; `problems` says each thing that is wrong in a line, `notes` what is worth knowing."""

    robot: str
    ports: list[dict[str, Any]] = field(default_factory=list)
    scan: list[dict[str, Any]] | None = None  # every servo that answers, at whatever baud rate; None: not asked for
    joints: list[dict[str, Any]] = field(default_factory=list)
    round_trip_ms: dict[str, float] | None = None  # one reading of all joints
    own_time_ms: dict[str, float] | None = None  # of it, processor time of the driver itself, waiting left out
    own_time_of: str = "reading"  # "reading and command" where the arm is emulated and may be commanded
    failed_reads: int = 0
    counters: dict[str, int] = field(default_factory=dict)
    cameras: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        return dict(vars(self))


def diagnose(
    name: str,
    pictures: Path | None = None,
    *,
    port: str | None = None,
    search: bool = False,
    on_progress: OnProgress = lambda done, of: None,
    reads: int = READS,
    watch: float = WATCH,
    sysfs: Path = USB_SERIAL,
) -> Diagnosis:
    """Look at the robot of that name or file; an emulated one is started for it, unless `port` says where it is.

    `port` stands for the port of the robot's file. With `search` every baud rate and id of its protocol is tried
    (`on_progress` is told how far that is). Snapshots of the cameras go to the folder `pictures`. What does not answer
    is a problem in the result; raises only `ConfigError` for a robot that is not described rightly, and
    `EmulatorError`.
    """
    config = load_robot(name)
    diagnosis = Diagnosis(config.name, ports=serial_ports(sysfs))
    with _devices(config, port, diagnosis) as config:
        if search:
            _scan(config.arm, diagnosis, on_progress)
        _look_at_arm(config, diagnosis, reads, sysfs)
        for camera_name, camera in config.cameras.items():
            look_at_camera(open_camera(camera_name, camera), camera, diagnosis, pictures, watch)
    return diagnosis


@contextmanager
def _devices(config: RobotConfig, port: str | None, diagnosis: Diagnosis) -> Iterator[RobotConfig]:
    """The robot on devices that exist."""
    if port is not None:
        arm = config.arm.model_copy(update={"port": port, "usb_serial": None})
        cameras = {} if config.emulated else config.cameras
        if config.emulated and config.cameras:
            diagnosis.notes.append("its cameras are left out: --port says where the arm is, not where its stream is")
        # Whatever is on that port may be real: it is not energised.
        yield config.model_copy(update={"emulated": False, "arm": arm, "cameras": cameras})
        return
    if not config.emulated:
        yield config
        return
    from sim.emulator import EmulatorProcess

    size = next((camera.size for camera in config.cameras.values()), (64, 64))
    with EmulatorProcess(config, image_size=size) as emulator:
        yield emulator.on_devices(config)


def _port(config: ArmConfig) -> str | None:
    """The device of the arm's port now; None for an arm without one."""
    return None if config.port is None and config.usb_serial is None else find_port(config.port, config.usb_serial)


def _scan(config: ArmConfig, diagnosis: Diagnosis, on_progress: OnProgress) -> None:
    """List every servo, and compare with the joints of the file."""
    try:
        protocol = protocol_named(config.driver)
        port = find_port(config.port, config.usb_serial)
        answers = scan(protocol, port, on_progress=on_progress)
    except ArmError as error:
        diagnosis.problems.append(str(error))
        return
    diagnosis.scan = [
        {
            "id": answer.servo.id,
            "baudrate": answer.baudrate,
            "model": answer.servo.model or str(answer.servo.number),
            "firmware": answer.servo.firmware,
            "errors": list(answer.servo.errors),
        }
        for answer in answers
    ]
    joints = {joint.id: joint.name for joint in config.joints}
    joints |= {joint.shadow: f"{joint.name} (shadow)" for joint in config.joints if joint.shadow is not None}
    heard = {answer.servo.id for answer in answers if answer.baudrate == config.baudrate}
    for answer in answers:
        id = answer.servo.id
        if id not in joints:
            diagnosis.notes.append(f"{answer} is no joint of {diagnosis.robot}")
        elif id not in heard:
            diagnosis.problems.append(
                f"{joints[id]}: {answer}, the robot's file says {config.baudrate}; with this servo alone on the port: "
                f"gato-arm setup-servo --port {port} --protocol {protocol} --id {id} --baudrate {config.baudrate}"
            )


def _look_at_arm(config: RobotConfig, diagnosis: Diagnosis, reads: int, sysfs: Path) -> None:
    arm = open_arm(config.arm)
    with ExitStack() as stack:
        stack.callback(arm.close)
        try:
            port = _port(config.arm)
            arm.connect()
        except ArmError as error:
            diagnosis.problems.append(str(error))
            return
        # Asked while the port is open: the driver has asked its adapter for low latency, which not all of them grant.
        if port is not None and (problem := latency_problem(port, sysfs)) is not None:
            diagnosis.problems.append(problem)
        state, missing = _measure(arm, diagnosis, reads, command=config.emulated)
        if state is None:
            return
        diagnosis.problems += state.errors
        diagnosis.joints = _joints(arm, config.arm, state, missing, _firmware(arm, diagnosis))
        diagnosis.problems += _complaints(config, diagnosis, reads)


def _measure(
    arm: Arm, diagnosis: Diagnosis, reads: int, *, command: bool
) -> tuple[JointState | None, Mapping[int, int]]:
    """Read many times; the last state, and how many replies of each servo (by id) were missing.

    With `command` the arm is held and each reading followed by a command to stay, as in a tick of the servo loop. Only
    an emulated arm is: a real one is not energised by a look at it.
    """
    durations: list[float] = []
    own: list[float] = []
    state: JointState | None = None
    with ExitStack() as stack:
        try:
            if command:
                target = np.clip(arm.hold().positions, arm.spec.position_min, arm.spec.position_max)
                stack.callback(arm.release)
                diagnosis.own_time_of = "reading and command"
            before = dict(arm.counters.missing)
            for _ in range(reads):
                started, worked = time.perf_counter_ns(), time.thread_time_ns()
                try:
                    state = arm.read()
                    durations.append((time.perf_counter_ns() - started) / MILLISECOND)
                    if command:
                        arm.write(target)
                    own.append((time.thread_time_ns() - worked) / MILLISECOND)
                except ArmError as error:
                    diagnosis.failed_reads += 1
                    if diagnosis.failed_reads == 1:
                        diagnosis.problems.append(str(error))
            missing = {id: count - before.get(id, 0) for id, count in arm.counters.missing.items()}
        except ArmError as error:
            diagnosis.problems.append(str(error))
            missing = {}
    diagnosis.counters = arm.counters.snapshot()
    if durations:
        diagnosis.round_trip_ms = {key: round(value, 3) for key, value in percentiles(durations).items()}
    if own:
        diagnosis.own_time_ms = {key: round(value, 3) for key, value in percentiles(own).items()}
    return state, missing


def _firmware(arm: Arm, diagnosis: Diagnosis) -> Mapping[str, str]:
    """Joint name to firmware version, for drivers that can tell (`firmware()`, not part of `Arm`)."""
    tell = getattr(arm, "firmware", None)
    if not callable(tell):
        return {}
    try:
        return dict(tell())
    except ArmError as error:
        diagnosis.problems.append(str(error))
        return {}


def _joints(
    arm: Arm, config: ArmConfig, state: JointState, missing: Mapping[int, int], versions: Mapping[str, str]
) -> list[dict[str, Any]]:
    return [
        {
            "joint": joint.name,
            "id": joint.id,
            "position": round(float(state.positions[i]), 4),
            "load": round(float(state.loads[i]), 3),
            "temperature_c": float(state.temperatures_c[i]),
            "voltage": round(float(state.voltages[i]), 2),
            "missing": missing.get(joint.id, 0) + (0 if joint.shadow is None else missing.get(joint.shadow, 0)),
            "firmware": versions.get(joint.name, ""),
            "errors": [error for error in state.errors if error.startswith(f"{joint.name}:")],
        }
        for i, joint in enumerate(config.joints)
    ]


def _complaints(config: RobotConfig, diagnosis: Diagnosis, reads: int) -> list[str]:
    """What the measurements say is wrong, though every servo answers."""
    found: list[str] = []
    safety = config.safety
    for row in diagnosis.joints:
        name = row["joint"]
        if row["temperature_c"] > safety.temperature_max_c:
            found.append(f"{name}: {row['temperature_c']:g} C, above {safety.temperature_max_c:g}; let it cool down")
        if safety.voltage_min is not None and row["voltage"] < safety.voltage_min:
            found.append(f"{name}: {row['voltage']:g} V, below {safety.voltage_min:g}; check the power supply")
        if safety.voltage_max is not None and row["voltage"] > safety.voltage_max:
            found.append(f"{name}: {row['voltage']:g} V, above {safety.voltage_max:g}; check the power supply")
        if row["missing"] > MISSING_MAX * reads:
            found.append(
                f"{name} (id {row['id']}): {row['missing']} replies of {reads} missing; check the cables before it"
            )
    timing = diagnosis.round_trip_ms
    if timing is not None and timing["p50"] > ROUND_TRIP_MAX_MS:
        found.append(
            f"reading all joints takes {timing['p50']:.1f} ms, more than {ROUND_TRIP_MAX_MS:g}; check the adapter's "
            "latency timer and arm.baudrate"
        )
    return found
