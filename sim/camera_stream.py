"""Camera frames over HTTP as motion JPEG, for any client: `GET /NAME.mjpg` on the loopback interface.

Knows no world and no schedule: whoever runs the loop renders, and gives each frame to `publish`. Sockets never wait;
a client that does not keep up loses frames, not bytes.
"""

from __future__ import annotations

import contextlib
import selectors
import socket
from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from sim.faults import EmulatorError

BOUNDARY = "frame"
# Quality 98 without chroma subsampling keeps pixels within a few levels of the render.
JPEG = [
    cv2.IMWRITE_JPEG_QUALITY, 98,
    cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444,
]  # fmt: skip
REQUEST_LIMIT = 8192  # bytes of HTTP request head

_HEAD = (
    "HTTP/1.0 200 OK\r\nCache-Control: no-store\r\nConnection: close\r\n"
    f"Content-Type: multipart/x-mixed-replace; boundary={BOUNDARY}\r\n\r\n"
)


def encode_jpeg(image: NDArray[np.uint8]) -> bytes:
    """(H, W, 3) RGB as JPEG."""
    _, data = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), JPEG)
    return data.tobytes()


def with_noise(image: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """The image as a quiet sensor gives it: each value off by -1, 0 or 1.

    Two frames of a still scene differ, so that a client can tell a frozen camera from a still scene, as it can with a
    real one; it survives the compression and adds less to a pixel than that does.
    """
    return np.clip(image + rng.integers(-1, 2, image.shape, dtype=np.int16), 0, 255).astype(np.uint8)


class _Client:
    """One connection: its request until it is complete, then the camera it watches and what is still to be sent."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.request = bytearray()
        self.camera: str | None = None
        self.unsent = b""


class CameraStream:
    """Serves the cameras `names` on 127.0.0.1:`port` (0: any free one) within a selector's loop.

    Registers its sockets with `selector`; the loop calls the registered `data(key, mask)` for each ready one. `noise`
    is that of the sensors (`with_noise`); without it frames are as they were rendered.
    """

    def __init__(
        self,
        names: Sequence[str],
        selector: selectors.BaseSelector,
        port: int = 0,
        *,
        noise: np.random.Generator | None = None,
    ) -> None:
        self._names = tuple(names)
        self._noise = noise
        self._selector = selector
        self._clients: list[_Client] = []
        self._frozen: dict[str, bytes | None] = {}  # camera -> the frame that is repeated, once there is one
        self._dropped: set[str] = set()
        try:
            self._server = socket.create_server(("127.0.0.1", port), backlog=8)
        except OSError as error:
            raise EmulatorError(
                f"--camera-port {port}: cannot listen there ({error.strerror}); choose another port, or 0 for any"
            ) from None
        self._server.setblocking(False)
        self.port: int = self._server.getsockname()[1]
        selector.register(self._server, selectors.EVENT_READ, self._accept)

    def url(self, camera: str) -> str:
        """Where `camera` is served."""
        return f"http://127.0.0.1:{self.port}/{camera}.mjpg"

    def watched(self, camera: str) -> bool:
        """True when a client is connected to `camera`."""
        return any(client.camera == camera for client in self._clients)

    def frozen(self, camera: str) -> bool:
        """True when `camera` repeats a frame that it has: there is no need to render another."""
        return self._frozen.get(camera) is not None

    def freeze(self, camera: str, frozen: bool) -> None:
        """Repeat the next frame of `camera` from now on, or show what there is again."""
        if frozen:
            self._frozen.setdefault(camera, None)
        else:
            self._frozen.pop(camera, None)

    def drop(self, camera: str, dropped: bool) -> None:
        """Hang up on everybody who watches `camera` and serve it no more, or serve it again."""
        if not dropped:
            self._dropped.discard(camera)
            return
        self._dropped.add(camera)
        for client in [client for client in self._clients if client.camera == camera]:
            self._drop(client)

    def repeat(self, camera: str) -> None:
        """Send the frame of a frozen camera again."""
        frame = self._frozen.get(camera)
        if frame is not None:
            self._send_to_watchers(camera, frame)

    def publish(self, camera: str, image: NDArray[np.uint8]) -> None:
        """Send a frame (H, W, 3) RGB to every client that watches `camera` and has taken the frame before."""
        if not any(client.camera == camera and not client.unsent for client in self._clients):
            return
        data = encode_jpeg(image if self._noise is None else with_noise(image, self._noise))
        head = f"--{BOUNDARY}\r\nContent-Type: image/jpeg\r\nContent-Length: {len(data)}\r\n\r\n".encode()
        part = head + data + b"\r\n"
        if camera in self._frozen:
            self._frozen[camera] = part
        self._send_to_watchers(camera, part)

    def close(self) -> None:
        """Hang up on everybody."""
        for client in tuple(self._clients):
            self._drop(client)
        self._selector.unregister(self._server)
        self._server.close()

    def _accept(self, key: selectors.SelectorKey, mask: int) -> None:
        try:
            connection, _ = self._server.accept()
        except OSError:  # the client is gone again
            return
        connection.setblocking(False)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        client = _Client(connection)
        self._clients.append(client)
        self._selector.register(connection, selectors.EVENT_READ, lambda key, mask: self._serve(client, mask))

    def _serve(self, client: _Client, mask: int) -> None:
        if mask & selectors.EVENT_WRITE:
            self._send(client, b"")
        if not mask & selectors.EVENT_READ or client not in self._clients:
            return
        try:
            data = client.connection.recv(4096)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data or len(client.request) > REQUEST_LIMIT:
            self._drop(client)
            return
        if client.camera is None:
            client.request += data
            if b"\r\n\r\n" in client.request:
                self._begin(client)

    def _begin(self, client: _Client) -> None:
        words = client.request.split(b"\r\n", 1)[0].decode("latin-1").split()
        name = words[1].strip("/").removesuffix(".mjpg") if len(words) > 1 and words[0] == "GET" else ""
        if name in self._dropped:
            self._send(client, b"HTTP/1.0 503 Service Unavailable\r\nConnection: close\r\n\r\n")
            self._drop(client)
        elif name in self._names:
            client.camera = name
            self._send(client, _HEAD.encode())
        else:
            known = " ".join(f"/{known}.mjpg" for known in self._names)
            self._send(client, f"HTTP/1.0 404 Not Found\r\nConnection: close\r\n\r\nthere are {known}\n".encode())
            self._drop(client)

    def _send_to_watchers(self, camera: str, part: bytes) -> None:
        for client in [client for client in self._clients if client.camera == camera and not client.unsent]:
            self._send(client, part)

    def _send(self, client: _Client, data: bytes) -> None:
        data = client.unsent + data
        try:
            sent = client.connection.send(data)
        except BlockingIOError:
            sent = 0
        except OSError:
            self._drop(client)
            return
        client.unsent = data[sent:]
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if client.unsent else 0)
        key = self._selector.get_key(client.connection)
        if key.events != events:
            self._selector.modify(client.connection, events, key.data)

    def _drop(self, client: _Client) -> None:
        if client in self._clients:
            self._clients.remove(client)
            self._selector.unregister(client.connection)
            with contextlib.suppress(OSError):
                client.connection.shutdown(socket.SHUT_WR)
            client.connection.close()
