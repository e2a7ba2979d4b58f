"""DAgger in one loop: simulated worlds on the processors, policy and learning on the training device.

The policy drives most worlds, the demonstrator labels every state they reach, and training goes on while the worlds
are stepped. Knows worlds only as a source of arrays (`Worlds`).
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from policies.gato.data import Replay
from policies.gato.model import Gato
from policies.gato.sequence import FILLER
from policies.gato.train import TrainConfig, Trainer


class Worlds(Protocol):
    """A source of experience; see runtime/rollouts.py."""

    streams: int

    def ready(self) -> bool: ...

    def observe(self) -> Any: ...

    def act(self, actions: NDArray[np.int64], share: float) -> None: ...


class Driver:
    """The averaged policy at the wheel of all streams, with one cache for them.

    On a GPU each ring slot's step is captured as a CUDA graph: launched one by one, its 1,000 small kernels would take
    longer than the simulation that waits for them.
    """

    def __init__(self, model: Gato, replay: Replay) -> None:
        self.model, self.replay = model, replay
        spec, device = model.spec, replay.device
        self._cache = model.new_cache(replay.streams)
        self._visible = torch.zeros(replay.streams, spec.cache(), dtype=torch.bool, device=device)
        self._images = [torch.zeros_like(store[:, 0]) for store in replay.images]
        self._ids = torch.zeros(replay.streams, spec.block_ids, dtype=torch.long, device=device)
        self._text = torch.zeros(replay.streams, spec.text, dtype=torch.long, device=device)
        self._position = torch.zeros(replay.streams, dtype=torch.long, device=device)
        self._graphs: dict[int, tuple[torch.cuda.CUDAGraph, torch.Tensor]] = {}
        self._tick = 0

    @torch.inference_mode()
    def step(self) -> NDArray[np.int64]:
        """Action ids (streams, actions) for the replay's newest step."""
        replay, spec, visible = self.replay, self.model.spec, self._visible
        at = replay.size - 1
        task, first = replay.task[:, at].long(), replay.first[:, at]
        slot = spec.ring_slot(self._tick)
        visible[:, spec.text :] &= ~first[:, None]
        visible[:, : spec.text] = replay.text_real[task]
        visible[:, slot : slot + spec.block] = True
        visible[:, slot : slot + spec.actions] = ~first[:, None]
        for image, store in zip(self._images, replay.images, strict=True):
            image.copy_(store[:, at])
        self._ids.copy_(replay.ids[:, at])
        self._ids[:, spec.word_places] = replay.words[task]
        self._text.copy_(replay.text_ids[task])
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
        with torch.cuda.graph(graph):
            actions = self._decide(slot)
        return graph, actions


def dagger(
    trainer: Trainer,
    worlds: Worlds,
    replay: Replay,
    *,
    seconds: float,
    demonstrate: float,
    share: float = 0.8,
    seed: int = 0,
    report: Callable[[dict[str, float]], None] = lambda measures: None,
    report_every: float = 10.0,
) -> dict[str, float]:
    """Train for `seconds`; in the first `demonstrate` of them the demonstrator drives all worlds.

    `report` gets means of the last `report_every` seconds. Returns the last report. Stops early when the replay is
    full.
    """
    config: TrainConfig = trainer.config
    generator = torch.Generator(device=replay.device).manual_seed(seed)
    driver = Driver(trainer.averaged(), replay)
    begun: list[int] = [0] * worlds.streams
    recent: deque[bool] = deque(maxlen=200)
    measures: list[dict[str, torch.Tensor]] = []
    started = reported = time.monotonic()
    ticks_before = iterations_before = 0
    last: dict[str, float] = {}
    while (elapsed := time.monotonic() - started) < seconds and replay.size < replay.capacity:
        arrays = worlds.observe()
        at = replay.size
        for stream in np.flatnonzero(arrays.finished):
            success = arrays.finished[stream] == 1
            if success and at - begun[stream] >= config.demonstration:
                replay.add_demonstration(int(stream), begun[stream], at, int(replay.task[stream, at - 1]))
            if arrays.clean[stream]:
                recent.append(bool(success))
            begun[stream] = at
        replay.append(
            list(arrays.images),
            arrays.ids,
            arrays.labels,
            arrays.task,
            arrays.episode,
            arrays.first,
            arrays.truth,
            arrays.pixels,
        )
        driving = elapsed >= demonstrate
        if driving and replay.size % 20 == 0:
            trainer.load_average(driver.model)
        actions = driver.step() if driving else np.full(arrays.actions.shape, FILLER, dtype=np.int64)
        worlds.act(actions, share if driving else 0.0)
        if replay.size < 4 * config.length:
            continue
        while True:
            measures.append(
                trainer.update(
                    replay.sample(config.batch, config.length, config.demonstration, generator), elapsed / seconds
                )
            )
            if replay.device.type == "cuda":
                torch.cuda.current_stream().synchronize()
            if worlds.ready():
                break
        now = time.monotonic()
        if now - reported >= report_every:
            last = {key: float(torch.stack([m[key] for m in measures]).mean()) for key in measures[0]}
            last |= {
                "seconds": now - started,
                "iterations": trainer.iterations,
                "iterations_per_s": (trainer.iterations - iterations_before) / (now - reported),
                "steps": replay.size * worlds.streams,
                "steps_per_s": (replay.size - ticks_before) * worlds.streams / (now - reported),
                "clean_success": float(np.mean(recent)) if recent else float("nan"),
                "clean_episodes": len(recent),
            }
            report(last)
            measures, reported = [], now
            ticks_before, iterations_before = replay.size, trainer.iterations
    return last
