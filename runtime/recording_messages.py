"""What the flight recorder writes, as JSON-ready values: pure functions of steps, servo states and words.

Field by field what `runtime.recording_schemas` describes. JSON has no NaN and no Inf: such numbers become null, and a
joint's field that is not finite is left out. Knows no file and no thread.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from drivers.arm import Array, JointState
from runtime.clock import MILLISECOND, SECOND
from runtime.picture import jpeg

if TYPE_CHECKING:
    from drivers.camera import Image
    from runtime.loop import Step
    from runtime.servo_state import ServoState

Json = dict[str, Any]
Time = Callable[[int], Json]  # a monotonic stamp (ns) as the file's time


def file_time(moment: int) -> Json:
    """A moment of the file (ns) as Foxglove's time."""
    seconds, nanoseconds = divmod(moment, SECOND)
    return {"sec": seconds, "nsec": nanoseconds}


def numbers(values: Array) -> list[float | None]:
    """The values as JSON numbers, null where they are not finite."""
    listed: list[float | None] = values.tolist()
    if np.isfinite(values).all():
        return listed
    return [value if finite else None for value, finite in zip(listed, np.isfinite(values).tolist(), strict=True)]


def log_line(timestamp: Json, level: int, text: str) -> Json:
    """foxglove.Log."""
    return {"timestamp": timestamp, "level": level, "message": text, "name": "gato-arm", "file": "", "line": 0}


def image_message(timestamp: Json, camera: str, image: Image) -> Json:
    """foxglove.CompressedImage."""
    data = base64.b64encode(jpeg(image)).decode("ascii")
    return {"timestamp": timestamp, "frame_id": camera, "format": "jpeg", "data": data}


def joints_message(timestamp: Json, names: Iterable[str], positions: Array, state: JointState | None = None) -> Json:
    """foxglove.JointStates of `positions`, with velocities and loads where `state` is given.

    `effort` is a share of the stall torque, not N m: the bus reports no more.
    """
    columns = {"position": numbers(positions)}
    if state is not None:
        columns |= {"velocity": numbers(state.velocities), "effort": numbers(state.loads)}
    joints = []
    for index, name in enumerate(names):
        row = {key: column[index] for key, column in columns.items() if column[index] is not None}
        joints.append({"name": name, **row})
    return {"timestamp": timestamp, "joints": joints}


def step_message(step: Step, episode: int, dropped: int, time: Time) -> Json:
    """gato_arm.Step."""
    return {
        "timestamp": time(step.stamp),
        "episode": episode,
        "index": step.index,
        "tokens": step.action.tokens.tolist(),
        "targets": numbers(step.action.targets),
        "command": numbers(step.command),
        "proprioception": {name: numbers(values) for name, values in step.observation.proprioception.items()},
        "frames": {camera: time(stamp) for camera, stamp in step.frame_stamps.items()},
        "split_ms": dict(step.split_ms),
        "late_ms": step.late_ms,
        "missed": step.missed,
        "dropped": dropped,
    }


def pair_message(state: ServoState, time: Time) -> Json:
    """One (command, state) pair: the part of a tick that a fault carries."""
    return {
        "timestamp": time(state.stamp),
        "state": state.state.name.lower(),
        "asked": None if state.asked is None else numbers(state.asked),
        "command": numbers(state.command),
        "reasons": list(state.reasons),
        "positions": numbers(state.joints.positions),
        "velocities": numbers(state.joints.velocities),
        "loads": numbers(state.joints.loads),
    }


def tick_message(state: ServoState, time: Time) -> Json:
    """gato_arm.Tick."""
    return pair_message(state, time) | {
        "age_ms": (state.stamp - state.joints.stamp) / MILLISECOND,
        "temperatures_c": numbers(state.joints.temperatures_c),
        "voltages": numbers(state.joints.voltages),
        "errors": list(state.joints.errors),
        "fault": state.fault,
        "split_ms": {name: duration / MILLISECOND for name, duration in state.split._asdict().items()},
        "counters": state.counters._asdict(),
    }
