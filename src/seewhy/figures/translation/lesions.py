"""Table of a translation's lesion check, for the terminal and the report: contrasts before, after and in truth."""

from __future__ import annotations

from collections.abc import Mapping

from rich import box
from rich.table import Table as RichTable

from seewhy.figures.labels import NONE
from seewhy.figures.report.blocks import ReportTable
from seewhy.figures.translation.case import ARROW, modality_label

__all__ = ["lesion_blocks", "lesion_rows", "lesion_table"]

CONTRASTS = {"contrast_before": "before", "contrast_after": "after", "contrast_truth": "truth"}
COUNTS = {"sign_changes": "signs changed", "problems": "problems"}
HEADINGS = ["contrast of lesions", *CONTRASTS.values(), *COUNTS.values()]
CAPTION = (
    "Lesion minus its surroundings over the spread of other tissue; means over subjects, in masks or, without any, in "
    "the brightest FLAIR regions. The last two columns count subjects and places, also what is brightest after the "
    "translation; each is named in lesions.csv."
)


def lesion_rows(results: Mapping[str, float], *, prefix: str = "test/") -> list[list[str]]:
    """Rows with a cell per heading, one per direction and modality; empty if no lesion was checked.

    Args:
        results: flat names `<prefix><direction>/lesion/<modality>/<score>` to values.
        prefix: prefix of the names to show.

    Example:
        >>> row = lesion_rows({"test/a2b/lesion/flair/contrast_after": 1.5, "test/a2b/lesion/flair/problems": 1.0})[0]
        >>> row[2], row[-1]
        ('1.50', '1')
    """
    keys = [name.removeprefix(prefix).split("/") for name in results if name.startswith(prefix)]
    found = sorted({(key[0], key[2]) for key in keys if len(key) == 4 and key[1] == "lesion"})
    rows = []
    for direction, modality in found:
        where = f"{prefix}{direction}/lesion/{modality}"
        cells = [_format(results.get(f"{where}/{name}"), ".2f") for name in CONTRASTS]
        cells += [_format(results.get(f"{where}/{name}"), ".0f") for name in COUNTS]
        rows.append([f"{direction[0].upper()} {ARROW} {direction[-1].upper()}: {modality_label(modality)}", *cells])
    return rows


def lesion_table(results: Mapping[str, float], *, prefix: str = "test/", phantom: bool = False) -> RichTable:
    """Terminal table; counts above 0 are red.

    Args:
        results: see `lesion_rows`.
        prefix: see `lesion_rows`.
        phantom: whether the data are synthetic, which the caption then states.
    """
    caption = CAPTION + ("\n[bold yellow]PHANTOM[/] data, not patients" if phantom else "")
    table = RichTable(caption=caption, caption_justify="left", box=box.SIMPLE_HEAD)
    for place, name in enumerate(HEADINGS):
        table.add_column(name, justify="right" if place else "left", no_wrap=True)
    for row in lesion_rows(results, prefix=prefix):
        counts = [cell if cell in ("0", NONE) else f"[bold red]{cell}[/]" for cell in row[-len(COUNTS) :]]
        table.add_row(*row[: -len(COUNTS)], *counts)
    return table


def lesion_blocks(results: Mapping[str, float], *, prefix: str = "test/", phantom: bool = False) -> list[ReportTable]:
    """Report table, see `lesion_table`; empty if no lesion was checked."""
    rows = lesion_rows(results, prefix=prefix)
    caption = CAPTION + (" PHANTOM data, not patients." if phantom else "")
    return [ReportTable(columns=HEADINGS, rows=rows, caption=caption)] if rows else []


def _format(value: float | None, spec: str) -> str:
    return NONE if value is None else format(value, spec)
