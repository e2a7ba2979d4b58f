"""JSON schemas of the recording's messages.

The `foxglove.*` ones are the parts that we fill of Foxglove's well-known schemas of that name (foxglove-sdk,
schemas/jsonschema), so that Foxglove and PlotJuggler show them without help; `gato_arm.*` are ours.
"""

from __future__ import annotations

from typing import Any

Schema = dict[str, Any]


def _object(title: str, required: tuple[str, ...], **properties: Schema) -> Schema:
    return {"title": title, "type": "object", "properties": properties, "required": list(required)}


_NUMBER: Schema = {"type": "number"}
_INTEGER: Schema = {"type": "integer"}
_STRING: Schema = {"type": "string"}
_NUMBERS: Schema = {"type": "array", "items": {"type": ["number", "null"]}}  # null: not finite
_STRINGS: Schema = {"type": "array", "items": _STRING}
_TIME = _object(
    "time", (), sec={"type": "integer", "minimum": 0}, nsec={"type": "integer", "minimum": 0, "maximum": 999_999_999}
)
_JOINT = _object(
    "foxglove.JointState",
    ("name",),
    name=_STRING,
    position=_NUMBER,
    velocity=_NUMBER,
    acceleration=_NUMBER,
    effort=_NUMBER,
)

_COUNTS: Schema = {"type": "object", "additionalProperties": _INTEGER}
_SPLIT: Schema = {"type": "object", "additionalProperties": _NUMBER}

# One servo tick: what was asked, what was sent and why they differ, what was measured.
_TICK: dict[str, Schema] = {
    "state": _STRING,
    "asked": {"type": ["array", "null"], "items": {"type": ["number", "null"]}},  # rad; null: nothing was asked
    "command": _NUMBERS,  # rad, as sent
    "reasons": _STRINGS,  # what the safety filter changed
    "positions": _NUMBERS,  # rad, measured
    "velocities": _NUMBERS,
    "loads": _NUMBERS,
}

SCHEMAS: dict[str, Schema] = {
    "foxglove.CompressedImage": _object(
        "foxglove.CompressedImage",
        ("timestamp", "frame_id", "data", "format"),
        timestamp=_TIME,
        frame_id=_STRING,
        data={"type": "string", "contentEncoding": "base64"},
        format=_STRING,
    ),
    "foxglove.JointStates": _object(
        "foxglove.JointStates", ("timestamp", "joints"), timestamp=_TIME, joints={"type": "array", "items": _JOINT}
    ),
    "foxglove.Log": _object(
        "foxglove.Log",
        ("timestamp", "level", "message", "name", "file", "line"),
        timestamp=_TIME,
        level=_INTEGER,
        message=_STRING,
        name=_STRING,
        file=_STRING,
        line={"type": "integer", "minimum": 0},
    ),
    "gato_arm.Step": _object(
        "gato_arm.Step",
        ("timestamp", "episode", "index", "tokens", "targets", "command", "split_ms", "missed"),
        timestamp=_TIME,
        episode=_INTEGER,
        index=_INTEGER,
        tokens={"type": "array", "items": _INTEGER},
        targets=_NUMBERS,
        command=_NUMBERS,
        proprioception={"type": "object", "additionalProperties": _NUMBERS},
        frames={"type": "object", "additionalProperties": _TIME},
        split_ms=_SPLIT,
        late_ms=_NUMBER,
        missed={"type": "boolean"},
        dropped=_INTEGER,
    ),
    "gato_arm.Tick": _object(
        "gato_arm.Tick",
        ("timestamp", *_TICK),
        timestamp=_TIME,
        **_TICK,
        age_ms=_NUMBER,  # of the joint reading
        temperatures_c=_NUMBERS,
        voltages=_NUMBERS,
        errors=_STRINGS,
        fault={"type": ["string", "null"]},
        split_ms=_SPLIT,
        counters=_COUNTS,
    ),
    "gato_arm.Event": _object(
        "gato_arm.Event", ("timestamp", "kind", "text"), timestamp=_TIME, kind=_STRING, text=_STRING
    ),
    "gato_arm.Fault": _object(
        "gato_arm.Fault",
        ("timestamp", "text", "joints", "pairs"),
        timestamp=_TIME,
        text=_STRING,
        joints=_STRINGS,
        pairs={
            "type": "array",
            "items": _object("gato_arm.Pair", ("timestamp", *_TICK), timestamp=_TIME, **_TICK),
        },
    ),
    "gato_arm.Recorder": _object(
        "gato_arm.Recorder",
        ("timestamp", "messages", "bytes", "queued", "dropped", "ticks_dropped"),
        timestamp=_TIME,
        messages=_INTEGER,
        bytes=_INTEGER,
        queued=_INTEGER,
        dropped=_INTEGER,
        ticks_dropped=_INTEGER,
    ),
    "gato_arm.Episode": _object(
        "gato_arm.Episode",
        ("event", "index", "task"),
        event={"enum": ["start", "end", "verdict"]},
        index=_INTEGER,
        task=_STRING,
        outcome={"type": ["string", "null"]},
        policy=_STRING,
        steps=_INTEGER,
        dropped=_INTEGER,
    ),
}
