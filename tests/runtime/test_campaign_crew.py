"""Who plays which trials, in what order their verdicts come back, and what an error ends."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from drivers.config import RobotConfig, load_robot
from runtime.campaign import crew
from runtime.campaign.judge import Verdict
from runtime.campaign.plan import Plan, chosen, deal
from runtime.campaign.rig import RigError

ROBOTS = [load_robot("emulated"), load_robot("emulated_dynamixel")]
PLANS = {robot.name: deal(chosen([]), 40, True, robot, 5) for robot in ROBOTS}


def verdict(plan: Plan) -> Verdict:
    return Verdict(plan.name, plan.seed, 1.0, 1.5, "holds", "", None, None, None, None, "", 0.0, 0.0, 0, False, ())


class FakeSession:
    """Plays nothing: every plan gets its verdict, and the one of `fails` an error."""

    fails = -1

    def __init__(self, robot: RobotConfig, folder: Path, **_: object) -> None: ...

    def __enter__(self) -> FakeSession:
        return self

    def __exit__(self, *_: object) -> None: ...

    def play(self, plans: Iterable[Plan], on_verdict: Callable[[Verdict], None]) -> None:
        for plan in plans:
            if plan.seed == self.fails:
                raise RigError("the run did not come up")
            on_verdict(verdict(plan))


def never(error: RigError) -> None:
    pytest.fail(str(error))


@pytest.fixture(autouse=True)
def fake(monkeypatch: pytest.MonkeyPatch) -> type[FakeSession]:
    monkeypatch.setattr(crew, "Session", FakeSession)
    monkeypatch.setattr(FakeSession, "fails", -1)
    return FakeSession


@pytest.mark.parametrize(
    ("workers", "robots"),
    [(1, [[0, 1]]), (2, [[0], [1]]), (3, [[0], [1], [0]]), (4, [[0], [1], [0], [1]])],
)
def test_workers_share_the_robots_out(workers: int, robots: list[list[int]]) -> None:
    assert crew.shares(2, workers) == robots
    assert crew.shares(3, 2) == [[0, 2], [1]]


@pytest.mark.parametrize("workers", [1, 3, 4])
def test_every_trial_is_played_once_and_comes_back_in_order(tmp_path: Path, workers: int) -> None:
    told: list[tuple[str, int]] = []
    results = crew.play_all(
        ROBOTS, PLANS, tmp_path, workers, None, lambda robot, verdict: told.append((robot.name, verdict.seed)), never
    )
    for name, plans in PLANS.items():
        assert [found.seed for found in results[name]] == [plan.seed for plan in plans]
    assert sorted(told) == sorted((name, plan.seed) for name, plans in PLANS.items() for plan in plans)


@pytest.mark.parametrize("workers", [1, 4])
def test_a_run_that_does_not_come_up_ends_the_campaign_and_loses_nothing(
    tmp_path: Path, fake: type[FakeSession], workers: int
) -> None:
    fake.fails = PLANS["emulated"][7].seed
    told: list[int] = []
    broken: list[RigError] = []
    results = crew.play_all(
        ROBOTS, PLANS, tmp_path, workers, None, lambda robot, verdict: told.append(verdict.seed), broken.append
    )
    assert ["did not come up" in str(error) for error in broken] == [True]
    assert sorted(told) == sorted(found.seed for verdicts in results.values() for found in verdicts)
    assert fake.fails not in told and len(told) >= 7


@pytest.mark.parametrize("workers", [1, 4])
def test_any_other_error_is_raised(tmp_path: Path, workers: int) -> None:
    def tell(robot: RobotConfig, verdict: Verdict) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        crew.play_all(ROBOTS, PLANS, tmp_path, workers, None, tell, never)
