"""What an episode of training is about: which objects, which variations, which task, by the shares in mixture.yaml."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from policies.policy import PolicyError
from sim.shapes import TRIPLETS, Shape, sample_shapes
from sim.tasks import TASKS
from sim.variation import NOMINAL, VARIATIONS, Conditions, sample_conditions

OBJECTS = ("cubes", "training", "triplets")  # held-out shapes are not to be trained on
HARDNESS = ("nominal", "some", "all")
KINDS = tuple(f"{objects}_{hardness}" for objects in OBJECTS for hardness in HARDNESS)
FIRST = next(index for index, task in enumerate(TASKS) if (task.moved, task.base) == ("red", "blue"))

Share = Annotated[float, Field(ge=0)]


class _Shares(BaseModel):
    """mixture.yaml, checked."""

    model_config = ConfigDict(extra="forbid")

    objects: dict[str, Share]
    variations: dict[str, Share]
    some: tuple[int, int]
    deformed_first: Annotated[float, Field(ge=0, le=1)]


@dataclass(frozen=True)
class Setting:
    """What one episode is about."""

    kind: int  # place in KINDS
    shapes: dict[str, Shape] | None  # None: cubes
    conditions: Conditions
    delayed: bool  # the conditions have a delay of their own
    task: int  # place in TASKS


@dataclass(frozen=True)
class Mixture:
    """Shares of episodes, and the tasks that are never asked for."""

    objects: dict[str, float]
    variations: dict[str, float]
    some: tuple[int, int]
    deformed_first: float
    kept_out_tasks: tuple[int, ...] = ()

    @classmethod
    def load(cls, path: Path | None = None) -> Mixture:
        """The mixture in a YAML file, or the project's own. Raises `PolicyError` for what is wrong in it."""
        source = path or resources.files("runtime") / "mixture.yaml"
        try:
            shares = _Shares.model_validate(yaml.safe_load(source.read_text(encoding="utf-8")))
        except (yaml.YAMLError, ValidationError, UnicodeDecodeError) as error:
            raise PolicyError(f"{source}: no mixture: {' '.join(str(error).split())[:200]}") from error
        for what, given, known in (
            ("objects", shares.objects, OBJECTS),
            ("variations", shares.variations, HARDNESS),
        ):
            if unknown := set(given) - set(known):
                raise PolicyError(f"{source}: no {what} {sorted(unknown)[0]!r}; there are {', '.join(known)}")
            if sum(given.values()) <= 0:
                raise PolicyError(f"{source}: {what}: give one of them a share")
        low, high = shares.some
        if not 1 <= low <= high <= len(VARIATIONS):
            raise PolicyError(f"{source}: some: {low} to {high} variations; there are {len(VARIATIONS)}")
        return cls(shares.objects, shares.variations, shares.some, shares.deformed_first)

    def without(self, objects: Collection[str] = (), tasks: Collection[int] = ()) -> Mixture:
        """The same without some objects and tasks. Raises `PolicyError` when nothing is left, or names are unknown."""
        if unknown := set(objects) - set(OBJECTS):
            raise PolicyError(f"no objects {sorted(unknown)[0]!r} to keep out; there are {', '.join(OBJECTS)}")
        left = {name: share for name, share in self.objects.items() if name not in objects}
        if sum(left.values()) <= 0 or len(set(tasks)) >= len(TASKS):
            raise PolicyError("everything is kept out: there is nothing to train on")
        return replace(self, objects=left, kept_out_tasks=tuple(sorted(set(tasks))))

    def describe(self) -> dict[str, Any]:
        """For the card."""
        objects, variations = _normalised(self.objects), _normalised(self.variations)
        return {
            "objects": {name: round(share, 3) for name, share in objects.items()},
            "variations": {name: round(share, 3) for name, share in variations.items()},
            "kept_out_objects": sorted(set(OBJECTS) - {name for name, share in objects.items() if share > 0}),
            "kept_out_tasks": [TASKS[task].text for task in self.kept_out_tasks],
        }

    def draw(self, rng: np.random.Generator) -> Setting:
        """One episode."""
        objects, hardness = _pick(self.objects, rng), _pick(self.variations, rng)
        names = self._names(hardness, rng)
        shapes = None
        if objects != "cubes":
            group = TRIPLETS[int(rng.integers(len(TRIPLETS)))] if objects == "triplets" else objects
            shapes = sample_shapes(group, rng)
        tasks = [task for task in range(len(TASKS)) if task not in self.kept_out_tasks]
        first = shapes is not None and FIRST in tasks and rng.random() < self.deformed_first
        return Setting(
            kind=KINDS.index(f"{objects}_{hardness}"),
            shapes=shapes,
            conditions=sample_conditions(rng, names) if names else NOMINAL,
            delayed="delay" in names,
            task=FIRST if first else tasks[int(rng.integers(len(tasks)))],
        )

    def _names(self, hardness: str, rng: np.random.Generator) -> tuple[str, ...]:
        if hardness == "nominal":
            return ()
        if hardness == "all":
            return VARIATIONS
        low, high = self.some
        chosen = rng.permutation(len(VARIATIONS))[: int(rng.integers(low, high + 1))]
        return tuple(VARIATIONS[index] for index in sorted(chosen))


def _normalised(shares: dict[str, float]) -> dict[str, float]:
    total = sum(shares.values())
    return {name: share / total for name, share in shares.items()}


def _pick(shares: dict[str, float], rng: np.random.Generator) -> str:
    normalised = _normalised(shares)
    return str(rng.choice(list(normalised), p=list(normalised.values())))
