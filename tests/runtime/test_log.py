"""`gato-arm log`: figures, tables, faults, the picture, recovery, frames; and files that are not what they say."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import typer
from rich.console import Console
from typer.testing import CliRunner

from drivers.arm import JointState, frozen
from runtime.commands.log import log as verb
from runtime.log import Log, plain, read_log
from runtime.log_plot import _with_gaps, plot, thinned
from runtime.log_report import fault_table, figures, show, spread
from runtime.recorder import WARNING, Recorder
from runtime.recording import Recording, RecordingError
from runtime.recording_file import RecordingFile
from runtime.recovery import export_frames, recover, safe_name
from runtime.servo_state import ServoCounters, ServoState, Split
from runtime.supervisor import State
from tests.runtime.episodes import JOINTS, PERIOD, make_end, make_start, make_step

EPOCH = 1_700_000_000_000_000_000
STEPS = 40
FAULT_AT = 150  # tick
SIGNATURE = b"\x89PNG\r\n"


def make_tick(number: int) -> ServoState:
    """Tick `number` of an arm that moves, is limited now and then, and stops with a fault."""
    stamp = PERIOD + number * PERIOD // 5
    at = np.sin(number / 30 + np.arange(6))
    faulty = number >= FAULT_AT
    rows = (at - 0.02, np.cos(at), 0.3 * at, np.full(6, 30 + number / 50), np.full(6, 7.4))
    return ServoState(
        stamp=stamp,
        joints=JointState(stamp - 1_000_000, *map(frozen, rows)),
        command=frozen(at),
        state=State.STOPPING if faulty else State.RUNNING,
        fault="servo: elbow_flex [red]overload[/red]" if faulty else None,
        reasons=("velocity limit",) if number % 10 == 0 else (),
        counters=ServoCounters(ticks=number, bus_sent=2 * number, bus_retried=number // 50),
        split=Split(1_000_000, 200_000, 300_000),
        asked=None if faulty else frozen(at + 0.01),
    )


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    metadata = {"robot": "test", "policy": "stack", "seed": "7"}
    with Recorder(folder, JOINTS, epoch=EPOCH, metadata=metadata) as recorder:
        recorder.on_episode_start(make_start(0))
        for index in range(STEPS):
            recorder.on_step(make_step(index, 0))
            for number in range(5 * index, 5 * index + 5):
                recorder.on_tick(make_tick(number))
        recorder.event(None, "operator", "Ctrl-C")
        recorder.log(5 * PERIOD, WARNING, "warm")
        recorder.on_episode_end(make_end(0, "fault: servo: elbow_flex [red]overload[/red]", STEPS))
    return recorder.path


@pytest.fixture
def cut(recording: Path, tmp_path: Path) -> Path:
    """The same, as a killed process left it."""
    path = tmp_path / "cut.mcap"
    data = recording.read_bytes()
    path.write_bytes(data[: len(data) * 2 // 3])
    return path


def paper(width: int = 160) -> Console:
    return Console(width=width, color_system=None, record=True, file=io.StringIO())


def shown(content: Log, width: int = 160) -> str:
    console = paper(width)
    show(content, console)
    return console.export_text()


def test_the_figures_are_those_of_what_was_recorded(recording: Path) -> None:
    found = figures(read_log(recording))
    assert found["complete"] and found["joints"] == list(JOINTS)
    assert found["run"] == {"robot": "test", "policy": "stack", "seed": "7"}
    assert found["began"].startswith("2023-11-14T22:13:20")
    assert found["steps"]["count"] == STEPS and found["steps"]["missed"] == STEPS // 10
    assert found["steps"]["step_ms"] == pytest.approx({"p50": 16.1, "p99": 16.1, "p99.9": 16.1, "max": 16.1})
    assert found["ticks"]["count"] == 5 * STEPS
    assert found["ticks"]["split_ms"]["read"] == {"p50": 1.0, "p99": 1.0, "p99.9": 1.0, "max": 1.0}
    assert found["ticks"]["interval_ms"]["max"] == pytest.approx(10.0, abs=1e-3)
    assert found["ticks"]["reasons"] == {"velocity limit": STEPS // 2}
    assert found["counters"]["bus_sent"] == 2 * (5 * STEPS - 1)
    assert found["arm"]["gripper"]["tracking_error_max"] == pytest.approx(0.02)
    assert found["arm"]["gripper"]["temperature_c_max"] == pytest.approx(33.98)
    assert found["dropped"] == {"records": 0, "ticks": 0}
    (episode,) = found["episodes"]
    assert episode["outcome"].startswith("fault") and episode["steps"] == STEPS and episode["policy"] == "test"
    assert [event["kind"] for event in found["events"]] == ["state", "operator"]
    (fault,) = found["faults"]
    assert fault["time"] == pytest.approx(FAULT_AT * 0.01, abs=0.06)
    assert len(fault["pairs"]) == 50 and fault["pairs"][-1]["time"] == 0.0
    assert fault["pairs"][0]["time"] == pytest.approx(-0.49)
    json.dumps(found, allow_nan=False)


def test_counters_go_on_when_the_servo_loop_is_started_anew(tmp_path: Path) -> None:
    with Recorder(tmp_path, JOINTS) as recorder:
        for number in (1, 2, 3, 0, 1):
            recorder.on_tick(make_tick(number))
    assert read_log(recorder.path).counters["bus_sent"] == 6 + 2


def test_the_report_names_what_happened_and_markup_stays_text(recording: Path) -> None:
    content = read_log(recording)
    text = shown(content)
    for words in (
        "complete",
        "robot test, policy stack, seed 7",
        "stack the red block on the blue block",
        "fault: servo: elbow_flex [red]overload[/red]",
        "4 of 40 control steps missed theirs",
        "retried 3",
        "velocity limit 20",
        "operator: Ctrl-C",
        "p99.9",
        "shoulder_lift",
    ):
        assert words in text
    assert "fault: servo: elbow_flex [red]overload[/red]" in shown(content, width=40), "lines are never cut"
    console = paper()
    console.print(fault_table(content.faults[0], content.joints))
    table = console.export_text()
    assert "[red]overload[/red]" in table and "-490" in table and "stopping" in table
    assert table.count("running") == 49


def test_the_picture_is_a_picture(recording: Path, tmp_path: Path) -> None:
    path = tmp_path / "deep" / "log.png"
    plot(read_log(recording), path)
    image = cv2.imread(str(path))
    assert image is not None and image.shape[0] > 1200 and image.shape[1] > 1200
    assert len(np.unique(image.reshape(-1, 3), axis=0)) > 50


def test_a_recording_without_ticks_has_no_picture(tmp_path: Path) -> None:
    with Recorder(tmp_path, JOINTS) as recorder:
        recorder.on_step(make_step(0, 0))
    with pytest.raises(RecordingError, match="nothing to plot"):
        plot(read_log(recorder.path), tmp_path / "log.png")
    assert "1 control steps" in shown(read_log(recorder.path))


def test_pauses_are_gaps() -> None:
    times, parts = _with_gaps(np.array([0.0, 1.0, 2.0, 9.0, 10.0]), np.full((2, 5), 7.0))
    assert times.tolist() == [0, 1, 2, 3, 9, 10]
    assert parts.tolist() == [[7, 7, 7, 0, 7, 7]] * 2


def test_thinning_keeps_every_extreme() -> None:
    times = np.arange(100_000.0)
    values = np.sin(times)
    values[54_321] = 7.0
    values[12_345] = np.nan
    thin_times, thin = thinned(times, values, points=1000)
    assert len(thin) <= 1000 and np.nanmax(thin) == 7.0 and np.nanmin(thin) == values[~np.isnan(values)].min()
    assert (np.diff(thin_times) >= 0).all()
    assert thinned(times[:10], values[:10])[1] is not None and spread(np.array([np.nan])) is None


def test_a_broken_recording_is_read_to_its_break_and_recovered_whole(cut: Path, tmp_path: Path) -> None:
    broken = read_log(cut)
    assert not broken.complete and 0 < len(broken.steps) < STEPS
    out = tmp_path / "whole.mcap"
    saved = recover(cut, out)
    whole = Recording(out)
    assert whole.complete and saved.messages == sum(broken.messages.values()) and saved.damaged == 0
    assert [(m.topic, m.stamp, m.data) for m in whole.messages()] == [
        (m.topic, m.stamp, m.data) for m in Recording(cut).messages()
    ]
    assert saved.last == max(m.stamp for m in whole.messages())
    assert whole.metadata()["recovered_from"] == "cut.mcap" and whole.metadata()["robot"] == "test"
    from mcap.reader import make_reader

    with out.open("rb") as file:
        summary = make_reader(file).get_summary()
    assert summary is not None and summary.statistics is not None
    assert summary.statistics.message_count == saved.messages
    assert figures(read_log(out))["steps"] == figures(broken)["steps"]


def test_recovery_overwrites_nothing(cut: Path, recording: Path) -> None:
    before = recording.read_bytes()
    with pytest.raises(RecordingError, match="exists and is never overwritten"):
        recover(cut, recording)
    assert recording.read_bytes() == before


def test_nothing_to_recover_is_said(recording: Path, tmp_path: Path) -> None:
    stump = tmp_path / "stump.mcap"
    stump.write_bytes(recording.read_bytes()[:200])
    with pytest.raises(RecordingError, match="not one whole message"):
        recover(stump, tmp_path / "out.mcap")
    assert not (tmp_path / "out.mcap").exists()
    with pytest.raises(RecordingError, match="names no joints"):
        read_log(cut_to(stump, 20))


def cut_to(path: Path, size: int) -> Path:
    path.write_bytes(path.read_bytes()[:size])
    return path


def test_frames_are_named_by_their_stamps(recording: Path, tmp_path: Path) -> None:
    assert export_frames(recording, tmp_path / "frames") == {"fixed": STEPS, "wrist": STEPS}
    files = sorted((tmp_path / "frames" / "wrist").iterdir())
    assert [file.name for file in files] == [f"{EPOCH + make_step(i, 0).stamp}.jpg" for i in range(STEPS)]
    image = cv2.imread(str(files[3]))
    assert image is not None
    assert np.abs(image[..., ::-1].astype(int) - make_step(3, 0).observation.images["wrist"]).mean() < 4
    with pytest.raises(RecordingError, match="never overwritten"):
        export_frames(recording, tmp_path / "frames")


def test_names_and_words_from_inside_a_file_stay_names_and_words() -> None:
    for name in ("../../etc", "/abs", "a/b", "..", "", "\x00", "x" * 500):
        safe = safe_name(name)
        assert safe and "/" not in safe and "." not in safe and len(safe) <= 64
    assert plain("a\x1b]0;owned\x07b\nc") == "a\ufffd]0;owned\ufffdb\ufffdc"
    with pytest.raises(TypeError):
        plain({"a": 1})


MALFORMED: list[tuple[str, str, Any]] = [
    ("/step", "gato_arm.Step", {}),
    ("/tick", "gato_arm.Tick", {"split_ms": []}),
    ("/episode", "gato_arm.Episode", {"index": 0, "task": 3, "event": "start"}),
    ("/fault", "gato_arm.Fault", {"text": "x", "pairs": [{"state": 1}]}),
    ("/recorder", "gato_arm.Recorder", {"dropped": "many", "ticks_dropped": 0}),
    ("/event", "gato_arm.Event", [1, 2]),
]


@pytest.mark.parametrize(("topic", "schema", "content"), MALFORMED)
def test_messages_that_are_not_ours_are_one_line(tmp_path: Path, topic: str, schema: str, content: Any) -> None:
    file = RecordingFile(tmp_path / "odd.mcap", {"joints": ",".join(JOINTS)})
    file.message(topic, schema, 1, content)
    file.finish({})
    with pytest.raises(RecordingError) as raised:
        read_log(tmp_path / "odd.mcap")
    assert topic in str(raised.value) and "\n" not in str(raised.value)


def invoke(*words: str) -> tuple[int, str]:
    app = typer.Typer(pretty_exceptions_enable=False)
    app.command()(verb)
    result = CliRunner().invoke(app, list(words), env={"COLUMNS": "200"})
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.output


def test_the_verb_does_all_at_once(cut: Path, tmp_path: Path) -> None:
    out = tmp_path / "all"
    code, output = invoke(
        str(cut),
        *("--recover", str(out / "whole.mcap"), "--frames", str(out / "frames"), "--plot", str(out / "log.png")),
        *("--json", str(out / "log.json"), "--faults"),
    )
    assert code == 0
    assert "recovered" in output and "after the first" in output and "frames" in output and "picture" in output
    assert json.loads((out / "log.json").read_text())["complete"]
    assert (out / "log.png").read_bytes().startswith(SIGNATURE)
    assert Recording(out / "whole.mcap").complete and any((out / "frames" / "fixed").iterdir())


def test_the_verb_takes_a_run_s_folder(recording: Path) -> None:
    code, output = invoke(str(recording.parent))
    assert code == 0 and "complete" in output


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: path.write_bytes(b""), "is empty"),
        (lambda path: path.write_bytes(b"hello, world"), "no MCAP recording"),
        (lambda path: None, "No such file"),
        (lambda path: path.mkdir(), "No such file"),
    ],
)
def test_the_verb_refuses_what_is_no_recording(tmp_path: Path, make: Callable[[Path], Any], message: str) -> None:
    make(tmp_path / "odd.mcap")
    with pytest.raises(RecordingError, match=message):
        invoke(str(tmp_path / "odd.mcap"))
