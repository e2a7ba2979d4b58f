"""What an ONNX file may ask for before anything runs it: known operators only, and no file but those beside it.

Walks the protobuf wire format far enough to find every operator's domain and every tensor that lies in another file,
so that a base install needs no ONNX package and a refusal names what is wrong. Field numbers are those of onnx.proto
(IR version 13). Knows no card and no ONNX Runtime, which checks again in its own way when it loads the graph.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

from policies.policy import PolicyError

DOMAINS = ("", "ai.onnx", "com.microsoft")  # what ONNX Runtime has without a library of somebody else's
FILE_OPERATORS = ("EPContext",)  # operators whose attributes name files
MAX_NODES = 100_000
MAX_DEPTH = 16  # of graphs within graphs

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5  # wire types; groups are not used since proto2

# Message -> field number -> what stands there: a message to walk, or a text to look at.
_FIELDS: Mapping[str, Mapping[int, str]] = {
    "model": {7: "graph", 8: "opset", 20: "training", 25: "function"},
    "opset": {1: "domain"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {4: "operator", 5: "attribute", 7: "domain"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {13: "external"},
    "external": {1: "key", 2: "value"},
}


def check_graph(path: Path, files: Collection[str]) -> None:
    """Raise `PolicyError` unless every operator of the graph at `path` is a built-in one and all of its tensors lie in
    it or in `files`, names of files beside it."""
    try:
        _Check(path, files).walk("model", memoryview(path.read_bytes()), 0)
    except (OSError, ValueError) as error:
        raise PolicyError(
            f"{path}: no ONNX graph ({' '.join(str(error).split())}); export the artifact again"
        ) from error


class _Check:
    def __init__(self, path: Path, files: Collection[str]) -> None:
        self._path, self._files = path, files
        self._nodes = 0

    def walk(self, message: str, data: memoryview, depth: int) -> None:
        """Check one message and what is in it. Raises `ValueError` where it is not protobuf."""
        if depth > 3 * MAX_DEPTH:  # graph, node, attribute, graph …
            raise PolicyError(f"{self._path}: graphs within graphs, more than {MAX_DEPTH} deep")
        self._nodes += message == "node"
        if self._nodes > MAX_NODES:
            raise PolicyError(f"{self._path}: more than {MAX_NODES} operators")
        entry: dict[str, str] = {}
        for number, part in _fields(data):
            what = _FIELDS[message].get(number)
            if what is None:
                continue
            if what in _FIELDS:
                self.walk(what, part, depth + 1)
            elif what in ("function", "training"):
                raise PolicyError(f"{self._path}: holds {what} records, which no exported policy has")
            else:
                entry[what] = bytes(part).decode("utf-8")  # a UnicodeDecodeError is a ValueError
                self._look(what, entry[what])
        if message == "external" and entry.get("key") == "location":
            self._look("location", entry.get("value", ""))

    def _look(self, what: str, text: str) -> None:
        if what == "domain" and text not in DOMAINS:
            raise PolicyError(
                f"{self._path}: needs operators of {text[:60]!r}; only those of ai.onnx and com.microsoft are run"
            )
        if what == "operator" and text in FILE_OPERATORS:
            raise PolicyError(f"{self._path}: has an operator {text}, which opens files: not run")
        if what == "location" and text not in self._files:
            raise PolicyError(
                f"{self._path}: has data in {text[:100]!r}, which is no file of its artifact; export it into one file"
            )


def _fields(data: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Number and content of the length-delimited fields of a message; the others are stepped over."""
    position, end = 0, len(data)
    while position < end:
        key, position = _varint(data, position)
        wire = key & 7
        if wire == _VARINT:
            _, position = _varint(data, position)
        elif wire == _FIXED64:
            position += 8
        elif wire == _FIXED32:
            position += 4
        elif wire == _BYTES:
            length, position = _varint(data, position)
            if length > end - position:
                raise ValueError("it is cut off")
            yield key >> 3, data[position : position + length]
            position += length
        else:
            raise ValueError(f"wire type {wire} at byte {position}")
    if position > end:
        raise ValueError("it is cut off")


def _varint(data: memoryview, position: int) -> tuple[int, int]:
    """The number at `position` and the position behind it."""
    value = shift = 0
    while position < len(data) and shift < 64:
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if not byte & 0x80:
            return value, position
        shift += 7
    raise ValueError("a number is cut off")
