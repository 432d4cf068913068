"""HTML pages in one file, which need no network: the report with its case browser, and the page of uploads.

The script of the browser (`assets/browser.js`) is a few hundred lines without a framework, because a page must work
years later, from a file, without a build or a network. NiiVue was considered: its bundle alone is larger than the
pictures of fifty patients, it needs WebGL 2, and it shows whole volumes, which a page of 500 patients cannot hold.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

from seewhy.figures.colours import DIVERGING, colour_table
from seewhy.figures.overlay import STRONGEST
from seewhy.figures.report.blocks import Facts, NoteList, Section
from seewhy.figures.report.cases import BrowserCase, PicturePlane, choose_slices
from seewhy.io.atomic import atomic_path

__all__ = [
    "PHANTOM",
    "CaseBrowser",
    "escape_json",
    "fit_budget",
    "format_upload_page",
    "hash_source",
    "list_settings",
    "read_asset",
    "write_report",
]

PHANTOM = "Phantom data: these patients are synthetic, and the scores say nothing about real ones."
"""Warning of pages about phantoms."""


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


PICTURE_BYTES = 13_000_000
"""Most bytes of the pictures of all cases on a page, which leaves 7 MB of 20 MB for figures and tables."""
SLICES = (1000, 64, 48, 32, 24, 16, 12, 8, 6, 4, 3, 2, 1)
"""Numbers of slices per plane that are tried in turn, until the pictures fit."""


def escape_json(data: object) -> str:
    r"""Format data as JSON that can stand inside a `<script>` element: no text in it can end the element.

    Example:
        >>> escape_json({"patient": "</script><img>"})
        '{"patient":"\\u003c/script\\u003e\\u003cimg\\u003e"}'
    """
    text = json.dumps(data, allow_nan=False, ensure_ascii=True, separators=(",", ":"))
    for letter in "<>&":
        text = text.replace(letter, f"\\u{ord(letter):04x}")
    return text


def fit_budget(cases: Sequence[BrowserCase], budget: int = PICTURE_BYTES) -> tuple[list[BrowserCase], str]:
    """Leave out slices, the same number for all cases, and then whole pictures, until all pictures fit.

    Args:
        cases: of the page, the most important first: they keep their pictures longest.
        budget: most bytes of all pictures.

    Returns:
        The cases, and a sentence about what was left out; empty if nothing was.
    """
    for count in SLICES:
        chosen = [_limit_slices(case, count) for case in cases]
        if sum(case.count_bytes() for case in chosen) <= budget:
            left_out = chosen != list(cases)
            slices = f"{count} slice{'' if count == 1 else 's'}"
            note = f"To keep this file small, scans are shown by up to {slices}, spread evenly." if left_out else ""
            return chosen, note
    kept, used, without = [], 0, 0
    for case in (_limit_slices(case, 1) for case in cases):
        fits = used + case.count_bytes() <= budget
        used += case.count_bytes() if fits else 0
        without += not fits
        kept.append(case if fits else replace(case, planes=()))
    return kept, f"To keep this file small, scans are shown by one slice, and {without} cases have no picture here."


def _limit_slices(case: BrowserCase, count: int) -> BrowserCase:
    return replace(case, planes=[_limit_plane(plane, count) for plane in case.planes])


def _limit_plane(plane: PicturePlane, count: int) -> PicturePlane:
    positions = choose_slices(len(plane.slices), count, plane.key)
    if len(positions) == len(plane.slices):
        return plane
    return replace(plane, slices=[plane.slices[i] for i in positions], key=positions.index(plane.key))


@dataclass(frozen=True)
class CaseBrowser:
    """Block with all cases.

    Attributes:
        cases: in the order in which they are listed first.
        note: how the maps are coloured, for the reader.
        noun: word for the cases, e.g. `patients`.
    """

    cases: Sequence[BrowserCase]
    note: str = ""
    noun: str = "cases"

    def html(self) -> str:
        """The block as HTML; the script fills it."""
        cases, left_out = fit_budget(self.cases)
        data = {
            "cases": [asdict(case) for case in cases],
            "noun": self.noun,
            "note": " ".join(filter(None, (self.note, left_out))),
            **list_settings(),
        }
        return (
            '<div class="browser"><noscript>The case browser needs JavaScript; nothing is loaded from elsewhere.'
            f'</noscript></div><script type="application/json" class="cases">{escape_json(data)}</script>'
        )


def list_settings() -> dict[str, Any]:
    """Colours and opacity of maps, for the script."""
    colours = {"plain": _list_colours("inferno"), "signed": _list_colours(DIVERGING)}
    return {"colours": colours, "strength": STRONGEST}


def _list_colours(name: str) -> list[int]:
    """The 256 colours of a map, three numbers each."""
    return [int(value) for value in np.asarray(colour_table(name)).round().astype(int).reshape(-1)]


def format_upload_page(run: Mapping[str, Any], *, most_bytes: int) -> tuple[str, str]:
    """Format the page as one self-contained HTML document; all text is escaped.

    Args:
        run: facts of the run: `name`, `model`, `checkpoint`, `sha256`, `inputs`, `suffixes`, `several_files`,
            `domains`, `methods` (each with `name`, `title` and `verdict`), `usual_method`, `targets` and `warnings`.
        most_bytes: of an upload, which the page checks before it sends one.

    Returns:
        The page, and its content security policy, which permits seewhy's own scripts and requests to the same server.

    Example:
        >>> run = {"name": "amd", "model": "AMDGrading", "checkpoint": "best.ckpt", "sha256": "0" * 64}
        >>> run |= {"inputs": ["oct"], "suffixes": [".png"], "several_files": False, "usual_method": "none"}
        >>> run |= {name: [] for name in ("domains", "methods", "targets", "warnings")}
        >>> page, policy = format_upload_page(run, most_bytes=1000)
        >>> 'accept=".png"' in page, "connect-src 'self'" in policy
        (True, True)
    """
    style = "".join(map(read_asset, ("page.css", "browser.css", "upload.css")))
    scripts = [read_asset("browser.js"), read_asset("upload.js")]
    sources = " ".join(map(hash_source, scripts))
    policy = (
        f"default-src 'none'; img-src data:; style-src {hash_source(style)}; script-src {sources}; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    facts = {"model": str(run["model"]), "weights": str(run["checkpoint"]), "SHA-256": str(run["sha256"])[:16]}
    data = {"most_bytes": most_bytes, "inputs": list(run["inputs"]), "methods": list(run["methods"]), **list_settings()}
    title = f"seewhy: {run['name']}"
    parts = [
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width,initial-scale=1">',
        '<meta name="color-scheme" content="light dark"><link rel="icon" href="data:,">',
        f"<title>{html.escape(title)}</title><style>{style}</style></head>\n<body>",
        f"<header><h1>{html.escape(title)}</h1>",
        "<p>Choose the images of one case to see the model's answer, its map, and how far both can be trusted.</p>",
        f"{Facts(facts).html()}</header>",
        f'<div class="warning" role="note">{NoteList(list(run["warnings"]), "warnings").html()}</div>',
        f"<main>{_format_form(run)}",
        '<p class="problem" role="alert" hidden></p>',
        '<section class="answer" hidden aria-live="polite"></section></main>',
        f'<script type="application/json" class="settings">{escape_json(data)}</script>',
        *(f"<script>{script}</script>" for script in scripts),
        "</body></html>\n",
    ]
    return "".join(parts), policy


def _format_form(run: Mapping[str, Any]) -> str:
    accepted = ",".join(run["suffixes"])
    several = " multiple" if run["several_files"] else ""
    what = "one file, or all slices" if run["several_files"] else "a file"
    drops = "".join(
        f'<label class="drop"><span class="name">{html.escape(name)}</span><span class="chosen">drop {what} here, or '
        f'choose</span><input type="file" name="{html.escape(name)}" accept="{html.escape(accepted)}"{several}></label>'
        for name in run["inputs"]
    )
    methods = [(method["name"], method["title"]) for method in run["methods"]] + [("none", "none")]
    methods.sort(key=lambda method: method[0] != run["usual_method"])
    controls = _format_select("domain", "scanner", [(name, name) for name in run["domains"]])
    controls += _format_select("method", "map", methods)
    targets = [(name, name) for name in run["targets"]]
    if not run["domains"]:  # a translation has no predicted class
        targets.insert(0, ("", "predicted class"))
    controls += _format_select("target", "explained", targets) if len(run["targets"]) > 1 else ""
    controls += (
        '<div class="control"><label for="choice-name">name</label>'
        '<input id="choice-name" name="name" placeholder="as the file" maxlength="200" autocomplete="off"></div>'
    )
    return (
        '<section><h2>Case</h2><form class="case">'
        f'<div class="drops">{drops}</div><p class="kinds">Files: {html.escape(", ".join(run["suffixes"]))}. '
        "They stay on the machine that runs this server, and are removed with the answer.</p>"
        f'<div class="controls">{controls}<button class="send" disabled>Predict</button>'
        '<button type="button" class="clear">Clear</button>'
        '<button type="button" class="stop" hidden>Stop</button></div>'
        '<p class="state" role="status" hidden><progress max="1"></progress> <span></span></p></form></section>'
    )


def _format_select(name: str, label: str, options: list[tuple[str, str]]) -> str:
    """A choice; nothing if there is none."""
    if (len(options) < 2 and name != "domain") or not options:
        return ""
    items = "".join(f'<option value="{html.escape(key)}">{html.escape(text)}</option>' for key, text in options)
    return (
        f'<div class="control"><label for="choice-{name}">{label}</label>'
        f'<select id="choice-{name}" name="{name}">{items}</select></div>'
    )
