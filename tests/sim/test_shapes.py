"""Deformed cubes: what a solid weighs and measures, and that the sets are those that the generator makes."""

from __future__ import annotations

from importlib import resources

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim import shape_sets
from sim.shapes import COLOURS, CUBE, EDGE, GROUPS, TRIPLETS, Shape, sample_shapes, shape_set

SHAPES = st.builds(
    Shape,
    polygon=st.integers(3, 12),
    trapezoid=st.floats(0, 0.6),
    parallelogram=st.floats(0, 0.5),
    rectangle=st.floats(1, 2),
)


def test_a_cube_is_a_cube_to_the_last_bit() -> None:
    solid = CUBE.solid()
    assert (np.abs(solid.vertices) == EDGE / 2).all() and solid.volume == EDGE**3 and solid.below == EDGE / 2
    assert solid.box and solid is Shape().solid()


@given(SHAPES, st.floats(0.02, 0.04))
def test_a_solid_is_closed_convex_and_about_its_centre_of_mass(shape: Shape, edge: float) -> None:
    solid = shape.solid(edge)
    for face, normal in zip(solid.faces, solid.normals, strict=True):
        heights = solid.vertices @ normal
        assert heights[list(face)].max() - heights.max() == pytest.approx(0, abs=1e-9)  # nothing is outside of a face
        assert np.ptp(heights[list(face)]) < 1e-9  # which is flat
    edges = {(a, b) for face in solid.faces for a, b in zip(face, (*face[1:], face[0]), strict=True)}
    assert len(edges) == sum(map(len, solid.faces)) and {(b, a) for a, b in edges} == edges
    # The divergence theorem, with areas and moments of the faces' triangles.
    vertices, indices, _ = solid.triangles()
    a, b, c = (vertices[indices[corner::3]] for corner in range(3))
    parts = np.einsum("ij,ij->i", a, np.cross(b, c)) / 6
    assert parts.sum() == pytest.approx(solid.volume)
    np.testing.assert_allclose((parts[:, None] * (a + b + c) / 4).sum(axis=0), 0, atol=1e-12)
    assert np.ptp(solid.vertices[:, 2]) == pytest.approx(edge)


@given(SHAPES)
def test_a_solid_is_its_own_mirror_image(shape: Shape) -> None:
    vertices = {tuple(row) for row in shape.solid().vertices.round(9) + 0.0}
    assert {(x, -y + 0.0, z) for x, y, z in vertices} == vertices


@given(SHAPES)
def test_an_inset_lies_that_deep_behind_every_face(shape: Shape) -> None:
    solid = shape.solid()
    inset = solid.inset(0.001)
    for face, normal in zip(solid.faces, solid.normals, strict=True):
        depth = solid.vertices[face[0]] @ normal - inset[list(face)] @ normal
        np.testing.assert_allclose(depth, 0.001, atol=1e-9)


def test_a_square_prism_keeps_the_cubes_volume_and_a_lean_does_not_change_it() -> None:
    for shape in (Shape(polygon=3), Shape(polygon=7), Shape(parallelogram=0.4), Shape(rectangle=1.7)):
        assert shape.solid().volume == pytest.approx(EDGE**3)
    base_on_top = Shape(trapezoid=0.4).solid()
    assert base_on_top.below < EDGE / 2  # heavier below


def test_the_sets_in_the_file_are_what_the_generator_makes() -> None:
    written = (resources.files("sim") / "shapes.yaml").read_text(encoding="utf-8")
    assert shape_sets.as_yaml(shape_sets.make()) == written


def test_the_sets_are_as_large_as_the_benchmarks_and_apart() -> None:
    test = {shape for triplet in TRIPLETS for shape in shape_set(triplet)}
    training, held_out = shape_set("training"), shape_set("held_out")
    assert (len(set(training)), len(set(held_out)), len(test)) == (103, 36, 13)
    for some, others in ((training, test), (held_out, test), (held_out, training)):
        assert min(a.distance(b) for a in some for b in others) >= shape_sets.APART
    assert all(shape_sets.stackable(shape) for shape in {*training, *held_out, *test, CUBE})


def test_distances_are_zero_to_itself_and_alike_both_ways() -> None:
    a, b = Shape(polygon=3), Shape(polygon=8, trapezoid=0.3)
    assert a.distance(a) == 0 and a.distance(b) == b.distance(a) > 0.3


@pytest.mark.parametrize("group", GROUPS)
def test_every_group_has_a_shape_for_each_colour(group: str) -> None:
    shapes = sample_shapes(group, np.random.default_rng(1))
    assert tuple(shapes) == COLOURS and set(shapes.values()) <= set(shape_set(group))
    assert shapes == sample_shapes(group, np.random.default_rng(1))
    if group in TRIPLETS:
        assert tuple(shapes.values()) == shape_set(group)


def test_a_group_that_is_not_there_is_named() -> None:
    with pytest.raises(KeyError, match="no objects 'balls'; there are cubes"):
        sample_shapes("balls", np.random.default_rng(0))
