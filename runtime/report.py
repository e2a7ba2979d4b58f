"""What came of many episodes: counts, intervals, percentiles, as JSON and as a table.

Knows neither how the episodes were run nor the simulator. `gato-arm run` and `gato-arm eval` report with it.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runtime.clock import percentiles

if TYPE_CHECKING:
    from rich.table import Table

SUCCESS = "success"
UNJUDGED = "unjudged"
Z_95 = 1.959963984540054  # two-sided 95% quantile of the normal distribution


def wilson(successes: int, trials: int, z: float = Z_95) -> tuple[float, float]:
    """Wilson's score interval for a proportion (Wilson 1927); (0, 1) without trials. Raises ValueError when
    `successes` is not in [0, trials]."""
    if not 0 <= successes <= trials:
        raise ValueError(f"{successes} successes in {trials} trials")
    if trials == 0:
        return 0.0, 1.0
    share = successes / trials
    spread = z * math.sqrt(share * (1.0 - share) / trials + z * z / (4.0 * trials * trials))
    centre = share + z * z / (2.0 * trials)
    scale = 1.0 + z * z / trials
    # At 0 and at `trials` the bound is exact; rounding must not push it past.
    low = 0.0 if successes == 0 else max(0.0, (centre - spread) / scale)
    high = 1.0 if successes == trials else min(1.0, (centre + spread) / scale)
    return low, high


@dataclass(frozen=True)
class EpisodeOutcome:
    """One episode as the report needs it."""

    index: int
    seed: int
    task: str
    outcome: str  # "success", "unjudged" or a failure's kind
    steps: int
    seconds: float
    step_ms: tuple[float, ...] = ()  # duration of each control step, milliseconds
    missed: int = 0  # deadlines
    cell: str = ""  # what it is counted under beside its task: a shift, a triplet, a kind of prompt
    sparse: bool | None = None  # Gato's sparse success was seen at some step; None where nobody looked

    @property
    def success(self) -> bool:
        return self.outcome == SUCCESS


@dataclass(frozen=True)
class Tally:
    """What a group of episodes adds up to. An unjudged episode counts neither as success nor as failure."""

    episodes: int
    judged: int
    successes: int
    sparse: int | None  # sparse successes; None unless every judged episode was looked at
    failures: dict[str, int]  # kind to count, most frequent first
    ticks: int

    @classmethod
    def of(cls, outcomes: Iterable[EpisodeOutcome]) -> Tally:
        """Count them."""
        every = list(outcomes)
        judged = [outcome for outcome in every if outcome.outcome != UNJUDGED]
        kinds = Counter(outcome.outcome for outcome in judged if not outcome.success)
        looked = bool(judged) and all(outcome.sparse is not None for outcome in judged)
        return cls(
            len(every),
            len(judged),
            sum(outcome.success for outcome in judged),
            sum(bool(outcome.sparse) for outcome in judged) if looked else None,
            dict(sorted(kinds.items(), key=lambda item: (-item[1], item[0]))),
            sum(outcome.steps for outcome in every),
        )

    @property
    def rate(self) -> float | None:
        """Share of judged episodes; None when none was judged."""
        return self.successes / self.judged if self.judged else None

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's 95% interval of the rate."""
        return wilson(self.successes, self.judged)

    def to_json(self) -> dict[str, Any]:
        """Counts, rate and interval; the sparse ones where they were looked at."""
        content: dict[str, Any] = {
            "episodes": self.episodes,
            "judged": self.judged,
            "successes": self.successes,
            "success_rate": self.rate,
            "success_interval_95": list(self.interval),
            "failures": self.failures,
        }
        if self.sparse is not None:
            content["sparse_successes"] = self.sparse
            content["sparse_rate"] = self.sparse / self.judged
            content["sparse_interval_95"] = list(wilson(self.sparse, self.judged))
        return content


def tallies(outcomes: Sequence[EpisodeOutcome], key: Callable[[EpisodeOutcome], str]) -> dict[str, Tally]:
    """A tally for each value of `key`, in the order in which the values first appear."""
    groups: dict[str, list[EpisodeOutcome]] = {}
    for outcome in outcomes:
        groups.setdefault(key(outcome), []).append(outcome)
    return {name: Tally.of(group) for name, group in groups.items()}


@dataclass(frozen=True)
class Report:
    """Episodes under one policy and seed. An unjudged episode counts neither as success nor as failure."""

    policy: str
    seed: int
    outcomes: tuple[EpisodeOutcome, ...]
    extra: dict[str, Any] = field(default_factory=dict)  # further JSON fields

    @property
    def tally(self) -> Tally:
        """All episodes together."""
        return Tally.of(self.outcomes)

    @property
    def successes(self) -> int:
        return self.tally.successes

    @property
    def success_rate(self) -> float | None:
        """Share of judged episodes; None when none was judged."""
        return self.tally.rate

    @property
    def failures(self) -> dict[str, int]:
        """Failure kind to count, most frequent first."""
        return self.tally.failures

    def per_task(self) -> dict[str, Tally]:
        """In the order of the tasks' texts."""
        return dict(sorted(tallies(self.outcomes, lambda outcome: outcome.task).items()))

    def per_cell(self) -> dict[str, Tally]:
        """In the order in which the cells came; empty where episodes have none."""
        return tallies([outcome for outcome in self.outcomes if outcome.cell], lambda outcome: outcome.cell)

    @property
    def ticks(self) -> int:
        return sum(outcome.steps for outcome in self.outcomes)

    @property
    def deadline_misses(self) -> int:
        return sum(outcome.missed for outcome in self.outcomes)

    def step_ms(self) -> dict[str, float] | None:
        """p50, p99 and max over all control steps, milliseconds; None when no step was timed."""
        durations = [ms for outcome in self.outcomes for ms in outcome.step_ms]
        return {key: round(value, 3) for key, value in percentiles(durations).items()} if durations else None

    def to_json(self) -> dict[str, Any]:
        """The content of `--json FILE`."""
        tally = self.tally
        cells = {name: cell.to_json() for name, cell in self.per_cell().items()}
        return {
            **tally.to_json(),
            "per_task": {name: task.to_json() for name, task in self.per_task().items()},
            **({"per_cell": cells} if cells else {}),
            "step_ms": self.step_ms(),
            "deadline_misses": self.deadline_misses,
            "ticks": self.ticks,
            "policy": self.policy,
            "seed": self.seed,
            "mean_steps": self.ticks / len(self.outcomes) if self.outcomes else None,
            **self.extra,
        }

    def summary(self) -> str:
        """One line: the share, its interval, the failures."""
        tally = self.tally
        if tally.rate is None:
            return f"{tally.episodes} episodes, none judged"
        low, high = tally.interval
        line = (
            f"{tally.successes} of {tally.judged} succeeded: {100 * tally.rate:.1f}% "
            f"(95% interval {100 * low:.1f} to {100 * high:.1f}%)"
        )
        failures = ", ".join(f"{count} x {kind}" for kind, count in tally.failures.items())
        return f"{line}; failures: {failures}" if failures else line

    def table(self, title: str) -> Table:
        """Successes by task, for the console."""
        return success_table(title, "task", self.per_task())


def success_table(title: str, heading: str, rows: Mapping[str, Tally]) -> Table:
    """A row for each tally, for the console; sparse successes where they differ from ours."""
    from rich.table import Table

    table = Table(title=title, title_justify="left")
    sparse = any(tally.sparse not in (None, tally.successes) for tally in rows.values())
    for name in (heading, "episodes", "success", "95% interval", *(("sparse", "95% interval") if sparse else ())):
        table.add_column(name, justify="left" if name == heading else "right")
    for name, tally in rows.items():
        shown = [name, str(tally.episodes), *share(tally.successes, tally.judged)]
        if sparse:
            shown += ["", ""] if tally.sparse is None else share(tally.sparse, tally.judged)
        table.add_row(*shown)
    return table


def share(successes: int, judged: int) -> list[str]:
    """A percentage and its interval, as tables show them."""
    if not judged:
        return ["unjudged", ""]
    low, high = wilson(successes, judged)
    return [f"{100 * successes / judged:.1f}%", f"{100 * low:.1f} to {100 * high:.1f}%"]


def write_json(path: Path, content: object) -> None:
    """Write JSON with a final newline; makes the folder. Raises OSError."""
    import json

    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
