"""A loop that runs faster than a dataset: its steps, thinned out for a subscriber of a lower rate.

Of each group of `every` steps the first one's observation is kept, and what was wanted by the time of the next group:
so the target in force at the next kept step is the kept action, as it is with a policy of that rate.
"""

from __future__ import annotations

from dataclasses import replace

from runtime.loop import EpisodeInfo, EpisodeResult, Step, Subscriber


class Sampled:
    """Tells `subscriber` one step in `every`. An unfinished group at the end of an episode is left out."""

    def __init__(self, subscriber: Subscriber, every: int) -> None:
        if every < 1:
            raise ValueError(f"one step in {every} cannot be told")
        self._subscriber, self._every = subscriber, every
        self._first: Step | None = None
        self._missed = False

    def on_episode_start(self, info: EpisodeInfo) -> None:
        self._first = None
        self._subscriber.on_episode_start(replace(info, max_steps=info.max_steps // self._every))

    def on_step(self, step: Step) -> None:
        place = step.index % self._every
        if place == 0:
            self._first, self._missed = step, False
        self._missed |= step.missed
        if place == self._every - 1 and self._first is not None:
            index = step.index // self._every
            self._subscriber.on_step(replace(self._first, index=index, action=step.action, missed=self._missed))

    def on_episode_end(self, result: EpisodeResult) -> None:
        self._subscriber.on_episode_end(result)
