"""Scores of a translation between scanners as a table, beside those of leaving the scans as they are.

A picture of a translation for a report: what went in, what came out, the truth where it is known, the way back.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from rich import box
from rich.table import Table as RichTable

from seewhy.figures.labels import NONE
from seewhy.figures.overlay import grey
from seewhy.figures.report import Block, ReportTable
from seewhy.figures.style import INK, add_captions, blank_figure
from seewhy.figures.translation.case import ARROW, TranslationCase, modality_label, score_text

__all__ = ["translation_blocks", "translation_panel", "translation_rows", "translation_table"]

MEASURES = {"ssim": "SSIM", "psnr": "PSNR dB", "mae": "MAE \N{DOWNWARDS ARROW}"}
COMPARISONS = {
    "translation": "translated, against the truth",
    "identity": "floor: left as it is, against the truth",
    "cycle": "there and back, against itself",
    "change": "translated, against itself",
}
"""Comparison → what it is called, in the order of showing."""
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


CELL = 1.15
"""Inches of a cell's width."""
BLOCKS = 2
"""Subjects side by side."""
ROWS = {"input": "identity", "translated": "translation", "truth": "", "reconstructed": "cycle"}
"""What is shown of a subject → which of its scores stands below."""
MARGIN = 2


def translation_panel(
    cases: Sequence[TranslationCase], *, modalities: Sequence[str], title: str = "", phantom: bool = False
) -> Figure:
    """Draw each subject as a block: a column per modality; below each other input, translation, truth, way back.

    All cells have one grey window, -1 to 1, and are cut to the head. Below cells stands their SSIM over the slice's
    tissue, from `scores` of a case: `identity` and `translation` (of input and translation against the truth) and
    `cycle` (of the way back against the input).

    Args:
        cases: at least one.
        modalities: names in the order of channels.
        title: above everything.
        phantom: whether the heads are synthetic; the title says so.
    """
    if not cases:
        raise ValueError("no cases to draw")
    shown = [row for row in ROWS if any(getattr(case, row) is not None for case in cases)]
    blocks = [cases[first : first + BLOCKS] for first in range(0, len(cases), BLOCKS)]
    tall = CELL * max(_ratio(case) for case in cases)
    width = CELL * len(modalities) * len(blocks[0]) + 0.9
    figure = blank_figure(width, len(blocks) * (len(shown) * (tall + 0.2) + 0.5) + 0.55)
    lines = figure.subfigures(len(blocks), 1, squeeze=False)[:, 0]
    for line, own in zip(lines, blocks, strict=True):
        for part, case in zip(line.subfigures(1, len(blocks[0]), squeeze=False)[0], own, strict=False):
            _draw_block(part, case, shown, modalities)
    head = " · ".join(text for text in (title, "phantom data" if phantom else "") if text)
    foot = "SSIM over the slice's tissue: of input and translation against the truth, of the way back against the input"
    return add_captions(figure, head=head, foot=foot)


def _draw_block(part: SubFigure, case: TranslationCase, shown: Sequence[str], modalities: Sequence[str]) -> None:
    grid = part.subplots(len(shown), len(modalities), squeeze=False)
    part.suptitle(
        f"{case.source} {ARROW} {case.target}: {case.subject}, slice {case.number}", fontsize=9, color=INK,
        fontweight="bold",
    )  # fmt: skip
    for axes, name in zip(grid[0], modalities, strict=True):
        axes.set_title(modality_label(name), fontsize=8, color=INK, pad=3)
    for cells, row in zip(grid, shown, strict=True):
        cells[0].set_ylabel(row, fontsize=8, color=INK)
        for place, axes in enumerate(cells):
            _draw_cell(axes, case, row, place)


def _draw_cell(axes: Axes, case: TranslationCase, row: str, place: int) -> None:
    image = getattr(case, row)
    if image is None:
        axes.set_axis_off()
        return
    picture = grey(image[place], window=(-1.0, 1.0))
    axes.imshow(picture[_window(case)], interpolation="nearest", aspect=case.spacing[0] / case.spacing[1])
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)
    score = case.scores.get(ROWS[row])
    axes.set_xlabel("" if score is None else score_text(score[place]), fontsize=7, color=INK, labelpad=2)


def _window(case: TranslationCase) -> tuple[slice, slice]:
    """Rows and columns around the tissue."""
    parts = []
    for axis, length in ((1, case.body.shape[0]), (0, case.body.shape[1])):
        places = np.flatnonzero((np.asarray(case.body) > 0).any(axis=axis))
        first, last = (int(places[0]), int(places[-1])) if len(places) else (0, length - 1)
        parts.append(slice(max(0, first - MARGIN), last + 1 + MARGIN))
    return parts[0], parts[1]


def _ratio(case: TranslationCase) -> float:
    """Height of the drawn window over its width."""
    rows, columns = np.asarray(case.body)[_window(case)].shape
    return rows * case.spacing[0] / (columns * case.spacing[1])
