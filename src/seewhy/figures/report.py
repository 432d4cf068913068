"""HTML report of a run in one file, with the pictures inside; needs no installation and no network."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from seewhy.figures.style import png_bytes
from seewhy.io.atomic import atomic_path

__all__ = ["Block", "Code", "Definitions", "Picture", "ReportTable", "Section", "Text", "write_report"]


@dataclass(frozen=True)
class Text:
    """Plain text; empty lines separate paragraphs."""

    text: str

    def html(self) -> str:
        """The block as HTML."""
        return "".join(f"<p>{html.escape(part.strip())}</p>" for part in self.text.split("\n\n") if part.strip())


@dataclass(frozen=True)
class Code:
    """Preformatted text, such as a configuration; long text is folded under its caption."""

    text: str
    caption: str = ""

    def html(self) -> str:
        """The block as HTML."""
        body = f"<pre>{html.escape(self.text)}</pre>"
        if self.text.count("\n") < 15:
            return body
        return f"<details><summary>{html.escape(self.caption or 'show')}</summary>{body}</details>"


@dataclass(frozen=True)
class ReportTable:
    """Table of text cells; the first column names the row, the others are right-aligned."""

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    caption: str = ""
    quiet: Sequence[bool] = ()
    """Rows shown in grey, e.g. the floors."""
    links: Mapping[str, str] = field(default_factory=dict)
    """Column → anchor of its explanation in a `Definitions` block of the same page."""

    def html(self) -> str:
        """The block as HTML."""
        head = "".join(f"<th>{self._heading(name)}</th>" for name in self.columns)
        lines = []
        for i, row in enumerate(self.rows):
            quiet = ' class="quiet"' if i < len(self.quiet) and self.quiet[i] else ""
            lines.append(f"<tr{quiet}>" + "".join(map(_cell, self.columns, row)) + "</tr>")
        caption = f"<caption>{html.escape(self.caption)}</caption>" if self.caption else ""
        body = f"<thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody>"
        return f'<div class="wide"><table>{caption}{body}</table></div>'

    def _heading(self, name: str) -> str:
        # Long names of scores may break after a slash.
        text, anchor = html.escape(name).replace("/", "/<wbr>"), self.links.get(name)
        return text if anchor is None else f'<a href="#{html.escape(anchor)}">{text}</a>'


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
        return f"<dl>{items}</dl>"


def _cell(heading: str, text: str) -> str:
    """A cell with the heading of its column, which narrow screens show next to it."""
    return f'<td data-label="{html.escape(heading)}">{html.escape(text)}</td>'


@dataclass(frozen=True)
class Picture:
    """A figure, an RGB array [H, W, 3] uint8, a picture file, or the bytes of a PNG."""

    source: Figure | NDArray[np.uint8] | Path | bytes
    caption: str = ""

    def html(self) -> str:
        """The block as HTML, with the picture inside."""
        kind, content = _picture(self.source)
        data = base64.b64encode(content).decode("ascii")
        caption = html.escape(self.caption)
        below = f"<figcaption>{caption}</figcaption>" if caption else ""
        return f'<figure><img alt="{caption}" src="data:image/{kind};base64,{data}">{below}</figure>'


Block = Text | Code | ReportTable | Definitions | Picture


@dataclass(frozen=True)
class Section:
    """Heading with its blocks."""

    heading: str
    blocks: Sequence[Block]


def write_report(
    path: str | Path,
    *,
    title: str,
    sections: Sequence[Section],
    facts: Mapping[str, str] | None = None,
    warnings: Sequence[str] = (),
) -> Path:
    """Write the report as one self-contained HTML file, atomically; all text is escaped.

    Args:
        path: output file, e.g. `<run folder>/report.html`.
        title: title of the page.
        sections: sections in reading order, results first.
        facts: name → value of short facts below the title (date, version, hashes).
        warnings: what a reader must know before trusting a number, e.g. "phantom data"; shown on top.

    Example:
        >>> blocks = [Text("Trained on two patients."), ReportTable(["", "Dice"], [["refined", "0.81"]])]
        >>> path = write_report("report.html", title="My run", sections=[Section("Results", blocks)])
        >>> ">0.81</td>" in path.read_text()
        True
    """
    notes = "".join(f'<p class="warning">{html.escape(text)}</p>' for text in warnings)
    small = "".join(
        f"<span><b>{html.escape(name)}</b> {html.escape(value)}</span>" for name, value in (facts or {}).items()
    )
    parts = [
        f"<section><h2>{html.escape(section.heading)}</h2>{''.join(block.html() for block in section.blocks)}</section>"
        for section in sections
    ]
    page = PAGE.format(title=html.escape(title), style=STYLE, facts=small, warnings=notes, sections="\n".join(parts))
    with atomic_path(path) as temporary:
        temporary.write_text(page, encoding="utf-8")
    return Path(path)


def _picture(source: Figure | NDArray[np.uint8] | Path | bytes) -> tuple[str, bytes]:
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


STYLE = """
:root{--ink:#1f2328;--soft:#59636e;--line:#d8dee4;--paper:#fff;--shade:#f6f8fa;--warn:#fff4d6;--edge:#d4a72c}
@media(prefers-color-scheme:dark){:root{--ink:#e6edf3;--soft:#9198a1;--line:#31383f;--paper:#0d1117;
--shade:#161b22;--warn:#2b2411;--edge:#9e7a1c}}
*{box-sizing:border-box}
body{margin:0 auto;max-width:1100px;padding:2rem 1.2rem 4rem;background:var(--paper);color:var(--ink);
font:16px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif}
h1{font-size:1.7rem;line-height:1.25;margin:0 0 .4rem}
h2{font-size:1.2rem;margin:2.4rem 0 .8rem;padding-bottom:.3rem;border-bottom:1px solid var(--line)}
.facts{display:flex;flex-wrap:wrap;gap:.2rem 1.4rem;color:var(--soft);font-size:.86rem}
.warning{background:var(--warn);border-left:4px solid var(--edge);padding:.6rem .9rem;margin:1rem 0}
.wide{overflow-x:auto;margin:1rem 0}
table{border-collapse:collapse;font-size:.88rem;font-variant-numeric:tabular-nums}
caption{caption-side:bottom;text-align:left;color:var(--soft);padding-top:.5rem}
th,td{padding:.32rem .6rem;text-align:right;border-bottom:1px solid var(--line);vertical-align:top}
th{white-space:normal;vertical-align:bottom}
th:first-child,td:first-child{text-align:left;padding-left:0}
tr.quiet{color:var(--soft)}
@media(max-width:640px){.wide table,.wide tbody,.wide tr,.wide td{display:block;width:100%}
.wide thead{display:none}.wide caption{display:block}
.wide tr{border-bottom:2px solid var(--line);padding:.4rem 0}
.wide td{display:flex;justify-content:space-between;gap:1rem;padding:.12rem 0;border:0;white-space:normal;
overflow-wrap:anywhere}
.wide td:first-child{font-weight:600}.wide td:not(:first-child)::before{content:attr(data-label);color:var(--soft);
text-align:left}}
@media print{.wide{overflow:visible}table{font-size:.68rem}th,td{padding:.2rem .35rem;white-space:normal}}
th a{color:inherit;text-decoration-color:var(--line)}
dl{font-size:.88rem;margin:0}
dt{font-weight:600;margin-top:.5rem}
dd{margin:0;color:var(--soft)}
dt:target{background:var(--warn)}
figure{margin:1rem 0}
img{max-width:100%;height:auto;background:#fff;border-radius:4px}
figcaption{color:var(--soft);font-size:.86rem}
pre{background:var(--shade);padding:.8rem 1rem;overflow-x:auto;font-size:.82rem;line-height:1.45;border-radius:4px}
summary{cursor:pointer;color:var(--soft)}
"""

PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">
<title>{title}</title><style>{style}</style></head>
<body><header><h1>{title}</h1><div class="facts">{facts}</div></header>{warnings}
{sections}
</body></html>
"""
