"""Gato's encodings: round trips, order, ends of ranges, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from policies.gato import tokens

SHAPES = hnp.array_shapes(min_dims=1, max_dims=3, max_side=6)
ANY_FLOAT = st.floats(allow_nan=False, allow_infinity=False, width=64)
NOT_FINITE = st.sampled_from([np.nan, np.inf, -np.inf])
HALF_BIN = 1.0 / tokens.BINS


def arrays(low: float, high: float) -> st.SearchStrategy[np.ndarray]:
    return hnp.arrays(np.float64, SHAPES, elements=st.floats(low, high))


@given(arrays(-1, 1))
def test_plain_round_trip_is_within_half_a_bin(values: np.ndarray) -> None:
    back = tokens.bins_to_values(tokens.continuous_to_bins(values, companded=False), companded=False)
    assert np.abs(back - values).max() <= HALF_BIN + 1e-12


@given(arrays(-tokens.M, tokens.M))
def test_companded_round_trip_is_within_half_a_bin_of_the_companded_value(values: np.ndarray) -> None:
    back = tokens.bins_to_values(tokens.continuous_to_bins(values, companded=True), companded=True)
    assert np.abs(tokens.mu_law(back) - tokens.mu_law(values)).max() <= HALF_BIN + 1e-12


@given(st.booleans())
def test_every_bin_survives_value_and_id(companded: bool) -> None:
    bins = np.arange(tokens.BINS)
    values = tokens.bins_to_values(bins, companded=companded)
    assert np.array_equal(tokens.continuous_to_bins(values, companded=companded), bins)
    assert np.array_equal(tokens.ids_to_bins(tokens.bins_to_ids(bins)), bins)
    assert (np.diff(values) > 0).all()


@given(hnp.arrays(np.float64, SHAPES, elements=ANY_FLOAT), st.booleans())
def test_any_finite_value_lands_in_range_and_in_order(values: np.ndarray, companded: bool) -> None:
    ordered = np.sort(values.ravel())
    bins = tokens.continuous_to_bins(ordered, companded=companded)
    assert (np.diff(bins) >= 0).all()
    assert bins.min() >= 0 and bins.max() < tokens.BINS
    ids = tokens.bins_to_ids(bins)
    assert ids.min() >= 32000 and ids.max() < 33024


@pytest.mark.parametrize(("companded", "end"), [(False, 1.0), (True, 256.0)])
def test_both_ends_and_the_middle(companded: bool, end: float) -> None:
    bins = tokens.continuous_to_bins([-end, 0.0, end, -2 * end, 2 * end], companded=companded)
    assert bins.tolist() == [0, 512, 1023, 0, 1023]
    centres = tokens.bins_to_values([0, 1023], companded=False)
    assert centres.tolist() == [-1 + 1 / 1024, 1 - 1 / 1024]


@given(arrays(-1000, 1000))
def test_mu_law_inverts_and_is_odd(values: np.ndarray) -> None:
    np.testing.assert_allclose(tokens.inverse_mu_law(tokens.mu_law(values)), values, rtol=1e-9, atol=1e-12)
    assert np.array_equal(tokens.mu_law(-values), -tokens.mu_law(values))


def test_mu_law_at_published_constants() -> None:
    assert tokens.mu_law(256.0) == pytest.approx(1.0)
    assert tokens.mu_law(1.0) == pytest.approx(np.log(101.0) / np.log(25601.0))


@given(NOT_FINITE, st.booleans())
def test_not_finite_is_refused_everywhere(bad: float, companded: bool) -> None:
    scale = tokens.ValueScale(np.array([-1.0, -1.0]), np.array([1.0, 1.0]), companded)
    for refuse in (
        lambda: tokens.continuous_to_bins([0.0, bad], companded=companded),
        lambda: tokens.continuous_to_bins(bad, companded=companded),
        lambda: tokens.mu_law([[bad]]),
        lambda: tokens.inverse_mu_law(bad),
        lambda: scale.encode([0.0, bad]),
        lambda: tokens.ValueScale(np.array([bad]), np.array([1.0])),
    ):
        with pytest.raises(ValueError, match="not finite"):
            refuse()


@pytest.mark.parametrize("bin_", [-1, 1024])
def test_bins_outside_are_refused(bin_: int) -> None:
    with pytest.raises(ValueError, match=str(bin_)):
        tokens.bins_to_values([0, bin_], companded=False)
    with pytest.raises(ValueError, match=str(bin_)):
        tokens.bins_to_ids(bin_)
    with pytest.raises(ValueError, match=str(bin_)):
        tokens.discrete_to_ids([bin_])


@pytest.mark.parametrize("id_", [31999, 33024])
def test_ids_outside_the_continuous_range_are_refused(id_: int) -> None:
    with pytest.raises(ValueError, match=str(id_)):
        tokens.ids_to_bins([id_])


def test_bins_must_be_integers() -> None:
    with pytest.raises(ValueError, match="integers"):
        tokens.bins_to_values([0.5], companded=False)


def test_discrete_values_flatten_row_major() -> None:
    assert tokens.discrete_to_ids([[0, 1], [2, 1023]]).tolist() == [0, 1, 2, 1023]


@given(st.floats(-50, 50), st.floats(1e-3, 50), st.floats(0, 1), st.booleans())
def test_scaled_round_trip_is_within_half_a_bin(low: float, span: float, share: float, companded: bool) -> None:
    scale = tokens.ValueScale(np.array([low]), np.array([low + span]), companded)
    value = np.array([low + share * span])
    assert np.allclose(scale.denormalise(scale.normalise(value)), value)
    there, back = scale.normalise(value), scale.normalise(scale.decode(scale.encode(value)))
    if companded:
        there, back = tokens.mu_law(there), tokens.mu_law(back)
    assert np.abs(there - back).max() <= HALF_BIN + 1e-9


def test_scale_spans_its_range_and_clips_beyond() -> None:
    scale = tokens.ValueScale(np.array([-1.92, 0.0]), np.array([1.92, 1.75]))
    assert scale.size == 2
    assert scale.encode([-1.92, 1.75]).tolist() == [32000, 33023]
    assert scale.encode([[-9.0, 9.0]]).tolist() == [[32000, 33023]]
    assert scale.decode([32000, 33023]).shape == (2,)


def test_companding_is_why_joints_are_linear() -> None:
    width = np.diff(tokens.bins_to_values(np.arange(tokens.BINS), companded=True))
    edge = int(tokens.continuous_to_bins(1.92, companded=True))
    assert 0.035 < width[edge] < 0.045


@pytest.mark.parametrize(("low", "high"), [([0.0], [0.0]), ([0.0, 0.0], [1.0]), ([[0.0]], [[1.0]])])
def test_wrong_scales_are_refused(low: list[float], high: list[float]) -> None:
    with pytest.raises(ValueError, match="low"):
        tokens.ValueScale(np.array(low), np.array(high))


def test_scale_refuses_another_shape_and_is_read_only() -> None:
    scale = tokens.ValueScale(np.zeros(3), np.ones(3))
    with pytest.raises(ValueError, match="3 components"):
        scale.encode([0.0, 0.0])
    with pytest.raises(ValueError, match="read-only"):
        scale.low[0] = 1.0


@given(st.integers(0, tokens.TEXT_IDS))
def test_row_map_is_a_bijection_on_the_vocabulary(vocabulary: int) -> None:
    rows = tokens.RowMap(vocabulary)
    ids = rows.ids(np.arange(rows.size))
    assert np.array_equal(rows.rows(ids), np.arange(rows.size))
    assert (np.diff(ids) > 0).all()
    assert rows.size == max(vocabulary, 1024) + 1024 + 1
    assert rows.rows(tokens.SEPARATOR) == rows.separator_row
    assert rows.rows(tokens.CONTINUOUS_START) == rows.continuous_row


@pytest.mark.parametrize("bad", [-1, 1024, 31999, 33025])
def test_row_map_names_the_id_it_refuses(bad: int) -> None:
    rows = tokens.RowMap(500)
    with pytest.raises(ValueError, match=f"token id {bad} "):
        rows.rows([[0, 32000], [bad, tokens.SEPARATOR]])


def test_row_map_refuses_rows_and_vocabularies_outside() -> None:
    with pytest.raises(ValueError, match="row 2049"):
        tokens.RowMap(0).ids(2049)
    with pytest.raises(ValueError, match="32001"):
        tokens.RowMap(32001)


def test_patches_are_in_raster_order_and_scaled() -> None:
    image = np.zeros((32, 48, 3), dtype=np.uint8)
    image[16:, 32:] = 255  # the last patch of the second row
    image[0, 17] = (10, 20, 30)  # row 0, column 1 of patch 1
    patches = tokens.patchify(image)
    assert patches.shape == (6, 768) and patches.dtype == np.float32
    assert (patches[5] == 0.25).all() and (patches[0] == -0.25).all()
    np.testing.assert_allclose(patches[1, 3:6], (np.array([10, 20, 30]) / 127.5 - 1) / 4, rtol=1e-6)


@given(hnp.arrays(np.uint8, (2, 3, 32, 16, 3)))
def test_patches_keep_batch_axes_and_every_pixel(images: np.ndarray) -> None:
    patches = tokens.patchify(images)
    assert patches.shape == (2, 3, 2, 768)
    assert np.abs(patches).max() <= 0.25
    pixels = np.rint((patches * 4 + 1) * 127.5).astype(np.uint8)
    assert np.array_equal(pixels[1, 2, 1], images[1, 2, 16:].reshape(-1))


@pytest.mark.parametrize("shape", [(60, 64, 3), (64, 8, 3), (64, 64, 1), (64, 64)])
def test_wrong_images_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError):
        tokens.patchify(np.zeros(shape, dtype=np.uint8))


@given(st.integers(1, 128), st.integers(1, 12), st.integers(0, 2**32 - 1))
def test_training_positions_stay_in_their_patch(rows: int, columns: int, seed: int) -> None:
    drawn_rows, drawn_columns = tokens.patch_positions(rows, columns, np.random.default_rng(seed))
    mean_rows, mean_columns = tokens.patch_positions(rows, columns)
    start, end = tokens.patch_intervals(rows)
    index = np.repeat(np.arange(rows), columns)
    assert ((drawn_rows >= start[index]) & (drawn_rows < end[index])).all()
    assert mean_rows.shape == mean_columns.shape == drawn_columns.shape == (rows * columns,)
    assert mean_rows.min() >= 0 and mean_rows.max() < tokens.POSITION_BINS


def test_evaluation_positions_are_the_rounded_mean() -> None:
    rows, columns = tokens.patch_positions(4, 2)
    assert rows.tolist() == [16, 16, 48, 48, 80, 80, 112, 112]
    assert columns.tolist() == [32, 96] * 4


def test_too_many_patches_are_refused() -> None:
    with pytest.raises(ValueError, match="129 patches"):
        tokens.patch_intervals(129)
