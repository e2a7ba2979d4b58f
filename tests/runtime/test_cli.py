"""The command line: help, quick start, and every user error as one line with exit code 2."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from policies.artifact import write_card
from policies.card import ActionCard, CameraCard, Card, ProprioceptionCard, SequenceCard
from runtime import cli
from runtime.cli import main

VERBS = tuple(cli.VERBS)
ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([verb, "--help"]) == 0
    assert f"gato-arm {verb}" in capsys.readouterr().out


def test_no_arguments_shows_the_verbs(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    output = capsys.readouterr().out
    assert all(verb in output for verb in VERBS)


def test_starting_up_loads_nothing_heavy() -> None:
    heavy = "{'numpy', 'cv2', 'torch', 'onnxruntime', 'pybullet', 'rich', 'pyarrow'}"
    code = f"import sys, runtime.cli; sys.exit(len({heavy} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def robot_file(folder: Path, port: str = "/dev/nothing", source: str = "nothing.mp4", **keys: str) -> str:
    """A robot with one joint and one camera."""
    extra = "".join(f"{key}: {value}\n" for key, value in keys.items())
    path = folder / "robot.yaml"
    path.write_text(
        f"name: test\n{extra}arm:\n  driver: feetech\n  port: {port}\n  joints:\n"
        "    - {name: a, id: 1, minimum: -1, maximum: 1, velocity_max: 1, acceleration_max: 1}\n"
        f"cameras:\n  fixed: {{driver: opencv, source: {source}, size: [64, 64]}}\n"
    )
    return str(path)


def fails(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """The one line on stderr with which `gato-arm WORDS` ends; exit code 2."""
    code = main(list(words))
    captured = capsys.readouterr()
    lines = captured.err.splitlines()
    assert code == 2 and len(lines) == 1 and lines[0].startswith("gato-arm: "), (code, captured.err)
    return lines[0]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("walk",), "No such command 'walk'"),
        (("run", "--polcy", "x"), "No such option: --polcy"),
        (("run", "--episodes", "many"), "'--episodes'"),
        (("run", "--episodes", "0"), "'--episodes'"),
        (("emulate", "--bus", "canbus", "--link", "x"), "'canbus' is not one of"),
        (("collect",), "Missing argument 'out'"),
        (("run", "--robot", "so10"), "did you mean 'so101'?"),
        (("run", "--robot", "nothing.yaml"), "nothing.yaml: no such robot file"),
        (("run", "--task", "stack the pink block on the blue block"), "there is no pink block here"),
        (("run", "--task", "make tea"), "is not understood"),
        (("run", "--policy", "nowhere"), "no policy 'nowhere'"),
        (("eval", "--policy", "nowhere"), "no policy 'nowhere'"),
        (("eval", "--task", "stack the pink block on the blue block"), "there is no pink block here"),
        (("eval", "--policy", "expert", "--objects", "spheres"), "no objects 'spheres'; there are cubes"),
        (("eval", "--policy", "expert", "--shift", "lihgt"), "did you mean 'light'?"),
        (("eval", "--prompt", "sung"), "no prompt 'sung'; there are right"),
        (("eval", "--policy", "expert", "--prompt", "none"), "the expert has neither prompt nor weights"),
        (("eval", "--suite", "huge"), "no suite 'huge'; there are full"),
        (("eval", "--only", "rgb"), "say --suite full as well"),
        (("eval", "--suite", "full", "--shift", "light"), "a suite chooses by itself: leave --shift out"),
        (("eval", "--suite", "full", "--only", "colours"), "no part 'colours' in a suite"),
        (("eval", "--benchmark", "speed"), "no benchmark 'speed'"),
        (("eval", "--policy", "expert", "--backend", "carrier-pigeon"), "no backend 'carrier-pigeon'; there are loky"),
        (("eval", "--render", "nowhere"), "holds no episode"),
        (("eval", "--robot", "so10"), "did you mean 'so101'?"),
        (("eval", "--robot", "so101"), "lock-step plays an emulated or a simulated robot"),
        (("train", "x", "--size", "2M"), "'2M' is not one of 9M"),
        (("train", "x", "--device", "abacus"), "there is no 'abacus' here"),
        (("export", "nothing.pt", "x"), "nothing.pt"),
        (("collect", "x", "--driver", "nowhere"), "no policy 'nowhere'"),
    ],
)
def test_what_the_user_can_mend_is_one_line(
    capsys: pytest.CaptureFixture[str], words: tuple[str, ...], said: str
) -> None:
    assert said in fails(capsys, *words)


def test_a_wrong_key_in_the_yaml(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = robot_file(tmp_path, colour="red")
    assert f"{path}: colour: unknown key" in fails(capsys, "run", "--robot", path)


def test_an_artifact_with_one_byte_changed(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    folder = tmp_path / "policy"
    folder.mkdir()
    (folder / "policy.onnx").write_bytes(b"graph")
    (folder / "text.model").write_bytes(b"text")
    joints = ["shoulder_pan", "shoulder_lift", "elbow_flex", "wrist_flex", "wrist_roll", "gripper"]
    write_card(
        folder,
        Card(
            name="small",
            created="2026-01-01T00:00:00Z",
            description="for a test",
            cameras={"fixed": CameraCard(height=64, width=64)},
            proprioception={"joint_positions": ProprioceptionCard(size=6, low=[-1.0] * 6, high=[1.0] * 6)},
            actions=ActionCard(joint_names=joints, mode=["delta"] * 6, low=[-1.0] * 6, high=[1.0] * 6),
            rate=20.0,
            sequence=SequenceCard(prompt_tokens=16, window=4, timestep_tokens=40),
            text_model="text.model",
            tasks=[],
            parameters=1,
            architecture={},
            training={},
            evaluation={},
        ),
    )
    (folder / "policy.onnx").write_bytes(b"grapf")
    assert "changed since the export" in fails(capsys, "run", "--policy", str(folder))
    assert "changed since the export" in fails(capsys, "eval", "--policy", str(folder))


def test_a_fault_that_the_emulator_does_not_know(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert "explode" in fails(capsys, "emulate", "--link", str(tmp_path / "port"), "--fault", "explode=1")


def test_debug_shows_the_traceback() -> None:
    with pytest.raises(Exception, match="no robot 'nosuch'"):
        main(["run", "--robot", "nosuch", "--debug"])


@pytest.mark.parametrize(("module", "extra"), [("torch", "train"), ("pyarrow", "dataset")])
def test_a_missing_extra_is_named(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, module: str, extra: str
) -> None:
    def without(*_: object, **__: object) -> int:
        raise ModuleNotFoundError(f"No module named '{module}'", name=f"{module}.nn")

    monkeypatch.setattr(cli, "app", without)
    assert f"pip install 'gato-arm[{extra}]'" in fails(capsys, "train", str(tmp_path))


def test_our_own_mistakes_are_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> int:
        raise ModuleNotFoundError("No module named 'runtime.nothing'", name="runtime.nothing")

    monkeypatch.setattr(cli, "app", broken)
    with pytest.raises(ModuleNotFoundError):
        main(["run"])


def test_an_interrupt_is_one_line(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "app", interrupted)
    assert main(["eval"]) == 130
    assert capsys.readouterr().err == "gato-arm: interrupted\n"


def test_eval_and_collect(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    json = tmp_path / "e.json"
    assert main(["eval", "--policy", "expert", "--episodes", "2", "--workers", "1", "--json", str(json)]) == 0
    assert "2 of 2 succeeded" in capsys.readouterr().out
    assert '"success_rate": 1.0' in json.read_text()
    assert main(["collect", str(tmp_path / "d"), "--episodes", "1", "--workers", "1"]) == 0
    assert "1 of 1 episodes kept" in capsys.readouterr().out


def test_every_named_error_exists() -> None:
    import importlib

    for module, name in cli.USER_ERRORS:
        assert issubclass(getattr(importlib.import_module(module), name), Exception)
