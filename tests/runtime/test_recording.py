"""The reader of recordings: files cut anywhere, bytes changed anywhere, files that lie about their sizes."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import pytest
import zstandard
from hypothesis import example, given, settings
from hypothesis import strategies as st
from mcap.data_stream import RecordBuilder
from mcap.records import Chunk

from runtime.recorder import Recorder
from runtime.recording import MAGIC, MAX_RECORD_BYTES, Recording, RecordingError
from tests.runtime.episodes import JOINTS, make_end, make_start, make_step


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    with Recorder(tmp_path_factory.mktemp("whole"), JOINTS) as recorder:
        for episode in range(2):
            recorder.on_episode_start(make_start(episode))
            for index in range(30):
                recorder.on_step(make_step(index, episode))
            recorder.on_episode_end(make_end(episode, "success", 30))
    return recorder.path


@settings(max_examples=40, deadline=None)
@given(st.floats(0.0, 1.0))
def test_a_file_cut_anywhere_gives_a_prefix(whole: Path, share: float) -> None:
    data = whole.read_bytes()
    cut = whole.with_name("cut.mcap")
    cut.write_bytes(data[: 8 + int(share * (len(data) - 9))])
    recording = Recording(cut)
    assert not recording.complete
    everything = [(m.topic, m.stamp) for m in Recording(whole).messages()]
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


def test_an_empty_file_and_a_folder_are_one_line_too(tmp_path: Path) -> None:
    (tmp_path / "empty.mcap").touch()
    with pytest.raises(RecordingError, match="is empty"):
        Recording(tmp_path / "empty.mcap")
    with pytest.raises(RecordingError, match="Is a directory"):
        Recording(tmp_path)


@settings(max_examples=60, deadline=None)
@given(st.floats(0.0, 1.0), st.integers(1, 255))
@example(0.0, 4)  # the header becomes a message that is too short to be one
def test_a_changed_byte_anywhere_is_survived_and_no_changed_message_is_given(
    whole: Path, share: float, mask: int
) -> None:
    data = bytearray(whole.read_bytes())
    data[8 + int(share * (len(data) - 17))] ^= mask
    spoilt = whole.with_name("spoilt.mcap")
    spoilt.write_bytes(data)
    steps = {m.stamp: m.data for m in Recording(whole).messages(["/step"])}
    for message in Recording(spoilt).messages(["/step"]):
        assert steps[message.stamp] == message.data


def test_one_damaged_chunk_is_skipped_and_the_rest_is_read(whole: Path) -> None:
    chunks = _chunks(whole)
    data = bytearray(whole.read_bytes())
    at = data.index(chunks[0].data) + len(chunks[0].data) // 2
    data[at] ^= 0xFF
    spoilt = whole.with_name("spoilt.mcap")
    spoilt.write_bytes(data)
    recording = Recording(spoilt)
    left = [message.stamp for message in recording.messages(["/step"])]
    assert recording.damaged == 1
    assert len(chunks) > 1 and 0 < len(left) < 60


def _chunks(path: Path) -> list[Chunk]:
    from mcap.stream_reader import StreamReader

    with path.open("rb") as file:
        return [record for record in StreamReader(file, emit_chunks=True).records if isinstance(record, Chunk)]


def write_chunk(path: Path, compression: str, data: bytes, size: int) -> Recording:
    builder = RecordBuilder()
    Chunk(compression, data, 0, 0, zlib.crc32(b""), size).write(builder)
    path.write_bytes(MAGIC + builder.end())
    return Recording(path)


def test_what_a_file_claims_about_sizes_is_not_believed(tmp_path: Path) -> None:
    path = tmp_path / "liar.mcap"
    bomb = zstandard.compress(bytes(MAX_RECORD_BYTES + 1))
    assert len(bomb) < 10_000
    honest_bomb = write_chunk(path, "zstd", bomb, MAX_RECORD_BYTES + 1)
    assert list(honest_bomb.records()) == [] and honest_bomb.damaged == 1
    modest_bomb = write_chunk(path, "zstd", bomb, 100)
    assert list(modest_bomb.records()) == [] and modest_bomb.damaged == 1
    unknown = write_chunk(path, "brotli", b"x", 1)
    assert list(unknown.records()) == [] and unknown.damaged == 1
    for length in (MAX_RECORD_BYTES + 1, 2**63, 2**64 - 1):
        path.write_bytes(MAGIC + struct.pack("<BQ", 6, length) + b"x" * 100)
        assert list(Recording(path).records()) == []
    path.write_bytes(MAGIC + struct.pack("<BQI", 12, 50, 2**32 - 1) + b"x" * 46)  # metadata with a name of 4 GB
    assert list(Recording(path).records()) == []
