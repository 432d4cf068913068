"""The look that all figures share, and how a figure becomes a file."""

from __future__ import annotations

import io
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from seewhy.io.atomic import atomic_path

__all__ = ["GREY", "INK", "PALETTE", "TRUTH", "bare", "blank_figure", "png_bytes", "write_figure"]

INK = "#1f2328"
GREY = "#8b949e"
TRUTH = (0, 229, 255)
"""Colour of an annotated contour: no colour of the heat maps comes near it, to the colour-blind neither."""
PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#b8ac00")
"""Colours that the colour-blind can tell apart (Okabe and Ito 2008; the yellow darkened for white paper)."""


def blank_figure(width: float, height: float) -> Figure:
    """White figure of so many inches with a canvas of its own, independent of pyplot and of any display."""
    figure = Figure(figsize=(width, height), facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def bare(axes: Axes) -> Axes:
    """Take away the frame's top and right side and calm the rest."""
    axes.spines[["top", "right"]].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(GREY)
    axes.tick_params(colors=INK, labelsize=8, width=0.6)
    axes.grid(axis="both", color="#e6e8eb", linewidth=0.6)
    axes.set_axisbelow(True)
    return axes


def png_bytes(figure: Figure, *, dpi: int = 150) -> bytes:
    """The figure as a PNG file in memory."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi)
    return buffer.getvalue()


def write_figure(path: str | Path, figure: Figure, *, dpi: int = 150) -> Path:
    """Write the figure in the format of the path's suffix (png, pdf, svg), atomically."""
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=dpi)
    return Path(path)
