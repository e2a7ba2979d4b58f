"""`gato-arm calibrate board` and `camera`: from pictures and from a camera to a file that the robot uses."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from calibration.board import BOARDS, Image
from calibration.errors import CalibrationError
from calibration.rehearsal.drawing import TrueLens
from calibration.rehearsal.shots import random_lens, shots
from calibration.views import Gathering
from drivers.camera import Frame
from drivers.camera_calibration import calibration_of
from drivers.config import URDF_FOLDER, load_robot
from runtime.calibrate_camera import PATIENCE, Capture, from_camera
from runtime.calibrate_emulated import EmulatedRig
from runtime.cli import main
from runtime.clock import SECOND, SimulatedClock

TABLE = BOARDS["table"]


@pytest.fixture(scope="module")
def lens() -> TrueLens:
    return random_lens(np.random.default_rng(8))


@pytest.fixture(scope="module")
def folder(lens: TrueLens, tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("pictures")
    for number, image in enumerate(itertools.islice(shots(TABLE, lens, np.random.default_rng(9)), 28)):
        cv2.imwrite(str(made / f"{number:03}.png"), image[:, :, ::-1])
    return made


@pytest.fixture
def robot(tmp_path: Path) -> Path:
    path = tmp_path / "my.yaml"
    path.write_text((URDF_FOLDER.parent / "emulated.yaml").read_text())
    return path


def calibrate(folder: Path, robot: Path, *words: str) -> int:
    return main(["calibrate", "camera", "--robot", str(robot), "--camera", "fixed", "--images", str(folder), *words])


def test_a_folder_of_pictures_becomes_the_robots_calibration(
    folder: Path, robot: Path, lens: TrueLens, capsys: pytest.CaptureFixture[str]
) -> None:
    figures = robot.with_name("f.json")
    assert calibrate(folder, robot, "--date", "2026-03-04", "--json", str(figures)) == 0
    found = calibration_of(load_robot(str(robot)).cameras["fixed"])
    assert found is not None and found.camera == "fixed" and found.lens.date == "2026-03-04"
    assert found.lens.fx == pytest.approx(lens.matrix[0, 0], rel=0.005)
    assert abs(found.lens.cx - lens.matrix[0, 2]) < 1 and abs(found.lens.cy - lens.matrix[1, 2]) < 1
    assert json.loads(figures.read_text())["lens"]["errors"]["held_out"] < 0.2
    assert robot.with_name("my.fixed.png").stat().st_size > 10_000
    assert "held-out error" in capsys.readouterr().out


def test_what_is_there_is_shown_and_not_replaced_unasked(
    folder: Path, robot: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert calibrate(folder, robot, "--date", "2026-01-01") == 0
    path = robot.with_name("my.fixed.yaml")
    first = path.read_text()
    capsys.readouterr()
    assert calibrate(folder, robot, "--date", "2026-01-02") == 1
    said = capsys.readouterr().out
    assert "stored" in said and "new" in said and "nobody is there to answer" in said
    assert path.read_text() == first
    assert calibrate(folder, robot, "--date", "2026-01-02", "--yes") == 0
    assert "2026-01-02" in path.read_text()


def test_pictures_without_the_board_are_refused_with_the_reason(robot: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    cv2.imwrite(str(empty / "a.png"), np.full((480, 640, 3), 99, dtype=np.uint8))
    assert calibrate(empty, robot) == 2


def test_board_writes_both_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["calibrate", "board", str(tmp_path / "b"), "--board", "hand", "--paper", "letter"]) == 0
    assert (tmp_path / "b.pdf").read_bytes().startswith(b"%PDF") and (tmp_path / "b.png").exists()
    assert "5 x 4 squares of 20 mm" in capsys.readouterr().out
    assert main(["calibrate", "board", str(tmp_path / "b"), "--board", "chess"]) == 2


def test_an_emulated_camera_is_shown_a_board_and_judged_by_its_truth(
    robot: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["calibrate", "camera", "--robot", str(robot), "--camera", "wrist", "--seed", "3"]) == 0
    said = capsys.readouterr().out
    found = calibration_of(load_robot(str(robot)).cameras["wrist"])
    true = EmulatedRig(load_robot(str(robot)), "wrist", (480, 640), 3).lens
    assert found is not None and found.lens.fx == pytest.approx(true.matrix[0, 0], rel=0.005)
    assert f"truth             {true.matrix[0, 0]:.2f}, " in said
    other = EmulatedRig(load_robot(str(robot)), "fixed", (480, 640), 3).lens
    assert abs(other.matrix[0, 0] - true.matrix[0, 0]) > 1


class FilmedCamera:
    """A camera whose frames are given; after the last one it repeats it."""

    name, size = "fixed", (480, 640)

    def __init__(self, images: Iterator[Image]) -> None:
        self._images = images
        self._frame: Frame | None = None

    def connect(self) -> None: ...

    def close(self) -> None: ...

    def read(self) -> Frame:
        image = next(self._images, None)
        if image is not None:
            self._frame = Frame(0, 0 if self._frame is None else self._frame.sequence + 1, image)
        assert self._frame is not None
        return self._frame


def test_a_live_camera_is_watched_until_nothing_is_missing(lens: TrueLens) -> None:
    capture, reasons = Capture(Gathering(TABLE)), []
    camera = FilmedCamera(shots(TABLE, lens, np.random.default_rng(9)))
    from_camera(camera, capture, reasons.append, SimulatedClock())
    assert capture.gathering.missing() == [] and len(capture.images) == len(capture.gathering.views)
    assert reasons.count(None) == len(capture.images)


def test_patience_ends_with_what_is_missing(lens: TrueLens) -> None:
    clock = SimulatedClock()
    camera = FilmedCamera(itertools.islice(shots(TABLE, lens, np.random.default_rng(9)), 2))
    with pytest.raises(CalibrationError, match=r"no new view within 300 s, .* next would be: move the board to the"):
        from_camera(camera, Capture(Gathering(TABLE)), lambda reason: None, clock)
    assert clock.now() >= PATIENCE * SECOND
