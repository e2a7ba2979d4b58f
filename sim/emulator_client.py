"""What can be asked of a running emulator: new episodes, verdicts, faults, traces. Knows only its control socket."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from drivers.arm import Array, frozen
from sim.control_socket import ControlClient
from sim.tasks import TaskError


class EmulatorClient:
    """Asks a running emulator through its control socket. Every method raises `EmulatorError` when it is gone."""

    def __init__(self, control: Path) -> None:
        self._asking = ControlClient(control, refusals=(TaskError,))

    def reset(self, seed: int, task: str, home: bool = False, limit: int | None = None) -> int:
        """A new episode: blocks laid out as `World.reset(default_rng(seed))` does, and a judge for `task`.

        The arm stays as it is; with `home` it is placed at its home pose, and goals in force are set there. `limit` is
        how many steps of 1/20 s the judge waits (None: its own). Returns the monotonic time, ns: frames stamped before
        may still show the old layout. Raises `TaskError`.
        """
        return int(self._asking.ask("reset", seed=seed, task=task, home=home, limit=limit)["stamp"])

    def judge(self) -> dict[str, Any]:
        """`outcome` ("success", a kind of failure, or None while the episode runs) and `steps` judged, at 20 Hz."""
        return dict(self._asking.ask("judge"))

    def demonstrate(self, task: str, command: Array) -> Array:
        """The joint targets (n,), rad, that the demonstrator of `task` wants now, from the targets in force.

        One demonstrator an episode: a reset ends it. Raises `TaskError`."""
        targets = self._asking.ask("demonstrate", task=task, command=[float(angle) for angle in command])
        return frozen(targets)

    def hand(self, poses: Sequence[Array], speed: float) -> int:
        """A person's hand takes the arm and moves it through `poses` (each (n,), rad), the fastest joint at `speed`
        rad/s, and holds it at the last. Returns the monotonic time, ns, at which it began."""
        path = [[float(angle) for angle in pose] for pose in poses]
        return int(self._asking.ask("hand", poses=path, speed=speed)["stamp"])

    def let_go(self, when_arrived: bool = False) -> bool:
        """The hand lets the arm go, with `when_arrived` only at the end of its way; whether it did."""
        return bool(self._asking.ask("let_go", when_arrived=when_arrived))

    def fault(self, name: str, *, after: float = 0.0, duration: float | None = None, **arguments: Any) -> int:
        """Let a fault begin, `after` s from now, for `duration` s (None: until cleared). It replaces one of its name.

        Names and arguments: drop, corrupt, delay, duplicate, extra (`p`, perhaps `ids`; delay also `ms`), silent,
        reboot, overload, overheat (`ids`), unplug (perhaps `seconds`), sag (`voltage`), stuck (`joint`),
        freeze_camera, drop_camera (`camera`). Returns the monotonic time, ns, at which it was in force.
        """
        request = {"name": name, "after": after, "duration": duration, **arguments}
        return int(self._asking.ask("fault", **{key: _as_json(value) for key, value in request.items()})["stamp"])

    def clear(self, name: str | None = None) -> int:
        """End the fault of that name, or all, planned ones too. Returns the monotonic time, ns, at which it was."""
        return int(self._asking.ask("clear", name=name)["stamp"])

    def faults(self) -> tuple[str, ...]:
        """The names of the faults in force."""
        return tuple(self._asking.ask("faults"))

    def trace(self) -> Path:
        """The file of every servo goal so far; see `servo_trace`."""
        return Path(self._asking.ask("trace"))

    def motion(self) -> Path:
        """The file of every servo's position at every physics step so far; see `servo_trace`."""
        return Path(self._asking.ask("motion"))

    def frame(self, camera: str) -> NDArray[np.uint8]:
        """What `camera` sees now, uncompressed: (H, W, 3) RGB."""
        answer = self._asking.ask("frame", camera=camera)
        return np.frombuffer(base64.b64decode(answer["rgb"]), dtype=np.uint8).reshape(answer["shape"])

    def lead(self, joint: str, angle: float | None) -> int:
        """A person's hand takes a joint without torque to `angle` (rad), as fast as it turns, against its stop if need
        be, and keeps it there until it is told another or None. Returns the monotonic time, ns.
        """
        return int(self._asking.ask("lead", joint=joint, angle=angle)["stamp"])

    def stats(self) -> dict[str, float]:
        """`substeps` of physics done, `skipped` to keep up with real time, `lag_max_ms`, bus `requests`,
        `cpu_seconds`."""
        return dict(self._asking.ask("stats"))

    def close(self) -> None:
        """Stop asking; the emulator goes on."""
        self._asking.close()


def _as_json(value: Any) -> Any:
    """Ids may come as any collection."""
    return sorted(value) if isinstance(value, set | frozenset | range | tuple) else value
