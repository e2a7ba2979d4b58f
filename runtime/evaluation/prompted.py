"""A policy that is told something else than the task it is judged by: other words, no words, a demonstration.

Knows the ONNX policy's prompt, not why it is told what.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

from policies.onnx_policy import Shown, codec_of
from policies.policy import Action, Observation, Policy, PolicyError
from runtime.evaluate import artifact_at, image_size
from runtime.evaluation.trial import Trial
from runtime.lockstep import ExpertPolicy, run_lockstep
from runtime.loop import Step
from runtime.report import SUCCESS

SHOWN = 2  # timesteps of a demonstration, as training shows them (TrainConfig.demonstration)
TRIES = 10  # demonstrations until one succeeds; the demonstrator hardly ever fails
_ELSEWHERE = 1_000_000_000  # from an episode's seed to that of its demonstration


class Told:
    """Is reset by `reset`, whatever task it is given: what the policy is told, instead of what it is judged by."""

    def __init__(self, policy: Policy, reset: Callable[[], None]) -> None:
        self._policy, self._reset = policy, reset

    @property
    def name(self) -> str:
        return self._policy.name

    @property
    def rate(self) -> float:
        return self._policy.rate

    def reset(self, task: str) -> None:
        self._reset()

    def act(self, observation: Observation) -> Action:
        return self._policy.act(observation)


class _Sensed:
    """A subscriber that keeps every observation."""

    def __init__(self) -> None:
        self.observations: list[Observation] = []

    def on_episode_start(self, info: object) -> None:
        self.observations = []

    def on_step(self, step: Step) -> None:
        self.observations.append(step.observation)

    def on_episode_end(self, result: object) -> None:
        """Nothing ends here."""


def demonstration_of(trial: Trial, folder: Path) -> list[Shown]:
    """The last `SHOWN` timesteps of the demonstrator doing the trial's task with the same group of objects, in the
    nominal world of another seed; encoded as the artifact in `folder` says.

    Raises `PolicyError` when the demonstrator succeeds in none of `TRIES` worlds.
    """
    codec = codec_of(artifact_at(folder).card)
    for attempt in range(TRIES):
        sensed = _Sensed()
        episode = run_lockstep(
            ExpertPolicy,
            trial.task,
            _ELSEWHERE * (1 + attempt) + trial.seed,
            robot=trial.setting.robot,
            image_size=image_size(folder),
            shapes=trial.shapes(),
            subscribers=[sensed],
        )
        if episode.result.outcome == SUCCESS:
            last = sensed.observations[-SHOWN - 1 :]
            targets = [observation.proprioception["joint_targets"] for observation in last]
            executed = [codec.action_ids(now, before) for before, now in pairwise(targets)]
            return [Shown(observation, ids) for observation, ids in zip(last[1:], executed, strict=True)]
    raise PolicyError(f'the demonstrator did "{trial.task}" with {trial.setting.objects} in none of {TRIES} worlds')
