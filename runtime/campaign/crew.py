"""Sessions side by side: the trials of each robot are shared out among workers, each with an arm and a run of its own.

Whatever is late because too many run at once is late in the traces as well: nothing is forgiven for it, so as many as a
machine carries are as many as stay clean.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from drivers.config import RobotConfig
from runtime.campaign.judge import Verdict
from runtime.campaign.plan import Plan
from runtime.campaign.rig import RigError
from runtime.campaign.session import Session


def shares(robots: int, workers: int) -> list[list[int]]:
    """Which robots (by index) each of at most `workers` workers takes, one after another: as evenly as can be."""
    if workers <= robots:
        return [list(range(worker, robots, workers)) for worker in range(workers)]
    return [[worker % robots] for worker in range(workers)]


def play_all(
    robots: Sequence[RobotConfig],
    plans: Mapping[str, Sequence[Plan]],
    folder: Path,
    workers: int,
    policy: str | None,
    on_verdict: Callable[[RobotConfig, Verdict], None],
    on_broken: Callable[[RigError], None],
) -> dict[str, list[Verdict]]:
    """Play the plans of every robot (by its name), `workers` trials at a time; the verdicts in the order of the plans.

    `on_verdict` is told each one as it comes, from one thread at a time. Where a run does not come up at all,
    `on_broken` is told why, no further trial begins, and what was played is returned; any other exception is raised
    once the trials that are being played are over.
    """
    waiting = {config.name: deque(plans[config.name]) for config in robots}
    verdicts: dict[str, dict[int, Verdict]] = {config.name: {} for config in robots}
    telling, starting = threading.Lock(), threading.Lock()

    def work(worker: int, indices: Sequence[int]) -> None:
        for config in (robots[index] for index in indices):

            def tell(verdict: Verdict, config: RobotConfig = config) -> None:
                with telling:
                    verdicts[config.name][verdict.seed] = verdict
                    on_verdict(config, verdict)

            session = Session(config, folder / f"{config.name}{worker}", policy=policy, starting=starting)
            try:
                with session:
                    session.play(_taken(waiting[config.name]), tell)
            except BaseException as error:
                for others in waiting.values():
                    others.clear()
                if not isinstance(error, RigError):
                    raise
                with telling:
                    on_broken(error)

    shared_out = shares(len(robots), workers)
    with ThreadPoolExecutor(len(shared_out)) as threads:
        for done in [threads.submit(work, *job) for job in enumerate(shared_out)]:
            done.result()
    return {name: [found[plan.seed] for plan in plans[name] if plan.seed in found] for name, found in verdicts.items()}


def _taken(waiting: deque[Plan]) -> Iterator[Plan]:
    """Plans as long as there are any: several workers take from the same."""
    while True:
        try:
            yield waiting.popleft()
        except IndexError:
            return
