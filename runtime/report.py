"""What came of many episodes: counts, an interval, percentiles, as JSON and as a table.

Knows neither how the episodes were run nor the simulator. `gato-arm run` and `gato-arm eval` report with it.
"""

from __future__ import annotations

import math
from collections import Counter
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

    @property
    def success(self) -> bool:
        return self.outcome == SUCCESS


@dataclass(frozen=True)
class Report:
    """Episodes under one policy and seed. An unjudged episode counts neither as success nor as failure."""

    policy: str
    seed: int
    outcomes: tuple[EpisodeOutcome, ...]
    extra: dict[str, Any] = field(default_factory=dict)  # further JSON fields

    @property
    def successes(self) -> int:
        return sum(outcome.success for outcome in self.outcomes)

    @property
    def judged(self) -> int:
        return sum(outcome.outcome != UNJUDGED for outcome in self.outcomes)

    @property
    def success_rate(self) -> float | None:
        """Share of judged episodes; None when none was judged."""
        return self.successes / self.judged if self.judged else None

    @property
    def failures(self) -> dict[str, int]:
        """Failure kind to count, most frequent first."""
        kinds = (o.outcome for o in self.outcomes if o.outcome not in (SUCCESS, UNJUDGED))
        return dict(sorted(Counter(kinds).items(), key=lambda item: (-item[1], item[0])))

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
        low, high = wilson(self.successes, self.judged)
        tasks = sorted({outcome.task for outcome in self.outcomes})
        per_task = {}
        for task in tasks:
            of_task = [o for o in self.outcomes if o.task == task]
            judged = sum(o.outcome != UNJUDGED for o in of_task)
            won = sum(o.success for o in of_task)
            per_task[task] = {
                "episodes": len(of_task),
                "judged": judged,
                "successes": won,
                "success_rate": won / judged if judged else None,
            }
        return {
            "episodes": len(self.outcomes),
            "judged": self.judged,
            "successes": self.successes,
            "success_rate": self.success_rate,
            "success_interval_95": [low, high],
            "per_task": per_task,
            "failures": self.failures,
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
        if not self.judged:
            return f"{len(self.outcomes)} episodes, none judged"
        low, high = wilson(self.successes, self.judged)
        line = (
            f"{self.successes} of {self.judged} succeeded: {100 * self.successes / self.judged:.1f}% "
            f"(95% interval {100 * low:.1f} to {100 * high:.1f}%)"
        )
        failures = ", ".join(f"{count} x {kind}" for kind, count in self.failures.items())
        return f"{line}; failures: {failures}" if failures else line

    def table(self, title: str) -> Table:
        """Successes by task, for the console."""
        from rich.table import Table

        table = Table(title=title, title_justify="left")
        for heading in ("task", "episodes", "success", "95% interval"):
            table.add_column(heading, justify="left" if heading == "task" else "right")
        content = self.to_json()
        for task, entry in content["per_task"].items():
            share = entry["success_rate"]
            low, high = wilson(entry["successes"], entry["judged"])
            table.add_row(
                task,
                str(entry["episodes"]),
                "unjudged" if share is None else f"{100 * share:.0f}%",
                "" if share is None else f"{100 * low:.0f} to {100 * high:.0f}%",
            )
        return table


def write_json(path: Path, content: object) -> None:
    """Write JSON with a final newline; makes the folder. Raises OSError."""
    import json

    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
