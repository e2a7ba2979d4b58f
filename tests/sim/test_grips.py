"""Where jaws can take a solid, as it stands and as it lies."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.grips import grips, lowest, span, top
from sim.shapes import CUBE, EDGE, Shape, shape_set


def turned(yaw: float) -> np.ndarray:
    return np.array([[math.cos(yaw), -math.sin(yaw), 0], [math.sin(yaw), math.cos(yaw), 0], [0, 0, 1.0]])


LYING = np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])  # on the side that looked along -y


@given(st.floats(-3, 3))
def test_a_cube_can_be_taken_in_two_ways(yaw: float) -> None:
    found = grips(CUBE.solid(), turned(yaw))
    assert len(found) == 2
    for grip in found:
        assert abs(math.sin(2 * (grip.angle - yaw))) < 1e-6
        assert grip.width == pytest.approx(EDGE) and grip.slope == pytest.approx(0, abs=1e-9)
        np.testing.assert_allclose(grip.middle, 0, atol=1e-9)


def test_a_triangle_is_taken_by_a_side_and_the_corner_opposite_to_it() -> None:
    solid = Shape(polygon=3).solid()
    found = grips(solid, np.eye(3))
    assert len(found) == 3
    height = np.ptp(solid.vertices[:, 0])
    for grip in found:
        assert grip.width == pytest.approx(height)
        assert np.linalg.norm(grip.middle) == pytest.approx(height / 6)  # its middle is a third of it off the side


def test_what_leans_is_taken_across() -> None:
    (grip,) = grips(Shape(parallelogram=0.4).solid(), np.eye(3))
    assert grip.angle == pytest.approx(math.pi / 2)


def test_what_is_too_long_is_taken_by_its_width() -> None:
    (grip,) = grips(Shape(rectangle=3.7).solid(), turned(0.5))
    assert grip.angle == pytest.approx(0.5 + math.pi / 2) and grip.width == pytest.approx(EDGE / math.sqrt(3.7))


def test_slanted_sides_say_how_much() -> None:
    for grip in grips(Shape(trapezoid=0.4).solid(), np.eye(3)):
        assert grip.slope == pytest.approx(0.2) and grip.width == pytest.approx(1.2 * EDGE)


def test_heights_and_tops_of_what_lies_on_its_side() -> None:
    solid = Shape(rectangle=1.6).solid()
    width = EDGE / math.sqrt(1.6)
    assert lowest(solid, np.eye(3)) == pytest.approx(EDGE / 2) and lowest(solid, LYING) == pytest.approx(width / 2)
    np.testing.assert_allclose(top(solid, LYING), [0, 0, width / 2], atol=1e-9)
    assert {round(grip.width, 6) for grip in grips(solid, LYING)} == {round(EDGE, 6), round(EDGE * math.sqrt(1.6), 6)}
    assert span(solid, LYING, math.pi / 2) == pytest.approx(EDGE)


@pytest.mark.parametrize("group", ["training", "held_out", "triplet1", "triplet5"])
def test_every_shape_can_be_taken_at_every_size(group: str) -> None:
    for shape in shape_set(group):
        assert all(grips(shape.solid(edge), np.eye(3)) for edge in (0.024, 0.028, 0.032))
