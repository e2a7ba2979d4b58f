"""`gato-arm calibrate hand-eye` from the command line: an emulated robot whose truth is known, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import RenderableType

from calibration.board import BOARDS
from calibration.files import name_camera_calibration, write_calibration
from drivers.camera_calibration import CameraCalibration, load_camera_calibration
from drivers.config import URDF_FOLDER, RobotConfig, load_robot
from runtime import calibrate_hand_eye_session as session
from runtime.calibrate_emulated import EmulatedRig
from runtime.calibrate_operator import Step
from runtime.cli import main
from sim.emulator import EmulatorProcess
from tests.runtime.fake_rig import Answering, FakeRig, as_lens

SEED = 2


@pytest.fixture
def robot(tmp_path: Path) -> Path:
    """A robot's file of its own, whose fixed camera has a lens: that of the rig of `SEED`."""
    path = tmp_path / "my.yaml"
    path.write_text((URDF_FOLDER.parent / "emulated.yaml").read_text())
    config = load_robot(str(path))
    lens = as_lens(EmulatedRig(config, "fixed", (480, 640), SEED).lens)
    write_calibration(tmp_path / "my.fixed.yaml", CameraCalibration(camera="fixed", lens=lens))
    name_camera_calibration(path, "fixed", tmp_path / "my.fixed.yaml")
    return path


def calibrate(robot: Path, *words: str) -> int:
    return main(["calibrate", "hand-eye", "--robot", str(robot), "--mounting", "fixed", "--seed", str(SEED), *words])


def test_the_camera_of_an_emulated_robot_is_found(robot: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Real drivers, servo loop, filter and guard; the place is written beside the lens, and used."""
    figures = robot.with_name("f.json")
    assert calibrate(robot, "--poses", "8", "--date", "2026-03-04", "--json", str(figures)) == 0
    said = capsys.readouterr().out
    place = load_camera_calibration(robot.with_name("my.fixed.yaml")).place
    assert place is not None and place.date == "2026-03-04" and place.carried_by == "base"
    assert json.loads(figures.read_text())["place"]["errors"]["poses"] == 8
    way = next(line for line in said.splitlines() if line.startswith("truth")).split()
    assert float(way[way.index("mm") - 1]) < 3 and float(way[way.index("degrees") - 1]) < 0.5


def test_another_board_than_the_one_there_is_refused(robot: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = robot.with_name("my.fixed.yaml").read_text()
    assert calibrate(robot, "--board", "table") == 2
    assert "wrong board: the picture has the markers 40, 41" in capsys.readouterr().err
    assert robot.with_name("my.fixed.yaml").read_text() == before


def without_lens(robot: Path) -> None:
    robot.write_text((URDF_FOLDER.parent / "emulated.yaml").read_text())
    robot.with_name("my.fixed.yaml").unlink()


def of_another_size(robot: Path) -> None:
    path = robot.with_name("my.fixed.yaml")
    stored = load_camera_calibration(path)
    write_calibration(path, stored.model_copy(update={"lens": stored.lens.fitted((240, 320))}))


def without_urdf(robot: Path) -> None:
    robot.write_text(robot.read_text().replace("  urdf: so101_stacking.urdf\n", ""))


@pytest.mark.parametrize(
    ("spoil", "words", "said"),
    [
        (without_lens, [], "my.fixed.yaml"),
        (of_another_size, [], "its lens is for (240, 320) pixels, the camera gives (480, 640); calibrate it again"),
        (without_urdf, [], "arm.urdf is not set"),
        (lambda robot: None, ["--camera", "ceiling"], "has no camera 'ceiling'"),
    ],
)
def test_what_is_missing_is_one_line(
    spoil: Callable[[Path], None], words: list[str], said: str, robot: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spoil(robot)
    assert calibrate(robot, *words) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and said in lines[0]


class Watching(Answering):
    """An `Operator` who holds the arm as long as it takes, and then agrees to let it move, or not."""

    def watch(self, step: Step, instruction: str, look: Callable[[], RenderableType]) -> None:
        assert step == "view"
        self.told += [instruction, str(look())]


def test_a_real_arm_is_shown_by_hand_and_does_not_move_unasked(
    robot: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A servo process on a port, as with a real arm; the operator sees what the camera does, and says no."""
    made = FakeRig("fixed", 11)
    monkeypatch.setattr(session, "open_camera", lambda name, config: made.eye)
    monkeypatch.setattr(session, "HandEyeRun", lambda *given, **options: pytest.fail("the arm was to move"))
    with EmulatorProcess(seed=1) as emulator:
        config: RobotConfig = emulator.on_devices(load_robot(str(robot))).model_copy(update={"emulated": False})
        wish = session.Wish("fixed", "fixed", BOARDS["hand"], 8, "2026-03-04", tmp_path / "my.fixed.yaml")
        operator = Watching(False)
        assert session.calibrate(config, str(robot), wish, operator) is None
    assert operator.told[0].startswith("Put the board 'hand' in the gripper.")
    assert operator.told[1] == "camera fixed: 12 of 12 corners of the board seen"
    assert operator.told[2].startswith("The arm takes torque here and moves by itself through 8 poses")
    assert load_camera_calibration(tmp_path / "my.fixed.yaml").place is None
