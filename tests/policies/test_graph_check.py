"""What an ONNX file may ask for, and what is refused by name before anything runs it."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.artifact import PRETRAINED
from policies.graph_check import MAX_DEPTH, check_graph
from policies.policy import PolicyError
from tests.policies.onnx_wire import external, field, model, node


def refusal(tmp_path: Path, data: bytes, *files: str) -> str:
    path = tmp_path / "policy.onnx"
    path.write_bytes(data)
    with pytest.raises(PolicyError) as raised:
        check_graph(path, files)
    assert "\n" not in str(raised.value) and str(path) in str(raised.value)
    return str(raised.value)


def test_what_is_shipped_passes() -> None:
    graphs = list(PRETRAINED.glob("*/policy.onnx"))
    assert graphs
    for graph in graphs:
        check_graph(graph, ())


def test_built_in_operators_and_data_beside_the_graph_pass(tmp_path: Path) -> None:
    path = tmp_path / "policy.onnx"
    path.write_bytes(
        model(node(), node("GroupQueryAttention", "com.microsoft"), field(5, external("weights.data")), opset="ai.onnx")
    )
    check_graph(path, {"weights.data"})


@pytest.mark.parametrize("location", ["../secret", "/etc/passwd", "other.data", "", "a/weights.data", "weights.data/"])
def test_data_anywhere_else_is_refused(tmp_path: Path, location: str) -> None:
    inside = field(5, external(location))
    attribute = field(5, external(location))
    sparse = field(22, field(1, external(location)))
    subgraph = field(6, node("If", "", attribute))
    for graph in (inside, node("Constant", "", attribute), node("X", "", sparse), node("Loop", "", subgraph)):
        assert "is no file of its artifact" in refusal(tmp_path, model(graph), "weights.data")


def test_operators_of_somebody_else_are_refused_wherever_they_are(tmp_path: Path) -> None:
    evil = node("Evil", "evil.ops")
    for graph in (evil, node("If", "", field(6, evil)), node("If", "", field(11, evil))):
        assert "'evil.ops'" in refusal(tmp_path, model(graph))
    assert "'evil.ops'" in refusal(tmp_path, model(opset="evil.ops"))
    assert "opens files" in refusal(tmp_path, model(node("EPContext", "com.microsoft")))
    assert "function records" in refusal(tmp_path, model() + field(25, field(1, "f")))


def test_graphs_without_end_are_refused(tmp_path: Path) -> None:
    graph = node()
    for _ in range(MAX_DEPTH + 2):
        graph = node("If", "", field(6, graph))
    assert "deep" in refusal(tmp_path, model(graph))
    assert "100000 operators" in refusal(tmp_path, model(node() * 100_001))


def test_what_is_no_graph_is_one_line(tmp_path: Path) -> None:
    for data in (b"\x3a\xff", b"\xff" * 20, b"\x0b", model()[:-1] + b"\x3a\x05ab", field(8, field(1, b"\xff\xfe"))):
        assert "no ONNX graph" in refusal(tmp_path, data)
    with pytest.raises(PolicyError, match="no ONNX graph"):
        check_graph(tmp_path / "missing.onnx", ())


@given(st.binary(max_size=200))
def test_any_bytes_pass_or_are_refused(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "any.onnx"
    for content in (data, model(data)):
        path.write_bytes(content)
        with suppress(PolicyError):
            check_graph(path, ())
