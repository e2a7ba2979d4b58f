"""A board on paper: PDF and PNG in true size, with what it is printed beneath, and a line to measure with a ruler.

Everything is drawn as filled rectangles at exact places, so that the PDF has no pixels at all.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final

import matplotlib
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure

from calibration.board import Board
from calibration.errors import CalibrationError

MM_PER_INCH: Final = 25.4
PAPERS: Final[Mapping[str, tuple[float, float]]] = MappingProxyType(  # mm, landscape
    {"a4": (297.0, 210.0), "a3": (420.0, 297.0), "letter": (279.4, 215.9)}
)
DPI: Final = 300
BORDER: Final = 5.0  # mm that printers leave blank
STRIP: Final = 14.0  # mm beneath the board for text and ruler
RULER: Final = 100.0  # mm

Rectangle = tuple[float, float, float, float]  # left, top, width, height in m, in the board's frame


def write_sheet(board: Board, pdf: Path, png: Path, paper: str = "a4") -> None:
    """The board in the middle of a landscape sheet. Raises `CalibrationError` when it does not fit on the paper."""
    figure = draw_sheet(board, paper)
    # Text as outlines of glyphs: a printer needs no font. No date inside: the same board is the same file.
    with matplotlib.rc_context({"pdf.fonttype": 42, "pdf.compression": 9}):
        figure.savefig(pdf, format="pdf", metadata={"CreationDate": None, "Title": board.describe()})
    figure.savefig(png, format="png", dpi=DPI, metadata={"Title": board.describe()})


def draw_sheet(board: Board, paper: str = "a4") -> Figure:
    """The sheet as a figure of the paper's size."""
    if paper not in PAPERS:
        raise CalibrationError(f"--paper {paper}: known are {', '.join(PAPERS)}")
    width, height = PAPERS[paper]
    wide, high = (1000 * edge for edge in board.size)
    if wide > width - 2 * BORDER or high > height - 2 * BORDER - STRIP:
        raise CalibrationError(
            f"board {board.name}: {wide:g} x {high:g} mm do not fit on {paper} ({width:g} x {height:g} mm) "
            f"with its text; take larger paper or smaller squares"
        )
    figure = Figure(figsize=(width / MM_PER_INCH, height / MM_PER_INCH))
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_xlim(0, width)
    axes.set_ylim(height, 0)  # mm from the sheet's upper left corner
    axes.axis("off")
    left, top = (width - wide) / 2, (height - STRIP - high) / 2
    for colour, rectangles in (("black", black_squares(board)), ("white", white_cells(board))):
        corners = [_corners(left + 1000 * x, top + 1000 * y, 1000 * w, 1000 * h) for x, y, w, h in rectangles]
        axes.add_collection(PolyCollection(corners, facecolors=colour, edgecolors="none", antialiased=False))
    below = top + high
    axes.text(width / 2, below + 4.5, f"gato-arm board {board.describe()}", ha="center", va="center", fontsize=8)
    ruler, at = (width - RULER) / 2, below + 9.0
    axes.add_collection(
        PolyCollection(
            [
                _corners(ruler, at, RULER, 0.3),
                _corners(ruler, at - 1, 0.3, 2.3),
                _corners(ruler + RULER - 0.3, at - 1, 0.3, 2.3),
            ],
            facecolors="black",
            edgecolors="none",
        )
    )
    axes.text(
        width / 2, at + 2.6, f"{RULER:g} mm from outer edge to outer edge: print at 100%", ha="center", va="center",
        fontsize=6,
    )  # fmt: skip
    return figure


def black_squares(board: Board) -> Iterator[Rectangle]:
    """The chessboard's black squares, and each marker as one black square."""
    marked = {
        (int(points[:, 0].mean() / board.square), int(points[:, 1].mean() / board.square))
        for _, points in board.marker_corners()
    }
    edge = board.square
    for row in range(board.rows):
        for column in range(board.columns):
            if (column, row) not in marked:
                yield column * edge, row * edge, edge, edge
    for _, points in board.marker_corners():
        x, y = points[:, :2].min(axis=0)
        yield float(x), float(y), board.marker, board.marker


def white_cells(board: Board) -> Iterator[Rectangle]:
    """What is white inside the markers, row by row, neighbours in one piece."""
    for id, points in board.marker_corners():
        left, top = points[:, :2].min(axis=0)
        cells = board.marker_cells(id)
        cell = board.marker / len(cells)
        for row, line in enumerate(cells):
            edges = np.flatnonzero(np.diff(np.concatenate(([0], line.astype(int), [0]))))
            for first, end in edges.reshape(-1, 2):
                yield float(left + first * cell), float(top + row * cell), float((end - first) * cell), cell


def _corners(left: float, top: float, width: float, height: float) -> list[tuple[float, float]]:
    return [(left, top), (left + width, top), (left + width, top + height), (left, top + height)]
