"""Requests to a running emulator: JSON lines over a Unix socket. Server and client; knows nothing of what is asked.

A request is `{"do": NAME, ...arguments}`; the answer is `{"ok": RESULT}` or `{"error": ONE LINE, "kind": NAME}`, the
kind being the name of the exception.
"""

from __future__ import annotations

import inspect
import json
import selectors
import socket
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from sim.faults import EmulatorError

Handler = Callable[..., Any]


class ControlServer:
    """Answers requests on the Unix socket `path` within a selector's loop, by calling `handlers[do](**arguments)`.

    A handler refuses by raising one of `refusals`; anything else it raises ends the emulator.
    """

    def __init__(
        self,
        path: Path,
        handlers: Mapping[str, Handler],
        selector: selectors.BaseSelector,
        refusals: tuple[type[Exception], ...],
    ) -> None:
        self._path, self._handlers, self._selector, self._refusals = path, handlers, selector, refusals
        self._server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            if path.is_socket():
                path.unlink()
            self._server.bind(str(path))
        except OSError as error:
            self._server.close()
            raise EmulatorError(
                f"--control {path}: cannot listen there ({error}); choose a short path that is free"
            ) from None
        self._server.listen(8)
        self._server.setblocking(False)
        self._connections: dict[socket.socket, bytearray] = {}
        selector.register(self._server, selectors.EVENT_READ, self._accept)

    def close(self) -> None:
        """Hang up on everybody and remove the socket."""
        for connection in tuple(self._connections):
            self._drop(connection)
        self._selector.unregister(self._server)
        self._server.close()
        self._path.unlink(missing_ok=True)

    def _accept(self, key: selectors.SelectorKey, mask: int) -> None:
        try:
            connection, _ = self._server.accept()
        except OSError:  # the client is gone again
            return
        connection.settimeout(1.0)  # an answer is some kilobytes: only a client that hangs fills the buffer
        self._connections[connection] = bytearray()
        self._selector.register(connection, selectors.EVENT_READ, self._serve)

    def _serve(self, key: selectors.SelectorKey, mask: int) -> None:
        connection = key.fileobj
        assert isinstance(connection, socket.socket)
        try:
            data = connection.recv(65536)
            if not data:
                self._drop(connection)
                return
            buffer = self._connections[connection]
            buffer += data
            while b"\n" in buffer:
                line, _, rest = bytes(buffer).partition(b"\n")
                buffer[:] = rest
                connection.sendall(json.dumps(self._answer(line)).encode() + b"\n")
        except OSError:
            self._drop(connection)

    def _answer(self, line: bytes) -> dict[str, Any]:
        try:
            request = json.loads(line)
            handler = self._handlers[request.pop("do")]
        except (ValueError, KeyError, AttributeError):
            known = ", ".join(self._handlers)
            return {"error": f'control request not understood; send {{"do": NAME, ...}} with {known}', "kind": ""}
        try:
            arguments = inspect.signature(handler).bind(**request)
        except TypeError as error:
            return {"error": f"control request not understood: {error}", "kind": ""}
        try:
            return {"ok": handler(*arguments.args, **arguments.kwargs)}
        except self._refusals as error:
            return {"error": str(error), "kind": type(error).__name__}

    def _drop(self, connection: socket.socket) -> None:
        if connection in self._connections:
            del self._connections[connection]
            self._selector.unregister(connection)
            connection.close()


class ControlClient:
    """Asks the emulator at `path`. `refusals` are the exceptions that answers may carry, besides `EmulatorError`."""

    def __init__(self, path: Path, refusals: tuple[type[Exception], ...] = (), timeout: float = 10.0) -> None:
        self._refusals = {refusal.__name__: refusal for refusal in refusals}
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(timeout)
        try:
            self._socket.connect(str(path))
        except OSError as error:
            self._socket.close()
            raise EmulatorError(f"no emulator answers at {path} ({error.strerror}); start one") from None
        self._lines = self._socket.makefile("rb")

    def ask(self, do: str, **arguments: Any) -> Any:
        """The result of one request; raises the refusal, or `EmulatorError` when the emulator is gone."""
        try:
            self._socket.sendall(json.dumps({"do": do, **arguments}).encode() + b"\n")
            line = self._lines.readline()
        except OSError as error:
            raise EmulatorError(f"the emulator does not answer ({error}); restart it") from None
        if not line:
            raise EmulatorError("the emulator has gone away; restart it")
        answer = json.loads(line)
        if "error" in answer:
            raise self._refusals.get(answer["kind"], EmulatorError)(answer["error"])
        return answer["ok"]

    def close(self) -> None:
        self._lines.close()
        self._socket.close()
