"""The graph is the network: the same cache, the same tokens; and it is made of what it says it is made of."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from policies.gato import graph_ops
from policies.gato.config import SIZES
from policies.gato.graph import build_graph, cache_inputs, cache_output, image_input
from policies.gato.model import Gato
from policies.gato.sequence import PERIOD, SequenceSpec
from policies.gato.text import Text
from policies.gato.tokens import CONTINUOUS_START
from tests.policies.gato.tiny import SPEC, network

LAYERS = SIZES["tiny"].layers
SLOTS = SPEC.cache()


def graph_of(model: Gato) -> onnx.ModelProto:
    weights = {name: parameter.numpy() for name, parameter in model.named_parameters()}
    return build_graph(weights, model.config, model.spec, model.vocabulary)


@pytest.fixture(scope="module")
def model() -> Gato:
    return network()


@pytest.fixture(scope="module")
def graph(model: Gato) -> onnx.ModelProto:
    return graph_of(model)


@pytest.fixture(scope="module")
def session(graph: onnx.ModelProto) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(graph.SerializeToString(), options, providers=["CPUExecutionProvider"])


def inputs(spec: SequenceSpec = SPEC, seed: int = 0) -> dict[str, Any]:
    """One block in the first ring slot, behind an instruction of eight tokens, with an empty cache."""
    rng = np.random.default_rng(seed)
    ids = np.zeros(spec.block_ids, dtype=np.int64)
    sensed = [rng.integers(CONTINUOUS_START, CONTINUOUS_START + 1024, size) for _, size in spec.tensors]
    spec.write_block(ids, None, np.arange(spec.words), sensed)
    slot, visible = spec.ring_slot(0), np.zeros(spec.cache(), dtype=np.bool_)
    visible[:8] = True
    visible[slot : slot + spec.block] = True
    return {
        **{image_input(name): rng.integers(0, 256, (h, w, 3), dtype=np.uint8) for name, h, w in spec.cameras},
        "ids": ids,
        "text": np.arange(spec.text),
        "prompt": np.array(False),
        "slot": np.array([slot]),
        "position": np.array([spec.position(0)]),
        "visible": visible,
        **{name: np.zeros((1, spec.cache(), SIZES["tiny"].width), np.float32) for name in cache_inputs(LAYERS)},
    }


def in_torch(model: Gato, feeds: dict[str, Any]) -> tuple[list[int], np.ndarray]:
    """Tokens and cache (layers, 2, S, D) of the network's own step."""
    cache = model.new_cache(1)
    images = [torch.from_numpy(feeds[image_input(name)])[None] for name, _, _ in model.spec.cameras]
    tokens = model.step(
        images,
        torch.from_numpy(feeds["ids"])[None],
        cache,
        int(feeds["slot"][0]),
        torch.from_numpy(feeds["position"]),
        torch.from_numpy(feeds["visible"])[None],
    )
    return tokens[0].tolist(), cache[:, :, 0].permute(0, 1, 3, 2, 4).flatten(3).numpy()


def cache_of(outputs: dict[str, np.ndarray]) -> np.ndarray:
    return np.stack([outputs[cache_output(name)][0] for name in cache_inputs(LAYERS)]).reshape(LAYERS, 2, SLOTS, -1)


def run(session: onnxruntime.InferenceSession, feeds: dict[str, Any]) -> dict[str, np.ndarray]:
    return dict(zip([o.name for o in session.get_outputs()], session.run(None, feeds), strict=True))


@pytest.mark.parametrize("seed", range(5))
def test_a_step_equals_the_networks(model: Gato, session: onnxruntime.InferenceSession, seed: int) -> None:
    feeds = inputs(seed=seed)
    outputs = run(session, feeds)
    tokens, cache = in_torch(model, feeds)
    assert outputs["action"].tolist() == tokens
    np.testing.assert_allclose(cache_of(outputs), cache, atol=2e-4)


def test_the_instruction_goes_into_the_first_slots(model: Gato, session: onnxruntime.InferenceSession) -> None:
    feeds = inputs() | {"prompt": np.array(True), "slot": np.array([0]), "position": np.array([0])}
    feeds["visible"] = np.arange(SLOTS) < 8
    written = cache_of(run(session, feeds))[:, :, :8]  # what is in the further places is never seen
    cache = model.new_cache(1)
    model.prefill_text(torch.from_numpy(feeds["text"])[None], cache, torch.from_numpy(feeds["visible"])[None])
    expected = cache[:, :, 0, :, :8].permute(0, 1, 3, 2, 4).flatten(3).numpy()
    np.testing.assert_allclose(written, expected, atol=2e-4)


def test_bound_memory_is_written_in_place_and_unbound_memory_is_left_alone(
    session: onnxruntime.InferenceSession, capfd: pytest.CaptureFixture[str]
) -> None:
    feeds = inputs()
    outputs = run(session, feeds)
    assert "copying past_cache" in capfd.readouterr().err  # ONNX Runtime says itself when it does
    assert not any(feeds[name].any() for name in cache_inputs(LAYERS))
    binding = session.io_binding()
    for name, array in feeds.items():
        binding.bind_ortvalue_input(name, onnxruntime.OrtValue.ortvalue_from_numpy(array))
    for name in cache_inputs(LAYERS):
        binding.bind_ortvalue_output(cache_output(name), onnxruntime.OrtValue.ortvalue_from_numpy(feeds[name]))
    action = np.zeros(SPEC.actions, dtype=np.int64)
    binding.bind_ortvalue_output("action", onnxruntime.OrtValue.ortvalue_from_numpy(action))
    session.run_with_iobinding(binding)
    assert capfd.readouterr().err == ""
    assert action.tolist() == outputs["action"].tolist()
    for name in cache_inputs(LAYERS):
        np.testing.assert_array_equal(feeds[name], outputs[cache_output(name)])


def test_positions_wrap_within_a_block(model: Gato, session: onnxruntime.InferenceSession) -> None:
    feeds = inputs() | {"position": np.array([PERIOD - 5])}
    assert run(session, feeds)["action"].tolist() == in_torch(model, feeds)[0]


def test_weights_are_stored_once_and_in_half_precision(model: Gato, graph: onnx.ModelProto) -> None:
    sizes = {tensor.name: np.prod(tensor.dims, dtype=int) for tensor in graph.graph.initializer}
    half = {t.name for t in graph.graph.initializer if t.data_type == onnx.TensorProto.FLOAT16}
    layers = sum(parameter.numel() for parameter in model.layers.parameters())
    assert sum(size for name, size in sizes.items() if name.startswith("layers.")) == layers
    assert {name for name in sizes if name.startswith("layers.")} <= half
    assert sum(size for name, size in sizes.items() if name not in half) < 20_000  # tables of angles, positions
    stored = graph.ByteSize()
    assert stored < 2 * sum(parameter.numel() for parameter in model.parameters()) + 250_000


def test_there_is_no_control_flow_and_no_vendors_operator(graph: onnx.ModelProto) -> None:
    assert {node.op_type for node in graph.graph.node}.isdisjoint({"If", "Loop", "Scan"})
    assert {node.domain for node in graph.graph.node} == {""}
    assert len({node.name for node in graph.graph.node}) == len(graph.graph.node)


def test_fused_operators_and_weights_beside_the_graph_change_nothing(
    model: Gato, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(graph_ops, "IN_THE_GRAPH", 4096)
    weights = {name: parameter.numpy() for name, parameter in model.named_parameters()}
    beside = tmp_path / "policy.weights"
    graph = build_graph(weights, model.config, model.spec, model.vocabulary, beside=beside, fused=True)
    assert {node.domain for node in graph.graph.node} == {"", "com.microsoft"}
    assert beside.stat().st_size > 2 * sum(
        w.size for n, w in weights.items() if n.startswith("layers.") and w.size > 4096
    )
    onnx.save(graph, tmp_path / "policy.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "policy.onnx", providers=["CPUExecutionProvider"])
    for seed in range(3):
        feeds = inputs(seed=seed)
        assert run(session, feeds)["action"].tolist() == in_torch(model, feeds)[0]


def test_half_precision_computes_with_half_precision(model: Gato) -> None:
    weights = {name: parameter.numpy() for name, parameter in model.named_parameters()}
    graph = build_graph(weights, model.config, model.spec, model.vocabulary, real=np.float16)
    kinds = {tensor.data_type for tensor in graph.graph.initializer if tensor.dims}
    assert onnx.TensorProto.FLOAT not in kinds and onnx.TensorProto.FLOAT16 in kinds
    caches = {value.type.tensor_type.elem_type for value in graph.graph.input if value.name.startswith("keys")}
    assert caches == {onnx.TensorProto.FLOAT16}


def test_the_same_network_gives_the_same_bytes(model: Gato, graph: onnx.ModelProto) -> None:
    again = graph_of(model)
    assert again.SerializeToString(deterministic=True) == graph.SerializeToString(deterministic=True)


def test_one_camera_and_one_action() -> None:
    spec = SequenceSpec((("only", 16, 16),), (("x", 2),), actions=1, words=12, window=3)
    model = network(seed=3, spec=spec)
    session = onnxruntime.InferenceSession(graph_of(model).SerializeToString(), providers=["CPUExecutionProvider"])
    feeds = inputs(spec)
    assert run(session, feeds)["action"].tolist() == in_torch(model, feeds)[0]


def test_an_instruction_longer_than_a_block_is_refused() -> None:
    spec = SequenceSpec((("only", 16, 16),), (("x", 1),), actions=1, text=40)
    with pytest.raises(ValueError, match="40 tokens does not pass through a block of"):
        graph_of(Gato(SIZES["tiny"], spec, Text().vocab_size).requires_grad_(False))
