"""Flight recordings as a dataset: what the recorder was told comes back, with its stamps."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from policies.dataset import Dataset
from runtime.cli import main
from runtime.recorder import Recorder
from runtime.recording_file import RecordingFile
from tests.runtime.episodes import JOINTS, PERIOD, make_end, make_image, make_start, make_step

EPOCH = 1_700_000_000 * 10**9


def fly(folder: Path, outcomes: list[str], steps: int = 5) -> Path:
    told = {"robot": "so101", "policy": "test", "seed": "70"}
    with Recorder(folder, JOINTS, epoch=EPOCH, metadata=told) as recorder:
        for episode, outcome in enumerate(outcomes):
            recorder.on_episode_start(make_start(episode))
            for index in range(steps):
                step = make_step(index, episode)
                stamps = {"fixed": step.stamp - 2_000_000, "wrist": step.stamp - 3_000_000}
                recorder.on_step(replace(step, frame_stamps=stamps))
            end = make_end(episode, "time limit", steps)
            recorder.on_episode_end(end)
            recorder.verdict(replace(end, outcome=outcome))
    return recorder.path


def test_successes_become_episodes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = fly(tmp_path / "a", ["success", "never moved", "unjudged"])
    fly(tmp_path / "b", ["success"])
    assert main(["dataset", "from-log", str(first), str(tmp_path / "b"), "--out", str(tmp_path / "data")]) == 0
    assert "left out   1: never moved" in (out := capsys.readouterr().out) and "3 episodes kept" in out
    dataset = Dataset(tmp_path / "data")
    assert len(dataset) == 3 and dataset.fps == 20
    assert [dataset.facts(index).seed for index in range(3)] == [70, 72, 70]
    episode = dataset[1]
    assert episode.facts.outcome == "unjudged" and episode.facts.demonstrator == "test"
    for index in range(5):
        step = make_step(index, 2)
        np.testing.assert_allclose(episode.actions[index], step.action.targets, rtol=1e-6)
        np.testing.assert_allclose(episode.joint_positions[index], step.joint_state.positions, rtol=1e-6)
        off = episode.frames("wrist")[index].astype(int) - make_image(index + 5)
        assert np.abs(off).mean() < 4, "as JPEG left it"
        assert episode.stamps is not None
        stamps = [step.joint_state.stamp, step.stamp - 2_000_000, step.stamp - 3_000_000]
        assert episode.stamps[index].tolist() == [EPOCH + stamp for stamp in stamps]
    assert (np.diff(episode.stamps[:, 0]) == PERIOD).all()
    assert dataset.robot(episode.facts.robot or "")["name"] == "so101"


def test_failures_are_kept_on_request(tmp_path: Path) -> None:
    file = fly(tmp_path / "a", ["never moved"])
    assert main(["dataset", "from-log", str(file), "--out", str(tmp_path / "data"), "--keep-failures"]) == 0
    assert Dataset(tmp_path / "data").facts(0).outcome == "never moved"


def test_what_is_no_recording_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "x.mcap").write_bytes(b"nothing")
    assert main(["dataset", "from-log", str(tmp_path / "x.mcap"), "--out", str(tmp_path / "data")]) == 2
    assert "is no MCAP recording" in capsys.readouterr().err
    file = RecordingFile(tmp_path / "y.mcap", {"robot": "x"})
    file.finish({})
    file.close()
    assert main(["dataset", "from-log", str(tmp_path / "y.mcap"), "--out", str(tmp_path / "data")]) == 2
    assert "does not name the arm's joints" in capsys.readouterr().err
    assert not (tmp_path / "data").exists()
