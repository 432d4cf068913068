"""Marks on pictures of slices: sides of the body, and a bar of known length."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from seewhy.figures.colours import RGB
from seewhy.figures.page import Font, font
from seewhy.io.geometry import Display

__all__ = ["Marks", "draw_marks", "make_marks"]

LENGTHS = (1, 2, 5, 10, 20, 50, 100)
"""Lengths of a bar in millimetres."""
SHARE = 0.3
"""Longest bar as a share of the picture's width."""
NARROWEST = 90
"""Narrower pictures get no marks, which would hide them."""
WHITE, BLACK = (255, 255, 255), (0, 0, 0)


@dataclass(frozen=True, kw_only=True)
class Marks:
    """What is known of a picture's place in the body.

    Attributes:
        sides: sides of the body at its left and right, e.g. `("R", "L")`; None if unknown.
        columns: columns of the array that it was drawn from.
        mm: millimetres of one of these columns; None if unknown.
        plane: plane of the body, or empty.
    """

    sides: tuple[str, str] | None = None
    columns: int = 0
    mm: float | None = None
    plane: str = ""


def make_marks(display: Display, shape: Sequence[int], spacing: Sequence[float] | None) -> Marks:
    """Marks of a slice that is drawn upright.

    Args:
        display: how it is turned.
        shape: rows and columns as stored.
        spacing: millimetres between rows and between columns as stored; None or NaN if unknown.

    Example:
        >>> make_marks(Display(transpose=True, plane="axial"), (240, 155), (1.0, 2.0))
        Marks(sides=('R', 'L'), columns=240, mm=1.0, plane='axial')
    """
    across = 0 if display.transpose else 1
    known = spacing is not None and len(spacing) == 2 and np.isfinite(spacing[across]) and spacing[across] > 0
    mm = float(spacing[across]) if known and spacing is not None else None
    return Marks(sides=display.sides, columns=int(shape[across]), mm=mm, plane=display.plane)


def draw_marks(picture: RGB, marks: Marks | None) -> RGB:
    """Copy of a picture [H, W, 3] with its marks; unchanged without any, or if it is too small for them."""
    height, width = picture.shape[:2]
    if marks is None or min(height, width) < NARROWEST or (marks.sides is None and not marks.mm):
        return picture
    page = Image.fromarray(np.ascontiguousarray(picture))
    draw, face = ImageDraw.Draw(page), font(12, bold=True)
    if marks.sides is not None:
        for text, x, anchor in ((marks.sides[0], 4, "lm"), (marks.sides[1], width - 4, "rm")):
            _write(draw, (x, height // 2), text, face, anchor)
    if marks.mm and marks.columns:
        _draw_bar(draw, width / (marks.columns * marks.mm), width, height)
    return np.asarray(page)


def _draw_bar(draw: ImageDraw.ImageDraw, pixels_per_mm: float, width: int, height: int) -> None:
    """Draw the longest bar that takes no more than its share of the width, with its length above it."""
    fitting = [length for length in LENGTHS if length * pixels_per_mm <= SHARE * width]
    if not fitting:
        return
    end, y = 6 + round(fitting[-1] * pixels_per_mm), height - 6
    draw.rectangle((5, y - 3, end + 1, y + 1), fill=BLACK)
    draw.rectangle((6, y - 2, end, y), fill=WHITE)
    _write(draw, (6, y - 5), f"{fitting[-1]} mm", font(10), "ld")


def _write(draw: ImageDraw.ImageDraw, place: tuple[int, int], text: str, face: Font, anchor: str) -> None:
    """Write white text with a dark edge, which is legible on any picture."""
    draw.text(place, text, fill=WHITE, font=face, anchor=anchor, stroke_width=1, stroke_fill=BLACK)
