"""The doctor's look at one camera: its mode, its real frame rate, whether its picture lives, and a snapshot."""

from __future__ import annotations

import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Protocol

from drivers.camera import Camera, CameraError, CameraMode, Frame
from drivers.config import CameraConfig
from runtime.clock import MILLISECOND, SECOND
from runtime.picture import save_png

POLL = 0.02  # s
RATE_MIN = 0.7  # share of the frame rate asked for


class Findings(Protocol):
    """Where it is written down (`runtime.doctor.Diagnosis`)."""

    cameras: list[dict[str, Any]]
    notes: list[str]
    problems: list[str]


def look_at_camera(
    camera: Camera, config: CameraConfig, findings: Findings, pictures: Path | None, watch: float
) -> None:
    """Watch `camera` for `watch` s; its last frame goes to `pictures`/NAME.png. What is wrong goes to `findings`."""
    row: dict[str, Any] = dict.fromkeys(("camera", "size", "mode", "fps", "age_ms", "repeats"))
    row |= {"camera": camera.name, "size": list(camera.size)}
    findings.cameras.append(row)
    with ExitStack() as stack:
        stack.callback(camera.close)
        try:
            camera.connect()
            mode: CameraMode | None = getattr(camera, "mode", None)
            if mode is not None:
                row["mode"] = _mode(mode)
                findings.notes += [f"camera {camera.name}: {note}" for note in mode.notes]
            first, last = _watch(camera, watch)
        except CameraError as error:
            findings.problems.append(str(error))
            return
        row["age_ms"] = round((time.monotonic_ns() - last.stamp) / MILLISECOND, 1)
        row["repeats"] = last.repeats
        findings.problems += [f"camera {camera.name}: {problem}" for problem in _problems(first, last, config, row)]
        if pictures is not None:
            row["snapshot"] = str(pictures / f"{camera.name}.png")
            save_png(pictures / f"{camera.name}.png", last.image)


def _watch(camera: Camera, watch: float) -> tuple[Frame, Frame]:
    """The first and the last frame of a time. Raises `CameraError`."""
    first = last = camera.read()
    started = time.monotonic()
    while time.monotonic() - started < watch:
        time.sleep(POLL)
        last = camera.read()
    return first, last


def _problems(first: Frame, last: Frame, config: CameraConfig, row: dict[str, Any]) -> list[str]:
    """What is wrong with what was seen from `first` to `last`; the frame rate goes into `row`."""
    frames = last.sequence - first.sequence
    if frames == 0:
        return ["no new frame while it was watched; check its cable"]
    rate = frames / ((last.stamp - first.stamp) / SECOND)
    row["fps"] = round(rate, 1)
    found = []
    if last.repeats >= frames:
        found.append(
            f"frozen: {last.repeats} frames in a row are the same to the last bit; plug it out and in, or set "
            "`static_ok: true` if its source is no sensor"
        )
    if rate < RATE_MIN * config.fps:
        found.append(
            f"{rate:.1f} frames a second, {config.fps:g} were asked for; more light or a locked exposure, another "
            "`fourcc` (MJPG), or a USB port of its own"
        )
    return found


def _mode(mode: CameraMode) -> str:
    """ "640x480 MJPG 30/s V4L2", what is not known left out."""
    height, width = mode.size
    rate = "" if mode.fps is None else f"{mode.fps:g}/s"
    return " ".join(part for part in (f"{width}x{height}", mode.fourcc, rate, mode.backend) if part)
