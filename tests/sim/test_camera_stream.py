"""Frames over HTTP: as they were rendered, to whoever keeps up; frozen and dropped cameras; what is no camera."""

from __future__ import annotations

import contextlib
import selectors
import socket
from collections.abc import Iterator

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from sim.camera_stream import REQUEST_LIMIT, CameraStream, encode_jpeg, with_noise
from sim.faults import EmulatorError


class Served:
    """A stream of two cameras and the loop that serves it, turned by hand: no thread, no waiting."""

    def __init__(self, noise: np.random.Generator | None = None) -> None:
        self.selector = selectors.DefaultSelector()
        self.stream = CameraStream(["fixed", "wrist"], self.selector, noise=noise)
        self.clients: list[socket.socket] = []

    def turn(self, times: int = 4) -> None:
        """Serve what is ready, and what becomes ready by that."""
        for _ in range(times):
            for key, mask in self.selector.select(0.01):
                key.data(key, mask)

    def ask(self, request: bytes) -> socket.socket:
        client = socket.create_connection(("127.0.0.1", self.stream.port), timeout=5)
        self.clients.append(client)
        client.sendall(request)
        self.turn()
        return client

    def watch(self, camera: str) -> socket.socket:
        """A client that has had the head of the answer."""
        client = self.ask(f"GET /{camera}.mjpg HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        head = client.recv(4096)
        assert head.startswith(b"HTTP/1.0 200 OK") and b"multipart/x-mixed-replace" in head
        return client

    def close(self) -> None:
        for client in self.clients:
            client.close()
        self.stream.close()
        self.selector.close()


@pytest.fixture
def served() -> Iterator[Served]:
    made = Served()
    yield made
    made.close()


def picture(seed: int) -> NDArray[np.uint8]:
    """Smooth, so that the compression keeps it."""
    small = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return np.asarray(cv2.resize(small, (64, 48), interpolation=cv2.INTER_CUBIC), dtype=np.uint8)


def received(client: socket.socket) -> list[NDArray[np.uint8]]:
    """The frames that have arrived."""
    return frames_of(arrived(client))


def arrived(client: socket.socket) -> bytes:
    client.setblocking(False)
    data = b""
    with contextlib.suppress(BlockingIOError):
        while chunk := client.recv(1 << 20):
            data += chunk
    return data


def drained(served: Served, client: socket.socket) -> bytes:
    """All that the stream has for this client."""
    data = arrived(client)
    while True:
        served.turn(1)
        more = arrived(client)
        if not more:
            return data
        data += more


def frames_of(data: bytes) -> list[NDArray[np.uint8]]:
    """The frames in a stream, each of the length that it states, the last one whole as well."""
    frames = []
    while data:
        head, _, rest = data.partition(b"\r\n\r\n")
        assert head.startswith(b"--frame\r\nContent-Type: image/jpeg")
        length = int(head.rsplit(b": ", 1)[1])
        image = cv2.imdecode(np.frombuffer(rest[:length], np.uint8), cv2.IMREAD_COLOR)
        frames.append(np.asarray(image[:, :, ::-1], dtype=np.uint8))
        assert rest[length : length + 2] == b"\r\n"
        data = rest[length + 2 :]
    return frames


def hung_up(client: socket.socket) -> bool:
    try:
        return client.recv(1) == b""
    except ConnectionResetError:
        return True


def test_each_camera_goes_to_those_who_watch_it(served: Served) -> None:
    fixed, both = served.watch("fixed"), [served.watch("wrist"), served.watch("wrist")]
    assert served.stream.watched("fixed") and served.stream.watched("wrist")
    for seed in (1, 2):
        served.stream.publish("fixed", picture(seed))
    served.stream.publish("wrist", picture(3))
    for shown, seed in zip(received(fixed), (1, 2), strict=True):
        assert np.abs(shown.astype(int) - picture(seed)).max() < 12
    for client in both:
        (shown,) = received(client)
        assert np.abs(shown.astype(int) - picture(3)).max() < 12


def test_a_camera_that_nobody_watches_is_not_compressed(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    served.watch("fixed")
    monkeypatch.setattr("sim.camera_stream.encode_jpeg", lambda image: pytest.fail("compressed for nobody"))
    served.stream.publish("wrist", picture(1))


def test_what_is_no_camera_is_answered_with_those_there_are(served: Served) -> None:
    for request in (b"GET /ceiling.mjpg HTTP/1.1\r\n\r\n", b"POST /fixed.mjpg HTTP/1.1\r\n\r\n", b"\r\n\r\n"):
        answer = served.ask(request).recv(4096)
        assert answer.startswith(b"HTTP/1.0 404") and b"/fixed.mjpg /wrist.mjpg" in answer


def test_a_request_may_come_in_pieces_but_not_without_end(served: Served) -> None:
    client = served.ask(b"GET /fix")
    assert not served.stream.watched("fixed")
    client.sendall(b"ed.mjpg HTTP/1.1\r\n\r\n")
    served.turn()
    assert served.stream.watched("fixed")
    endless = served.ask(b"GET /" + b"x" * (3 * REQUEST_LIMIT))
    served.turn(12)
    assert hung_up(endless)


def test_who_does_not_keep_up_loses_whole_frames_and_nobody_else_does(served: Served) -> None:
    slow, quick = served.watch("fixed"), served.watch("fixed")
    noise = np.random.default_rng(0)
    image = noise.integers(0, 256, (480, 640, 3), dtype=np.uint8)  # nearly a megabyte as JPEG
    sent, taken = 20, b""
    for _ in range(sent):
        served.stream.publish("fixed", image)
        taken += drained(served, quick)
    assert len(frames_of(taken)) == sent
    late = drained(served, slow)
    assert 0 < len(frames_of(late)) < sent
    served.stream.publish("fixed", picture(5))
    assert np.abs(received(slow)[-1].astype(int) - picture(5)).max() < 12  # and is in step again


def test_a_frozen_camera_repeats_one_frame_until_it_is_thawed(served: Served) -> None:
    client = served.watch("fixed")
    served.stream.freeze("fixed", True)
    assert not served.stream.frozen("fixed")  # it has no frame yet
    served.stream.repeat("fixed")
    assert received(client) == []
    served.stream.publish("fixed", picture(1))
    assert served.stream.frozen("fixed")
    served.stream.repeat("fixed")
    first, again = received(client)
    np.testing.assert_array_equal(first, again)
    served.stream.freeze("fixed", False)
    served.stream.repeat("fixed")
    assert received(client) == []
    served.stream.publish("fixed", picture(2))
    assert np.abs(received(client)[0].astype(int) - picture(2)).max() < 12


def test_a_dropped_camera_hangs_up_and_comes_back(served: Served) -> None:
    client = served.watch("fixed")
    served.stream.drop("fixed", True)
    assert client.recv(1) == b"" and not served.stream.watched("fixed")
    assert served.ask(b"GET /fixed.mjpg HTTP/1.1\r\n\r\n").recv(4096).startswith(b"HTTP/1.0 503")
    served.watch("wrist")
    served.stream.drop("fixed", False)
    served.watch("fixed")


def test_a_client_that_is_gone_is_forgotten(served: Served) -> None:
    served.watch("fixed").close()
    served.turn()
    served.stream.publish("fixed", picture(1))
    assert not served.stream.watched("fixed")


def test_a_still_scene_has_noise_and_a_frozen_one_none() -> None:
    made = Served(noise=np.random.default_rng(1))
    try:
        client = made.watch("fixed")
        for _ in range(2):
            made.stream.publish("fixed", picture(1))
        one, other = received(client)
        assert 0 < np.abs(one.astype(int) - other).max() < 12
    finally:
        made.close()
    image = np.array([[[0, 128, 255]]], dtype=np.uint8)
    off = [with_noise(image, np.random.default_rng(seed)).astype(int) - image for seed in range(40)]
    assert {int(value) for each in off for value in each.ravel()} == {-1, 0, 1}
    assert len(encode_jpeg(picture(1))) > 500


def test_a_port_that_is_taken_is_said() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other, selectors.DefaultSelector() as selector:
        port = other.getsockname()[1]
        with pytest.raises(EmulatorError, match=f"--camera-port {port}: cannot listen there"):
            CameraStream(["fixed"], selector, port)
