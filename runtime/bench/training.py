"""What an iteration of training costs, and what its products would take at best: `gato-arm bench train`.

The replay is noise: what is learned does not change how long it takes. Imports torch when called.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from policies.gato.config import SIZES
from policies.gato.sequence import SequenceSpec
from policies.gato.tokens import BINS, CONTINUOUS_START
from runtime.bench.figures import BenchError, Contender, Figure, Section, in_turns
from runtime.bench.products import billions, window_products
from runtime.so101_policy import SEQUENCE, trained_phrasings

if TYPE_CHECKING:
    import torch

    from policies.gato.data import Replay
    from policies.gato.train import Trainer

BATCH = {"cpu": 8, "cuda": 256}  # sequences
PEAK = {"cpu": 1024, "cuda": 8192}  # side of the square product that tells the peak
ITERATIONS = {"cpu": 6, "cuda": 60}
WARM_UP = 2
BACKWARD = 3  # forward, and two products backward for each of its products
CAPACITY = 64  # steps of the replay


def measure(
    *, size: str = "9M", device: str = "cpu", threads: int, seed: int = 0, batch: int = 0, iterations: int = 0
) -> Section:
    """The section "train". Raises `BenchError` without torch, for a device that is not there and an unknown size."""
    if size not in SIZES:
        raise BenchError(f"no size {size!r}; there are {', '.join(SIZES)}")
    torch = torch_on(device)
    torch.set_num_threads(threads)
    torch.manual_seed(seed)
    chosen = torch.device(device)
    batch = batch or BATCH[device]
    trainer, replay = _learner(size, SEQUENCE, chosen, batch, seed)
    length = trainer.config.length
    generator = torch.Generator(device=chosen).manual_seed(seed)

    def iteration() -> None:
        sampled = replay.sample(batch, length, trainer.config.demonstration, generator)
        trainer.update(sampled, 0.5)
        finish()

    finish = torch.cuda.synchronize if device == "cuda" else lambda: None
    peak = _peak(device)
    for _ in range(WARM_UP):
        iteration()
        peak()
    contenders = {"iteration": Contender(iteration), "peak": Contender(peak)}
    samples = in_turns(contenders, iterations or ITERATIONS[device])
    gflops = 2 * PEAK[device] ** 3 / 1e9 / (float(samples["peak"].min()) / 1000)
    work = BACKWARD * billions(window_products(SIZES[size], SEQUENCE, length, batch))
    seconds = float(np.median(samples["iteration"])) / 1000
    tokens = batch * (SEQUENCE.text + length * SEQUENCE.block)
    raw: dict[str, Any] = {
        "size": size,
        "device": torch.cuda.get_device_name() if device == "cuda" else "cpu",
        "batch": batch,
        "tokens_per_iteration": tokens,
        "tokens_per_s": tokens / seconds,
        "gflop_per_iteration": work,
        "peak_gflops": gflops,
        "mfu": work / seconds / gflops,
    }
    note = f"{raw['tokens_per_s']:,.0f} tokens/s, MFU {100 * raw['mfu']:.0f}%"
    kind = "bf16" if device == "cuda" else "fp32"
    lines = (
        f"{size}, {batch} sequences of {length} timesteps on {raw['device']}; floor: forward and backward products, "
        f"{work:,.0f} GFLOP, at {gflops:,.0f} GFLOP/s of a {kind} product of side {PEAK[device]}",
    )
    return Section(
        "train", (Figure("training iteration", samples["iteration"], 1000 * work / gflops, {}, note),), lines, raw
    )


def torch_on(device: str) -> Any:
    """The module torch. Raises `BenchError` when it is not installed or has no such device."""
    try:
        import torch
    except ModuleNotFoundError as error:
        raise BenchError("torch is not installed; pip install 'gato-arm[train]'") from error
    if device == "cuda" and not torch.cuda.is_available():
        raise BenchError("no CUDA device is there for torch; use --device cpu")
    return torch


def _learner(size: str, spec: SequenceSpec, device: torch.device, batch: int, seed: int) -> tuple[Trainer, Replay]:
    from policies.gato.data import Replay
    from policies.gato.model import Gato
    from policies.gato.text import Text
    from policies.gato.train import TrainConfig, Trainer
    from runtime.learn import stacking_scene
    from sim.tasks import TASKS

    text = Text()
    texts = [[text.encode(phrase) for phrase in trained_phrasings(task, text)] for task in TASKS]
    replay = Replay(spec, texts, 1, CAPACITY, device, stacking_scene(text))
    rng = np.random.default_rng(seed)
    for step in range(CAPACITY):
        replay.append(
            [rng.integers(0, 256, (1, h, w, 3), dtype=np.uint8) for _, h, w in spec.cameras],
            rng.integers(CONTINUOUS_START, CONTINUOUS_START + BINS, (1, spec.block_ids)),
            rng.integers(0, BINS, (1, len(texts), spec.actions)),
            np.zeros(1, dtype=np.int64),
            np.zeros(1, dtype=np.int64),
            np.array([step == 0]),
        )
    model = Gato(SIZES[size], spec, text.vocab_size).to(device)
    return Trainer(model, TrainConfig(batch=batch)), replay


def _peak(device: str) -> Callable[[], None]:
    """A square product, as fast as the device multiplies what training multiplies."""
    import torch

    side = PEAK[device]
    kind = torch.bfloat16 if device == "cuda" else torch.float32
    a, b = (torch.randn(side, side, device=device, dtype=kind) for _ in range(2))
    out = torch.empty_like(a)

    def multiply() -> None:
        torch.mm(a, b, out=out)
        if device == "cuda":
            torch.cuda.synchronize()

    return multiply
