"""Case browser of a page: its data as JSON within a budget of bytes, and the elements that its script fills.

The script (`assets/browser.js`) is a few hundred lines without a framework, because a page must work years later, from
a file, without a build or a network. NiiVue was considered: its bundle alone is larger than the pictures of fifty
patients, it needs WebGL 2, and it shows whole volumes, which a page of 500 patients cannot hold.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from seewhy.figures.colours import DIVERGING, colour_table
from seewhy.figures.overlay import STRONGEST
from seewhy.figures.report.cases import BrowserCase, PicturePlane, choose_slices

__all__ = ["CaseBrowser", "escape_json", "fit_budget", "list_settings"]

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
