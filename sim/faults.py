"""What goes wrong at the emulated arm: the names of faults, their arguments, when each begins and ends.

Knows no bus, no camera and no clock: whoever can make a fault happen subscribes to `Faults`, and time is passed in.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from drivers.arm import ArmError

SCRIPT_LIMIT = 1_000_000  # characters


class EmulatorError(ArmError):
    """The emulated arm cannot do what was asked; the message says what, where and what to do."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault with its arguments, checked: numbers are floats, ids a frozenset or None (every servo)."""

    name: str
    arguments: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Plan:
    """A fault that begins `start` s after the emulator and lasts `duration` s (None: until it is cleared)."""

    fault: Fault
    start: float = 0.0
    duration: float | None = None


def _probability(value: Any) -> float:
    number = float(value)
    if not 0 <= number <= 1:
        raise ValueError
    return number


def _positive(value: Any) -> float:
    number = float(value)
    if not 0 <= number < math.inf:
        raise ValueError
    return number


def _ids(value: Any) -> frozenset[int]:
    items = value.split("+") if isinstance(value, str) else [value] if isinstance(value, int) else list(value)
    return frozenset(int(item) for item in items)


def _word(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError
    return value


@dataclass(frozen=True, slots=True)
class _Argument:
    convert: Callable[[Any], Any]
    example: str
    optional: bool = False
    default: Any = None


_CHANCE = {
    "p": _Argument(_probability, "0.01"),
    "ids": _Argument(_ids, "3+4", optional=True),
}
_SERVOS = {"ids": _Argument(_ids, "3+4")}
_CAMERA = {"camera": _Argument(_word, "fixed")}
# Each fault's arguments; the first is the one that NAME=VALUE gives.
KINDS: Mapping[str, Mapping[str, _Argument]] = {
    "drop": _CHANCE,  # a status packet never comes
    "corrupt": _CHANCE,  # one byte of it is flipped
    "delay": _CHANCE | {"ms": _Argument(_positive, "30", optional=True, default=20.0)},  # it comes that much later
    "duplicate": _CHANCE,  # it comes twice
    "extra": _CHANCE,  # 1 to 8 random bytes come before it
    "silent": _SERVOS,  # servos neither hear nor answer
    "reboot": _SERVOS,  # servos lose their power for a moment
    "unplug": {"seconds": _Argument(_positive, "2", optional=True)},  # the port is gone
    "sag": {"voltage": _Argument(_positive, "4.5")},  # V, no servo gets more
    "stuck": {"joint": _Argument(_word, "elbow_flex")},  # a joint does not move
    "overload": _SERVOS,  # servos trip
    "overheat": _SERVOS,  # servos report, and act on, a temperature above their limit
    "freeze_camera": _CAMERA,  # the stream repeats its last frame
    "drop_camera": _CAMERA,  # the stream ends and cannot be opened
}
MOMENTARY = frozenset({"reboot"})  # over as soon as they have happened


def make_fault(name: str, arguments: Mapping[str, Any]) -> Fault:
    """A checked fault. Raises `EmulatorError` naming what is wrong, and an example of what may stand there."""
    if name not in KINDS:
        raise EmulatorError(f'fault "{name}" is not known; there are {", ".join(KINDS)}')
    kind = KINDS[name]
    if unknown := [key for key in arguments if key not in kind]:
        raise EmulatorError(f'fault "{name}" has no argument {unknown[0]!r}; it takes {", ".join(kind)}')
    checked: dict[str, Any] = {}
    for key, argument in kind.items():
        value = arguments.get(key)
        if value is None:
            if not argument.optional:
                raise EmulatorError(f'fault "{name}" needs {key}, for example {name}={argument.example}')
            checked[key] = argument.default
            continue
        try:
            checked[key] = argument.convert(value)
        except (TypeError, ValueError, OverflowError):
            raise EmulatorError(f'fault "{name}": {key} cannot be {value!r}; for example {argument.example}') from None
    return Fault(name, checked)


def parse_faults(text: str) -> list[Plan]:
    """Faults from "drop=0.01,delay=0.02:ms=30,silent=3+4@2.5+1,unplug@5"; "" means none.

    NAME[=VALUE][:ARGUMENT=VALUE...][@START[+DURATION]], joined by commas; START and DURATION in s. Raises
    `EmulatorError` naming the part that cannot be understood.
    """
    return [_parse(part) for part in filter(None, (part.strip() for part in text.split(",")))]


def _parse(part: str) -> Plan:
    what, _, when = part.partition("@")
    first, *others = what.split(":")
    name, _, value = first.partition("=")
    given = dict(other.partition("=")[::2] for other in others)
    if name in KINDS and value:
        given[next(iter(KINDS[name]))] = value
    try:
        fault = make_fault(name, given)
        start, _, duration = when.partition("+")
        return Plan(fault, _seconds(start or "0"), _seconds(duration) if duration else None)
    except EmulatorError as error:
        raise EmulatorError(
            f'fault "{part}" is not understood: {error}; it is NAME=VALUE[@START[+DURATION]], as in silent=3@2.5+1'
        ) from None


def _seconds(value: Any) -> float:
    try:
        return _positive(value)
    except (TypeError, ValueError):
        raise EmulatorError(f"{value!r} is not a time in seconds") from None


def load_script(path: Path) -> list[Plan]:
    """Faults from a YAML list of `{fault: NAME, at: s, for: s, ...arguments}`. Raises `EmulatorError`, one line."""
    try:
        text = path.read_text(encoding="utf-8")
        entries = yaml.safe_load(text) if len(text) <= SCRIPT_LIMIT else None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise EmulatorError(f"--script {path}: cannot be read ({' '.join(str(error).split())})") from None
    if not isinstance(entries, list) or not all(isinstance(entry, dict) and "fault" in entry for entry in entries):
        raise EmulatorError(
            f"--script {path}: a script is a list of entries such as {{fault: silent, ids: [3], at: 2}}"
        )
    plans = []
    for number, entry in enumerate(entries, 1):
        arguments = {str(key): value for key, value in entry.items() if key not in ("fault", "at", "for")}
        try:
            duration = entry.get("for")
            plans.append(
                Plan(
                    make_fault(str(entry["fault"]), arguments),
                    _seconds(entry.get("at", 0)),
                    None if duration is None else _seconds(duration),
                )
            )
        except EmulatorError as error:
            raise EmulatorError(f"--script {path}: entry {number}: {error}") from None
    return plans


Subscriber = Callable[[Fault, bool], None]


class Faults:
    """The faults in force. Of each name there is one at a time: setting it again replaces it.

    `known` are the things that faults may name: servo ids under "ids", joints under "joint", cameras under "camera";
    what is not listed is not checked. Subscribers are told of each fault that begins (True) and ends (False).
    """

    def __init__(self, known: Mapping[str, Iterable[Any]] | None = None) -> None:
        self._known = {key: tuple(values) for key, values in (known or {}).items()}
        self._subscribers: list[Subscriber] = []
        self._active: dict[str, Fault] = {}
        self._agenda: list[tuple[float, bool, Fault]] = []  # time, begins, in order of time
        self._now = 0.0

    @property
    def active(self) -> Mapping[str, Fault]:
        return self._active

    @property
    def due(self) -> float:
        """When `advance` next has something to do, s; infinity when nothing is planned."""
        return self._agenda[0][0] if self._agenda else math.inf

    def subscribe(self, subscriber: Subscriber) -> None:
        """Tell `subscriber` of every change from now on, and of what is in force already."""
        self._subscribers.append(subscriber)
        for fault in self._active.values():
            subscriber(fault, True)

    def plan(self, plans: Sequence[Plan]) -> None:
        """Let faults begin and end by themselves; times count from 0 of `advance`. Raises `EmulatorError`."""
        for plan in plans:
            self._check(plan.fault)
        for plan in plans:
            self._agenda.append((plan.start, True, plan.fault))
            duration = plan.fault.arguments.get("seconds") if plan.duration is None else plan.duration
            if duration is not None:
                self._agenda.append((plan.start + duration, False, plan.fault))
        self._agenda.sort(key=lambda entry: entry[0])
        self.advance(self._now)

    def set(self, name: str, *, after: float = 0.0, duration: float | None = None, **arguments: Any) -> None:
        """Let a fault begin, `after` s from now, for `duration` s. Raises `EmulatorError`."""
        until = None if duration is None else _seconds(duration)
        self.plan([Plan(make_fault(name, arguments), self._now + _seconds(after), until)])

    def clear(self, name: str | None = None) -> None:
        """End the fault of that name, or all, and forget what was planned of it. Raises `EmulatorError`."""
        if name is not None and name not in KINDS:
            raise EmulatorError(f'fault "{name}" is not known; there are {", ".join(KINDS)}')
        self._agenda = [entry for entry in self._agenda if name is not None and entry[2].name != name]
        for fault in [fault for fault in self._active.values() if name in (None, fault.name)]:
            self._end(fault)

    def advance(self, now: float) -> None:
        """Begin and end what is due at `now`, s."""
        self._now = max(now, self._now)
        while self._agenda and self._agenda[0][0] <= self._now:
            _, begins, fault = self._agenda.pop(0)
            if begins:
                self._begin(fault)
            elif self._active.get(fault.name) is fault:
                self._end(fault)

    def _begin(self, fault: Fault) -> None:
        if fault.name in self._active:
            self._end(self._active[fault.name])
        if fault.name not in MOMENTARY:
            self._active[fault.name] = fault
        self._tell(fault, True)

    def _end(self, fault: Fault) -> None:
        del self._active[fault.name]
        self._tell(fault, False)

    def _tell(self, fault: Fault, begins: bool) -> None:
        for subscriber in self._subscribers:
            subscriber(fault, begins)

    def _check(self, fault: Fault) -> None:
        """Refuse a fault of what is not there."""
        for key, value in fault.arguments.items():
            known = self._known.get(key)
            if known is None or value is None:
                continue
            for item in value if isinstance(value, frozenset) else (value,):
                if item not in known:
                    raise EmulatorError(
                        f'fault "{fault.name}": {key} {item!r} is not there; there are {", ".join(map(str, known))}'
                    )
