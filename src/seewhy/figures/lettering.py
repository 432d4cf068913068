"""Text on pictures that are put together without matplotlib's layout, which is too slow for thousands of them."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import matplotlib
from PIL import ImageFont

__all__ = ["Font", "font", "line_height", "wrapped"]

Font = ImageFont.FreeTypeFont


@lru_cache(maxsize=16)
def font(size: int, *, bold: bool = False) -> Font:
    """DejaVu Sans as matplotlib brings it along: it has the signs that Pillow's own font lacks (≥, –, ⚠)."""
    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / name), size)


def line_height(face: Font) -> int:
    """Pixels from one line of text to the next."""
    return round(face.size * 1.35)


def wrapped(text: str, face: Font, width: int) -> list[str]:
    """Break a text into lines of at most so many pixels; a word that is too long (an id) is broken inside.

    Args:
        text: its own line breaks are kept.
        face: the font that it will be drawn in.
        width: in pixels.

    Returns:
        The lines; none for an empty text.
    """
    lines: list[str] = []
    for paragraph in text.splitlines():
        line = ""
        for word in paragraph.split():
            longer = f"{line} {word}".strip()
            if line and face.getlength(longer) > width:
                lines.append(line)
                longer = word
            line = longer
            while face.getlength(line) > width and len(line) > 1:
                cut = _cut(line, face, width)
                lines.append(line[:cut])
                line = line[cut:]
        lines.append(line)
    return lines


def _cut(word: str, face: Font, width: int) -> int:
    """How many letters of a word fit; rather up to a separator, where one is in the second half."""
    fits = next(n for n in range(len(word) - 1, 0, -1) if n == 1 or face.getlength(word[:n]) <= width)
    separator = max(word.rfind(sign, 0, fits) for sign in "_-./") + 1
    return separator if separator > fits // 2 else fits
