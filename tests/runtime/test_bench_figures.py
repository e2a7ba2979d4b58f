"""Samples, quantiles, ratios, and contenders that take turns."""

from __future__ import annotations

import numpy as np
import pytest

from runtime.bench.figures import Contender, Figure, Section, in_turns, quantiles


class Time:
    """A clock that stands still until somebody works or waits."""

    def __init__(self) -> None:
        self.now = 0.0
        self.waited: list[float] = []
        self.order: list[str] = []

    def __call__(self) -> float:
        return self.now

    def wait(self, seconds: float) -> None:
        self.waited.append(seconds)
        self.now += seconds

    def work(self, name: str, seconds: float) -> None:
        self.order.append(name)
        self.now += seconds


def test_contenders_take_turns_and_each_call_is_timed_alone() -> None:
    time = Time()
    contenders = {
        "quick": Contender(lambda: time.work("quick", 0.001), batch=2),
        "slow": Contender(lambda: time.work("slow", 0.1), every=2),
    }
    samples = in_turns(contenders, 3, pause=5.0, clock=time, wait=time.wait)
    np.testing.assert_allclose(samples["quick"], [1.0] * 6)
    np.testing.assert_allclose(samples["slow"], [100.0] * 2)
    assert time.order == ["quick", "quick", "slow", "quick", "quick", "quick", "quick", "slow"]
    assert time.waited == [5.0] * 5


def test_the_first_of_a_round_is_another_one_each_time() -> None:
    time = Time()
    contenders = {name: Contender(lambda name=name: time.work(name, 1.0)) for name in "abc"}
    in_turns(contenders, 3, clock=time, wait=time.wait)
    assert "".join(time.order) == "abcbcacab"
    assert time.waited == []


def test_what_prepares_a_contender_is_not_timed() -> None:
    time = Time()
    contender = Contender(lambda: time.work("run", 0.002), prepare=lambda: time.work("prepare", 7.0))
    samples = in_turns({"one": contender}, 2, clock=time, wait=time.wait)
    np.testing.assert_allclose(samples["one"], [2.0, 2.0])
    assert time.order == ["prepare", "run"] * 2


def test_quantiles_and_ratios() -> None:
    samples = np.arange(1.0, 1002.0)
    figure = Figure("f", samples, floor=250.5, alternatives={"other": 10 * samples}, note="n")
    assert quantiles(samples) == pytest.approx({"p50": 501.0, "p99": 991.0, "p99.9": 1000.0, "max": 1001.0})
    assert figure.ratio == 2.0
    content = Section("p", (figure,), ("note",), {"further": 1}).to_json()
    assert content["further"] == 1 and content["notes"] == ["note"]
    (told,) = content["figures"]
    assert told["n"] == 1001 and told["floor_ms"] == 250.5 and told["ratio_to_floor"] == 2.0
    assert told["alternatives"]["other"]["times_slower"] == pytest.approx(10.0)
    assert Figure("f", samples).ratio is None
