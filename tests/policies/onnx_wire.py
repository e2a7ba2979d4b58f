"""ONNX graphs written by the protobuf wire format, so that a test of what is refused needs no ONNX package."""

from __future__ import annotations


def varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def field(number: int, content: bytes | str | int) -> bytes:
    """A field of a protobuf message."""
    if isinstance(content, int):
        return varint(number << 3) + varint(content)
    data = content.encode() if isinstance(content, str) else content
    return varint(number << 3 | 2) + varint(len(data)) + data


def node(operator: str = "Add", domain: str = "", *attributes: bytes) -> bytes:
    return field(1, field(4, operator) + field(7, domain) + b"".join(field(5, each) for each in attributes))


def external(location: str) -> bytes:
    """A tensor whose data lies in another file."""
    return field(14, 1) + field(13, field(1, "location") + field(2, location))


def model(*graph: bytes, opset: str = "") -> bytes:
    return field(1, 10) + field(8, field(1, opset) + field(2, 24)) + field(7, b"".join(graph))
