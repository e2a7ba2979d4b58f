"""`gato-arm few-shot`: how many demonstrations of a task that a policy never saw does it need?

The base is fine-tuned on the first 10, 100, 500 demonstrations of the task, each time from where it stood, and every
result, the base's own included, is tried in the same worlds, in lock-step. What it learns from:

- demonstrations that the scripted demonstrator played in lock-step, a little disturbed, so that they show ways back;
- behaviour cloning on them alone: no corrections, no truth from the simulator, no other task;
- their mirror images. Colours are not permuted: that would turn these demonstrations into other tasks.

Imports torch only when called.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from policies.policy import Action, Observation, Policy, PolicyError
from runtime.evaluate import make_policy, spread
from runtime.lockstep import CAMERAS, ExpertPolicy, run_lockstep
from runtime.report import SUCCESS, wilson
from runtime.so101_policy import CODEC, MIRRORED_JOINTS, MIRRORED_TRUTH, ROLES, SEQUENCE, mirrored_ids, named_words
from runtime.so101_policy import trained_phrasings as phrasings_of
from sim.tasks import TASKS, parse_task

if TYPE_CHECKING:
    from policies.gato.model import Gato
    from policies.gato.ranks import Ranks
    from policies.gato.text import Text
    from sim.world import World

NOISE = 0.02  # rad, standard deviation of what is added to the demonstrator's targets before they are executed
DEMONSTRATIONS_FROM = 600_000  # seeds; training in simulation draws its worlds from generators of its own
SPARE = 1.1  # episodes played for each demonstration wanted: those that fail are left out
TRIES = 4  # rounds of them
GATO = (500, 0.60)  # demonstrations and success of "stack the blue block on the green block", Reed et al. 2022


@dataclass(frozen=True)
class FewShotSettings:
    """What to fine-tune on, and how to try it."""

    task: str
    counts: tuple[int, ...] = (10, 100, 500)
    episodes: int = 200
    seed: int = 300_000  # episode i of a trial has the world of seed + i
    workers: int | None = None
    device: str = "auto"
    batch: int = 128
    learning_rate: float = 2e-4
    iterations: tuple[int, int] = (150, 1200)  # at least, at most; between them 4 for each demonstration
    compiled: bool = False


@dataclass(frozen=True)
class Demonstration:
    """What one demonstration shows; has what `policies.gato.imitate.Demonstrated` asks for."""

    task: str
    images: dict[str, NDArray[np.uint8]]  # camera -> (T, H, W, 3)
    joint_positions: NDArray[np.float64]  # (T, n) rad, as are the others
    joint_targets: NDArray[np.float64]  # in force when the step began
    actions: NDArray[np.float64]  # what the demonstrator wanted

    def frames(self, camera: str) -> NDArray[np.uint8]:
        """Of one camera, (T, H, W, 3) RGB."""
        return self.images[camera]


def few_shot(
    base: Path,
    out: Path,
    settings: FewShotSettings,
    *,
    say: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Fine-tune and try; leaves in `out` an artifact few-N for each number, few_shot.json and few_shot.png.

    `base` is a checkpoint or an artifact. What is there already from a run that was cut off is not done again. Returns
    the content of few_shot.json. Raises `PolicyError`, `TaskError`.
    """
    from policies.gato.ranks import Ranks
    from policies.gato.text import Text
    from runtime.learn import prepared

    prepared(settings.device, settings.seed)
    ranks, text = Ranks.join(settings.device), Text()
    settings = replace(settings, task=parse_task(settings.task).text)
    out.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    shown: list[Demonstration] = []
    points = []
    for count in (0, *sorted(settings.counts)):
        folder, found = out / f"few-{count}", out / f"few-{count}.json"
        if found.is_file():
            points.append(json.loads(found.read_text(encoding="utf-8")))
            continue
        if len(shown) < count:
            shown = demonstrations(settings, max(settings.counts))
            say(f"{len(shown)} demonstrations, {time.monotonic() - began:.0f} s")
        point = _learned(base, folder, settings, shown[:count], text, ranks)
        point |= _tried(folder, settings)
        found.write_text(json.dumps(point), encoding="utf-8")
        points.append(point)
        say(_line(point) + f", {time.monotonic() - began:.0f} s")
    result = {"task": settings.task, "base": base.name, "noise_rad": NOISE, "points": points}
    (out / "few_shot.json").write_text(json.dumps(result, indent=1), encoding="utf-8")
    draw(result, out / "few_shot.png")
    return result


def _line(point: dict[str, Any]) -> str:
    low, high = point["success_interval_95"]
    share = f"{point['successes']} of {point['episodes']} ({100 * low:.1f} to {100 * high:.1f}%)"
    return f"{point['demonstrations']} demonstrations, {point['iterations']} iterations: {share}"


def demonstrations(settings: FewShotSettings, count: int) -> list[Demonstration]:
    """The first `count` that succeed, in the order of their seeds. Raises `PolicyError` when they do not come."""
    kept: list[Demonstration] = []
    begin = DEMONSTRATIONS_FROM
    for _ in range(TRIES):
        wanted = int(SPARE * (count - len(kept))) + 2
        play = partial(_demonstrated, settings.task)
        found = spread(play, range(begin, begin + wanted), settings.workers, ordered=True)
        kept += [shown for shown in found if shown is not None]
        begin += wanted
        if len(kept) >= count:
            return kept[:count]
    raise PolicyError(f'the demonstrator does not manage "{settings.task}": {len(kept)} of {count} demonstrations')


class Watched:
    """The demonstrator, disturbed; keeps what it saw and wanted."""

    name = "demonstrator"
    rate = ExpertPolicy.rate

    def __init__(self, world: World, rng: np.random.Generator, noise: float = NOISE) -> None:
        self._expert, self._rng, self._noise = ExpertPolicy(world), rng, noise
        self.steps: list[tuple[Observation, NDArray[np.float64]]] = []

    def reset(self, task: str) -> None:
        self._expert.reset(task)

    def act(self, observation: Observation) -> Action:
        action = self._expert.act(observation)
        self.steps.append((observation, action.targets))
        return replace(action, targets=action.targets + self._rng.normal(0.0, self._noise, action.targets.shape))

    def demonstration(self, task: str) -> Demonstration:
        """All of it."""
        seen = [observation for observation, _ in self.steps]
        return Demonstration(
            task,
            {camera: np.stack([observation.images[camera] for observation in seen]) for camera in CAMERAS},
            np.stack([observation.proprioception["joint_positions"] for observation in seen]),
            np.stack([observation.proprioception["joint_targets"] for observation in seen]),
            np.stack([targets for _, targets in self.steps]),
        )


def _demonstrated(task: str, seed: int) -> Demonstration | None:
    """One episode; None when it failed."""
    watched: list[Watched] = []

    def make(world: World) -> Policy:
        watched.append(Watched(world, np.random.default_rng([seed, 1])))
        return watched[0]

    if run_lockstep(make, task, seed).result.outcome != SUCCESS:
        return None
    return watched[0].demonstration(task)


def _learned(
    base: Path,
    folder: Path,
    settings: FewShotSettings,
    shown: Sequence[Demonstration],
    text: Text,
    ranks: Ranks,
) -> dict[str, Any]:
    """Fine-tune the base on `shown` and write the artifact `folder`; what to report of that."""
    from policies.gato.imitate import fill, fit
    from policies.gato.model import Gato
    from policies.gato.train import TrainConfig, Trainer, save_checkpoint
    from policies.gato.weights import begin_from, network_from
    from runtime.export import export

    source = network_from(base)
    model = Gato(source.config, SEQUENCE, text.vocab_size).to(ranks.device)
    begin_from(model, base)
    least, most = settings.iterations
    iterations = min(max(least, 4 * len(shown)), most) if shown else 0
    config = TrainConfig(batch=settings.batch, learning_rate=settings.learning_rate, warmup=20, average=0.99)
    began = time.monotonic()
    learned: Gato = model
    loss: float | None = None
    if shown:
        replay = _replay(settings.task, sum(len(one.actions) for one in shown), text, ranks)
        fill(replay, shown, CODEC, [settings.task])
        trainer = Trainer(model, config, compiled=settings.compiled, ranks=ranks)
        for measures in fit(trainer, replay, iterations, seed=settings.seed):
            action = measures["action"]
        loss = float(action)
        learned = trainer.averaged()
    details = {
        "method": "behaviour cloning, fine-tuned on few demonstrations",
        "began_from": base.name,
        "demonstrations": len(shown),
        "control_steps": sum(len(one.actions) for one in shown),
        "iterations": iterations,
    }
    seconds = time.monotonic() - began
    save_checkpoint(folder.with_suffix(".pt"), learned, details)
    export(folder.with_suffix(".pt"), folder)
    return {"demonstrations": len(shown), "iterations": iterations, "loss": loss, "training_seconds": seconds}


def _replay(task: str, steps: int, text: Text, ranks: Ranks) -> Any:
    """Room for `steps` of one task, which is asked for in all its phrasings."""
    from policies.gato.data import Replay, Scene

    index = next(index for index, one in enumerate(TASKS) if one.text == task)
    phrasings = phrasings_of(TASKS[index], text)
    scene = Scene(
        roles=(ROLES[index],),
        names=(tuple(named_words(text, TASKS[index], phrase) for phrase in phrasings),),
        mirrored_ids=mirrored_ids(),
        mirrored_actions=MIRRORED_JOINTS,
        mirrored_truth=MIRRORED_TRUTH,
    )
    texts = [[text.encode(phrase) for phrase in phrasings]]
    return Replay(SEQUENCE, texts, 1, steps, ranks.device, scene)


def _tried(folder: Path, settings: FewShotSettings) -> dict[str, Any]:
    """Success of the artifact in `folder`, in worlds that no demonstration was in."""
    play = partial(_outcome, folder.resolve(), settings.task)
    seeds = range(settings.seed, settings.seed + settings.episodes)
    outcomes = list(spread(play, seeds, settings.workers))
    successes = outcomes.count(SUCCESS)
    low, high = wilson(successes, len(outcomes))
    kinds = sorted(set(outcomes) - {SUCCESS})
    return {
        "episodes": len(outcomes),
        "successes": successes,
        "success_rate": successes / len(outcomes),
        "success_interval_95": [low, high],
        "failures": {kind: outcomes.count(kind) for kind in kinds},
        "seed": settings.seed,
    }


def _outcome(folder: Path, task: str, seed: int) -> str:
    return run_lockstep(partial(make_policy, folder), task, seed).result.outcome


def draw(result: dict[str, Any], path: Path) -> None:
    """The plot: success against the number of demonstrations, with 95% intervals. Raises OSError."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    points = result["points"]
    places = range(len(points))  # side by side: 0 has no place on a logarithmic axis
    rates = [100 * point["success_rate"] for point in points]
    intervals = [[100 * bound for bound in point["success_interval_95"]] for point in points]
    below = [rate - low for rate, (low, _) in zip(rates, intervals, strict=True)]
    above = [high - rate for rate, (_, high) in zip(rates, intervals, strict=True)]
    figure = Figure(figsize=(6.4, 4.0), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    axes.errorbar(places, rates, yerr=[below, above], marker="o", capsize=4, color="#2a6f97", label="this policy")
    counts = [point["demonstrations"] for point in points]
    if GATO[0] in counts:
        label = "Gato on its robot, another setting"
        axes.plot([counts.index(GATO[0])], [100 * GATO[1]], marker="D", linestyle="", color="#d1495b", label=label)
    axes.set_xticks(list(places), [str(count) for count in counts])
    axes.set(xlabel="demonstrations", ylabel="success, %", ylim=(-3, 103))
    axes.set_title(f"{result['task']}: kept out of the training of the base", fontsize=10)
    axes.legend(loc="center right", frameon=False)
    axes.grid(axis="y", color="0.9")
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    figure.savefig(path, dpi=140)
