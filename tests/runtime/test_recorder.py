"""The flight recorder: all comes back; a writer that cannot keep up; servo ticks and faults; a full disk; SIGKILL."""

from __future__ import annotations

import functools
import json
import os
import signal
import subprocess
import sys
import threading
import time
import tracemalloc
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mcap.reader import make_reader

from drivers.arm import JointState, frozen
from runtime.loop import Step
from runtime.recorder import FILE_NAME, WARNING, Recorder
from runtime.recording import Recording, RecordingError
from runtime.recording_file import RecordingFile
from runtime.servo import Target
from runtime.servo_process import ServoProcess
from runtime.servo_state import ServoCounters, ServoState, Split
from runtime.supervisor import State
from tests.runtime.episodes import JOINTS, make_end, make_start, make_step
from tests.runtime.fake_arm import SPEC as ARM
from tests.runtime.fake_arm import START, LoggingArm

EPOCH = 1_700_000_000_000_000_000
TICK = 10_000_000  # ns
ROOT = Path(__file__).parents[2]


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
        "/target": 60,
        "/step": 60,
        "/episode": 4,
        "/log": 1,
        "/recorder": 1,
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


def make_state(number: int, **changes: Any) -> ServoState:
    zeros = frozen(np.zeros(6))
    joints = JointState((number + 1) * TICK - 1_000_000, frozen(np.full(6, number * 0.01)), zeros, zeros, zeros, zeros)
    values: dict[str, Any] = {
        "stamp": (number + 1) * TICK,
        "joints": joints,
        "command": frozen(np.full(6, number * 0.01 + 0.001)),
        "state": State.RUNNING,
        "fault": None,
        "reasons": (),
        "counters": ServoCounters(ticks=number),
        "split": Split(1_000_000, 200_000, 300_000),
        "asked": frozen(np.full(6, number * 0.01 + 0.005)),
    }
    return ServoState(**values | changes)


class Ticks:
    """A source of servo ticks: what was put in comes out at the next look."""

    def __init__(self, states: Sequence[ServoState] = (), lost: int = 0) -> None:
        self.waiting, self.lost, self.closed = list(states), lost, False

    def drain(self) -> tuple[Sequence[ServoState], int]:
        assert not self.closed
        waiting, self.waiting = self.waiting, []
        lost, self.lost = self.lost, 0
        return waiting, lost

    def close(self) -> None:
        self.closed = True


def messages(folder: Path, topic: str) -> list[dict[str, Any]]:
    return [message.data for message in Recording(folder / FILE_NAME).messages([topic])]


def test_servo_ticks_are_recorded_with_what_was_asked_what_was_sent_and_why(tmp_path: Path) -> None:
    states = [make_state(number) for number in range(30)]
    states[3] = make_state(3, reasons=("velocity limit",), asked=frozen([np.nan, np.inf, 0, 0, 0, 0]))
    states[4] = make_state(4, asked=None)
    source = Ticks(states, lost=2)
    with Recorder(tmp_path, JOINTS, epoch=EPOCH) as recorder:
        recorder.follow(source)
    ticks = messages(tmp_path, "/tick")
    assert len(ticks) == 30 and source.closed
    assert ticks[3]["reasons"] == ["velocity limit"] and ticks[3]["asked"] == [None, None, 0.0, 0.0, 0.0, 0.0]
    assert ticks[4]["asked"] is None
    tick = ticks[7]
    assert tick["asked"] == pytest.approx([0.075] * 6) and tick["command"] == pytest.approx([0.071] * 6)
    assert tick["positions"] == pytest.approx([0.07] * 6) and tick["state"] == "running"
    assert tick["split_ms"] == {"read": 1.0, "filter": 0.2, "write": 0.3} and tick["age_ms"] == 1.0
    assert tick["counters"]["ticks"] == 7
    last = messages(tmp_path, "/recorder")[-1]
    assert last["ticks_dropped"] == 2 and last["dropped"] == 0
    assert "2 records dropped" in messages(tmp_path, "/log")[-1]["message"]
    assert Recording(recorder.path).metadata()["ticks_dropped"] == "2"


def test_a_fault_carries_the_last_fifty_pairs_and_is_told_once(tmp_path: Path) -> None:
    fault = {"fault": "servo: gripper overload", "state": State.STOPPING}
    states = [make_state(number, **(fault if number >= 70 else {})) for number in range(80)]
    states.append(make_state(80, state=State.HOLDING))  # somebody has reset it
    with Recorder(tmp_path, JOINTS) as recorder:
        for state in states:
            recorder.on_tick(state)
        recorder.on_episode_end(make_end(0, "fault: servo: gripper overload", 5))
    (told,) = messages(tmp_path, "/fault")
    assert told["text"] == "servo: gripper overload" and told["joints"] == list(JOINTS)
    assert [pair["timestamp"] for pair in told["pairs"]] == [
        {"sec": 0, "nsec": (number + 1) * TICK} for number in range(21, 71)
    ]
    assert told["pairs"][-1]["command"] == pytest.approx([0.701] * 6)
    assert [(event["kind"], event["text"]) for event in messages(tmp_path, "/event")] == [
        ("state", "running -> stopping"),
        ("state", "stopping -> holding"),
        ("reset", "fault forgotten: servo: gripper overload"),
    ]


def test_a_fault_that_no_servo_tick_knows_is_recorded_too(tmp_path: Path) -> None:
    with Recorder(tmp_path, JOINTS) as recorder:
        recorder.follow(Ticks([make_state(number) for number in range(3)]))
        recorder.event(None, "operator", "stop")
        recorder.on_episode_end(make_end(0, "fault: camera wrist: unplugged", 5))
    (told,) = messages(tmp_path, "/fault")
    assert told["text"] == "camera wrist: unplugged" and len(told["pairs"]) == 3
    assert messages(tmp_path, "/event")[-1]["text"] == "stop"


def test_an_image_has_the_time_of_its_capture(tmp_path: Path) -> None:
    step = make_step(0, 0)
    with Recorder(tmp_path, JOINTS) as recorder:
        recorder.on_step(replace(step, frame_stamps={"fixed": 7, "wrist": 8}))
    assert messages(tmp_path, "/camera/fixed")[0]["timestamp"] == {"sec": 0, "nsec": 7}
    assert messages(tmp_path, "/step")[0]["frames"] == {"fixed": {"sec": 0, "nsec": 7}, "wrist": {"sec": 0, "nsec": 8}}


def test_every_tick_of_the_servo_process_is_recorded_to_its_last(tmp_path: Path) -> None:
    servo = ServoProcess(functools.partial(LoggingArm, tmp_path / "arm.log"), ARM)
    with Recorder(tmp_path, ARM.joint_names) as recorder, servo:
        recorder.follow(servo.ticks())
        servo.start()
        for _ in range(10):
            servo.send_target(Target(time.monotonic_ns(), START + 0.1))
            time.sleep(0.03)
        servo.hold()
    ticks = [message.data for message in Recording(recorder.path).messages(["/tick"])]
    numbers = [tick["counters"]["ticks"] for tick in ticks]
    assert sorted(set(numbers)) == list(range(1, max(numbers) + 1)), "none is missing"
    assert numbers == sorted(numbers) and recorder.ticks_dropped == 0
    assert {"idle", "holding", "running", "stopping"} >= {tick["state"] for tick in ticks} >= {"idle", "running"}
    assert ticks[-1]["state"] == "idle", "released"
    asked = next(tick for tick in ticks if tick["state"] == "running")
    assert asked["asked"] is not None and asked["command"] != asked["positions"]


def test_memory_does_not_grow_with_the_recording_and_every_chunk_is_in_its_index(tmp_path: Path) -> None:
    file = RecordingFile(tmp_path / "long.mcap", {})
    sizes = []
    tracemalloc.start()
    try:
        for chunk in range(600):
            for topic in range(8):
                file.message(f"/topic{topic}", "foxglove.Log", chunk, {"message": "x"})
            file.commit()
            if chunk in (100, 599):
                sizes.append(tracemalloc.get_traced_memory()[0])
    finally:
        tracemalloc.stop()
    file.finish({})
    assert sizes[1] - sizes[0] < 20_000  # 500 indexes of 8 topics are 450 kB in memory
    with file.path.open("rb") as written:
        summary = make_reader(written).get_summary()
        assert summary is not None and len(summary.chunk_indexes) == 600
        assert all(len(index.message_index_offsets) == 8 for index in summary.chunk_indexes)
        assert len(list(make_reader(written, validate_crcs=True).iter_messages(topics=["/topic5"]))) == 600
    assert [entry.name for entry in tmp_path.iterdir()] == ["long.mcap"]


def test_a_recording_is_never_overwritten(whole: Path) -> None:
    before = whole.read_bytes()
    with pytest.raises(RecordingError, match="exists and is never overwritten"):
        Recorder(whole.parent, JOINTS)
    assert whole.read_bytes() == before


FULL_DISK = """
import resource, sys, time
from pathlib import Path
from runtime.recorder import Recorder
from tests.runtime.episodes import JOINTS, make_start, make_step
limit = int(sys.argv[2])
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
told = []
recorder = Recorder(Path(sys.argv[1]), JOINTS, notify=told.append)
recorder.on_episode_start(make_start(0))
index = 0
while recorder.error is None and index < 100_000:
    recorder.on_step(make_step(index, 0))
    time.sleep(0.001)
    index += 1
recorder.on_step(make_step(index, 0))
recorder.close()
print(index, recorder.dropped, len(told), told[0] if told else "")
"""


@pytest.mark.parametrize("limit", [1_000, 70_000, 200_000])
def test_a_full_disk_ends_the_recording_with_a_notice_and_the_file_is_whole(tmp_path: Path, limit: int) -> None:
    """The system refuses every byte beyond `limit`, as a disk does that is full."""
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(tmp_path), str(limit)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        timeout=120,
    )
    assert done.returncode == 0 and not done.stderr, done.stderr
    written, dropped, notices, notice = done.stdout.rstrip("\n").split(" ", 3)
    assert int(dropped) >= 1 and notices == "1"
    assert "stopped, the arm goes on" in notice and "File too large" in notice
    if limit < 10_000:
        return  # not one chunk fits
    recording = Recording(tmp_path / FILE_NAME)
    assert recording.complete, "closed with DataEnd, footer and magic"
    indices = [message.data["index"] for message in recording.messages(["/step"])]
    assert indices == list(range(len(indices))) and 0 < len(indices) < int(written)
    assert recording.damaged == 0 and recording.size <= limit
    assert recording.metadata()["error"] == "File too large"
    with recording.path.open("rb") as file:  # and any other reader takes it
        assert len(list(make_reader(file, validate_crcs=True).iter_messages(topics=["/step"]))) == len(indices)


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
    process = subprocess.Popen(
        [sys.executable, "-c", RECORD_FOREVER, str(tmp_path)],
        stdout=subprocess.PIPE,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
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
    # Half a second is 50 steps at this pace; the flush period is less than half of that.
    assert summary.steps >= written - 50
    assert [m.data["index"] for m in recording.messages(["/step"])] == list(range(summary.steps))
    assert summary.episodes[0].task == make_start(0).task and not summary.episodes[0].ended
