"""A page of pictures in rows and columns with headings, one colour bar, and warnings that cannot be overlooked.

Text on pictures that are put together without matplotlib's layout, which is too slow for thousands of them.

Images and annotations brought to the size of a cell of a page.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from seewhy.figures.colours import DIVERGING, RGB, colour_table
from seewhy.figures.overlay import draw_outline
from seewhy.io.atomic import atomic_path

__all__ = [
    "Bar",
    "Cell",
    "Font",
    "draw_annotation",
    "empty_picture",
    "font",
    "hatch_pattern",
    "line_height",
    "resize_to_width",
    "sheet",
    "wrap_text",
    "write_sheet",
]

Font = ImageFont.FreeTypeFont


@lru_cache(maxsize=16)
def font(size: int, *, bold: bool = False) -> Font:
    """DejaVu Sans as matplotlib brings it along: it has the signs that Pillow's own font lacks (≥, –, ⚠)."""
    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / name), size)


def line_height(face: Font) -> int:
    """Pixels from one line of text to the next."""
    return round(face.size * 1.35)


def wrap_text(text: str, face: Font, width: int) -> list[str]:
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


INK, SOFT, AMBER, PAPER = (31, 35, 40), (89, 99, 110), (255, 196, 0), (255, 255, 255)
EDGE = (208, 213, 219)
MARGIN = 14
GAP = 14
"""Between two cells; a hatched frame lies in it."""
FRAME = 6
FOOT = FRAME + 5
NARROWEST = 330
"""The page's least inner width, so that a title above one small picture does not break at every word."""
LABEL = 190
"""Width of the text left of a row."""
BAR_LENGTH, BAR_THICK, BAR_ABOVE = 220, 14, 8
"""Of the colour bar; above and below it half a line of its numbers sticks out."""


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One picture with its heading."""

    picture: RGB
    """[H, W, 3] uint8, drawn as it is, pixel by pixel."""
    name: str = ""
    """Above it, bold."""
    note: str = ""
    """Under the name."""
    marked: bool = False
    """Framed with hatching: what it shows failed a check."""


@dataclass(frozen=True, kw_only=True)
class Bar:
    """The colour bar that all cells share."""

    scale: tuple[float, float]
    colormap: str = "inferno"
    unit: str = "attribution"
    """What the numbers are, written along the bar."""
    row: int = -1
    """The row beside which it begins, where there is room below."""


def sheet(
    rows: Sequence[Sequence[Cell]],
    *,
    title: str = "",
    warnings: Sequence[str] = (),
    labels: Sequence[str] = (),
    bar: Bar | None = None,
    foot: str = "",
) -> Image.Image:
    """Put cells on white paper.

    Args:
        rows: cells, top to bottom and left to right; a column is as wide as its widest picture.
        title: above everything; lines are broken at the page's width, so none is cut off.
        warnings: why the pictures are not to be believed, each in a hatched banner under the title.
        labels: one text left of each row, first line bold.
        bar: the colour bar, right of the cells.
        foot: small print at the bottom.
    """
    left = MARGIN + (LABEL + GAP if labels else 0)
    widths = _column_widths(rows)
    drawn_bar = None if bar is None else _bar(bar)
    right = left + sum(widths) + GAP * len(widths)
    inner = max(NARROWEST, right - MARGIN + (drawn_bar.width if drawn_bar else -GAP))
    head, small = _head(title, warnings, inner), _small_print(foot, inner)
    tops, bottom = _row_places(rows, widths, labels, start=MARGIN + head.height)
    if drawn_bar is not None and bar is not None:
        room = bottom - tops[bar.row] >= BAR_LENGTH
        bar_top = tops[bar.row] if room else max(tops[0], bottom - BAR_LENGTH)
        bottom = max(bottom, bar_top + BAR_LENGTH)
    page = Image.new("RGB", (inner + 2 * MARGIN, bottom + FOOT + small.height + MARGIN), PAPER)
    page.paste(head, (MARGIN, MARGIN))
    for i, (row, top) in enumerate(zip(rows, tops, strict=True)):
        if labels:
            _draw_text(ImageDraw.Draw(page), (MARGIN, top), labels[i], LABEL)
        _draw_row(page, row, widths, left=left, top=top)
    if drawn_bar is not None:
        page.paste(drawn_bar, (right, bar_top - BAR_ABOVE))
    page.paste(small, (MARGIN, bottom + FOOT))
    return page


def write_sheet(path: str | Path, page: Image.Image) -> Path:
    """Write a page as PNG, atomically."""
    with atomic_path(path) as temporary:
        page.save(temporary, format="PNG", compress_level=3)
    return Path(path)


def hatch_pattern(height: int, width: int) -> RGB:
    """Black and amber stripes, [height, width, 3] uint8: the sign of a map that failed a check."""
    stripe = (np.add.outer(np.arange(height), np.arange(width)) // 6) % 2 == 0
    return np.where(stripe[:, :, None], np.array(AMBER, np.uint8), np.array(INK, np.uint8))


def _column_widths(rows: Sequence[Sequence[Cell]]) -> list[int]:
    if not rows or not all(rows):
        raise ValueError("no pictures to put on the page; every row needs at least one cell")
    columns = max(len(row) for row in rows)
    return [max(row[i].picture.shape[1] for row in rows if i < len(row)) for i in range(columns)]


def _row_places(
    rows: Sequence[Sequence[Cell]], widths: Sequence[int], labels: Sequence[str], *, start: int
) -> tuple[list[int], int]:
    """Upper edge of every row's pictures, and the lower edge of the last row."""
    tops, y = [], start
    for i, row in enumerate(rows):
        tops.append(y + _head_height(row, widths))
        label = _text_height(labels[i], LABEL) if labels else 0
        y = tops[-1] + max(label, *(cell.picture.shape[0] for cell in row)) + GAP
    return tops, y - GAP


def _heading(cell: Cell, width: int) -> list[tuple[str, Font, tuple[int, int, int]]]:
    bold, plain = font(12, bold=True), font(11)
    names = [(line, bold, INK) for line in wrap_text(cell.name, bold, width)]
    return names + [(line, plain, SOFT) for line in wrap_text(cell.note, plain, width)]


def _head_height(row: Sequence[Cell], widths: Sequence[int]) -> int:
    heights = [
        sum(line_height(face) for _, face, _ in _heading(cell, width)) for cell, width in zip(row, widths, strict=False)
    ]
    return max(heights) + (8 if max(heights) else 0)


def _draw_row(page: Image.Image, row: Sequence[Cell], widths: Sequence[int], *, left: int, top: int) -> None:
    draw = ImageDraw.Draw(page)
    above = _head_height(row, widths)
    for cell, width in zip(row, widths, strict=False):
        y = top - above
        for line, face, ink in _heading(cell, width):
            draw.text((left, y), line, fill=ink, font=face)
            y += line_height(face)
        height, across = cell.picture.shape[:2]
        # Just outside, so that a white map has an edge and no pixel of it is lost.
        draw.rectangle((left - 1, top - 1, left + across, top + height), outline=EDGE)
        if cell.marked:
            frame = hatch_pattern(height + 2 * FRAME, across + 2 * FRAME)
            page.paste(Image.fromarray(frame), (left - FRAME, top - FRAME))
        page.paste(Image.fromarray(np.ascontiguousarray(cell.picture)), (left, top))
        left += width + GAP


def _text_lines(text: str, width: int) -> list[tuple[str, Font]]:
    faces = [font(12, bold=i == 0) for i in range(text.count("\n") + 1)]
    return [
        (line, face)
        for part, face in zip(text.split("\n"), faces, strict=True)
        for line in wrap_text(part, face, width)
    ]


def _text_height(text: str, width: int) -> int:
    return sum(line_height(face) for _, face in _text_lines(text, width))


def _draw_text(draw: ImageDraw.ImageDraw, place: tuple[int, int], text: str, width: int) -> None:
    x, y = place
    for line, face in _text_lines(text, width):
        draw.text((x, y), line, fill=INK, font=face)
        y += line_height(face)


def _head(title: str, warnings: Sequence[str], width: int) -> Image.Image:
    """The title's lines and the banners."""
    face, bold = font(14, bold=True), font(12, bold=True)
    lines = wrap_text(title, face, width)
    banners = [wrap_text(f"⚠ {text}", bold, width - 34) for text in warnings]
    heights = [len(banner) * line_height(bold) + 10 for banner in banners]
    titled = len(lines) * line_height(face) + (8 if lines else 0)
    # Room below the last banner for the frame of a marked cell.
    page = Image.new("RGB", (width, max(1, titled + sum(heights) + 6 * len(heights) + (6 if heights else 0))), PAPER)
    draw = ImageDraw.Draw(page)
    for i, line in enumerate(lines):
        draw.text((0, i * line_height(face)), line, fill=INK, font=face)
    y = titled
    for banner, height in zip(banners, heights, strict=True):
        page.paste(Image.fromarray(hatch_pattern(height, width)), (0, y))
        draw.rectangle((14, y + 2, width - 3, y + height - 3), fill=(255, 240, 200))
        for i, line in enumerate(banner):
            draw.text((22, y + 4 + i * line_height(bold)), line, fill=INK, font=bold)
        y += height + 6
    return page


def _small_print(text: str, width: int) -> Image.Image:
    face = font(11)
    lines = wrap_text(text, face, width)
    page = Image.new("RGB", (width, max(1, len(lines) * line_height(face))), PAPER)
    for i, line in enumerate(lines):
        ImageDraw.Draw(page).text((0, i * line_height(face)), line, fill=SOFT, font=face)
    return page


def _bar(bar: Bar) -> Image.Image:
    """Colour bar with numbers at its right and its unit along it."""
    table, face = colour_table(bar.colormap), font(11)
    shares = (0.0, 0.25, 0.5, 0.75, 1.0)
    texts = [_number(bar, share) for share in shares]
    wide = max(int(face.getlength(text)) for text in texts) + 1
    lines = wrap_text(bar.unit, face, BAR_LENGTH + 2 * BAR_ABOVE - 4)
    width = BAR_THICK + 8 + wide + 8 + line_height(face) * len(lines)
    page = Image.new("RGB", (width, BAR_LENGTH + 2 * BAR_ABOVE), PAPER)
    ramp = table[np.linspace(len(table) - 1, 0, BAR_LENGTH).round().astype(np.intp)]
    page.paste(Image.fromarray(np.repeat((ramp[:, None] + 0.5).astype(np.uint8), BAR_THICK, axis=1)), (0, BAR_ABOVE))
    draw = ImageDraw.Draw(page)
    draw.rectangle((0, BAR_ABOVE, BAR_THICK - 1, BAR_ABOVE + BAR_LENGTH - 1), outline=(160, 166, 173))
    for share, text in zip(shares, texts, strict=True):
        y = BAR_ABOVE + round((1 - share) * (BAR_LENGTH - 1))
        draw.line((BAR_THICK, y, BAR_THICK + 3, y), fill=SOFT)
        draw.text((BAR_THICK + 7, y), text, fill=INK, font=face, anchor="lm")
    along = Image.new("RGB", (page.height, line_height(face) * max(1, len(lines))), PAPER)
    for i, line in enumerate(lines):
        ImageDraw.Draw(along).text((page.height // 2, i * line_height(face)), line, fill=SOFT, font=face, anchor="ma")
    page.paste(along.rotate(90, expand=True), (width - along.height, 0))
    return page


def _number(bar: Bar, share: float) -> str:
    """A tick's number; the ends stand for all that lies beyond them."""
    low, high = bar.scale
    text = f"{low + share * (high - low):.3g}".replace("-", "\N{MINUS SIGN}")
    if share == 1.0:
        return f"≥ {text}"
    return f"≤ {text}" if share == 0.0 and bar.colormap == DIVERGING else text


Array = NDArray[Any]


def resize_to_width(array: Array, width: int, *, aspect: float = 1.0, limit: float = 1.6) -> Array:
    """Array [H, W] or [H, W, 3] resized to a width, its shape kept.

    Args:
        array: uint8 stays uint8, everything else becomes float32; both are interpolated linearly.
        width: in pixels; less where the picture would otherwise be higher than `limit` widths.
        aspect: height of a pixel in pixel widths (the rows' spacing over the columns').
        limit: greatest height in widths.
    """
    rows, columns = array.shape[:2]
    factor = min(width / columns, limit * width / (rows * aspect))
    size = (max(1, round(columns * factor)), max(1, round(rows * aspect * factor)))
    if size == (columns, rows):
        return array
    kept = array if array.dtype == np.uint8 else array.astype(np.float32)
    return np.asarray(Image.fromarray(kept).resize(size, Image.Resampling.BILINEAR))


def draw_annotation(picture: RGB, mask: Array | None) -> RGB:
    """A copy with the outline of an annotation of any size drawn in; the picture itself where there is none.

    Args:
        picture: [H, W, 3].
        mask: [h, w], not zero is annotated; brought to the picture's size.
    """
    if mask is None:
        return picture
    height, width = picture.shape[:2]
    resized = Image.fromarray((np.asarray(mask) > 0).astype(np.uint8)).resize((width, height), Image.Resampling.NEAREST)
    return draw_outline(picture, np.asarray(resized))


def empty_picture(side: int, text: str) -> RGB:
    """A light square [side, side, 3] that says why it is empty, e.g. "not given"."""
    page = Image.new("RGB", (side, side), (240, 242, 245))
    draw = ImageDraw.Draw(page)
    draw.line((0, 0, side, side), fill=(208, 213, 219))
    draw.line((0, side, side, 0), fill=(208, 213, 219))
    face = font(13 if side > 150 else 11)
    half = face.getlength(text) / 2 + 6
    draw.rectangle((side / 2 - half, side / 2 - 12, side / 2 + half, side / 2 + 12), fill=(240, 242, 245))
    draw.text((side / 2, side / 2), text, fill=(89, 99, 110), font=face, anchor="mm")
    return np.asarray(page)
