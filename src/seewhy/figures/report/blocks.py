"""Blocks of an HTML page: text, notes, code, tables, score cards, definitions and pictures; all text is escaped."""

from __future__ import annotations

import base64
import html
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol
from urllib.parse import quote

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from seewhy.figures.labels import NONE
from seewhy.figures.style import png_bytes

__all__ = [
    "Block",
    "Code",
    "Definitions",
    "Facts",
    "NoteList",
    "Picture",
    "ReportTable",
    "ScoreCard",
    "ScoreCards",
    "Section",
    "Text",
]


class Block(Protocol):
    """A part of a section."""

    def html(self) -> str:
        """The block as HTML."""


@dataclass(frozen=True)
class Section:
    """Heading with its blocks.

    Attributes:
        heading: heading of the section, to which the page's table of contents links.
        blocks: in reading order.
        menu: short name in the table of contents; empty: the heading.
    """

    heading: str
    blocks: Sequence[Block]
    menu: str = ""


@dataclass(frozen=True)
class Text:
    """Plain text; empty lines separate paragraphs."""

    text: str

    def html(self) -> str:
        """The block as HTML."""
        return "".join(f"<p>{html.escape(part.strip())}</p>" for part in self.text.split("\n\n") if part.strip())


SHOWN_NOTES = 5
"""Longer lists of notes are folded after these."""


@dataclass(frozen=True)
class NoteList:
    """List of short notes, of which a long list is folded."""

    lines: Sequence[str]
    more: str = "more"
    """What the folded lines are, e.g. "warnings"."""

    def html(self) -> str:
        """The block as HTML."""
        items = [f"<li>{html.escape(line)}</li>" for line in self.lines]
        body = f"<ul>{''.join(items[:SHOWN_NOTES])}</ul>"
        if len(items) > SHOWN_NOTES:
            rest = f"<summary>{len(items) - SHOWN_NOTES} more {html.escape(self.more)}</summary>"
            body += f"<details>{rest}<ul>{''.join(items[SHOWN_NOTES:])}</ul></details>"
        return body


@dataclass(frozen=True)
class Code:
    """Preformatted text, such as a configuration; long text is folded under its caption."""

    text: str
    caption: str = ""

    def html(self) -> str:
        """The block as HTML."""
        body = f'<pre tabindex="0">{html.escape(self.text)}</pre>'
        if self.text.count("\n") < 15:
            return body
        return f"<details><summary>{html.escape(self.caption or 'show')}</summary>{body}</details>"


@dataclass(frozen=True)
class Facts:
    """Names with their values, in columns."""

    values: Mapping[str, str]

    def html(self) -> str:
        """The block as HTML."""
        items = "".join(
            f"<div><dt>{html.escape(name)}</dt><dd>{html.escape(value)}</dd></div>"
            for name, value in self.values.items()
        )
        return f'<dl class="facts">{items}</dl>'


FEW_COLUMNS, SOME_COLUMNS = 4, 8
"""Limits between tables that become lists on narrow, on medium, and already on wide screens."""


@dataclass(frozen=True)
class ReportTable:
    """Table of text cells; the first column names the row, columns of numbers are right-aligned, those of words left.

    Where the page is too narrow for its columns, each row becomes a list of headings and values.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    caption: str = ""
    quiet: Sequence[bool] = ()
    """Rows shown in grey, e.g. the floors."""
    links: Mapping[str, str] = field(default_factory=dict)
    """Column → anchor of its explanation in a `Definitions` block of the same page."""
    pages: Sequence[str | None] = ()
    """Page of each row, as a path below the folder of the report; None without one."""

    def html(self) -> str:
        """The block as HTML."""
        # The first column is aligned by the stylesheet.
        words = [False, *(_holds_words([row[k] for row in self.rows]) for k in range(1, len(self.columns)))]
        head = "".join(
            f'<th scope="col"{WORDS if is_text else ""}>{self._heading(name)}</th>'
            for name, is_text in zip(self.columns, words, strict=True)
        )
        lines = []
        for i, row in enumerate(self.rows):
            quiet = ' class="quiet"' if i < len(self.quiet) and self.quiet[i] else ""
            cells = [_cell(*cell) for cell in zip(self.columns[1:], row[1:], words[1:], strict=True)]
            page = self.pages[i] if i < len(self.pages) else None
            lines.append(f"<tr{quiet}>{_row_name(row[0], page)}{''.join(cells)}</tr>")
        caption = f"<caption>{html.escape(self.caption)}</caption>" if self.caption else ""
        body = f"<thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody>"
        count = len(self.columns)
        size = "few" if count <= FEW_COLUMNS else "some" if count <= SOME_COLUMNS else "many"
        return f'<div class="table {size}"><table>{caption}{body}</table></div>'

    def _heading(self, name: str) -> str:
        # Long names of scores may break after a slash.
        text, anchor = html.escape(name).replace("/", "/<wbr>"), self.links.get(name)
        return text if anchor is None else f'<a href="#{html.escape(anchor)}">{text}</a>'


INTERVAL = re.compile(r" (\[[^\[\]]*\])")
NUMBER = re.compile(r"\W*\d")
"""Beginning of a cell with a number, which may have a sign or a mark in front."""
WORDS = ' class="words"'


def _holds_words(cells: Sequence[str]) -> bool:
    """Whether no cell of a column is a number, and some are not empty."""
    return any(text not in ("", NONE) for text in cells) and not any(NUMBER.match(text) for text in cells)


def _row_name(text: str, page: str | None) -> str:
    """The first cell of a row, which leads to the page of the row if there is one."""
    shown = _mark_interval(text)
    # Quoted and below this folder: a name from elsewhere can be no other address.
    link = shown if page is None else f'<a href="./{html.escape(quote(page))}">{shown}</a>'
    return f'<th scope="row">{link}</th>'


def _mark_interval(text: str) -> str:
    """Text as HTML, with intervals that may break off."""
    return INTERVAL.sub(r' <span class="interval">\1</span>', html.escape(text))


def _cell(heading: str, text: str, is_text: bool) -> str:
    """A cell with the heading of its column, which narrow screens show next to it."""
    shown, label = _mark_interval(text), html.escape(heading)
    kind = ' class="none"' if text in ("", NONE) else WORDS if is_text else ""
    return f'<td{kind} data-label="{label}"><span>{shown}</span></td>'


@dataclass(frozen=True)
class ScoreCard:
    """A main score with what it must be compared with.

    Attributes:
        name: of the score.
        value: as text.
        interval: as text, empty without one.
        floor: the best score of a method that knows nothing, as a whole sentence; empty without one.
        clear: whether the whole interval is better than the floor; None if unknown.
    """

    name: str
    value: str
    interval: str = ""
    floor: str = ""
    clear: bool | None = None


@dataclass(frozen=True)
class ScoreCards:
    """Row of main scores."""

    cards: Sequence[ScoreCard]

    def html(self) -> str:
        """The block as HTML."""
        parts = []
        for card in self.cards:
            low = ' class="unclear"' if card.clear is False else ""
            lines = [
                f"<dt>{html.escape(card.name)}</dt>",
                f'<dd class="value">{html.escape(card.value)}</dd>',
                f"<dd>{html.escape(card.interval)}</dd>" if card.interval else "",
                f"<dd{low}>{html.escape(card.floor)}</dd>" if card.floor else "",
            ]
            parts.append(f"<div>{''.join(lines)}</div>")
        return f'<dl class="cards">{"".join(parts)}</dl>'


@dataclass(frozen=True)
class Definitions:
    """Terms with their meaning, to which headings of tables link."""

    entries: Mapping[str, tuple[str, str]]
    """Anchor → term and meaning."""

    def html(self) -> str:
        """The block as HTML."""
        items = "".join(
            f'<dt id="{html.escape(anchor)}">{html.escape(term)}</dt><dd>{html.escape(meaning)}</dd>'
            for anchor, (term, meaning) in self.entries.items()
        )
        return f'<dl class="terms">{items}</dl>'


@dataclass(frozen=True)
class Picture:
    """A figure, an RGB array [H, W, 3] uint8, a picture file, or the bytes of a PNG.

    Large pictures are stored as WebP, which takes about a fifth of the space.
    """

    source: Figure | NDArray[np.uint8] | Path | bytes
    caption: str = ""
    alt: str = ""
    """Description for those who do not see the picture; empty: the caption."""

    def html(self) -> str:
        """The block as HTML, with the picture inside."""
        kind, content, size = _shrink(*_read_picture(self.source))
        data = base64.b64encode(content).decode("ascii")
        below = f"<figcaption>{html.escape(self.caption)}</figcaption>" if self.caption else ""
        alt = html.escape(self.alt or self.caption)
        extent = "" if size is None else f' width="{size[0]}" height="{size[1]}"'
        return f'<figure><img alt="{alt}"{extent} src="data:image/{kind};base64,{data}">{below}</figure>'


LARGE = 60_000
"""Bytes of a picture from which on it is stored as WebP."""
WIDEST = 2000
"""Pixels of the widest picture, enough for a screen of twice the usual density."""


def _read_picture(source: Figure | NDArray[np.uint8] | Path | bytes) -> tuple[str, bytes]:
    """Image type and content of a picture."""
    if isinstance(source, bytes):
        return "png", source
    if isinstance(source, Path):
        kind = source.suffix.lower().lstrip(".").replace("jpg", "jpeg").replace("svg", "svg+xml")
        return kind, source.read_bytes()
    if isinstance(source, Figure):
        return "png", png_bytes(source)
    buffer = io.BytesIO()
    Image.fromarray(source).save(buffer, format="PNG")
    return "png", buffer.getvalue()


def _shrink(kind: str, content: bytes) -> tuple[str, bytes, tuple[int, int] | None]:
    """Type, content and size in pixels of a picture, as WebP if it is large; drawings in SVG stay as they are."""
    if kind == "svg+xml":
        return kind, content, None
    with Image.open(io.BytesIO(content)) as image:
        size = image.size
        if len(content) < LARGE:
            return kind, content, size
        pixels = image.convert("RGB")
    if size[0] > WIDEST:
        pixels = pixels.resize((WIDEST, round(size[1] * WIDEST / size[0])), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    pixels.save(buffer, format="WEBP", quality=86, method=4)
    return ("webp", buffer.getvalue(), pixels.size) if buffer.tell() < len(content) else (kind, content, size)
