"""Which parts there are, and how a bench runs through them. Knows no command line and prints nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec

from policies.artifact import Artifact, find_artifact, load_artifact
from policies.gato.config import SIZES
from runtime.bench.figures import BenchError, Section
from runtime.bench.machine import cores

PARTS = ("step", "flat", "servo", "sim", "jitter", "train")
DEFAULT = ("step", "flat", "servo", "sim")
DEVICES = ("cpu", "cuda")
NEEDS = {"size": ("torch", "onnx"), "train": ("torch",)}


@dataclass(frozen=True)
class BenchOptions:
    """What is measured; `threads` None: at most two, as `gato-arm run` takes."""

    parts: tuple[str, ...] = DEFAULT
    policy: str = ""
    minutes: float = 1.0
    load: bool = False
    threads: int | None = None
    sizes: tuple[str, ...] = ()  # of Gato; training takes the first
    device: str = "cpu"
    seed: int = 0

    @property
    def workers(self) -> int:
        return self.threads or min(2, cores())


def sections(options: BenchOptions, say: Callable[[str], None]) -> Iterator[Section]:
    """Measure one part after the other; `say` is told which one is being measured.

    Raises `BenchError`, before anything is measured, for parts, sizes, devices and packages that are not there.
    """
    unknown = [part for part in options.parts if part not in PARTS]
    if unknown:
        raise BenchError(f"no part {unknown[0]!r}; there are {', '.join(PARTS)}")
    if options.device not in DEVICES:
        raise BenchError(f"no device {options.device!r}; there are {', '.join(DEVICES)}")
    for size in options.sizes:
        if size not in SIZES:
            raise BenchError(f"no size {size!r}; there are {', '.join(SIZES)}")
    # With "train" a size says what is trained.
    sizes = () if "train" in options.parts else options.sizes
    for part in [*options.parts, *(["size"] if sizes else [])]:
        missing = [package for package in NEEDS.get(part, ()) if find_spec(package) is None]
        if missing:
            raise BenchError(f"{part} needs {' and '.join(missing)}; pip install 'gato-arm[train]'")
    needs_policy = {"step", "flat", "jitter"} & set(options.parts)
    artifact = load_artifact(find_artifact(options.policy)) if needs_policy else None
    for part in options.parts:
        say(part)
        yield _section(part, options, artifact)
    for size in sizes:
        from runtime.bench import sizes as big

        say(f"size {size}")
        yield big.measure(size, device=options.device, threads=options.workers, seed=options.seed)


def _section(part: str, options: BenchOptions, artifact: Artifact | None) -> Section:
    threads, seed = options.workers, options.seed
    if part == "servo":
        from runtime.bench import servo

        return servo.measure(seed=seed)
    if part == "sim":
        from runtime.bench import simulator

        return simulator.measure(seed=seed)
    if part == "train":
        from runtime.bench import training

        size = options.sizes[0] if options.sizes else "9M"
        return training.measure(size=size, device=options.device, threads=threads, seed=seed)
    assert artifact is not None  # loaded for the parts that are left
    if part == "flat":
        from runtime.bench import flat

        return flat.measure(artifact, threads=threads, seed=seed)
    if part == "jitter":
        from runtime.bench import jitter

        return jitter.measure(artifact, minutes=options.minutes, load=options.load, threads=threads, seed=seed)
    from runtime.bench import step

    return step.measure(artifact, threads=threads, seed=seed)
