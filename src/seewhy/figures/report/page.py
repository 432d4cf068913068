"""HTML page in one file, with style sheets, scripts and pictures inside; needs no installation and no network."""

from __future__ import annotations

import base64
import hashlib
import html
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path

from seewhy.figures.report.blocks import Facts, NoteList, Section
from seewhy.io.atomic import atomic_path

__all__ = ["hash_source", "read_asset", "write_report"]


def write_report(
    path: str | Path,
    *,
    title: str,
    sections: Sequence[Section],
    facts: Mapping[str, str] | None = None,
    warnings: Sequence[str] = (),
    lead: str = "",
) -> Path:
    """Write the page as one self-contained HTML file, atomically; all text is escaped.

    A content security policy in the page forbids every request and every script but seewhy's own, so that a page made
    from foreign data cannot load or run anything even if some text were not escaped.

    Args:
        path: output file, e.g. `<run folder>/report.html`.
        title: title of the page.
        sections: sections in reading order, results first.
        facts: name → value of short facts below the title (date, version, hashes).
        warnings: what a reader must know before trusting a number, e.g. "phantom data"; shown on top.
        lead: one sentence below the title.

    Example:
        >>> from seewhy.figures.report.blocks import ReportTable, Text
        >>> blocks = [Text("Trained on two patients."), ReportTable(["", "Dice"], [["refined", "0.81"]])]
        >>> path = write_report("report.html", title="My run", sections=[Section("Results", blocks)])
        >>> ">0.81</span></td>" in path.read_text()
        True
    """
    style, script = read_asset("page.css") + read_asset("browser.css"), read_asset("browser.js")
    body = "\n".join(_format_section(i, section) for i, section in enumerate(sections))
    browses = 'class="browser"' in body
    menu = "".join(
        f'<a href="#section-{i}">{html.escape(section.menu or section.heading)}</a>'
        for i, section in enumerate(sections)
    )
    policy = [
        "default-src 'none'",
        "img-src data:",
        f"style-src {hash_source(style)}",
        "base-uri 'none'",
        "form-action 'none'",
    ]
    policy += [f"script-src {hash_source(script)}"] * browses
    parts = [
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{"; ".join(policy)}">',
        '<meta name="viewport" content="width=device-width,initial-scale=1">',
        '<meta name="color-scheme" content="light dark">',
        f"<title>{html.escape(title)}</title><style>{style}</style></head>\n<body>",
        f"<header><h1>{html.escape(title)}</h1>",
        f"<p>{html.escape(lead)}</p>" if lead else "",
        Facts(facts).html() if facts else "",
        "</header>",
        f'<div class="warning" role="note">{NoteList(warnings, "warnings").html()}</div>' if warnings else "",
        f'<nav aria-label="Sections of this page">{menu}</nav>' if len(sections) > 2 else "",
        f"<main>\n{body}\n</main>",
        f"<script>{script}</script>" if browses else "",
        "</body></html>\n",
    ]
    with atomic_path(path) as temporary:
        temporary.write_text("".join(parts), encoding="utf-8")
    return Path(path)


def _format_section(number: int, section: Section) -> str:
    heading = f'<h2 id="section-{number}">{html.escape(section.heading)}</h2>'
    return f"<section>{heading}{''.join(block.html() for block in section.blocks)}</section>"


def read_asset(name: str) -> str:
    """Text of a file that belongs to the package."""
    return (files("seewhy.figures.report") / "assets" / name).read_text(encoding="utf-8")


def hash_source(text: str) -> str:
    """Source expression of a content security policy that permits exactly this text."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
