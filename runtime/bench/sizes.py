"""A control step of Gato's own sizes, weights drawn at random: `gato-arm bench --size 1.18B --device cuda`.

Speed does not depend on what the weights are. The sequence is Gato's for a robot of that kind: 70 tokens of observation
and 6 of action, about 900 in the cache. On a GPU: half precision, the fused graph, one run is one CUDA graph, and only
what changes from step to step is copied. Imports torch, onnx and ONNX Runtime when called.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from policies.gato.config import SIZES, ModelConfig
from policies.gato.sequence import SequenceSpec
from policies.gato.tokens import BINS, CONTINUOUS_START
from runtime.bench.figures import BenchError, Contender, Figure, Section, in_turns
from runtime.bench.products import bytes_read, describe, step_products
from runtime.bench.training import torch_on

if TYPE_CHECKING:
    from torch import Tensor

    from policies.gato.model import Gato

SPEC = SequenceSpec(
    (("fixed", 64, 64), ("wrist", 64, 64)),
    (("joint_positions", 13), ("joint_targets", 14)),
    actions=6,
    window=11,
)
VOCABULARY = 1024
TIMESTEP = 3  # of the episode: any that has a block before it and behind it
ROUNDS = 60
BATCH = 5
EAGER_EVERY = 5  # rounds
WARM_UP = 5
BANDWIDTH_BYTES = {"cpu": 64 << 20, "cuda": 1 << 30}
OURS, EAGER, GRAPH = "ONNX Runtime", "torch", "torch, CUDA graph"

Inputs = dict[str, NDArray[np.generic]]
Run = Callable[[], NDArray[np.int64]]  # one step, from inputs in host memory to action ids there


class _Weights(Mapping[str, NDArray[np.float32]]):
    """The parameters of a network, fetched one at a time: all of them as fp32 would not fit everywhere."""

    def __init__(self, model: Gato) -> None:
        self._parameters = dict(model.named_parameters())

    def __getitem__(self, name: str) -> NDArray[np.float32]:
        values: NDArray[np.float32] = self._parameters[name].detach().float().cpu().numpy()
        return values

    def __iter__(self) -> Iterator[str]:
        return iter(self._parameters)

    def __len__(self) -> int:
        return len(self._parameters)


def measure(
    size: str,
    *,
    device: str = "cpu",
    threads: int,
    seed: int = 0,
    rounds: int = ROUNDS,
    spec: SequenceSpec = SPEC,
) -> Section:
    """The section "size". Raises `BenchError` for an unknown size and for a device that is not there."""
    if size not in SIZES:
        raise BenchError(f"no size {size!r}; there are {', '.join(SIZES)}")
    torch = torch_on(device)
    torch.set_num_threads(threads)
    torch.manual_seed(seed)
    config, on_gpu = SIZES[size], device == "cuda"
    from policies.gato.model import Gato

    with torch.device(device):
        model = Gato(config, spec, VOCABULARY).eval().requires_grad_(False)
    model = model.to(device, torch.float16 if on_gpu else torch.float32)
    real = np.float16 if on_gpu else np.float32
    inputs = _inputs(spec, np.random.default_rng(seed))
    bandwidth = _Bandwidth(device)
    with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
        path = _write_graph(model, config, spec, Path(folder), real, fused=on_gpu)
        started = perf_counter()
        runs = {OURS: _onnx_run(path, config, spec, inputs, device, threads, real)}
        load = perf_counter() - started
        runs[EAGER] = _torch_run(model, spec, inputs, device, graph=False)
        if on_gpu:
            runs[GRAPH] = _torch_run(model, spec, inputs, device, graph=True)
        chosen = {name: _warmed(run) for name, run in runs.items()}
        contenders = {
            name: Contender(run, batch=BATCH, every=EAGER_EVERY if name == EAGER else 1) for name, run in runs.items()
        }
        samples = in_turns({**contenders, "bandwidth": Contender(bandwidth.look, every=EAGER_EVERY)}, rounds)
    products = step_products(config, spec)
    size_read = bytes_read(products, config, spec.cache(), np.dtype(real).itemsize)
    floor = 1000 * size_read / bandwidth.best
    parameters = sum(parameter.numel() for parameter in model.parameters())
    others = {name: samples[name] for name in runs if name != OURS}
    name = torch.cuda.get_device_name() if on_gpu else "cpu"
    agreed = {other: int((chosen[other] == chosen[OURS]).sum()) for other in others}
    note = f"{parameters / 1e6:,.0f} M parameters; {describe(products)}"
    figure = Figure(f"control step, {size}", samples[OURS], floor, others, note)
    notes = (
        f"{spec.observation} + {spec.actions} tokens, {spec.cache()} cached, {np.dtype(real).name} on {name}; floor: "
        f"{size_read / 1e6:,.0f} MB of weights and cache at {bandwidth.best / 1e9:,.0f} GB/s",
        "random weights: tokens that agree "
        + ", ".join(f"with {other}: {count} of {spec.actions}" for other, count in agreed.items()),
    )
    raw = {
        "size": size,
        "device": name,
        "parameters": parameters,
        "bytes": size_read,
        "gbytes_per_s": bandwidth.best / 1e9,
        "load_s": load,
        "tokens_agree": agreed,
    }
    return Section(f"size {size}", (figure,), notes, raw)


def _inputs(spec: SequenceSpec, rng: np.random.Generator) -> Inputs:
    """What changes from step to step, in the middle of an episode whose cache is full."""
    inputs: Inputs = {f"image_{name}": rng.integers(0, 256, (h, w, 3), dtype=np.uint8) for name, h, w in spec.cameras}
    inputs["ids"] = rng.integers(CONTINUOUS_START, CONTINUOUS_START + BINS, spec.block_ids)
    inputs["text"] = np.arange(spec.text)
    inputs["prompt"] = np.zeros((), dtype=np.bool_)
    inputs["slot"] = np.array([spec.ring_slot(TIMESTEP)])
    inputs["position"] = np.array([spec.position(TIMESTEP)])
    visible = np.zeros(spec.cache(), dtype=np.bool_)
    visible[: spec.prompt() + spec.window * spec.block] = True
    inputs["visible"] = visible
    return inputs


def _write_graph(
    model: Gato, config: ModelConfig, spec: SequenceSpec, folder: Path, real: type[np.floating], *, fused: bool
) -> Path:
    import onnx

    from policies.gato.graph import build_graph

    path, weights = folder / "policy.onnx", folder / "policy.weights"
    graph = build_graph(_Weights(model), config, spec, VOCABULARY, real=real, beside=weights, fused=fused)
    onnx.save(graph, str(path))
    return path


def _onnx_run(
    path: Path,
    config: ModelConfig,
    spec: SequenceSpec,
    inputs: Inputs,
    device: str,
    threads: int,
    real: type[np.floating],
) -> Run:
    import onnxruntime

    from policies.gato.graph import cache_inputs, cache_output

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.force_spinning_stop", "1")
    providers: list[Any] = ["CPUExecutionProvider"]
    if device == "cuda":
        if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
            raise BenchError("this ONNX Runtime has no CUDA provider; pip install onnxruntime-gpu")
        providers.insert(0, ("CUDAExecutionProvider", {"enable_cuda_graph": "1", "use_tf32": "1"}))
    session = onnxruntime.InferenceSession(str(path), options, providers=providers)
    if device == "cuda" and session.get_providers()[0] != "CUDAExecutionProvider":
        raise BenchError("ONNX Runtime found no CUDA device; see its log, or use --device cpu")
    binding, make = session.io_binding(), onnxruntime.OrtValue.ortvalue_from_numpy
    fed = {name: make(array, device, 0) for name, array in inputs.items()}
    for name, value in fed.items():
        binding.bind_ortvalue_input(name, value)
    kept = []
    for name in cache_inputs(config.layers):
        kept.append(make(np.zeros((1, spec.cache(), config.width), dtype=real), device, 0))
        binding.bind_ortvalue_input(name, kept[-1])
        binding.bind_ortvalue_output(cache_output(name), kept[-1])
    action = make(np.zeros(spec.actions, dtype=np.int64), device, 0)
    binding.bind_ortvalue_output("action", action)
    changing = [(fed[name], array) for name, array in inputs.items() if name != "text"]

    def run() -> NDArray[np.int64]:
        for value, array in changing:
            value.update_inplace(array)
        session.run_with_iobinding(binding)
        ids: NDArray[np.int64] = action.numpy()
        return ids

    return _Kept(run, kept)


@dataclass(frozen=True)
class _Kept:
    """A run, and the memory that it is bound to."""

    run: Run
    memory: Sequence[object]

    def __call__(self) -> NDArray[np.int64]:
        return self.run()


def _torch_run(model: Gato, spec: SequenceSpec, inputs: Inputs, device: str, *, graph: bool) -> Run:
    import torch

    cache = model.new_cache(1)
    names = [f"image_{name}" for name, _, _ in spec.cameras] + ["ids"]
    host = [torch.from_numpy(inputs[name])[None] for name in names]
    host = [tensor.pin_memory() for tensor in host] if device == "cuda" else host
    fed = [tensor.to(device, copy=True) for tensor in host]
    visible = torch.from_numpy(inputs["visible"])[None].to(device)
    position = torch.tensor([spec.position(TIMESTEP)], device=device)
    slot = spec.ring_slot(TIMESTEP)

    def step() -> Tensor:
        return model.step(fed[:-1], fed[-1], cache, slot, position, visible)

    compute: Callable[[], Tensor] = step
    if graph:
        compute = _captured(step)

    def run() -> NDArray[np.int64]:
        for there, here in zip(fed, host, strict=True):
            there.copy_(here, non_blocking=True)
        ids: NDArray[np.int64] = compute().cpu().numpy()[0]
        return ids

    return run


def _captured(step: Callable[[], Tensor]) -> Callable[[], Tensor]:
    """`step` as one CUDA graph."""
    import torch

    cuda: Any = torch.cuda  # half of it has no types
    aside = cuda.Stream()
    aside.wait_stream(cuda.current_stream())
    with cuda.stream(aside):
        for _ in range(3):
            step()
    cuda.current_stream().wait_stream(aside)
    graph = cuda.CUDAGraph()
    with cuda.graph(graph):
        out = step()

    def replay() -> Tensor:
        graph.replay()
        return out

    return replay


def _warmed(run: Run) -> NDArray[np.int64]:
    for _ in range(WARM_UP):
        ids = run()
    return ids.copy()


class _Bandwidth:
    """How fast memory is read and written, best of many looks; a copy does both, byte for byte."""

    def __init__(self, device: str) -> None:
        import torch

        self._device = device
        self._source = torch.zeros(BANDWIDTH_BYTES[device], dtype=torch.uint8, device=device)
        self._target = torch.zeros_like(self._source)
        self.best = 0.0  # bytes / s

    def look(self) -> None:
        import torch

        for _ in range(3):
            started = perf_counter()
            self._target.copy_(self._source)
            if self._device == "cuda":
                torch.cuda.synchronize()
            self.best = max(self.best, 2 * len(self._source) / (perf_counter() - started))
