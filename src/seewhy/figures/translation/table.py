"""Scores of a translation between scanners as a table, beside those of leaving the scans as they are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from rich import box
from rich.table import Table as RichTable

from seewhy.figures.labels import NONE
from seewhy.figures.report import Block, ReportTable

__all__ = ["translation_blocks", "translation_rows", "translation_table"]

MEASURES = {"ssim": "SSIM", "psnr": "PSNR dB", "mae": "MAE \N{DOWNWARDS ARROW}"}
COMPARISONS = {
    "translation": "translated, against the truth",
    "identity": "floor: left as it is, against the truth",
    "cycle": "there and back, against itself",
    "change": "translated, against itself",
}
"""Comparison → what it is called, in the order of showing."""
ARROW = "\N{RIGHTWARDS ARROW}"
TOLD = (
    "Means over patients of whole volumes. The truth is the same head on the other scanner, where it is known; "
    "how much was changed is no quality."
)


class TranslationRow(NamedTuple):
    """A line of the table.

    Attributes:
        name: direction and comparison, e.g. "A → B: translated, against the truth".
        cells: value of each measure as text.
        quiet: whether it is a floor or no quality.
        wins: measures in which a translation is better than its floor, or a floor than its translation.
        first: whether a direction begins with it.
    """

    name: str
    cells: tuple[str, ...]
    quiet: bool
    wins: tuple[bool, ...]
    first: bool


def translation_rows(results: Mapping[str, float], *, prefix: str = "test/") -> list[TranslationRow]:
    """Lines of both directions, none where nothing was translated.

    Args:
        results: flat names `<prefix><direction>/<comparison>/<measure>` to values.
        prefix: of the names to show.
    """
    rows = []
    for direction in ("a2b", "b2a"):
        known = [name for name in COMPARISONS if f"{prefix}{direction}/{name}/ssim" in results]
        for place, name in enumerate(known):
            rival = {"translation": "identity", "identity": "translation"}.get(name)
            cells, wins = [], []
            for measure in MEASURES:
                value = results.get(f"{prefix}{direction}/{name}/{measure}")
                other = results.get(f"{prefix}{direction}/{rival}/{measure}")
                cells.append(NONE if value is None else f"{value:.{2 if measure == 'psnr' else 3}f}")
                better = (
                    value is not None and other is not None and (value < other if measure == "mae" else value > other)
                )
                wins.append(better)
            label = f"{direction[0].upper()} {ARROW} {direction[-1].upper()}: {COMPARISONS[name]}"
            rows.append(TranslationRow(label, tuple(cells), name in ("identity", "change"), tuple(wins), place == 0))
    return rows


def translation_table(results: Mapping[str, float], *, prefix: str = "test/", phantom: bool = False) -> RichTable:
    """For the terminal: the better of translation and floor bold, red where that is the floor.

    Args:
        results: see `translation_rows`.
        prefix: see there.
        phantom: whether the data are synthetic; the caption says so.
    """
    caption = TOLD + ("\n[bold yellow]PHANTOM[/] data, not patients" if phantom else "")
    table = RichTable(caption=caption, caption_justify="left", box=box.SIMPLE_HEAD)
    table.add_column("", no_wrap=True)
    for name in MEASURES.values():
        table.add_column(name, justify="right", no_wrap=True)
    rows = translation_rows(results, prefix=prefix)
    for row, following in zip(rows, [*rows[1:], None][: len(rows)], strict=True):
        mark = "[not dim bold red]{}[/]" if row.quiet else "[bold]{}[/]"
        cells = [mark.format(cell) if won else cell for cell, won in zip(row.cells, row.wins, strict=True)]
        ends = following is not None and following.first
        table.add_row(row.name, *cells, style="dim" if row.quiet else None, end_section=ends)
    return table


def translation_blocks(results: Mapping[str, float], *, prefix: str = "test/", phantom: bool = False) -> list[Block]:
    """For the report; see `translation_table`. Nothing where nothing was translated."""
    rows = translation_rows(results, prefix=prefix)
    if not rows:
        return []
    return [
        ReportTable(
            columns=["", *MEASURES.values()],
            rows=[[row.name, *row.cells] for row in rows],
            caption=TOLD + (" PHANTOM data, not patients." if phantom else ""),
            quiet=[row.quiet for row in rows],
        )
    ]
