"""Shared style of all figures: colours, axes, titles, display orientation, and writing to files."""

from __future__ import annotations

import io
import math
import textwrap
from pathlib import Path
from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator
from numpy.typing import NDArray

from seewhy.io.atomic import atomic_path
from seewhy.io.geometry import Display

__all__ = [
    "GREY",
    "INK",
    "PALETTE",
    "TRUTH",
    "add_captions",
    "blank_figure",
    "log_axis",
    "png_bytes",
    "style_axes",
    "turn_upright",
    "write_figure",
]


def turn_upright(array: NDArray[Any], display: Display) -> NDArray[Any]:
    """Turn an image, mask or map to its display orientation.

    Args:
        array: [rows, columns] or [rows, columns, 3], as stored.
        display: display orientation of the data set.

    Returns:
        A contiguous array of the same values; `transpose` swaps its first two axes.

    Example:
        >>> turn_upright(np.array([[1, 2], [3, 4]]), Display(transpose=True, flip_rows=True)).tolist()
        [[2, 4], [1, 3]]
    """
    turned = np.swapaxes(array, 0, 1) if display.transpose else array
    rows = slice(None, None, -1 if display.flip_rows else 1)
    columns = slice(None, None, -1 if display.flip_columns else 1)
    return np.ascontiguousarray(turned[rows, columns])


INK = "#1f2328"
GREY = "#8b949e"
TRUTH = (0, 229, 255)
"""Colour of annotation outlines, distinct from all colours of the heat maps, also for the colour-blind."""
PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#b8ac00")
"""Colours that the colour-blind can distinguish (Okabe and Ito 2008; the yellow darkened for white paper)."""


def blank_figure(width: float, height: float) -> Figure:
    """White figure of this size in inches, independent of pyplot and of a display."""
    figure = Figure(figsize=(width, height), facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def style_axes(axes: Axes) -> Axes:
    """Remove the top and right side of the frame, and use light lines and small numbers."""
    axes.spines[["top", "right"]].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(GREY)
    axes.tick_params(colors=INK, labelsize=8, width=0.6)
    axes.grid(axis="both", color="#e6e8eb", linewidth=0.6)
    axes.set_axisbelow(True)
    return axes


def add_captions(figure: Figure, *, head: str, foot: str = "") -> Figure:
    """Add a title of one or more lines and small print at the bottom, with line breaks at the width of the figure."""
    width = figure.get_size_inches()[0]
    lines = [textwrap.fill(line, int(width / 0.092)) for line in head.split("\n")]
    figure.suptitle("\n".join(lines), fontsize=11, color=INK, x=0.01, ha="left")
    if foot:
        lines = [textwrap.fill(line, int(width / 0.068)) for line in foot.split("\n")]
        figure.supxlabel("\n".join(lines), fontsize=8, color=GREY, x=0.01, ha="left")
    return figure


def log_axis(axes: Axes, axis: Literal["x", "y"]) -> None:
    """Make the x or y axis logarithmic, with plain numbers that do not overlap.

    Call it after drawing, because the number of ticks depends on the range.
    """
    set_scale, target = (axes.set_xscale, axes.xaxis) if axis == "x" else (axes.set_yscale, axes.yaxis)
    set_scale("log")
    low, high = target.get_view_interval()
    decades = math.log10(high / low)
    # More numbers per decade if there is room for them.
    steps = ((2.5, (1.0,)), (1.2, (1.0, 3.0)), (0.6, (1.0, 2.0, 5.0)), (0.0, (1.0, 1.5, 2.0, 3.0, 5.0, 7.0)))
    subs = next(subs for least, subs in steps if decades >= least)
    target.set_major_locator(LogLocator(subs=subs, numticks=7))
    target.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    target.set_minor_locator(NullLocator())
    target.set_minor_formatter(NullFormatter())


def png_bytes(figure: Figure, *, dpi: int = 150) -> bytes:
    """PNG file of a figure in memory."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi)
    return buffer.getvalue()


def write_figure(path: str | Path, figure: Figure, *, dpi: int = 150) -> Path:
    """Write a figure in the format of the suffix (png, pdf, svg), atomically."""
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=dpi)
    return Path(path)
