"""One run of `gato-arm calibrate joints` on a robot that is there or emulated: the order of things, and what is opened.

What each step does is runtime/calibrate_joints.py.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from serial.tools.list_ports import comports

from calibration.files import outputs_beside
from calibration.joint_files import JointCalibration, export_lerobot, import_lerobot, load_joint_calibration
from calibration.joints import TURN
from calibration.rehearsal.hand import Hand
from drivers.arm import ArmError
from drivers.config import RobotConfig
from drivers.ports import find_port
from drivers.robot import open_arm
from drivers.servo_line import ServoLine
from runtime import calibrate_joints as steps
from runtime.calibrate_by_hand import HandOperator
from runtime.calibrate_operator import Operator
from runtime.clock import MonotonicClock
from runtime.guard import Guard
from runtime.servo_process import ServoProcess
from runtime.servo_scan import protocol_named
from runtime.servo_state import ServoSettings
from sim.emulator import EmulatorProcess

PATIENCE = 0.05  # s for one answer: nothing here is in a hurry, and a person would have to begin anew


@dataclass(frozen=True)
class Wish:
    """What a run is to do besides calibrating by hand."""

    date: str
    out: Path | None = None
    take: Path | None = None  # a calibration of LeRobot's, in place of a sweep
    give: Path | None = None  # where LeRobot's form of the result goes
    restore: bool = False  # write the stored calibration into the servos, and nothing else
    move: bool = True  # verify by moving each joint a little
    seed: int = 0  # of an emulated arm: how its servos are mounted


def calibrate(config: RobotConfig, robot: str, wish: Wish, operator: Operator) -> dict[str, Any] | None:
    """Calibrate; the figures, or None when the operator did not want something written.

    Raises `CalibrationError` with the reason when what was shown cannot be used, and `ArmError`.
    """
    path, robot_file = outputs_beside(robot, "joints", wish.out)
    with _opened(config, wish.seed, operator) as (config, operator):
        with _line(config) as line:
            calibration = _found(config, path, line, wish, operator)
            if calibration is None:
                return None
            for text in steps.summary(calibration):
                operator.say(text)
            if path.exists() and not wish.restore:
                agreed = steps.check_stored(path, config.arm, line, operator, calibration)
            else:
                agreed = operator.confirm("Write these offsets into the servos' EEPROM?")
            if not agreed:
                operator.say("nothing was written")
                return None
            steps.release(config.arm, line)
            steps.write_servos(config.arm, line, calibration)
        if not wish.restore:
            steps.store(robot_file, path, calibration, operator)
        if wish.give is not None:
            export_lerobot(wish.give, calibration)
            operator.say(f"exported  {wish.give}")
        off = _verify(steps.calibrated(config, calibration), operator) if wish.move else {}
    return {"calibration": calibration.model_dump(mode="json"), "file": str(path), "verified_off_rad": off}


def _found(config: RobotConfig, path: Path, line: ServoLine, wish: Wish, operator: Operator) -> JointCalibration | None:
    if wish.restore:
        return load_joint_calibration(path)
    if wish.take is not None:
        return import_lerobot(wish.take, config.arm, date=wish.date)
    if not steps.check_stored(path, config.arm, line, operator):
        return None
    return steps.sweep_and_centre(config.arm, line, operator, date=wish.date)


def _verify(config: RobotConfig, operator: Operator) -> dict[str, float]:
    if not operator.confirm("The arm now holds itself and moves each joint by 7 degrees: stand back. Go on?"):
        return {}
    servo = ServoProcess(
        functools.partial(open_arm, config.arm),
        config.arm.spec(),
        settings=ServoSettings.of_robot(config),
        make_guard=functools.partial(Guard.of, config),
    )
    with servo:
        return steps.verify(servo, config.arm, MonotonicClock(), operator.say)


@contextmanager
def _opened(config: RobotConfig, seed: int, operator: Operator) -> Iterator[tuple[RobotConfig, Operator]]:
    """The robot with its port, and who calibrates it: an emulated one is started, servos mounted at random."""
    if not config.emulated:
        if config.arm.port is None and config.arm.usb_serial is None:
            raise ArmError(f"{config.name}: no port; set `port` or `usb_serial` in the robot's file")
        port = find_port(config.arm.port, config.arm.usb_serial, comports)
        yield config.model_copy(update={"arm": config.arm.model_copy(update={"port": port})}), operator
        return
    rng = np.random.default_rng(seed)
    zeros = rng.integers(0, TURN, len(config.arm.joints)).tolist()
    unsteady = rng.uniform(0.0, 0.06, len(zeros)).tolist()
    joints = [joint.model_copy(update={"zero": zero}) for joint, zero in zip(config.arm.joints, zeros, strict=True)]
    mounted = config.model_copy(update={"arm": config.arm.model_copy(update={"joints": joints})})
    operator.say(f"emulated  an arm whose servos are mounted anyhow (seed {seed}); its hand does what a person would")
    with EmulatorProcess(mounted, seed=seed) as emulator:
        names = [joint.name for joint in config.arm.joints]
        pose = dict(zip(names, config.arm.home or [0.0] * len(names), strict=True))
        hand = Hand(config.arm, emulator.lead, time.sleep, pose, dict(zip(names, unsteady, strict=True)))
        yield emulator.on_devices(config), HandOperator(hand, operator.say)


@contextmanager
def _line(config: RobotConfig) -> Iterator[ServoLine]:
    assert config.arm.port is not None  # _opened saw to it
    protocol = protocol_named(config.arm.driver)
    with ServoLine(protocol, config.arm.port, config.arm.baudrate, deadline=PATIENCE, retries=2) as line:
        yield line
