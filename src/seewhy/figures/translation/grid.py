"""Cells of slices in rows and columns, to scale, with colour bars below: what figures of translations are made of."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.text import Text
from numpy.typing import NDArray

from seewhy.figures.colours import ColourScale
from seewhy.figures.ieee import ieee_figure, typeset
from seewhy.figures.style import INK

__all__ = ["CropFrame", "Grid", "crop_frame"]

Array = NDArray[Any]
GAP = 0.04
HEAD, SUBHEAD = 0.17, 0.13
LABEL = 0.13
"""Inches of a line of a row's label."""
BAR, BAR_NUMBERS, BAR_NAME = 0.08, 0.15, 0.14
FOOT_LINE = 0.125
SOFT = "#59636e"
LEAST_SIZE = 4.5
"""Points; text that does not fit its place becomes no smaller than this."""


@dataclass(frozen=True, kw_only=True)
class CropFrame:
    """What part of a slice is shown, in millimetres (or pixels, where those are not known).

    Attributes:
        centre: (y, x) of the tissue.
        half: half the height and half the width of every cell of a figure.
    """

    centre: tuple[float, float]
    half: tuple[float, float]


def crop_frame(body: Array, spacing: tuple[float, float]) -> CropFrame:
    """The frame that just holds a slice's tissue; the whole slice where there is none.

    Args:
        body: [H, W], not zero is tissue.
        spacing: between rows and between columns.
    """
    inside = np.asarray(body) > 0
    ends = []
    for axis, step in enumerate(spacing):
        found = np.flatnonzero(inside.any(axis=1 - axis))
        first, last = (found[0], found[-1] + 1) if found.size else (0, inside.shape[axis])
        ends.append((float(first) * step, float(last) * step))
    (top, bottom), (left, right) = ends
    return CropFrame(
        centre=((top + bottom) / 2, (left + right) / 2), half=(0.52 * (bottom - top), 0.52 * (right - left))
    )


class Grid:
    """A figure of cells of one size; use it within `seewhy.figures.ieee.ieee_style`.

    Args:
        width: of the figure in inches.
        rows: number of rows.
        columns: number of columns.
        half: half the height and half the width of what a cell shows, in millimetres.
        label_lines: lines of the text left of each row, which runs upwards; 0 for none.
        head_lines: lines above each column.
        bars: colour bars, side by side below the cells.
        foot: small print, a line each.
        tallest: inches; cells become narrower where the figure would be higher.
    """

    def __init__(
        self,
        *,
        width: float,
        rows: int,
        columns: int,
        half: tuple[float, float],
        label_lines: int = 2,
        head_lines: int = 1,
        bars: Sequence[ColourScale] = (),
        foot: Sequence[str] = (),
        tallest: float = 8.8,
    ) -> None:
        self.rows, self.columns, self.half = rows, columns, half
        self.left = LABEL * label_lines + 0.08
        head = HEAD + SUBHEAD * (head_lines - 1) if head_lines else 0.02
        below = (0.06 + BAR + BAR_NUMBERS + BAR_NAME if bars else 0.0) + FOOT_LINE * len(foot) + 0.03
        room = (tallest - head - below) / rows - GAP
        self.cell = min((width - self.left - 0.02 - GAP * (columns - 1)) / columns, room * half[1] / half[0])
        self.tall = self.cell * half[0] / half[1]
        across = self.cell * columns + GAP * (columns - 1)
        # Cells that were made narrower stand in the middle, their labels beside them.
        self.first = self.left + max(0.0, (width - self.left - 0.02 - across) / 2)
        self.across = across
        height = head + rows * self.tall + (rows - 1) * GAP + below
        self.head, self.width, self.height = head, width, height
        self.figure: Figure = ieee_figure(width, height)
        self._below(bars, foot)

    def show(
        self,
        row: int,
        column: int,
        layers: Sequence[tuple[Array, ColourScale, float]],
        *,
        frame: CropFrame,
        size: tuple[float, float],
        ground: str = "black",
    ) -> Axes:
        """Draw a slice, or several on each other.

        Args:
            row: counted from the top.
            column: from the left.
            layers: arrays [h, w] that all cover the slice, whatever their number of pixels; scale; opacity. Maps
                are enlarged without smoothing.
            frame: gives the centre.
            size: height and width of the slice in millimetres.
            ground: colour beyond the slice.
        """
        axes = self._place(row, column)
        axes.set_facecolor(ground)
        for array, scale, opacity in layers:
            axes.imshow(
                array, cmap=scale.colours, norm=scale.norm, alpha=opacity, interpolation="nearest",
                extent=(0, size[1], size[0], 0), aspect="auto",
            )  # fmt: skip
        (y, x), (tall, wide) = frame.centre, self.half
        axes.set_xlim(x - wide, x + wide)
        axes.set_ylim(y + tall, y - tall)
        return axes

    def empty(self, row: int, column: int, text: str) -> None:
        """A light cell that says why it shows nothing."""
        axes = self._place(row, column)
        axes.set_facecolor("#f0f2f5")
        axes.text(0.5, 0.5, typeset(text), transform=axes.transAxes, ha="center", va="center", fontsize=6, color=INK)

    def heading(self, column: int, text: str, small: str = "") -> None:
        """Write above a column, and smaller below that."""
        x = self.first + column * (self.cell + GAP) + self.cell / 2
        top = self.height - 0.03
        self._write(x, top, text, size=8, room=self.cell + GAP / 2, ha="center", va="top")
        if small:
            self._write(x, top - HEAD + 0.025, small, size=6, room=self.cell + GAP / 2, ha="center", va="top")

    def label(self, row: int, lines: Sequence[str], *, strong: int | None = 0) -> None:
        """Write left of a row, upwards, each line no longer than the row is high.

        Args:
            row: counted from the top.
            lines: outermost first.
            strong: the line that is larger; None for none.
        """
        y = self._top(row) - self.tall / 2
        for number, line in enumerate(lines):
            x = self.first - 0.06 - LABEL * (len(lines) - 1 - number)
            size = 8 if number == strong else 7
            self._write(x, y, line, size=size, room=self.tall, ha="right", va="center", rotation=90)

    def note(self, axes: Axes, text: str) -> None:
        """Write into the lower left corner of a cell, white on dark."""
        drawn = axes.text(
            0.03, 0.03, typeset(text), transform=axes.transAxes, color="white", fontsize=6.5, ha="left", va="bottom",
            bbox={"facecolor": "black", "alpha": 0.6, "pad": 1.0, "linewidth": 0},
        )  # fmt: skip
        self._fit(drawn, 0.94 * self.cell)

    # -- places ----------------------------------------------------------------------------------------------

    def _top(self, row: int) -> float:
        return self.height - self.head - row * (self.tall + GAP)

    def _place(self, row: int, column: int) -> Axes:
        x, y = self.first + column * (self.cell + GAP), self._top(row) - self.tall
        axes = self._axes(x, y, self.cell, self.tall)
        axes.set_xticks([])
        axes.set_yticks([])
        axes.spines[:].set_visible(False)
        return axes

    def _axes(self, x: float, y: float, wide: float, tall: float) -> Axes:
        return self.figure.add_axes((x / self.width, y / self.height, wide / self.width, tall / self.height))

    def _below(self, bars: Sequence[ColourScale], foot: Sequence[str]) -> None:
        """Colour bars side by side, then the small print."""
        for number, line in enumerate(reversed(foot)):
            y = 0.03 + FOOT_LINE * number
            self._write(self.first, y, line, size=6, room=self.across, ha="left", va="bottom", color=SOFT)
        y = 0.03 + FOOT_LINE * len(foot) + BAR_NAME + BAR_NUMBERS
        share = self.across / max(len(bars), 1)
        for number, scale in enumerate(bars):
            length = min(0.78 * share, 1.9)
            x = self.first + share * number + (share - length) / 2
            self._bar(scale, x, y, length, room=0.98 * share)

    def _bar(self, scale: ColourScale, x: float, y: float, length: float, *, room: float) -> None:
        axes = self._axes(x, y, length, BAR)
        mappable = ScalarMappable(norm=Normalize(scale.low, scale.high), cmap=scale.colours)
        bar = self.figure.colorbar(mappable, cax=axes, orientation="horizontal")
        ends = [scale.low, (scale.low + scale.high) / 2, scale.high]
        words = [_number(value, scale.high - scale.low) for value in ends]
        if scale.beyond:
            words = [f"\N{LESS-THAN OR EQUAL TO} {words[0]}", words[1], f"\N{GREATER-THAN OR EQUAL TO} {words[2]}"]
        bar.set_ticks(ends, labels=[typeset(word) for word in words])
        bar.outline.set_linewidth(0.4)
        axes.tick_params(labelsize=6.5, length=2, width=0.4, pad=1.5, colors=INK)
        name_y = y - BAR_NUMBERS - 0.01
        self._write(x + length / 2, name_y, scale.name, size=7, room=room, ha="center", va="top")

    def _write(self, x: float, y: float, text: str, *, size: float, room: float, **look: object) -> None:
        look = {"color": INK, **look}
        drawn = self.figure.text(x / self.width, y / self.height, typeset(text), fontsize=size, **look)  # type: ignore[arg-type]
        self._fit(drawn, room)

    def _fit(self, drawn: Text, room: float) -> None:
        """Make text smaller that is longer than its place."""
        box = drawn.get_window_extent(self.figure.canvas.get_renderer())  # type: ignore[attr-defined]
        long = (box.height if drawn.get_rotation() == 90 else box.width) / self.figure.dpi
        if long > room:
            drawn.set_fontsize(max(LEAST_SIZE, float(drawn.get_fontsize()) * room / long))


def _number(value: float, span: float) -> str:
    """A number as exact as a scale of this length asks for."""
    decimals = max(0, 2 - math.floor(math.log10(span)))
    text = f"{value:.{decimals}f}"
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return "0" if float(text) == 0 else text.replace("-", "\N{MINUS SIGN}")
