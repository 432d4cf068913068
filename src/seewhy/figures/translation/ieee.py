"""Figures for two-column papers (IEEE): exact widths, Computer Modern, embedded fonts, PDF and PNG files."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from seewhy.figures.style import NotebookFigure, silence_font_messages, write_figure

__all__ = ["COLUMN", "DPI", "PAGE", "ieee_figure", "ieee_style", "is_latex_available", "typeset", "write_ieee"]

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
