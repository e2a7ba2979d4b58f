"""`gato-arm export`: wires a checkpoint to the body it was trained for and to the episodes that prove the artifact.

Imports torch only when called.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from policies.policy import Observation
from runtime.lockstep import ExpertPolicy, run_lockstep, task_of
from runtime.loop import Step
from runtime.so101_policy import CODEC, RATE
from sim.so101 import SPEC
from sim.tasks import TASKS

if TYPE_CHECKING:
    from policies.artifact import Artifact

TRIALS = 2  # episodes, each of 50 to 100 control steps
DESCRIPTION = (
    "Stacks coloured blocks with an SO-101 arm, from two cameras, joint angles and an instruction. "
    "Trained in simulation."
)


class _Observations:
    """A subscriber that keeps what was sensed."""

    def __init__(self) -> None:
        self.seen: list[Observation] = []

    def on_episode_start(self, info: object) -> None:
        self.seen.clear()

    def on_step(self, step: Step) -> None:
        self.seen.append(step.observation)

    def on_episode_end(self, result: object) -> None:
        """Nothing ends here."""


def export(
    source: Path,
    out: Path,
    *,
    seed: int = 0,
    evaluation: Mapping[str, Any] | None = None,
    created: datetime | None = None,
) -> Artifact:
    """Write the artifact folder `out`, named after it. Raises `ArtifactError`, and then leaves nothing behind.

    `source` is a checkpoint, or an artifact whose weights are exported again. Graph and network are compared over
    episodes that the demonstrator plays, the first in the world of `seed`. `evaluation` goes into the card; `created`
    is now unless given.
    """
    from policies.artifact import load_artifact
    from policies.gato.export import Body, Trial, export_again
    from policies.gato.export import export as write

    trials = []
    for index in range(seed, seed + TRIALS):
        observations = _Observations()
        run_lockstep(ExpertPolicy, task_of(index), index, subscribers=[observations])
        trials.append(Trial(task_of(index), observations.seen))
    when = created or datetime.now(UTC)
    if source.is_dir():
        return export_again(load_artifact(source), out, trials, created=when, evaluation=evaluation)
    body = Body(
        name=out.resolve().name,
        description=DESCRIPTION,
        joint_names=tuple(SPEC.joint_names),
        codec=CODEC,
        rate=RATE,
        tasks=tuple(task.text for task in TASKS),
    )
    return write(source, out, body, trials, created=when, evaluation=evaluation)
