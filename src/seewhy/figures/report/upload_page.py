"""Page of a served run: a form for the images of a case, and a place for its answer."""

from __future__ import annotations

import html
from collections.abc import Mapping
from typing import Any

from seewhy.figures.report.blocks import Facts, NoteList
from seewhy.figures.report.page import escape_json, hash_source, list_settings, read_asset

__all__ = ["format_upload_page"]


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
