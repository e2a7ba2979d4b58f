"""The network that is read back from a checkpoint or a graph is the one that was saved."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from policies.artifact import Artifact
from policies.gato.config import ModelConfig, config_of
from policies.gato.model import Gato
from policies.gato.text import Text
from policies.gato.train import save_checkpoint
from policies.gato.weights import begin_from, network_from, network_of
from policies.policy import PolicyError
from tests.policies.gato.tiny import SPEC, exported, network


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return exported(tmp_path_factory.mktemp("tiny"))


def test_the_network_is_the_one_that_was_exported(artifact: Artifact) -> None:
    found, expected = network_of(artifact), network()
    same = dict(expected.named_parameters())
    # Of these the graph keeps only what is used: the sum of both positions, and the head's rows of bins.
    different = {"row_positions.weight", "column_positions.weight", "head.weight"}
    for name, parameter in found.named_parameters():
        if name not in different:
            torch.testing.assert_close(parameter, same[name], rtol=0, atol=0, msg=name)
    image = torch.randint(0, 256, (1, 32, 32, 3), dtype=torch.uint8)
    images = [image, image[:, :16]]
    torch.testing.assert_close(found.embed_images(images), expected.embed_images(images), rtol=0, atol=1e-6)
    hidden = torch.randn(2, expected.config.width)
    torch.testing.assert_close(found.action_logits(hidden), expected.action_logits(hidden), rtol=0, atol=0)


def test_a_network_begins_with_an_artifact_s_weights(artifact: Artifact) -> None:
    model, expected = network(seed=1), network()
    begin_from(model, artifact.folder)
    ids = torch.zeros(1, SPEC.block_ids, dtype=torch.long)
    images = [torch.randint(0, 256, (1, h, w, 3), dtype=torch.uint8) for _, h, w in SPEC.cameras]
    blocks = [each.embed_blocks(images, ids) for each in (model, expected)]
    torch.testing.assert_close(*blocks, rtol=0, atol=1e-6)
    torch.testing.assert_close(model.layers[1].up.weight, expected.layers[1].up.weight, rtol=0, atol=0)


def test_fewer_layers_and_more_places_for_words(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "checkpoint.pt", network(), {})
    expected = network_from(tmp_path / "checkpoint.pt")
    spec = replace(SPEC, words=SPEC.words + 2, text=SPEC.text + 1)
    model = Gato(replace(expected.config, layers=1), spec, Text().vocab_size)
    begin_from(model, tmp_path / "checkpoint.pt")
    torch.testing.assert_close(model.layers[0].qkv.weight, expected.layers[0].qkv.weight)
    torch.testing.assert_close(model.text_positions.weight[-1], expected.text_positions.weight[-1])
    words = SPEC.words
    ours, theirs = model.local_positions.weight, expected.local_positions.weight
    torch.testing.assert_close(ours[:words], theirs[:words])
    torch.testing.assert_close(ours[words : words + 2], theirs[words - 1].expand(2, -1))
    torch.testing.assert_close(ours[words + 2 :], theirs[words:])


def test_another_network_is_refused_in_a_line(artifact: Artifact, tmp_path: Path) -> None:
    wider = ModelConfig(layers=2, heads=4, head_width=32, feedforward=128, patch_channels=32)
    with pytest.raises(PolicyError, match="begin with another or without"):
        begin_from(Gato(wider, SPEC, Text().vocab_size), artifact.folder)
    (tmp_path / "noise.pt").write_bytes(b"no checkpoint")
    with pytest.raises(PolicyError, match=r"noise\.pt: no checkpoint of this release") as caught:
        network_from(tmp_path / "noise.pt")
    assert "\n" not in str(caught.value)
    card = artifact.card.model_copy(update={"architecture": {"kind": "other"}})
    with pytest.raises(PolicyError, match="no Gato"):
        config_of(card)
    with pytest.raises(PolicyError, match="no Gato"):
        network_of(replace(artifact, card=card))
