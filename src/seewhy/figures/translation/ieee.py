"""Figures for two-column papers (IEEE): exact widths, Computer Modern, a grid of slices, PDF and PNG files."""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.text import Text
from numpy.typing import NDArray

from seewhy.figures.colours import ColourScale
from seewhy.figures.style import INK, NotebookFigure, silence_font_messages, write_figure
from seewhy.figures.translation.case import CropFrame

__all__ = [
    "COLUMN",
    "DPI",
    "PAGE",
    "Grid",
    "ieee_figure",
    "ieee_style",
    "is_latex_available",
    "typeset",
    "write_ieee",
]

COLUMN = 3.5
"""Width of a column in inches."""
PAGE = 7.16
"""Width of the text of a page in inches."""
DPI = 300
LATEX = ("latex", "dvipng")
"""Programs that matplotlib needs to typeset text with LaTeX."""
MATHS = {
    "$": r"\$", "_": r"$\_$", "<": "$<$", ">": "$>$", "|": "$|$", "{": r"$\{$", "}": r"$\}$",
    "\\": r"$\backslash$", '"': "''", "\N{MINUS SIGN}": "$-$", "\N{RIGHTWARDS ARROW}": r"$\rightarrow$",
    "\N{PLUS-MINUS SIGN}": r"$\pm$", "\N{MULTIPLICATION SIGN}": r"$\times$", "\N{MIDDLE DOT}": r"$\cdot$",
    "\N{GREATER-THAN OR EQUAL TO}": r"$\geq$", "\N{LESS-THAN OR EQUAL TO}": r"$\leq$", "\N{EN DASH}": "--",
}  # fmt: skip
"""Characters that are missing or different in Computer Modern Roman → their form in maths mode."""


@cache
def is_latex_available() -> bool:
    """Whether LaTeX works with matplotlib; tried once per process, with all special characters of the figures.

    Finding the programs is not enough: small installations miss packages or fonts that matplotlib needs.
    """
    if not all(shutil.which(program) for program in LATEX):
        return False
    try:
        with ieee_style(latex=True), silence_font_messages():
            figure = ieee_figure(PAGE, 1)
            figure.text(0, 0, typeset(" ".join(("Aa1", "%", *MATHS))))
            for kind in ("pdf", "png"):
                figure.savefig(BytesIO(), format=kind)
    except (RuntimeError, OSError, LookupError):  # raised by matplotlib if TeX, a file or a font fails
        return False
    return True


@contextmanager
def ieee_style(*, latex: bool | None = None) -> Iterator[None]:
    """Use Computer Modern within the block, and restore the settings of matplotlib afterwards.

    Args:
        latex: typeset with LaTeX; None uses LaTeX if it works, else matplotlib with the same fonts.
    """
    settings: Any = {
        "text.usetex": is_latex_available() if latex is None else latex,
        "font.family": ["cmr10", "DejaVu Serif"],  # the second for letters missing in the first, such as é
        "mathtext.fontset": "cm",
        "axes.formatter.use_mathtext": True,
        "axes.unicode_minus": False,
        "font.size": 8,
        "axes.linewidth": 0.5,
        "pdf.fonttype": 42,  # publishers reject Type 3 fonts
    }
    if settings["text.usetex"]:
        settings |= {"font.family": "serif", "font.serif": ["Computer Modern Roman"]}
    with matplotlib.rc_context(settings):
        yield


def typeset(text: str) -> str:
    """Escape plain text for the fonts of `ieee_style`; call it within that block.

    Computer Modern Roman is not a Unicode font: it has a dot in place of the underscore, and no minus sign.
    """
    escapes = {mark: rf"\{mark}" for mark in "%&#"} if matplotlib.rcParams["text.usetex"] else {}
    dash = {} if matplotlib.rcParams["text.usetex"] else {"\N{EN DASH}": "-"}
    table = {**MATHS, **escapes, **dash}
    return "".join(table.get(letter, letter) for letter in text)


def ieee_figure(width: float, height: float) -> Figure:
    """White figure of exactly this size in inches, independent of pyplot and of a display."""
    figure = NotebookFigure(figsize=(width, height), facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def write_ieee(stem: str | Path, figure: Figure) -> list[Path]:
    """Write `<stem>.pdf` and `<stem>.png` (300 dpi) at the size of the figure, each atomically.

    `seewhy.figures.style` may add `<stem>.svg` and choose another resolution.

    Args:
        stem: path without suffix.
        figure: figure drawn within `ieee_style`.

    Returns:
        The two files.
    """
    picture = Path(f"{stem}.png")
    with ieee_style(latex=any(text.get_usetex() for text in figure.texts)):
        write_figure(picture, figure, dpi=DPI, formats=("png", "pdf"))
    return [Path(f"{stem}.pdf"), picture]


Array = NDArray[Any]
GAP = 0.04
HEAD, SUBHEAD = 0.17, 0.13
LABEL = 0.13
"""Inches per line of a row label."""
BAR, BAR_NUMBERS, BAR_NAME = 0.08, 0.15, 0.14
FOOT_LINE = 0.125
SOFT = "#59636e"
LEAST_SIZE = 4.5
"""Smallest font size in points for text that does not fit."""


class Grid:
    """Figure of equal cells; use it within `seewhy.figures.translation.ieee.ieee_style`.

    Args:
        width: width of the figure in inches.
        rows: number of rows.
        columns: number of columns.
        half: half height and half width of the visible part of a slice in millimetres.
        label_lines: lines of the vertical label of each row; 0 for no labels.
        head_lines: lines above each column.
        bars: colour bars, side by side below the cells.
        foot: lines of small print.
        tallest: largest height in inches; cells become narrower if the figure would be higher.
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
        # Narrower cells are centred, with their labels next to them.
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
        """Draw a slice, or several layers on top of each other.

        Args:
            row: row, counted from the top.
            column: column, counted from the left.
            layers: (array, scale, opacity); arrays [h, w] of any number of pixels cover the slice and are enlarged
                without smoothing.
            frame: frame with the centre.
            size: height and width of the slice in millimetres.
            ground: colour outside the slice.
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
        """Draw a light cell with the reason why it is empty."""
        axes = self._place(row, column)
        axes.set_facecolor("#f0f2f5")
        axes.text(0.5, 0.5, typeset(text), transform=axes.transAxes, ha="center", va="center", fontsize=6, color=INK)

    def heading(self, column: int, text: str, small: str = "") -> None:
        """Write a heading above a column, and smaller text below the heading."""
        x = self.first + column * (self.cell + GAP) + self.cell / 2
        top = self.height - 0.03
        self._write(x, top, text, size=8, room=self.cell + GAP / 2, ha="center", va="top")
        if small:
            self._write(x, top - HEAD + 0.025, small, size=6, room=self.cell + GAP / 2, ha="center", va="top")

    def label(self, row: int, lines: Sequence[str]) -> None:
        """Write a vertical label left of a row, with lines no longer than the height of the row.

        Args:
            row: row, counted from the top.
            lines: lines of the label, outermost first; that one is larger.
        """
        y = self._top(row) - self.tall / 2
        for number, line in enumerate(lines):
            x = self.first - 0.06 - LABEL * (len(lines) - 1 - number)
            self._write(x, y, line, size=7 if number else 8, room=self.tall, ha="right", va="center", rotation=90)

    def note(self, axes: Axes, text: str) -> None:
        """Write into the lower left corner of a cell, white on dark."""
        drawn = axes.text(
            0.03, 0.03, typeset(text), transform=axes.transAxes, color="white", fontsize=6.5, ha="left", va="bottom",
            bbox={"facecolor": "black", "alpha": 0.6, "pad": 1.0, "linewidth": 0},
        )  # fmt: skip
        self._fit(drawn, 0.94 * self.cell)

    # -- positions ----------------------------------------------------------------------------------------------

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
        """Draw the colour bars side by side, then the small print."""
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
        """Shrink text that is longer than its space."""
        box = drawn.get_window_extent(self.figure.canvas.get_renderer())  # type: ignore[attr-defined]
        long = (box.height if drawn.get_rotation() == 90 else box.width) / self.figure.dpi
        if long > room:
            drawn.set_fontsize(max(LEAST_SIZE, float(drawn.get_fontsize()) * room / long))


def _number(value: float, span: float) -> str:
    """Number with the decimals needed on a scale of this length."""
    decimals = max(0, 2 - math.floor(math.log10(span)))
    text = f"{value:.{decimals}f}"
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return "0" if float(text) == 0 else text.replace("-", "\N{MINUS SIGN}")
