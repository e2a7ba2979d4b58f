"""Servo, simulator, training and sizes: each part measures what it says, however long it takes."""

from __future__ import annotations

import numpy as np
import pytest

from drivers.config import load_robot
from policies.gato.config import SIZES
from policies.gato.sequence import SequenceSpec
from runtime.bench import servo, simulator, sizes, training
from runtime.bench.figures import BenchError
from runtime.bench.products import multiply_adds, step_products
from runtime.servo import ServoLoop
from sim.world import World

SMALL = SequenceSpec((("eye", 32, 32),), (("joint_targets", 3),), actions=3, text=4, words=4, window=2)


def test_the_wire_takes_ten_bits_a_byte() -> None:
    arm = load_robot("emulated").arm
    read, write = servo.wire_ms(arm)
    # Request of 8 bytes and an id each; 6 replies of 6 bytes and 15 of content. A command: 8, an id and 2 bytes each.
    assert read == pytest.approx((8 + 6 + 6 * (6 + 15)) * 10 / 1000)
    assert write == pytest.approx((8 + 6 * 3) * 10 / 1000)
    slow = servo.wire_ms(arm.model_copy(update={"baudrate": arm.baudrate // 2}))
    assert slow == (pytest.approx(2 * read), pytest.approx(2 * write))


def test_a_servo_tick_is_measured_with_its_parts() -> None:
    section = servo.measure(ticks=30)
    whole, read, filtered, write, busy = section.figures
    assert all(len(figure.samples) == 30 for figure in section.figures)
    parts = read.samples + filtered.samples + write.samples
    assert (parts <= whole.samples).all()
    assert (parts > 0.3 * whole.samples).any()
    assert busy.samples.sum() > 0
    assert whole.floor == pytest.approx((read.floor or 0) + (write.floor or 0))


def test_a_simulated_step_is_measured_with_its_parts_and_nothing_stays_watched() -> None:
    methods = World.step, World.render, ServoLoop.tick
    section = simulator.measure(episodes=1)
    assert (World.step, World.render, ServoLoop.tick) == methods
    whole, *parts = section.figures
    assert [figure.name.strip() for figure in parts] == ["physics", "pictures", "servo loop", "judge", "the rest"]
    assert all((figure.samples > 0).all() and len(figure.samples) == 1 for figure in (whole, *parts))
    assert section.raw["steps_per_second_and_core"] == pytest.approx(1000 / np.median(whole.samples))


def test_watching_ends_with_an_error_too() -> None:
    class Owner:
        def fails(self) -> None:
            raise RuntimeError

    original, spent = Owner.fails, {"fails": 0}
    with pytest.raises(RuntimeError), simulator._watched(Owner, "fails", "fails", spent):
        Owner().fails()
    assert Owner.fails is original


def test_training_is_measured_in_tokens_and_in_shares_of_the_peak(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "PEAK", {"cpu": 64})
    section = training.measure(size="tiny", threads=1, batch=2, iterations=2)
    (figure,) = section.figures
    seconds = float(np.median(figure.samples)) / 1000
    raw = section.raw
    assert raw["tokens_per_s"] == pytest.approx(raw["tokens_per_iteration"] / seconds)
    assert raw["mfu"] == pytest.approx(raw["gflop_per_iteration"] / seconds / raw["peak_gflops"])
    assert figure.floor == pytest.approx(1000 * raw["gflop_per_iteration"] / raw["peak_gflops"])


def test_a_size_is_measured_beside_torch_and_both_decide_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sizes, "BANDWIDTH_BYTES", {"cpu": 1 << 20})
    section = sizes.measure("tiny", threads=1, rounds=5, spec=SMALL)
    (figure,) = section.figures
    assert set(figure.alternatives) == {sizes.EAGER}
    assert section.raw["tokens_agree"] == {sizes.EAGER: SMALL.actions}
    assert figure.floor == pytest.approx(section.raw["bytes"] / section.raw["gbytes_per_s"] / 1e6)
    assert f"{multiply_adds(step_products(SIZES['tiny'], SMALL)) / 1e6:,.0f} M multiply-adds" in figure.note


def test_gatos_own_sequence_is_of_the_size_that_is_said() -> None:
    assert (sizes.SPEC.observation, sizes.SPEC.actions) == (70, 6)
    assert 890 <= sizes.SPEC.cache() <= 915


@pytest.mark.parametrize(
    ("measure", "text"),
    [
        (lambda: sizes.measure("3M", threads=1), "no size '3M'"),
        (lambda: training.measure(size="3M", threads=1), "no size '3M'"),
        (lambda: sizes.measure("tiny", device="cuda", threads=1), "no CUDA device"),
    ],
)
def test_what_cannot_be_measured_is_refused(measure: object, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert callable(measure)
    with pytest.raises(BenchError, match=text):
        measure()
