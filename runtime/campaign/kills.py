"""SIGKILL of each process at random moments of a recorded run: the trials, and the table of what was lost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from drivers.config import ConfigError, RobotConfig
from runtime.campaign.catalogue import CATALOGUE, KILLS
from runtime.campaign.judge import LOST_MAX, Verdict
from runtime.campaign.plan import Plan, deal
from runtime.campaign.report import by_name, figures, summary, violations

ALL = "all"


def kill_plans(processes: Sequence[str], runs: int, config: RobotConfig, seed: int) -> list[Plan]:
    """`runs` trials for each of the processes (keys of `KILLS`, or "all"). Raises `ConfigError` for another."""
    names = list(KILLS) if ALL in processes else list(dict.fromkeys(processes))
    for name in names:
        if name not in KILLS:
            raise ConfigError(f"--kill {name}: not a process here; there are {', '.join(KILLS)} and {ALL}")
    faults = [CATALOGUE[KILLS[name]] for name in names]
    return deal(faults, runs * len(faults), False, config, seed)


def markdown(results: Mapping[str, Sequence[Verdict]], command: str) -> str:
    """The page."""
    lines = [
        "# Killed processes",
        "",
        f"Made by `{command}`; do not edit. {summary(results)}.",
        "",
        "SIGKILL at a random moment of a recorded run in motion. *Lost*: seconds before the kill that are not in the",
        f"recording (recovered where it broke off), p50 and max; {LOST_MAX:g} s are allowed. *Goals at rest*: ms after",
        "the kill, p50 / p99 / max. The recorder is a thread of the policy process and dies with it; the emulator is",
        "the whole arm, of which nothing can be said any more.",
        "",
        "| killed | robot | the arm | goals at rest, ms | lost, s | runs | violations |",
        "|---|---|---|---:|---:|---:|---:|",
    ]
    for robot, verdicts in results.items():
        for name, listed in by_name(verdicts).items():
            found = figures(listed)
            stop, lost = found["goals_stop_ms"], found["recording_lost_ms"]
            times = "" if stop is None else " / ".join(f"{stop[key]:.0f}" for key in ("p50", "p99", "max"))
            gone = "nothing readable" if lost is None else f"{lost['p50'] / 1000:.3f}, {lost['max'] / 1000:.3f}"
            ends = ", ".join(found["ends"])
            lines.append(f"| {name} | {robot} | {ends} | {times} | {gone} | {found['runs']} | {found['violations']} |")
    return "\n".join([*lines, "", *violations(results)])
