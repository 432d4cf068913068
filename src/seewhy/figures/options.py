"""Options of all figures of a command: format and resolution of the files."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Ge, Le

__all__ = ["FigureOptions", "current_figure_options", "use_figure_options"]


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
