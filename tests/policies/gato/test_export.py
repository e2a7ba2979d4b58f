"""Export: what comes out is complete and proven, and nothing comes out otherwise."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from policies.artifact import ArtifactError, load_artifact
from policies.gato import export as module
from policies.gato.export import Reference, export_again, ties
from policies.gato.text import MODEL, Text
from policies.gato.tokens import BINS, CONTINUOUS_START
from policies.onnx_policy import codec_of, sequence_of
from tests.policies.gato.tiny import CODEC, CREATED, SPEC, TASKS, exported, network, observations, trials


def test_the_card_says_what_the_network_is(tmp_path: Path) -> None:
    artifact = exported(tmp_path)
    card = load_artifact(tmp_path / "tiny").card
    assert artifact.card == card
    assert sequence_of(card) == SPEC
    codec = codec_of(card)
    assert list(codec.tensors) == list(CODEC.tensors) and codec.delta.tolist() == CODEC.delta.tolist()
    assert codec.action.low.tolist() == CODEC.action.low.tolist()
    assert (card.name, card.rate, card.created) == ("tiny", 20.0, "2026-01-01T00:00:00+00:00")
    assert card.parameters == sum(parameter.numel() for parameter in network().parameters())
    assert card.tasks == list(TASKS) and card.training == {"seed": 0}
    assert card.evaluation == {"tokens_equal_to_torch": 60 * SPEC.actions, "ties": 0}
    assert sorted(card.files) == ["policy.onnx", MODEL.name]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint.pt", "tiny"]


def test_an_artifact_is_written_anew_from_itself(tmp_path: Path) -> None:
    first = exported(tmp_path)
    later = CREATED + timedelta(days=1)
    again = export_again(first, tmp_path / "again", trials(), created=later, evaluation={"episodes": 3})
    assert again.card.name == "again" and again.card.created == "2026-01-02T00:00:00+00:00"
    assert again.card.evaluation == {**first.card.evaluation, "episodes": 3}
    same = {"name", "created", "evaluation", "files"}
    assert again.card.model_dump(exclude=same) == first.card.model_dump(exclude=same)
    stored = [
        {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in onnx.load(artifact.graph).graph.initializer}
        for artifact in (first, again)
    ]
    assert stored[0].keys() == stored[1].keys()
    for name, values in stored[0].items():
        np.testing.assert_allclose(stored[1][name], values, rtol=0, atol=1e-6 if values.dtype == np.float32 else 0)


def test_an_artifact_is_replaced_and_an_empty_folder_filled(tmp_path: Path) -> None:
    (tmp_path / "tiny").mkdir()
    first = exported(tmp_path).card.files
    second = exported(tmp_path, network(seed=1)).card.files
    assert first["policy.onnx"] != second["policy.onnx"]
    assert load_artifact(tmp_path / "tiny").card.files == second
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint.pt", "tiny"]


def test_what_is_no_artifact_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "tiny").mkdir()
    (tmp_path / "tiny" / "thesis.tex").write_text("years of work")
    with pytest.raises(ArtifactError, match="exists and is no artifact"):
        exported(tmp_path)
    assert (tmp_path / "tiny" / "thesis.tex").read_text() == "years of work"


def spoilt(weights: Mapping[str, Any], *arguments: Any) -> onnx.ModelProto:
    """The graph of another network: one position of the decoder's is wrong."""
    wrong = np.array(weights["local_positions.weight"])
    wrong[SPEC.observation] *= -1
    return BUILD({**weights, "local_positions.weight": wrong}, *arguments)


BUILD = module.build_graph


def test_other_tokens_are_never_exported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = exported(tmp_path).card
    monkeypatch.setattr(module, "build_graph", spoilt)
    with pytest.raises(ArtifactError, match=r"step 0: the graph decodes \[.*\], the network \[.*\]; nothing is exp"):
        exported(tmp_path, network(seed=1))
    assert load_artifact(tmp_path / "tiny").card == before
    (tmp_path / "fresh").mkdir()
    with pytest.raises(ArtifactError):
        exported(tmp_path / "fresh")
    assert [path.name for path in (tmp_path / "fresh").iterdir()] == ["checkpoint.pt"]


def test_a_tie_is_told_from_an_error() -> None:
    chosen = np.array([300, 300]) + CONTINUOUS_START
    split, sure = np.full((2, BINS), -20.0, dtype=np.float32)
    split[300:302], sure[300] = 5, 5  # half and half but for rounding; all but nothing
    for step in range(-2, 4):
        shifted = chosen + step
        assert ties(shifted, np.stack([split, sure])).tolist() == [step in (0, 1), step == 0]
    leaning = split.copy()
    leaning[301] += 0.01
    assert ties(chosen, np.stack([leaning, leaning])).tolist() == [False, False]
    assert ties(chosen + 1, np.stack([leaning, leaning])).tolist() == [True, True]


def test_the_reference_decodes_what_its_logits_say() -> None:
    reference = Reference(network(), CODEC, Text())
    reference.reset(TASKS[0])
    chosen = reference.act(observations(1)[0])
    assert ties(chosen, reference.logits).all()
    assert not ties(chosen - 40, reference.logits).any()
