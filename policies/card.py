"""What an artifact's card.yaml says: the contract between a graph, the robot that runs it and the people who read it.

Knows no file system and no graph; artifact.py reads, verifies and writes cards.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, PositiveInt, field_validator, model_validator

from policies.gato.tokens import ValueScale, patch_grid

GRAPH = "policy.onnx"

# Far above what any policy here has, and low enough that a card cannot ask for memory that nobody has.
MAX_PIXELS = 2048  # of one side of an image
MAX_TOKENS = 8192  # of a prompt, of a timestep
MAX_TIMESTEPS = 4096
MAX_ITEMS = 64  # cameras, quantities, joints
MAX_TASKS = 1000
MAX_FILES = 16
PRINTABLE = r"^\P{C}+$"  # what a terminal shows and does not obey

FileName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9._-]*$", max_length=100)]  # no folder, nothing hidden
Name = Annotated[str, Field(min_length=1, max_length=100, pattern=PRINTABLE)]
Line = Annotated[str, Field(min_length=1, max_length=1000, pattern=PRINTABLE)]
Text = Annotated[str, Field(max_length=4000)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class _Scaled(_Model):
    """Components with a range each: `low` goes to -1, `high` to +1; SI units."""

    low: list[float] = Field(min_length=1, max_length=512)
    high: list[float]

    @model_validator(mode="after")
    def _ranges_in_order(self) -> Self:
        if len(self.low) != len(self.high):
            raise ValueError(f"low has {len(self.low)} components and high {len(self.high)}")
        for index, (low, high) in enumerate(zip(self.low, self.high, strict=True)):
            if not low < high:
                raise ValueError(f"component {index}: low {low:g} is not below high {high:g}")
        return self


class CameraCard(_Model):
    """The image that the graph takes from one camera, uint8 RGB."""

    height: int = Field(gt=0, le=MAX_PIXELS)
    width: int = Field(gt=0, le=MAX_PIXELS)

    @model_validator(mode="after")
    def _whole_patches(self) -> Self:
        patch_grid(self.height, self.width)
        return self


class ProprioceptionCard(_Scaled):
    """One named quantity of the observation and its scaling to tokens."""

    size: PositiveInt
    companded: bool = False

    @model_validator(mode="after")
    def _size_fits(self) -> Self:
        if self.size != len(self.low):
            raise ValueError(f"size is {self.size}, low has {len(self.low)} components")
        return self

    def scale(self) -> ValueScale:
        """The scaling that tokens.py applies."""
        return ValueScale(np.array(self.low), np.array(self.high), self.companded)


class ActionCard(_Scaled):
    """What the action tokens stand for, in joint order: a step from the last target (delta, rad) or a target (rad)."""

    joint_names: list[Name] = Field(min_length=1, max_length=MAX_ITEMS)
    mode: list[Literal["delta", "absolute"]]

    @model_validator(mode="after")
    def _one_of_each_for_each_joint(self) -> Self:
        joints = len(self.joint_names)
        if len(self.mode) != joints or len(self.low) != joints:
            raise ValueError(f"{joints} joint names, {len(self.mode)} modes and {len(self.low)} ranges")
        return self

    def scale(self) -> ValueScale:
        """The scaling of the action tokens; actions are binned, never companded."""
        return ValueScale(np.array(self.low), np.array(self.high))


class SequenceCard(_Model):
    """The sizes of the sequence that the graph was exported for, in tokens unless it says otherwise."""

    prompt_tokens: int = Field(gt=0, le=MAX_TOKENS)  # longest prompt
    window: int = Field(gt=0, le=MAX_TIMESTEPS)  # timesteps that the cache holds behind the prompt
    timestep_tokens: int = Field(gt=0, le=MAX_TOKENS)  # of a block: executed action, observation, separator, blanks
    patch: Literal[16] = 16  # pixels; the one size that tokens.py knows


class Card(_Model):
    """Everything that a robot, a person or a test asks of a policy before running it.

    Cameras and proprioception are kept in lexicographic order, the order in which their tokens stand.
    """

    format: Literal[1] = 1
    name: Name
    created: Name  # ISO 8601
    description: Text
    cameras: dict[Name, CameraCard] = Field(min_length=1, max_length=MAX_ITEMS)
    proprioception: dict[Name, ProprioceptionCard] = Field(min_length=1, max_length=MAX_ITEMS)
    actions: ActionCard
    rate: float = Field(gt=0, le=1000)  # control steps a second, Hz
    sequence: SequenceCard
    text_model: FileName  # the SentencePiece model, a file of this artifact
    tasks: list[Line] = Field(max_length=MAX_TASKS)  # examples of prompts it was trained on
    parameters: PositiveInt  # exact count
    architecture: dict[str, Any]
    training: dict[str, Any]
    evaluation: dict[str, Any]
    files: dict[FileName, Sha256] = Field(
        default_factory=dict, max_length=MAX_FILES
    )  # every file of the folder but the card

    @field_validator("cameras", "proprioception", mode="after")
    @classmethod
    def _lexicographic(cls, value: dict[str, Any]) -> dict[str, Any]:
        return dict(sorted(value.items()))
