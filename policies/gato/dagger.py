"""DAgger in one loop: simulated worlds on the processors, policy and learning on the training device.

The policy drives most worlds, the demonstrator labels every state they reach, and training goes on while the worlds
are stepped. The worlds come in parts that take turns: while one waits for the policy, the others have the processors.
Knows worlds only as a source of arrays (`Worlds`).
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from policies.gato.data import Replay
from policies.gato.model import Gato
from policies.gato.sequence import FILLER
from policies.gato.train import Trainer, batch_seed

RECENT = 200  # undisturbed episodes of a kind that the running success is counted over
LEAST = 16  # steps of each stream before training begins
REFILLED = 100  # and when it is resumed
REFRESH = 20  # steps between two copies of the averaged weights to the policy that drives
APART = 4  # steps that one part of the worlds may be ahead of another


class Worlds(Protocol):
    """A source of experience; see runtime/rollouts.py."""

    @property
    def streams(self) -> int: ...

    @property
    def kinds(self) -> Sequence[str]:
        """Kinds of episodes, by what was asked and how hard it was."""

    def ready(self) -> bool: ...

    def observe(self) -> Any: ...

    def act(self, actions: NDArray[np.int64], share: float) -> None: ...


class Driver:
    """The averaged policy at the wheel of one part of a replay's streams, with one cache for them.

    On a GPU each ring slot's step is captured as a CUDA graph: launched one by one, its 1,000 small kernels would take
    longer than the simulation that waits for them.
    """

    def __init__(self, model: Gato, replay: Replay, part: int = 0) -> None:
        self.model, self.replay, self.part = model, replay, part
        spec, device = model.spec, replay.device
        streams = replay.streams // replay.parts
        self._cache = model.new_cache(streams)
        self._visible = torch.zeros(streams, spec.cache(), dtype=torch.bool, device=device)
        self._images = [torch.zeros_like(store[:streams, 0]) for store in replay.images]
        self._ids = torch.zeros(streams, spec.block_ids, dtype=torch.long, device=device)
        self._text = torch.zeros(streams, spec.text, dtype=torch.long, device=device)
        self._position = torch.zeros(streams, dtype=torch.long, device=device)
        self._graphs: dict[int, tuple[torch.cuda.CUDAGraph, torch.Tensor]] = {}
        self._tick = 0

    @torch.inference_mode()
    def step(self) -> NDArray[np.int64]:
        """Action ids (streams, actions) for the part's newest step. An episode keeps one phrasing of its task."""
        replay, spec, visible = self.replay, self.model.spec, self._visible
        rows, at = replay.rows(self.part), (replay.counts[self.part] - 1) % replay.capacity
        task, first = replay.task[rows, at].long(), replay.first[rows, at]
        phrase = replay.episode[rows, at].long() % replay.phrasings
        slot = spec.ring_slot(self._tick)
        visible[:, spec.text :] &= ~first[:, None]
        visible[:, : spec.text] = replay.text_real[task, phrase]
        visible[:, slot : slot + spec.block] = True
        visible[:, slot : slot + spec.actions] = ~first[:, None]
        for image, store in zip(self._images, replay.images, strict=True):
            image.copy_(store[rows, at])
        self._ids.copy_(replay.ids[rows, at])
        self._ids[:, spec.word_places] = replay.words[task, phrase]
        self._text.copy_(replay.text_ids[task, phrase])
        self._position.fill_(spec.position(self._tick))
        self._tick += 1
        if replay.device.type != "cuda":
            return self._decide(slot).numpy()
        if slot not in self._graphs:
            self._graphs[slot] = self._capture(slot)
        graph, actions = self._graphs[slot]
        graph.replay()
        return actions.cpu().numpy()

    def _decide(self, slot: int) -> torch.Tensor:
        # The prompt is prefilled anew each time: tasks change, so do the weights, and 16 tokens cost nothing here.
        prompt = self._visible.clone()
        prompt[:, self.model.spec.text :] = False
        self.model.prefill_text(self._text, self._cache, prompt)
        return self.model.step(self._images, self._ids, self._cache, slot, self._position, self._visible)

    def _capture(self, slot: int) -> tuple[torch.cuda.CUDAGraph, torch.Tensor]:
        self._decide(slot)
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        # Only this thread's calls count as part of the capture: NCCL's watchdog asks the device from another one.
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):
            actions = self._decide(slot)
        return graph, actions


class Pilot:
    """One part of the worlds, and the policy that drives them into one part of the replay."""

    def __init__(self, worlds: Worlds, replay: Replay, part: int, model: Gato, demonstration: int) -> None:
        self.worlds, self._replay, self._part = worlds, replay, part
        self._driver = Driver(model, replay, part)
        self._demonstration = demonstration
        self._begun = [0] * worlds.streams
        self.recent = [deque[bool](maxlen=RECENT) for _ in worlds.kinds]

    def waits(self) -> bool:
        """Its worlds wait to be told what to do, and it is not far ahead of the other parts."""
        ahead = self._replay.counts[self._part] - self._replay.size
        return ahead < APART and self.worlds.ready()

    def tick(self, driving: bool, share: float) -> None:
        """Take in one step of every world and say how it goes on; waits for them."""
        replay, arrays = self._replay, self.worlds.observe()
        at, first_row = replay.counts[self._part], replay.rows(self._part).start
        for stream in np.flatnonzero(arrays.finished):
            success = bool(arrays.finished[stream] == 1)
            if success and at - self._begun[stream] >= self._demonstration:
                task = int(replay.task[first_row + stream, (at - 1) % replay.capacity])
                replay.demonstrations.add(task, first_row + int(stream), self._begun[stream], at)
            if arrays.clean[stream]:
                self.recent[arrays.kind[stream]].append(success)
            self._begun[stream] = at
        replay.append(
            list(arrays.images),
            arrays.ids,
            arrays.labels,
            arrays.task,
            arrays.episode,
            arrays.first,
            arrays.truth,
            arrays.pixels,
            part=self._part,
        )
        actions = self._driver.step() if driving else np.full(arrays.actions.shape, FILLER, dtype=np.int64)
        self.worlds.act(actions, share if driving else 0.0)


@dataclass(frozen=True)
class Course:
    """How long, and who drives when."""

    seconds: float
    demonstrate: float  # s at the beginning in which the demonstrator drives all worlds
    share: float = 0.8  # of the episodes after that which the policy drives
    seed: int = 0
    report_every: float = 10.0  # s
    begun: float = 0.0  # s that went before, of a training that is resumed


def dagger(
    trainer: Trainer,
    sources: Sequence[Worlds],
    replay: Replay,
    course: Course,
    *,
    report: Callable[[dict[str, float]], None] = lambda measures: None,
    clock: Callable[[], float] = time.monotonic,
) -> dict[str, float]:
    """Train until `course.seconds` are over; each rank has worlds and a replay of its own.

    `report` gets means of the last `report_every` seconds over all ranks, in all of them. Returns the last report.
    """
    config, ranks = trainer.config, trainer.ranks
    generator = torch.Generator(device=replay.device)
    driver = trainer.averaged()
    pilots = [Pilot(source, replay, part, driver, config.demonstration) for part, source in enumerate(sources)]
    tally = _Tally(trainer, replay, pilots, course.begun)
    last: dict[str, float] = {}
    least = max(LEAST, REFILLED if course.begun > 0 else 0, 4 * config.length)
    started, refreshed = clock() - course.begun, 0
    while True:
        elapsed = clock() - started
        waiting = [pilot for pilot in pilots if pilot.waits()]
        for pilot in waiting if replay.size >= least else pilots:
            pilot.tick(elapsed >= course.demonstrate, course.share)
        if replay.size - refreshed >= REFRESH:
            trainer.load_average(driver)
            refreshed = replay.size
        if replay.size < least:
            started = clock() - course.begun if course.begun else started
            continue
        (elapsed,) = ranks.greatest([clock() - started])
        if elapsed >= course.seconds:
            return last
        generator.manual_seed(batch_seed(course.seed, ranks.rank, trainer.iterations))
        batch = replay.sample(config.batch, config.length, config.demonstration, generator)
        tally.add(trainer.update(batch, elapsed / course.seconds))
        if replay.device.type == "cuda":
            torch.cuda.current_stream().synchronize()
        if elapsed - tally.reported >= course.report_every:
            last = tally.report(elapsed)
            report(last)


class _Tally:
    """What there is to report, since the last report and over all ranks."""

    def __init__(self, trainer: Trainer, replay: Replay, pilots: Sequence[Pilot], begun: float) -> None:
        self._trainer, self._replay, self._pilots = trainer, replay, pilots
        self._measures: list[dict[str, torch.Tensor]] = []
        self._iterations, self._size = trainer.iterations, replay.size
        self.reported = begun  # s of the course

    def add(self, measures: dict[str, torch.Tensor]) -> None:
        """Of one iteration."""
        self._measures.append(measures)

    def report(self, elapsed: float) -> dict[str, float]:
        """Means since the last time; to be called by all ranks."""
        trainer, ranks, kinds = self._trainer, self._trainer.ranks, self._pilots[0].worlds.kinds
        names = list(self._measures[0])
        means = [float(torch.stack([m[name] for m in self._measures]).nanmean()) for name in names]
        recent = [[flag for pilot in self._pilots for flag in pilot.recent[kind]] for kind in range(len(kinds))]
        steps = [self._replay.size * self._replay.streams, (self._replay.size - self._size) * self._replay.streams]
        counted = [float(sum(flags)) for flags in recent] + [float(len(flags)) for flags in recent]
        totals = ranks.total([*means, *map(float, steps), *counted])
        span = max(elapsed - self.reported, 1e-9)
        said = {name: value / ranks.count for name, value in zip(names, totals, strict=False)}
        rest = totals[len(names) :]
        said |= {
            "seconds": elapsed,
            "iterations": trainer.iterations,
            "iterations_per_s": (trainer.iterations - self._iterations) / span,
            "steps": rest[0],
            "steps_per_s": rest[1] / span,
        }
        successes, episodes = rest[2 : 2 + len(kinds)], rest[2 + len(kinds) :]
        for kind, won, played in zip(kinds, successes, episodes, strict=True):
            if played:
                said |= {f"clean_{kind}": won / played, f"episodes_{kind}": played}
        self._measures, self.reported = [], elapsed
        self._iterations, self._size = trainer.iterations, self._replay.size
        return said
