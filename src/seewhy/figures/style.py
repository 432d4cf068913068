"""Shared style of all figures: colours, axes, titles, display orientation, and writing to files."""

from __future__ import annotations

import io
import logging
import math
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import matplotlib
import numpy as np
from annotated_types import Ge, Le
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
    "FigureOptions",
    "NotebookFigure",
    "add_captions",
    "blank_figure",
    "current_figure_options",
    "log_axis",
    "png_bytes",
    "silence_font_messages",
    "style_axes",
    "turn_upright",
    "use_figure_options",
    "write_copy",
    "write_figure",
]


@dataclass(frozen=True, kw_only=True)
class FigureOptions:
    """Options of all figures of a command.

    Attributes:
        format: `png` writes `<name>.png` alone; `pdf` or `svg` also write `<name>.pdf` or `<name>.svg`, with text as
            text. The PNG remains, because the report and the trackers show it.
        dpi: pixels per inch of PNG files, and of images within the others; None: 150, 300 for figures of papers, and
            100 for sheets of maps, which are laid out at 100 and keep every pixel of a picture then.
    """

    format: Literal["png", "pdf", "svg"] = "png"
    dpi: Annotated[int, Ge(50), Le(1200)] | None = None


DEFAULT = FigureOptions()
_CURRENT: ContextVar[FigureOptions] = ContextVar("figure_options", default=DEFAULT)


def current_figure_options() -> FigureOptions:
    """Options of the figures that are written now."""
    return _CURRENT.get()


@contextmanager
def use_figure_options(options: FigureOptions) -> Iterator[None]:
    """Write all figures of the block with these options; afterwards the earlier ones hold again.

    Example:
        >>> with use_figure_options(FigureOptions(format="pdf", dpi=300)):
        ...     current_figure_options().dpi
        300
        >>> current_figure_options().dpi is None
        True
    """
    token = _CURRENT.set(options)
    try:
        yield
    finally:
        _CURRENT.reset(token)


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


class NotebookFigure(Figure):
    """Figure that a notebook shows where it is the value of a cell; matplotlib does so only with pyplot.

    Example:
        >>> NotebookFigure(figsize=(1, 1))._repr_png_()[1:4]
        b'PNG'
    """

    def _repr_png_(self) -> bytes:
        """PNG file, by which a notebook shows the figure."""
        return png_bytes(self, dpi=NOTEBOOK_DPI)


def blank_figure(width: float, height: float) -> Figure:
    """White figure of this size in inches, independent of pyplot and of a display."""
    figure = NotebookFigure(figsize=(width, height), facecolor="white", layout="constrained")
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


NOTEBOOK_DPI = 110
"""Pixels per inch of a figure in a notebook."""
DPI = 150
"""Pixels per inch of a figure if the options give none."""
PRINT_DPI = 300
"""Pixels per inch of images within a PDF or SVG if the options give none."""
VECTOR_SETTINGS: Any = {"pdf.fonttype": 42, "svg.fonttype": "path", "svg.hashsalt": "seewhy"}
"""Whole TrueType fonts in a PDF (publishers reject Type 3), and the same bytes for the same figure."""
METADATA: dict[str, dict[str, Any]] = {"pdf": {"CreationDate": None}, "svg": {"Date": None}, "png": {}}


def png_bytes(figure: Figure, *, dpi: int = DPI) -> bytes:
    """PNG file of a figure in memory."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi)
    return buffer.getvalue()


def write_figure(path: str | Path, figure: Figure, *, dpi: int = DPI, formats: tuple[str, ...] = ("png",)) -> Path:
    """Write a figure as PNG, and in the format of the options next to it, each file atomically.

    Args:
        path: ends in `.png`; other formats have the same name with another suffix.
        figure: the figure.
        dpi: pixels per inch if the options give none.
        formats: those written whatever the options are.

    Returns:
        The PNG file.

    Example:
        >>> from seewhy.figures.style import FigureOptions, use_figure_options
        >>> with use_figure_options(FigureOptions(format="pdf")):
        ...     _ = write_figure("drawn/curve.png", blank_figure(2, 1))
        >>> sorted(path.name for path in Path("drawn").iterdir())
        ['curve.pdf', 'curve.png']
    """
    options = current_figure_options()
    for kind in dict.fromkeys((*formats, options.format)):
        _save(Path(path), figure, kind, options.dpi or (dpi if kind == "png" else max(dpi, PRINT_DPI)))
    return Path(path)


def write_copy(path: str | Path, draw: Callable[[], Figure]) -> None:
    """Write the copy of a PNG file in the format of the options; nothing if that is PNG.

    Args:
        path: the PNG file, which exists.
        draw: draws the same as a figure; called only if a copy is wanted.
    """
    options = current_figure_options()
    if options.format != "png":
        _save(Path(path), draw(), options.format, options.dpi or PRINT_DPI)


def _save(path: Path, figure: Figure, kind: str, dpi: int) -> None:
    final = path.with_suffix(f".{kind}")
    with atomic_path(final) as temporary, matplotlib.rc_context(VECTOR_SETTINGS), silence_font_messages():
        figure.savefig(temporary, format=kind, dpi=dpi, metadata=METADATA[kind])


@contextmanager
def silence_font_messages() -> Iterator[None]:
    """Hide the messages of fontTools about every font that it embeds."""
    logger = logging.getLogger("fontTools")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)
