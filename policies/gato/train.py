"""Behaviour cloning on a `Replay`: the loss, the optimiser, the moving average, checkpoints.

Loss: cross-entropy on the action tokens alone, against the demonstrator's bins softened by a Gaussian of 4 bins. Where
the simulator's truth is known, auxiliary heads (training only) say where the named things are and which patch shows
them.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from policies.gato.config import THING, ModelConfig
from policies.gato.data import Batch
from policies.gato.model import Gato, median_bins
from policies.gato.ranks import Ranks
from policies.gato.sequence import SequenceSpec
from policies.gato.tokens import BINS
from policies.policy import PolicyError

STATE_FILE, CHECKPOINT_FILE = "state.pt", "checkpoint.pt"


@dataclass(frozen=True)
class TrainConfig:
    """What is learned from, and how fast."""

    batch: int = 256  # sequences
    length: int = 4  # timesteps in a sequence; short ones, so that a batch shows many scenes
    demonstration: int = 2  # timesteps of a prompt
    learning_rate: float = 5e-4
    warmup: int = 200  # iterations
    weight_decay: float = 0.1
    betas: tuple[float, float] = (0.9, 0.95)
    average: float = 0.998  # of the weights that are kept
    softness: float = 4.0  # bins, standard deviation of the soft labels
    auxiliary: float = 10.0  # weight of the position loss
    clip: float = 1.0
    # Gato draws each patch's position bins from its interval; with 4 x 4 patches and one image size that only blurs.
    sampled_positions: bool = False


class Objective(nn.Module):
    """The network with its training-only heads; `forward` is the loss, and what to plot."""

    bins: Tensor

    def __init__(self, model: Gato, config: TrainConfig) -> None:
        super().__init__()
        self.model, self.config = model, config
        width = model.config.width
        self.named = nn.Sequential(nn.Linear(width, 256), nn.GELU(), nn.Linear(256, THING))
        self.where = nn.Sequential(nn.Linear(width, 256), nn.GELU(), nn.Linear(256, 2 * THING))
        self.shown = nn.Linear(width, 2)
        self.register_buffer("bins", torch.arange(BINS, dtype=torch.float32), persistent=False)

    def forward(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        model, spec = self.model, self.model.spec
        b, length = batch.loss_mask.shape
        text = model.embed_text(batch.text)
        positions = model.sample_positions(len(batch.ids)) if self.config.sampled_positions else None
        blocks = model.embed_blocks(batch.images, batch.ids, positions).view(b, length * spec.block, -1)
        hidden = model(torch.cat([text, blocks], dim=1), batch.positions, batch.mask)
        inside = hidden[:, spec.text :].view(b, length, spec.block, -1)
        logits = model.action_logits(inside[:, :, -spec.actions :]).float()
        weight = batch.loss_mask.float()
        weight = weight / weight.sum().clamp_min(1)
        distance = (self.bins - batch.labels[..., None]) / self.config.softness
        soft = torch.softmax(-0.5 * distance**2, dim=-1)
        cross_entropy = -(soft * F.log_softmax(logits, dim=-1)).sum(-1)
        action_loss = (cross_entropy.mean(-1) * weight).sum()
        error = (median_bins(logits.detach()) - batch.labels).abs().float()
        start = spec.actions + spec.words
        shown, known = self._patch_loss(inside[:, :, start : start + spec.patches], batch)
        truth = torch.nan_to_num(batch.truth)
        places = (spec.actions + batch.names)[:, None, :, None].expand(-1, length, -1, inside.shape[-1])
        at_words = self.named(inside.gather(2, places)).float()
        at_separator = self.where(inside[:, :, -spec.actions]).float().view_as(truth)
        worded = batch.worded[:, None].float()
        place = sum(
            F.smooth_l1_loss(guess, truth * 5, beta=0.1, reduction="none").mean((-1, -2)) * share
            for guess, share in ((at_words, worded), (at_separator, 1.0))
        )
        place_loss = (place * weight * known).sum()
        shown_loss = (shown * weight * known).sum()
        loss = action_loss + self.config.auxiliary * place_loss + shown_loss
        off = [(guess / 5 - truth)[..., :3].abs().mean((-1, -2)) * 1000 for guess in (at_words, at_separator)]
        return loss, {
            "loss": loss.detach(),
            "action": action_loss.detach(),
            "bins": ((error.mean(-1)) * weight).sum(),
            "shown": shown_loss.detach(),
            "mm_words": (off[0].detach() * weight * known * worded).sum() / (weight * known * worded).sum(),
            "mm": (off[1].detach() * weight * known).sum() / (weight * known).sum(),
        }

    def _patch_loss(self, patches: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """(B, L) loss of the patch labels, and where they are known."""
        known = ~torch.isnan(batch.patch_truth).flatten(2).any(-1) & ~torch.isnan(batch.truth).flatten(2).any(-1)
        truth = torch.nan_to_num(batch.patch_truth)
        loss = F.binary_cross_entropy_with_logits(self.shown(patches).float(), truth, reduction="none")
        return loss.mean((-1, -2)) * 10, known.float()


class Trainer:
    """Objective, optimiser and moving average on one device, the same in all `ranks`. `update` is one iteration."""

    def __init__(self, model: Gato, config: TrainConfig, *, compiled: bool = False, ranks: Ranks | None = None) -> None:
        self.config, self.model = config, model
        self.device = next(model.parameters()).device
        self.ranks = ranks or Ranks(0, 1, self.device)
        self.objective = Objective(model, config).to(self.device)
        parameters = list(self.objective.parameters())
        self.ranks.share(parameters)
        self._gradients = torch.zeros(sum(p.numel() for p in parameters), device=self.device)
        for parameter, part in zip(parameters, self._gradients.split([p.numel() for p in parameters]), strict=True):
            parameter.grad = part.view_as(parameter)
        decayed = [p for p in parameters if p.ndim >= 2]
        plain = [p for p in parameters if p.ndim < 2]
        groups = [{"params": decayed, "weight_decay": config.weight_decay}, {"params": plain, "weight_decay": 0.0}]
        self.optimiser = torch.optim.AdamW(
            groups, lr=config.learning_rate, betas=config.betas, fused=self.device.type == "cuda"
        )
        self.average = {name: p.detach().clone().float() for name, p in model.named_parameters()}
        self.iterations = 0
        self._loss = torch.compile(self.objective) if compiled else self.objective

    def update(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """One step of AdamW on every rank's `batch`; `progress` in [0, 1] places it on the cosine.

        Returns the measures of this rank's batch, not yet fetched.
        """
        config = self.config
        scale = min(1.0, (self.iterations + 1) / config.warmup) * (
            0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * progress))
        )
        for group in self.optimiser.param_groups:
            group["lr"] = config.learning_rate * scale
        self.objective.train()
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.device.type == "cuda"):
            loss, measures = self._loss(batch)
        self._gradients.zero_()
        loss.backward()
        self.ranks.average(self._gradients)
        nn.utils.clip_grad_norm_(self.objective.parameters(), config.clip)
        self.optimiser.step()
        self.iterations += 1
        decay = min(config.average, self.iterations / (self.iterations + 10))
        names = list(self.average)
        parameters = dict(self.model.named_parameters())
        torch._foreach_lerp_([self.average[n] for n in names], [parameters[n].detach() for n in names], 1 - decay)
        return measures

    def state(self) -> dict[str, Any]:
        """What `resume` needs: weights, the training-only heads, the optimiser, the moving average, iterations."""
        return {
            "objective": self.objective.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "average": self.average,
            "iterations": self.iterations,
        }

    def resume(self, state: dict[str, Any]) -> None:
        """Go on from `state`. Raises RuntimeError or ValueError when it is another network's."""
        self.objective.load_state_dict(state["objective"])
        self.optimiser.load_state_dict(state["optimiser"])
        with torch.no_grad():
            for name, average in self.average.items():
                average.copy_(state["average"][name])
        self.iterations = state["iterations"]

    def averaged(self) -> Gato:
        """A copy of the network with the averaged weights, in evaluation mode."""
        copy = Gato(self.model.config, self.model.spec, self.model.vocabulary).to(self.device)
        self.load_average(copy)
        return copy.eval().requires_grad_(False)

    def load_average(self, into: Gato) -> None:
        """Copy the averaged weights into `into`."""
        with torch.no_grad():
            for name, parameter in into.named_parameters():
                parameter.copy_(self.average[name])


def batch_seed(seed: int, rank: int, iteration: int) -> int:
    """What a batch is drawn with: it hangs on nothing that came before, so that a resumed training draws the same."""
    return int(np.random.SeedSequence([seed, rank, iteration]).generate_state(1, np.uint64)[0] >> 1)


def save_state(path: Path, trainer: Trainer, about: dict[str, Any]) -> None:
    """What `load_state` goes on from, and what it is about; an interrupted save leaves the one before."""
    torch.save({"trainer": trainer.state(), "about": about}, path.with_suffix(".new"))
    path.with_suffix(".new").replace(path)


def load_state(path: Path, trainer: Trainer, about: dict[str, Any]) -> dict[str, Any]:
    """Put a saved state into `trainer`; all that it was said to be about, where what is in `about` has to be the same.

    Raises `PolicyError`.
    """
    if not path.is_file():
        raise PolicyError(f"{path}: there is no training to resume; leave --resume out to begin one")
    state = torch.load(path, weights_only=True, map_location=trainer.device)
    for name, value in about.items():
        if state["about"][name] != value:
            raise PolicyError(
                f"{path}: was trained with {name} {state['about'][name]}, not {value}; name the same again"
            )
    try:
        trainer.resume(state["trainer"])
    except (RuntimeError, ValueError, KeyError) as error:
        raise PolicyError(f"{path}: is of another network: {' '.join(str(error).split())[:160]}") from error
    said: dict[str, Any] = state["about"]
    return said


def save_checkpoint(path: Path, model: Gato, details: dict[str, Any]) -> None:
    """Weights in fp16 with everything needed to build the network again. Tensors and plain values only."""
    weights = {name: p.detach().half().cpu() for name, p in model.named_parameters()}
    torch.save(
        {
            "weights": weights,
            "config": asdict(model.config),
            "spec": asdict(model.spec),
            "vocabulary": model.vocabulary,
            "details": details,
        },
        path,
    )


def load_checkpoint(path: Path) -> tuple[Gato, dict[str, Any]]:
    """The network, fp32 on the CPU in evaluation mode, and the details saved with it."""
    state = torch.load(path, weights_only=True, map_location="cpu")
    spec = state["spec"]
    spec["cameras"] = tuple(tuple(c) for c in spec["cameras"])
    spec["tensors"] = tuple(tuple(t) for t in spec["tensors"])
    model = Gato(ModelConfig(**state["config"]), SequenceSpec(**spec), state["vocabulary"])
    model.load_state_dict({name: w.float() for name, w in state["weights"].items()})
    return model.eval().requires_grad_(False), state["details"]
