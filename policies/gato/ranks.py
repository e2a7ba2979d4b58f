"""The processes that train one network together: those of torchrun, one for each GPU, or this one alone.

Gradients are averaged as one flat tensor after the backward pass. With some 10M parameters that takes a fraction of a
millisecond between two GPUs, less than what overlapping it with a compiled backward pass would cost in cut-up graphs,
which is what DistributedDataParallel is for; a model whose gradients take longer wants that, or FSDP.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch import distributed as dist


@dataclass(frozen=True)
class Ranks:
    """`rank` of `count` processes, on `device`. Every method but `leave` has to be called by all of them."""

    rank: int
    count: int
    device: torch.device

    @classmethod
    def join(cls, device: str) -> Ranks:
        """Meet the others where torchrun says (its environment), or be alone.

        `device` is auto, cpu or cuda; auto is a GPU where there is one. With several processes each takes the GPU of
        its local rank.
        """
        found = "cuda" if torch.cuda.is_available() else "cpu"
        chosen = torch.device(found if device == "auto" else device)
        rank, count = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
        if count == 1:
            return cls(0, 1, chosen)
        if chosen.type == "cuda":
            chosen = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
            torch.cuda.set_device(chosen)
        dist.init_process_group("nccl" if chosen.type == "cuda" else "gloo")
        return cls(rank, count, chosen)

    @property
    def first(self) -> bool:
        """This is the one that writes and reports."""
        return self.rank == 0

    def share(self, tensors: Iterable[Tensor]) -> None:
        """Give all ranks the first one's values, in place."""
        if self.count > 1:
            for tensor in tensors:
                dist.broadcast(tensor.detach(), 0)

    def average(self, tensor: Tensor) -> None:
        """The mean over the ranks, in place."""
        if self.count > 1:
            dist.all_reduce(tensor)
            tensor /= self.count

    def total(self, values: Sequence[float]) -> list[float]:
        """Sums over the ranks."""
        return self._reduced(values, dist.ReduceOp.SUM)

    def greatest(self, values: Sequence[float]) -> list[float]:
        """Maxima over the ranks: what all of them then act on alike."""
        return self._reduced(values, dist.ReduceOp.MAX)

    def _reduced(self, values: Sequence[float], how: dist.ReduceOp.RedOpType) -> list[float]:
        if self.count == 1:
            return list(values)
        gathered = torch.tensor(values, dtype=torch.float64, device=self.device)
        dist.all_reduce(gathered, how)
        reduced: list[float] = gathered.tolist()
        return reduced

    def leave(self) -> None:
        """Part from the others; when all is well."""
        if self.count > 1:
            dist.destroy_process_group()
