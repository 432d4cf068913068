"""Sheets of pictures in rows and columns with headings, one colour bar and hatched warnings.

Sheets are drawn with Pillow, because matplotlib's layout is too slow for thousands of pictures, and because every
picture keeps its pixels. A PDF or SVG of a sheet is drawn with matplotlib from the same layout.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from seewhy.figures.colours import DIVERGING, RGB, colour_table
from seewhy.figures.page import PIXELS_PER_INCH, Colour, Font, Page, font, line_height
from seewhy.figures.style import current_figure_options, write_copy
from seewhy.io.atomic import atomic_path

__all__ = [
    "Bar",
    "Cell",
    "empty_picture",
    "hatch_pattern",
    "sheet",
    "wrap_text",
    "write_sheet",
]


def wrap_text(text: str, face: Font, width: int) -> list[str]:
    """Break a text into lines of limited width; a word that is too long (an id) is broken as well.

    Args:
        text: line breaks in it are kept.
        face: font of the text.
        width: largest width in pixels.

    Returns:
        The lines; empty for an empty text.
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
                cut = _break_position(line, face, width)
                lines.append(line[:cut])
                line = line[cut:]
        lines.append(line)
    return lines


def _break_position(word: str, face: Font, width: int) -> int:
    """Number of letters that fit, up to a separator if there is one in the second half of them."""
    fits = next(n for n in range(len(word) - 1, 0, -1) if n == 1 or face.getlength(word[:n]) <= width)
    separator = max(word.rfind(sign, 0, fits) for sign in "_-./") + 1
    return separator if separator > fits // 2 else fits


INK, SOFT, AMBER = (31, 35, 40), (89, 99, 110), (255, 196, 0)
EDGE = (208, 213, 219)
MARGIN = 14
GAP = 14
"""Pixels between two cells, with room for a hatched frame."""
FRAME = 6
FOOT = FRAME + 5
NARROWEST = 330
"""Smallest inner width of a page, so that the title of one small picture does not break at every word."""
LABEL = 190
"""Width of the text left of a row."""
BAR_LENGTH, BAR_THICK, BAR_ABOVE = 220, 14, 8
"""Size of the colour bar, and the space above and below it for half a line of numbers."""


@dataclass(frozen=True, kw_only=True)
class Cell:
    """Picture with its heading."""

    picture: RGB
    """[H, W, 3] uint8, drawn pixel by pixel."""
    name: str = ""
    """Bold text above the picture."""
    note: str = ""
    """Text below the name."""
    marked: bool = False
    """Draw a hatched frame, the sign of a map that failed a check."""


@dataclass(frozen=True, kw_only=True)
class Bar:
    """Colour bar shared by all cells."""

    scale: tuple[float, float]
    colormap: str = "inferno"
    unit: str = "attribution"
    """Text along the bar: meaning of the numbers."""
    row: int = -1
    """Row at which the bar begins, if there is enough room below."""


def sheet(
    rows: Sequence[Sequence[Cell]],
    *,
    title: str = "",
    warnings: Sequence[str] = (),
    labels: Sequence[str] = (),
    bar: Bar | None = None,
    foot: str = "",
) -> Page:
    """Arrange cells on a white page.

    Args:
        rows: rows of cells; a column is as wide as its widest picture.
        title: title of the page, broken into lines.
        warnings: reasons not to trust the pictures, each in a hatched banner below the title.
        labels: text to the left of each row, first line bold.
        bar: colour bar to the right of the cells.
        foot: small print at the bottom.

    Example:
        >>> picture = np.zeros((100, 80, 3), np.uint8)
        >>> rows = [[Cell(picture=picture, name="image"), Cell(picture=picture, name="map")]]
        >>> narrow, wide = sheet(rows), sheet(rows, bar=Bar(scale=(0, 1)), labels=["sample 1"])
        >>> narrow.width, narrow.height, wide.width > narrow.width
        (358, 165, True)
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
    page = Page(inner + 2 * MARGIN, bottom + FOOT + small.height + MARGIN)
    page.add_page((MARGIN, MARGIN), head)
    for i, (row, top) in enumerate(zip(rows, tops, strict=True)):
        if labels:
            _add_label(page, (MARGIN, top), labels[i], LABEL)
        _add_row(page, row, widths, left=left, top=top)
    if drawn_bar is not None:
        page.add_page((right, bar_top - BAR_ABOVE), drawn_bar)
    page.add_page((MARGIN, bottom + FOOT), small)
    return page


def write_sheet(path: str | Path, page: Page) -> Path:
    """Write a page as PNG, and in the format of `seewhy.figures.style` next to it, each file atomically."""
    dpi = current_figure_options().dpi or PIXELS_PER_INCH
    with atomic_path(path) as temporary:
        page.to_image(dpi=dpi).save(temporary, format="PNG", compress_level=3, dpi=(dpi, dpi))
    write_copy(path, page.to_figure)
    return Path(path)


def hatch_pattern(height: int, width: int) -> RGB:
    """Black and amber stripes [height, width, 3] uint8, the sign of a map that failed a check."""
    stripe = (np.add.outer(np.arange(height), np.arange(width)) // 6) % 2 == 0
    return np.where(stripe[:, :, None], np.array(AMBER, np.uint8), np.array(INK, np.uint8))


def _column_widths(rows: Sequence[Sequence[Cell]]) -> list[int]:
    if not rows or not all(rows):
        raise ValueError("no pictures to arrange; every row needs at least one cell")
    columns = max(len(row) for row in rows)
    return [max(row[i].picture.shape[1] for row in rows if i < len(row)) for i in range(columns)]


def _row_places(
    rows: Sequence[Sequence[Cell]], widths: Sequence[int], labels: Sequence[str], *, start: int
) -> tuple[list[int], int]:
    """Upper edge of the pictures of each row, and the lower edge of the last row."""
    tops, y = [], start
    for i, row in enumerate(rows):
        tops.append(y + _head_height(row, widths))
        label = _text_height(labels[i], LABEL) if labels else 0
        y = tops[-1] + max(label, *(cell.picture.shape[0] for cell in row)) + GAP
    return tops, y - GAP


def _heading(cell: Cell, width: int) -> list[tuple[str, Font, Colour]]:
    bold, plain = font(12, bold=True), font(11)
    names = [(line, bold, INK) for line in wrap_text(cell.name, bold, width)]
    return names + [(line, plain, SOFT) for line in wrap_text(cell.note, plain, width)]


def _head_height(row: Sequence[Cell], widths: Sequence[int]) -> int:
    heights = [
        sum(line_height(face) for _, face, _ in _heading(cell, width)) for cell, width in zip(row, widths, strict=False)
    ]
    return max(heights) + (8 if max(heights) else 0)


def _add_row(page: Page, row: Sequence[Cell], widths: Sequence[int], *, left: int, top: int) -> None:
    above = _head_height(row, widths)
    for cell, width in zip(row, widths, strict=False):
        y = top - above
        for line, face, ink in _heading(cell, width):
            page.add_text((left, y), line, size=round(face.size), bold=face is font(12, bold=True), ink=ink)
            y += line_height(face)
        height, across = cell.picture.shape[:2]
        # Drawn just outside the picture, so that a white map has an edge and no pixel is hidden.
        page.add_box((left - 1, top - 1, left + across, top + height), outline=EDGE)
        if cell.marked:
            page.add_picture((left - FRAME, top - FRAME), hatch_pattern(height + 2 * FRAME, across + 2 * FRAME))
        page.add_picture((left, top), cell.picture)
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


def _add_label(page: Page, place: tuple[int, int], text: str, width: int) -> None:
    x, y = place
    for line, face in _text_lines(text, width):
        page.add_text((x, y), line, size=12, bold=face is font(12, bold=True))
        y += line_height(face)


def _head(title: str, warnings: Sequence[str], width: int) -> Page:
    """Title lines and warning banners."""
    face, bold = font(14, bold=True), font(12, bold=True)
    lines = wrap_text(title, face, width)
    banners = [wrap_text(f"⚠ {text}", bold, width - 34) for text in warnings]
    heights = [len(banner) * line_height(bold) + 10 for banner in banners]
    titled = len(lines) * line_height(face) + (8 if lines else 0)
    # Room for the frame of a marked cell below the last banner.
    page = Page(width, max(1, titled + sum(heights) + 6 * len(heights) + (6 if heights else 0)))
    for i, line in enumerate(lines):
        page.add_text((0, i * line_height(face)), line, size=14, bold=True)
    y = titled
    for banner, height in zip(banners, heights, strict=True):
        page.add_picture((0, y), hatch_pattern(height, width))
        page.add_box((14, y + 2, width - 3, y + height - 3), fill=(255, 240, 200))
        for i, line in enumerate(banner):
            page.add_text((22, y + 4 + i * line_height(bold)), line, size=12, bold=True)
        y += height + 6
    return page


def _small_print(text: str, width: int) -> Page:
    face = font(11)
    lines = wrap_text(text, face, width)
    page = Page(width, max(1, len(lines) * line_height(face)))
    for i, line in enumerate(lines):
        page.add_text((0, i * line_height(face)), line, size=11, ink=SOFT)
    return page


def _bar(bar: Bar) -> Page:
    """Colour bar with numbers on the right and the unit along it."""
    table, face = colour_table(bar.colormap), font(11)
    shares = (0.0, 0.25, 0.5, 0.75, 1.0)
    texts = [_number(bar, share) for share in shares]
    wide = max(int(face.getlength(text)) for text in texts) + 1
    lines = wrap_text(bar.unit, face, BAR_LENGTH + 2 * BAR_ABOVE - 4)
    page = Page(BAR_THICK + 8 + wide + 8 + line_height(face) * len(lines), BAR_LENGTH + 2 * BAR_ABOVE)
    ramp = table[np.linspace(len(table) - 1, 0, BAR_LENGTH).round().astype(np.intp)]
    page.add_picture((0, BAR_ABOVE), np.repeat((ramp[:, None] + 0.5).astype(np.uint8), BAR_THICK, axis=1))
    page.add_box((0, BAR_ABOVE, BAR_THICK - 1, BAR_ABOVE + BAR_LENGTH - 1), outline=(160, 166, 173))
    for share, text in zip(shares, texts, strict=True):
        y = BAR_ABOVE + round((1 - share) * (BAR_LENGTH - 1))
        page.add_line((BAR_THICK, y, BAR_THICK + 3, y), ink=SOFT)
        page.add_text((BAR_THICK + 7, y), text, size=11, anchor="lm")
    for i, line in enumerate(lines):
        x = page.width - line_height(face) * (len(lines) - i)
        page.add_text((x, page.height / 2), line, size=11, ink=SOFT, turned=True)
    return page


def _number(bar: Bar, share: float) -> str:
    """Number of a tick; at the ends with ≥ or ≤, because values beyond the scale share their colour."""
    low, high = bar.scale
    text = f"{low + share * (high - low):.3g}".replace("-", "\N{MINUS SIGN}")
    if share == 1.0:
        return f"≥ {text}"
    return f"≤ {text}" if share == 0.0 and bar.colormap == DIVERGING else text


def empty_picture(side: int, text: str) -> RGB:
    """Light square [side, side, 3] with the reason why it is empty, e.g. "not given"."""
    page = Image.new("RGB", (side, side), (240, 242, 245))
    draw = ImageDraw.Draw(page)
    draw.line((0, 0, side, side), fill=(208, 213, 219))
    draw.line((0, side, side, 0), fill=(208, 213, 219))
    face = font(13 if side > 150 else 11)
    half = face.getlength(text) / 2 + 6
    draw.rectangle((side / 2 - half, side / 2 - 12, side / 2 + half, side / 2 + 12), fill=(240, 242, 245))
    draw.text((side / 2, side / 2), text, fill=(89, 99, 110), font=face, anchor="mm")
    return np.asarray(page)
