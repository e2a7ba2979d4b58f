"""Episodes shown to something that acts, a step at each call, in turns with others or alone at the loop's own pace.

That an episode begins is never timed: the control loop does that before its first tick.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from policies.policy import Observation
from runtime.bench.episodes import Episode
from runtime.bench.figures import Floats
from runtime.clock import MILLISECOND, SECOND, Clock, Pacer
from runtime.priority import undisturbed

Ids = NDArray[np.int64]


class Steps(Protocol):
    """What acts: a policy or PyTorch."""

    def reset(self, task: str) -> None: ...


class Show:
    """Shows one episode after the other to something that acts; keeps the ids that came."""

    def __init__(self, actor: Steps, act: Callable[[Observation], Ids], episodes: Sequence[Episode]) -> None:
        self._actor, self._act = actor, act
        self._moments = [(episode.task, o) for episode in episodes for o in episode.observations]
        self._begins = {0}
        for episode in episodes[:-1]:
            self._begins.add(max(self._begins) + len(episode.observations))
        self._next = 0
        self.ids: list[Ids] = []

    def prepare(self) -> None:
        """Begin an episode where one begins."""
        if self._next in self._begins:
            self._actor.reset(self._moments[self._next][0])

    def __call__(self) -> None:
        """The next step."""
        self.ids.append(self._act(self._moments[self._next][1]))
        self._next = (self._next + 1) % len(self._moments)


def alone(show: Show, steps: int, clock: Clock, rate: float | None = None) -> Floats:
    """Durations (steps,), ms, of steps that nothing is timed in turns with: at `rate`, Hz, as the control loop calls
    them and without collections as there, or back to back."""
    pacer = None if rate is None else Pacer(clock, round(SECOND / rate))
    taken = np.zeros(steps)
    with undisturbed():
        for index in range(steps):
            show.prepare()
            if pacer is not None:
                pacer.wait()
            started = clock.now()
            show()
            taken[index] = (clock.now() - started) / MILLISECOND
    return taken
