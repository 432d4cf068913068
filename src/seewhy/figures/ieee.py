"""Figures for a two-column paper: exact widths, Computer Modern, embedded fonts, vector and raster files."""

from __future__ import annotations

import logging
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

from seewhy.io.atomic import atomic_path

__all__ = ["COLUMN", "DPI", "PAGE", "ieee_figure", "ieee_style", "is_latex_available", "typeset", "write_ieee"]

COLUMN = 3.5
"""Width of a column in inches."""
PAGE = 7.16
"""Width of a page's text in inches."""
DPI = 300
LATEX = ("latex", "dvipng")
"""Programs without which matplotlib cannot let LaTeX set its text."""
MATHS = {
    "$": r"\$", "_": r"$\_$", "<": "$<$", ">": "$>$", "|": "$|$", "{": r"$\{$", "}": r"$\}$",
    "\\": r"$\backslash$", '"': "''", "\N{MINUS SIGN}": "$-$", "\N{RIGHTWARDS ARROW}": r"$\rightarrow$",
    "\N{PLUS-MINUS SIGN}": r"$\pm$", "\N{MULTIPLICATION SIGN}": r"$\times$", "\N{MIDDLE DOT}": r"$\cdot$",
    "\N{GREATER-THAN OR EQUAL TO}": r"$\geq$", "\N{LESS-THAN OR EQUAL TO}": r"$\leq$", "\N{EN DASH}": "--",
}  # fmt: skip
"""Characters that Computer Modern Roman has not, or has others in the place of, as mathematics."""


@cache
def is_latex_available() -> bool:
    """Whether LaTeX is installed and sets text for matplotlib; tried once, with all characters that figures have.

    The programs alone say little: small installations have them and lack packages or fonts that matplotlib asks for.
    """
    if not all(shutil.which(program) for program in LATEX):
        return False
    try:
        with ieee_style(latex=True), _quiet():
            figure = ieee_figure(PAGE, 1)
            figure.text(0, 0, typeset(" ".join(("Aa1", "%", *MATHS))))
            for kind in ("pdf", "png"):
                figure.savefig(BytesIO(), format=kind)
    except (RuntimeError, OSError, LookupError):  # what matplotlib says of TeX that fails, of files, and of fonts
        return False
    return True


@contextmanager
def ieee_style(*, latex: bool | None = None) -> Iterator[None]:
    """Set text in Computer Modern within the block; matplotlib's own settings come back after it.

    Args:
        latex: let LaTeX set the text; None does where it is found, else matplotlib sets it in the same fonts.
    """
    settings: Any = {
        "text.usetex": is_latex_available() if latex is None else latex,
        "font.family": ["cmr10", "DejaVu Serif"],  # the second one for letters that the first has not, as é
        "mathtext.fontset": "cm",
        "axes.formatter.use_mathtext": True,
        "axes.unicode_minus": False,
        "font.size": 8,
        "axes.linewidth": 0.5,
        "pdf.fonttype": 42,  # publishers refuse Type 3
    }
    if settings["text.usetex"]:
        settings |= {"font.family": "serif", "font.serif": ["Computer Modern Roman"]}
    with matplotlib.rc_context(settings):
        yield


def typeset(text: str) -> str:
    """Plain text as the fonts of `ieee_style` have it, to be called within it.

    Computer Modern Roman is older than Unicode: it has a dot where the underscore should be, and no minus sign.
    """
    further = {mark: rf"\{mark}" for mark in "%&#"} if matplotlib.rcParams["text.usetex"] else {}
    dash = {} if matplotlib.rcParams["text.usetex"] else {"\N{EN DASH}": "-"}
    table = {**MATHS, **further, **dash}
    return "".join(table.get(letter, letter) for letter in text)


def ieee_figure(width: float, height: float) -> Figure:
    """White figure of exactly so many inches, independent of pyplot and of any display."""
    figure = Figure(figsize=(width, height), facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def write_ieee(stem: str | Path, figure: Figure) -> list[Path]:
    """Write `<stem>.pdf` and `<stem>.png` (300 dpi), each atomically, at the figure's own size.

    Args:
        stem: path without an ending.
        figure: drawn within `ieee_style`.

    Returns:
        Both files.
    """
    files = [Path(f"{stem}.{ending}") for ending in ("pdf", "png")]
    with ieee_style(latex=any(text.get_usetex() for text in figure.texts)), _quiet():
        for file in files:
            with atomic_path(file) as temporary:
                figure.savefig(temporary, dpi=DPI)
    return files


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what fontTools says of every font, and of the dates in matplotlib's Computer Modern."""
    logger = logging.getLogger("fontTools")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)
