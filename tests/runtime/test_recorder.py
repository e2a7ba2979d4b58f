"""The flight recorder and its reader: whole files, files cut anywhere, a writer that cannot keep up, SIGKILL."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mcap.reader import make_reader

from runtime.loop import Step
from runtime.recorder import WARNING, Recorder
from runtime.recording import Recording, RecordingError
from tests.runtime.episodes import JOINTS, make_end, make_start, make_step

EPOCH = 1_700_000_000_000_000_000


def record(folder: Path, episodes: int = 2, steps: int = 30) -> Path:
    with Recorder(folder, JOINTS, epoch=EPOCH, metadata={"robot": "test"}) as recorder:
        for episode in range(episodes):
            recorder.on_episode_start(make_start(episode))
            for index in range(steps):
                recorder.on_step(make_step(index, episode))
            recorder.on_episode_end(make_end(episode, "success" if episode == 0 else "dropped", steps))
        recorder.log(5, WARNING, "the arm is warm")
    return recorder.path


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return record(tmp_path_factory.mktemp("whole"))


def test_everything_comes_back(whole: Path) -> None:
    recording = Recording(whole)
    summary = recording.summary()
    assert summary.complete and summary.dropped == 0 and summary.steps == 60
    assert summary.messages == {
        "/camera/fixed": 60,
        "/camera/wrist": 60,
        "/joints": 60,
        "/command": 60,
        "/step": 60,
        "/episode": 4,
        "/log": 1,
    }
    assert [(e.outcome, e.steps, e.ended) for e in summary.episodes] == [("success", 30, True), ("dropped", 30, True)]
    assert recording.metadata()["robot"] == "test" and recording.metadata()["joints"] == ",".join(JOINTS)
    step = make_step(7, 0)
    message = [m for m in recording.messages(["/step"]) if m.data["episode"] == 0][7]
    assert message.stamp == EPOCH + step.stamp
    assert message.data["tokens"] == step.action.tokens.tolist()
    assert message.data["targets"] == step.action.targets.tolist()
    assert message.data["split_ms"] == dict(step.split_ms) and message.data["missed"] is step.missed
    frames = list(recording.frames("fixed"))
    assert len(frames) == 60 and np.abs(frames[7].astype(int) - step.observation.images["fixed"]).mean() < 4


def test_messages_fit_their_schemas(whole: Path) -> None:
    with whole.open("rb") as file:
        for schema, _, message in make_reader(file).iter_messages():
            assert schema is not None and schema.encoding == "jsonschema"
            described = json.loads(schema.data)
            content = json.loads(message.data)
            assert set(described["required"]) <= set(content) <= set(described["properties"])


@settings(max_examples=40, deadline=None)
@given(st.floats(0.0, 1.0))
def test_a_file_cut_anywhere_gives_a_prefix(whole: Path, share: float) -> None:
    data = whole.read_bytes()
    cut = whole.with_name("cut.mcap")
    cut.write_bytes(data[: 8 + int(share * (len(data) - 9))])
    recording = Recording(cut)
    assert not recording.complete
    everything = [(m.topic, m.stamp) for m in Recording(whole)._recovered(None)]
    got = [(m.topic, m.stamp) for m in recording.messages()]
    assert got == everything[: len(got)]
    recording.summary()


def test_zeros_after_a_power_cut_are_not_data(whole: Path) -> None:
    data = whole.read_bytes()
    cut = whole.with_name("zeros.mcap")
    cut.write_bytes(data[: len(data) // 2] + bytes(4096))
    recording = Recording(cut)
    assert not recording.complete
    assert 0 <= recording.summary().steps < 60


def test_what_is_no_recording_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match="No such file"):
        Recording(tmp_path / "none.mcap")
    (tmp_path / "text.mcap").write_text("hello")
    with pytest.raises(RecordingError, match="no MCAP recording"):
        Recording(tmp_path / "text.mcap")


def test_a_full_queue_drops_and_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stalled, go_on = threading.Event(), threading.Event()
    write = Recorder._write_step

    def slow(self: Recorder, step: Step) -> None:
        stalled.set()
        go_on.wait(10)
        write(self, step)

    monkeypatch.setattr(Recorder, "_write_step", slow)
    recorder = Recorder(tmp_path, JOINTS, queue_records=4)
    recorder.on_step(make_step(0, 0))
    assert stalled.wait(10)
    for index in range(1, 20):
        recorder.on_step(make_step(index, 0))
    assert recorder.dropped == 15
    go_on.set()
    recorder.close()
    summary = Recording(recorder.path).summary()
    assert summary.steps == 5 and summary.dropped == 15


def test_a_full_disk_ends_the_recording_not_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Recorder, step: Step) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Recorder, "_write_step", full)
    recorder = Recorder(tmp_path, JOINTS)
    recorder.on_step(make_step(0, 0))
    recorder._thread.join(10)
    recorder.on_step(make_step(1, 0))
    recorder.close()
    assert recorder.error is not None and recorder.dropped == 1


def test_close_twice_and_record_after_it(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, JOINTS)
    recorder.close()
    recorder.close()
    recorder.on_step(make_step(0, 0))
    assert recorder.dropped == 1 and Recording(recorder.path).complete


RECORD_FOREVER = """
import sys, time
from pathlib import Path
from runtime.recorder import Recorder
from tests.runtime.episodes import JOINTS, make_start, make_step
recorder = Recorder(Path(sys.argv[1]), JOINTS)
recorder.on_episode_start(make_start(0))
for index in range(100000):
    recorder.on_step(make_step(index, 0))
    print(index, flush=True)
    time.sleep(0.01)
"""


def test_sigkill_loses_only_the_last_moments(tmp_path: Path) -> None:
    root = Path(__file__).parents[2]
    process = subprocess.Popen(
        [sys.executable, "-c", RECORD_FOREVER, str(tmp_path)],
        stdout=subprocess.PIPE,
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root)},
    )
    assert process.stdout is not None
    written = 0
    for line in process.stdout:
        written = int(line) + 1
        if written == 300:
            process.send_signal(signal.SIGKILL)
            break
    process.wait()
    recording = Recording(tmp_path / "recording.mcap")
    summary = recording.summary()
    assert not recording.complete
    # Half a second of flush period is 50 steps at most at this pace; twice that for a machine that stalls.
    assert summary.steps >= written - 100
    assert [m.data["index"] for m in recording.messages(["/step"])] == list(range(summary.steps))
    assert summary.episodes[0].task == make_start(0).task and not summary.episodes[0].ended
