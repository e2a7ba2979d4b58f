"""`gato-arm calibrate camera`: pictures of a board in, a lens out, with what it is worth.

Pictures come from a camera while somebody moves the board, or from files. What is kept and what is missing is decided
in calibration/views.py, the lens in calibration/camera.py.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from calibration.board import Board, Image
from calibration.camera import calibrate_camera
from calibration.errors import CalibrationError
from calibration.files import name_camera_calibration, write_calibration
from calibration.picture import draw_before_and_after
from calibration.views import Gathering, span
from drivers.camera import Camera
from drivers.camera_calibration import CameraCalibration, Lens, load_camera_calibration
from drivers.config import CameraConfig, ConfigError, RobotConfig, suggest
from runtime.calibrate_operator import Operator
from runtime.clock import SECOND, Clock, MonotonicClock

CAPTURE = (480, 640)  # (height, width) that are calibrated where a camera's config asks for no `capture`
PATIENCE = 300.0  # s without a new view before it is given up
POLL = 0.02  # s
PICTURES = (".png", ".jpg", ".jpeg", ".bmp")


@dataclass
class Capture:
    """What became of the pictures: those that were kept, with the views in them."""

    gathering: Gathering
    images: list[Image] = field(default_factory=list)
    last: str | None = None  # why the last picture was not kept

    def offer(self, image: Image) -> str | None:
        """See `Gathering.offer`."""
        self.last = self.gathering.offer(image)
        if self.last is None:
            self.images.append(image)
        return self.last


def find_camera(config: RobotConfig, name: str | None) -> tuple[str, CameraConfig]:
    """The camera of that name, or the only one. Raises `ConfigError`."""
    known = ", ".join(config.cameras) or "none"
    if name is None:
        if len(config.cameras) != 1:
            raise ConfigError(f"{config.name} has the cameras {known}: say which with --camera")
        name = next(iter(config.cameras))
    if name not in config.cameras:
        raise ConfigError(f"{config.name} has no camera {name!r}{suggest(name, config.cameras)}; it has {known}")
    return name, config.cameras[name]


def full_size(camera: CameraConfig) -> CameraConfig:
    """The camera with all the pixels that it captures: what a policy gets is too small to calibrate by."""
    return camera.model_copy(update={"size": camera.capture or CAPTURE})


def from_camera(
    camera: Camera, capture: Capture, on_frame: Callable[[str | None], None], clock: Clock | None = None
) -> None:
    """Offer a connected camera's frames until nothing is missing, telling `on_frame` what became of each.

    Raises `CalibrationError` when no view was added for `PATIENCE` s, and `CameraError`.
    """
    clock = clock or MonotonicClock()
    sequence, last = -1, clock.now()
    while capture.gathering.missing():
        frame = camera.read()
        if frame.sequence != sequence:
            sequence = frame.sequence
            reason = capture.offer(frame.image)
            last = clock.now() if reason is None else last
            on_frame(reason)
        if clock.now() - last > PATIENCE * SECOND:
            raise CalibrationError(
                f"camera {camera.name}: no new view within {PATIENCE:g} s, {len(capture.images)} so far; "
                f"next would be: {capture.gathering.missing()[0]}"
            )
        clock.sleep_until(clock.now() + round(POLL * SECOND))


def from_files(folder: Path, capture: Capture) -> None:
    """Offer every picture of a folder, in the order of their names. Raises `CalibrationError` when there is none."""
    for image in _pictures(folder):
        capture.offer(image)


def _pictures(folder: Path) -> Iterator[Image]:
    paths = sorted(path for path in folder.glob("*") if path.suffix.lower() in PICTURES)
    if not paths:
        raise CalibrationError(f"{folder}: no pictures there ({', '.join(PICTURES)})")
    for path in paths:
        picture = cv2.imread(str(path), cv2.IMREAD_COLOR)
        if picture is None:
            raise CalibrationError(f"{path}: not a picture that can be read")
        yield np.asarray(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB), dtype=np.uint8)


@dataclass(frozen=True)
class CameraResult:
    """A lens, and what it was made of."""

    lens: Lens
    left_out: int
    rejected: dict[str, int]
    missing: list[str]

    def to_json(self) -> dict[str, Any]:
        return {
            "lens": self.lens.model_dump(mode="json"),
            "left_out": self.left_out,
            "rejected": self.rejected,
            "missing": self.missing,
        }


def conclude(board: Board, capture: Capture, picture: Path, *, date: str) -> CameraResult:
    """The lens of what was captured, and its picture. Raises `CalibrationError`."""
    gathering = capture.gathering
    if not gathering.views:
        reasons = Counter(gathering.rejected).most_common()
        raise CalibrationError(f"no usable view: {', '.join(f'{n} x {what}' for what, n in reasons) or 'no picture'}")
    lens, out = calibrate_camera(board, gathering.views, date=date)
    best = max(range(len(gathering.views)), key=lambda index: span(gathering.views[index]))
    draw_before_and_after(picture, board, lens, (capture.images[best], gathering.views[best]), gathering.views)
    return CameraResult(lens, len(out), dict(gathering.rejected), gathering.missing())


def store(result: CameraResult, camera: str, path: Path, robot_file: Path | None, operator: Operator) -> bool:
    """Write the calibration to `path`, and name it in the robot's own file if there is one; False when not wished.

    What is there already is shown beside the new one, and replaced only when the operator says so. A camera's place
    belongs to its lens: it has to be found anew.
    """
    lens = result.lens
    if path.exists():
        old = load_camera_calibration(path)
        operator.say(f"{path} holds a calibration of {old.lens.date}:")
        for line in compare_lenses(old.lens, lens):
            operator.say(line)
        if old.place is not None:
            operator.say("its place was found with the old lens and goes with it: run calibrate hand-eye again")
        if not operator.confirm("Replace it?"):
            return False
    write_calibration(path, CameraCalibration(camera=camera, lens=lens))
    operator.say(f"written   {path}")
    if robot_file is not None:
        name_camera_calibration(robot_file, camera, path)
        operator.say(f"named in  {robot_file}")
    return True


def compare_lenses(old: Lens, new: Lens) -> list[str]:
    """Two lenses side by side, a line each."""
    rows = [("", "stored", "new")]
    rows += [(name, f"{getattr(old, name):.2f}", f"{getattr(new, name):.2f}") for name in ("fx", "fy", "cx", "cy")]
    rows += [("held-out", f"{old.errors.held_out:.3f}", f"{new.errors.held_out:.3f}")]
    return [f"{name:10}{stored:>10}{found:>10}" for name, stored, found in rows]


def describe(result: CameraResult) -> list[str]:
    """The result in a few lines for people."""
    lens, errors = result.lens, result.lens.errors
    lines = [
        f"focal length      {lens.fx:.2f}, {lens.fy:.2f} px, standard deviation {errors.focal_length:.2f}",
        f"principal point   {lens.cx:.2f}, {lens.cy:.2f} px, standard deviation {errors.principal_point:.2f}",
        f"distortion        {', '.join(f'{value:.4f}' for value in lens.distortion)} (k1 k2 p1 p2 k3)",
        f"held-out error    {errors.held_out:.3f} px (fitted {errors.fitted:.3f}), {errors.corners} corners of "
        f"{errors.views} views, {result.left_out} views left out",
    ]
    if result.rejected:
        lines.append("rejected          " + _counted(result.rejected.items()))
    return lines + [f"would be better   {wish}" for wish in result.missing]


def _counted(items: Iterable[tuple[str, int]]) -> str:
    return ", ".join(f"{count} x {what}" for what, count in items)


def capture_live(camera: Camera, board: Board, operator: Operator, on_frame: Callable[[Capture], None]) -> Capture:
    """Open the camera and gather views of the board. Raises `CameraError` and `CalibrationError`."""
    capture = Capture(Gathering(board))
    operator.say(f"board     {board.describe()}; hold it before camera {camera.name!r}, still in each pose")
    with closing(camera):
        camera.connect()
        from_camera(camera, capture, lambda reason: on_frame(capture))
    return capture


def guidance(gathering: Gathering, last: str | None) -> str:
    """What to do next, and how far one is."""
    missing: Sequence[str] = gathering.missing()
    wish = missing[0] if missing else "enough"
    note = "" if last is None else f" ({last})"
    return f"{len(gathering.views)} of about {gathering.wanted} views{note}: {wish}"
