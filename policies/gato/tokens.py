"""Gato's tokens: how text, discrete values, continuous values and images become ids and patches, and back.

Knows numbers and ranges only: no robot, no model, no order in a timestep (sequence.py), no text model (text.py).
Training and runtime both use this module, so it needs nothing but numpy. Source of the ranges and formulas: Reed et
al. 2022, "A Generalist Agent" (arXiv 2205.06175), section 2.1 and appendix B; `[?]` marks what no source settles.

    text         [0, 32000)       SentencePiece ids
    discrete     [0, 1024)        integers as they are
    continuous   [32000, 33024)   1024 uniform bins over [-1, 1]
    separator    33024            `|` between observation and action
    images       no id            16x16 patches, embedded directly
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Ids = NDArray[np.int64]

BINS = 1024
TEXT_IDS = 32000  # text ids are [0, TEXT_IDS)
DISCRETE_IDS = 1024  # discrete ids are [0, DISCRETE_IDS), shared with text
CONTINUOUS_START = TEXT_IDS  # continuous ids are [CONTINUOUS_START, CONTINUOUS_END)
CONTINUOUS_END = CONTINUOUS_START + BINS
# [?] The paper gives the separator no number. The first id after every range collides with nothing.
SEPARATOR = CONTINUOUS_END

MU = 100.0
M = 256.0

PATCH = 16
PATCH_VALUES = PATCH * PATCH * 3
POSITION_BINS = 128


def _finite(values: ArrayLike) -> Floats:
    """`values` as float64; raises ValueError naming the first NaN or infinity."""
    array = np.asarray(values, dtype=np.float64)
    bad = ~np.isfinite(array)
    if bad.any():
        where = tuple(int(axis[0]) for axis in np.nonzero(np.atleast_1d(bad)))
        raise ValueError(f"value {array[bad].ravel()[0]} at index {where} is not finite, tokens stand for numbers only")
    return array


def _integers(values: ArrayLike, start: int, end: int, what: str) -> Ids:
    """`values` as int64 of [start, end); raises ValueError naming the first that is not."""
    array = np.asarray(values)
    if array.size and not np.issubdtype(array.dtype, np.integer):
        raise ValueError(f"{what} must be integers, got {array.dtype}")
    outside = (array < start) | (array >= end)
    if outside.any():
        raise ValueError(f"{what} {int(array[outside].ravel()[0])} is outside [{start}, {end})")
    return array.astype(np.int64)


def mu_law(values: ArrayLike) -> Floats:
    """sgn(x) log(|x| mu + 1) / log(M mu + 1): odd, increasing, +-256 to +-1. Any shape; ValueError if not finite.

    A value of 1 lands at 0.455, so [-1, 1] is spread over 465 of the 1024 bins, finest around zero.
    """
    x = _finite(values)
    y: Floats = np.sign(x) * np.log1p(np.abs(x) * MU) / np.log1p(M * MU)
    return y


def inverse_mu_law(values: ArrayLike) -> Floats:
    """The x with mu_law(x) == values. Any shape; ValueError if not finite."""
    y = _finite(values)
    x: Floats = np.sign(y) * np.expm1(np.abs(y) * np.log1p(M * MU)) / MU
    return x


def continuous_to_bins(values: ArrayLike, *, companded: bool) -> Ids:
    """Bins in [0, 1024) of `values`, any shape: mu-law first when `companded`; what is then beyond [-1, 1] is clipped.

    Gato compands observations and not actions. -1 is in bin 0 and +1 in bin 1023. ValueError if not finite.
    """
    return _bins(_finite(values), companded)


def _bins(x: Floats, companded: bool) -> Ids:
    unit = mu_law(np.clip(x, -M, M)) if companded else np.clip(x, -1.0, 1.0)
    return np.minimum(np.floor((unit + 1.0) * (BINS / 2)), BINS - 1).astype(np.int64)


def bins_to_values(bins: ArrayLike, *, companded: bool) -> Floats:
    """The centre of each bin, (2b + 1) / 1024 - 1, expanded by the inverse mu-law when `companded`.

    The centre, because the left edge would bias every action by half a bin. ValueError for a bin outside [0, 1024).
    """
    return _centres(_integers(bins, 0, BINS, "bin"), companded)


def _centres(bins: Ids, companded: bool) -> Floats:
    centres: Floats = (2.0 * bins + 1.0) / BINS - 1.0
    return inverse_mu_law(centres) if companded else centres


def bins_to_ids(bins: ArrayLike) -> Ids:
    """Continuous ids of bins; ValueError for a bin outside [0, 1024)."""
    return _integers(bins, 0, BINS, "bin") + CONTINUOUS_START


def ids_to_bins(ids: ArrayLike) -> Ids:
    """Bins of continuous ids; ValueError for an id outside [32000, 33024)."""
    return _integers(ids, CONTINUOUS_START, CONTINUOUS_END, "continuous id") - CONTINUOUS_START


def discrete_to_ids(values: ArrayLike) -> Ids:
    """Ids of discrete values (buttons), flattened row-major; ValueError for a value outside [0, 1024)."""
    return _integers(values, 0, DISCRETE_IDS, "discrete value").ravel()


@dataclass(frozen=True)
class ValueScale:
    """How the components of one named quantity become continuous tokens; `low` and `high` have shape (n,), SI units.

    Linear (`companded` false) for joint positions: companding a position in radians makes one bin 0.04 rad wide near
    a joint's limit, 1 cm at the gripper, whereas a linear bin over +-1.92 rad is 0.004 rad everywhere. Companded for
    differences that are mostly small: one bin is then a tenth of a linear one near zero and ten near the ends.
    """

    low: Floats
    high: Floats
    companded: bool = False

    def __post_init__(self) -> None:
        for name in ("low", "high"):
            array = np.atleast_1d(_finite(getattr(self, name))).copy()
            array.flags.writeable = False
            object.__setattr__(self, name, array)
        if self.low.ndim != 1 or self.low.shape != self.high.shape:
            raise ValueError(f"low has shape {self.low.shape} and high {self.high.shape}, both must be the same (n,)")
        if not (self.low < self.high).all():
            raise ValueError(f"low {self.low.tolist()} is not below high {self.high.tolist()} in every component")

    @property
    def size(self) -> int:
        """Number of components, which is the number of tokens."""
        return int(self.low.size)

    def normalise(self, values: ArrayLike) -> Floats:
        """SI values (..., n) with low at -1 and high at +1; beyond them it goes on, binning is what clips."""
        return (self._fitting(values) - self.low) / (self.high - self.low) * 2.0 - 1.0

    def denormalise(self, values: ArrayLike) -> Floats:
        """The inverse of `normalise`: (..., n) to SI values."""
        return self.low + (self._fitting(values) + 1.0) / 2.0 * (self.high - self.low)

    def encode(self, values: ArrayLike) -> Ids:
        """Continuous ids (..., n) of SI values (..., n); ValueError if not finite or of another shape."""
        return _bins(self.normalise(values), self.companded) + CONTINUOUS_START

    def decode(self, ids: ArrayLike) -> Floats:
        """SI values (..., n), each at its bin's centre, of continuous ids (..., n)."""
        return self.denormalise(_centres(ids_to_bins(ids), self.companded))

    def _fitting(self, values: ArrayLike) -> Floats:
        array = _finite(values)
        if array.ndim == 0 or array.shape[-1] != self.size:
            raise ValueError(f"values of shape {array.shape} do not fit a scale of {self.size} components")
        return array


class RowMap:
    """Token id to row of the embedding table; only ids that the vocabulary has own a row.

    Rows, in order: text and discrete ids from 0, the 1024 continuous ids, the separator.
    """

    def __init__(self, text_vocabulary: int) -> None:
        """`text_vocabulary` is the number of text ids in use, at most 32000 (ValueError)."""
        if not 0 <= text_vocabulary <= TEXT_IDS:
            raise ValueError(f"a text vocabulary of {text_vocabulary} ids does not fit [0, {TEXT_IDS})")
        self.low_rows = max(text_vocabulary, DISCRETE_IDS)
        self.continuous_row = self.low_rows
        self.separator_row = self.low_rows + BINS
        self.size = self.separator_row + 1

    def rows(self, ids: ArrayLike) -> Ids:
        """Rows of `ids`, same shape; ValueError naming the first id that has none."""
        array = _integers(ids, 0, SEPARATOR + 1, "token id")
        gap = (array >= self.low_rows) & (array < CONTINUOUS_START)
        if gap.any():
            raise ValueError(f"token id {int(array[gap].ravel()[0])} has no row: text ids end at {self.low_rows}")
        return np.where(array < CONTINUOUS_START, array, array - CONTINUOUS_START + self.continuous_row)

    def ids(self, rows: ArrayLike) -> Ids:
        """The inverse of `rows`; ValueError naming the first row outside the table."""
        array = _integers(rows, 0, self.size, "row")
        return np.where(array < self.continuous_row, array, array - self.continuous_row + CONTINUOUS_START)


def patch_grid(height: int, width: int) -> tuple[int, int]:
    """(rows, columns) of 16x16 patches; ValueError when the image is not a whole number of them."""
    if height < PATCH or width < PATCH or height % PATCH or width % PATCH:
        raise ValueError(f"an image of {height}x{width} is not made of {PATCH}x{PATCH} patches")
    return height // PATCH, width // PATCH


def patchify(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Patches (..., N, 768) in raster order of uint8 images (..., H, W, 3).

    Each patch is flattened row, column, channel; pixels are scaled to [-1, 1], then divided by sqrt(16) = 4.
    """
    if images.dtype != np.uint8 or images.ndim < 3 or images.shape[-1] != 3:
        raise ValueError(f"images must be uint8 (..., H, W, 3), got {images.dtype} {images.shape}")
    rows, columns = patch_grid(images.shape[-3], images.shape[-2])
    batch: Sequence[int] = images.shape[:-3]
    tiles = images.reshape(*batch, rows, PATCH, columns, PATCH, 3).swapaxes(-4, -3)
    scaled = (tiles.astype(np.float32) / np.float32(127.5) - np.float32(1.0)) / np.float32(np.sqrt(PATCH))
    return scaled.reshape(*batch, rows * columns, PATCH_VALUES)


def patch_intervals(count: int) -> tuple[Ids, Ids]:
    """Position bins [start, end) that each of `count` patches along one axis covers, of 128; both shape (count,)."""
    if not 1 <= count <= POSITION_BINS:
        raise ValueError(f"{count} patches along one axis do not fit {POSITION_BINS} position bins")
    edges = np.arange(count + 1, dtype=np.int64) * POSITION_BINS // count
    return edges[:-1], edges[1:]


def patch_positions(rows: int, columns: int, rng: np.random.Generator | None = None) -> tuple[Ids, Ids]:
    """Row and column position bins of a grid's patches in raster order, both shape (rows * columns,).

    With `rng` (training) a bin drawn uniformly in each patch's interval; without (evaluation) its rounded mean. [?]
    Whether the upper end belongs to the interval is not published; here it does not, so that no bin is number 128.
    """
    row = np.repeat(np.arange(rows), columns)
    column = np.tile(np.arange(columns), rows)
    return _positions(rows, row, rng), _positions(columns, column, rng)


def _positions(count: int, index: NDArray[np.int_], rng: np.random.Generator | None) -> Ids:
    start, end = patch_intervals(count)
    if rng is not None:
        return rng.integers(start[index], end[index], dtype=np.int64)
    mean: Ids = np.minimum((start + end + 1) // 2, POSITION_BINS - 1)  # [0, 32) means 16, as in the paper's figure
    return mean[index]
