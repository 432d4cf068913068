"""Results of a translation in the terminal and the report: scores with floors, lesion checks, and a panel of slices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from rich import box
from rich.table import Table as RichTable

from seewhy.figures.labels import NONE, join_title
from seewhy.figures.overlay import grey
from seewhy.figures.report.blocks import ReportTable
from seewhy.figures.style import INK, add_captions, blank_figure
from seewhy.figures.translation.case import ARROW, TranslationCase, modality_label, score_text

__all__ = [
    "lesion_blocks",
    "lesion_rows",
    "lesion_table",
    "start_table",
    "translation_blocks",
    "translation_panel",
    "translation_rows",
    "translation_table",
]

MEASURES = {"ssim": "SSIM", "psnr": "PSNR dB", "mae": "MAE \N{DOWNWARDS ARROW}"}
COMPARISONS = {
    "translation": "translated, against the truth",
    "identity": "floor: not translated, against the truth",
    "cycle": "cycle, against the input",
    "inverse": "undone by its inverse, against the input",
    "change": "translated, against the input",
}
"""Comparison → label, in the order in which they are shown."""
CAPTION = (
    "Means over patients of whole volumes. The truth is the same head on the other scanner, if known. "
    "The similarity of translation and input does not measure quality."
)


class TranslationRow(NamedTuple):
    """Row of the table.

    Attributes:
        name: direction and comparison, e.g. "A → B: translated, against the truth".
        cells: value of each measure as text.
        quiet: whether it is a floor or not a quality.
        wins: for each measure, whether a translation is better than its floor, or a floor better than its translation.
        first: whether it is the first row of a direction.
    """

    name: str
    cells: tuple[str, ...]
    quiet: bool
    wins: tuple[bool, ...]
    first: bool


def translation_rows(results: Mapping[str, float]) -> list[TranslationRow]:
    """Rows of both directions; empty if nothing was translated.

    Args:
        results: flat names `test/<direction>/<comparison>/<measure>` to values.
    """
    rows = []
    for direction in ("a2b", "b2a"):
        known = [name for name in COMPARISONS if f"test/{direction}/{name}/ssim" in results]
        for place, name in enumerate(known):
            rival = {"translation": "identity", "identity": "translation"}.get(name)
            cells, wins = [], []
            for measure in MEASURES:
                value = results.get(f"test/{direction}/{name}/{measure}")
                other = results.get(f"test/{direction}/{rival}/{measure}")
                cells.append(_format(value, ".2f" if measure == "psnr" else ".3f"))
                better = (
                    value is not None and other is not None and (value < other if measure == "mae" else value > other)
                )
                wins.append(better)
            label = f"{direction[0].upper()} {ARROW} {direction[-1].upper()}: {COMPARISONS[name]}"
            rows.append(
                TranslationRow(label, tuple(cells), name in ("identity", "inverse", "change"), tuple(wins), place == 0)
            )
    return rows


def start_table(*headings: str, caption: str = "", phantom: bool = False) -> RichTable:
    """Make a terminal table without rows; all columns but the first hold numbers."""
    caption += "\n[bold yellow]PHANTOM[/] data, not patients" if phantom else ""
    table = RichTable(caption=caption, caption_justify="left", box=box.SIMPLE_HEAD)
    for place, heading in enumerate(headings):
        table.add_column(heading, justify="right" if place else "left", no_wrap=True)
    return table


def translation_table(results: Mapping[str, float], *, phantom: bool = False) -> RichTable:
    """Terminal table; the better of translation and floor is bold, and red if it is the floor.

    Args:
        results: see `translation_rows`.
        phantom: whether the data are synthetic, which the caption then states.
    """
    table = start_table("", *MEASURES.values(), caption=CAPTION, phantom=phantom)
    rows = translation_rows(results)
    for row, following in zip(rows, [*rows[1:], None][: len(rows)], strict=True):
        mark = "[not dim bold red]{}[/]" if row.quiet else "[bold]{}[/]"
        cells = [mark.format(cell) if won else cell for cell, won in zip(row.cells, row.wins, strict=True)]
        ends = following is not None and following.first
        table.add_row(row.name, *cells, style="dim" if row.quiet else None, end_section=ends)
    return table


def translation_blocks(results: Mapping[str, float], *, phantom: bool = False) -> list[ReportTable]:
    """Report table, see `translation_table`; empty if nothing was translated."""
    rows = translation_rows(results)
    if not rows:
        return []
    return [
        ReportTable(
            columns=["", *MEASURES.values()],
            rows=[[row.name, *row.cells] for row in rows],
            caption=CAPTION + (" PHANTOM data, not patients." if phantom else ""),
            quiet=[row.quiet for row in rows],
        )
    ]


CELL = 1.15
"""Width of a cell in inches."""
BLOCKS = 2
"""Subjects side by side."""
ROWS = {"input": "identity", "translated": "translation", "truth": "", "reconstructed": "cycle"}
"""Picture of a subject → score printed below it."""
MARGIN = 2


def translation_panel(
    cases: Sequence[TranslationCase], *, modalities: Sequence[str], title: str = "", phantom: bool = False
) -> Figure:
    """Draw each subject as a block with a column per modality and the rows input, translation, truth, reconstruction.

    All cells have the grey window -1 to 1 and are cropped to the head. Below them is the SSIM over the tissue of the
    slice, from `scores` of a case: `identity` and `translation` (input and translation against the truth) and `cycle`
    (reconstruction against the input).

    Args:
        cases: at least one.
        modalities: names in the order of channels.
        title: title of the figure.
        phantom: whether the heads are synthetic, which the title then states.
    """
    if not cases:
        raise ValueError("no cases to draw")
    shown = [row for row in ROWS if any(case.images[row] is not None for case in cases)]
    blocks = [cases[first : first + BLOCKS] for first in range(0, len(cases), BLOCKS)]
    tall = CELL * max(_ratio(case) for case in cases)
    width = CELL * len(modalities) * len(blocks[0]) + 0.9
    figure = blank_figure(width, len(blocks) * (len(shown) * (tall + 0.2) + 0.5) + 0.55)
    lines = figure.subfigures(len(blocks), 1, squeeze=False)[:, 0]
    for line, block in zip(lines, blocks, strict=True):
        for part, case in zip(line.subfigures(1, len(blocks[0]), squeeze=False)[0], block, strict=False):
            _draw_block(part, case, shown, modalities)
    foot = "SSIM over the tissue: input and translation against the truth, reconstruction against the input"
    return add_captions(figure, head=join_title(title, phantom=phantom), foot=foot)


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
    image = case.images[row]
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


CONTRASTS = {"contrast_before": "before", "contrast_after": "after", "contrast_truth": "truth"}
COUNTS = {"sign_changes": "signs changed", "problems": "problems"}
LESION_HEADINGS = ["contrast of lesions", *CONTRASTS.values(), *COUNTS.values()]
LESION_CAPTION = (
    "Lesion minus its surroundings over the spread of other tissue; means over subjects, in masks or, without any, in "
    "the brightest FLAIR regions. The last two columns count subjects and places, also what is brightest after the "
    "translation; each is named in lesions.csv."
)


def lesion_rows(results: Mapping[str, float]) -> list[list[str]]:
    """Rows with a cell per heading, one per direction and modality; empty if no lesion was checked.

    Args:
        results: flat names `test/<direction>/lesion/<modality>/<score>` to values.

    Example:
        >>> row = lesion_rows({"test/a2b/lesion/flair/contrast_after": 1.5, "test/a2b/lesion/flair/problems": 1.0})[0]
        >>> row[2], row[-1]
        ('1.50', '1')
    """
    keys = [name.removeprefix("test/").split("/") for name in results if name.startswith("test/")]
    found = sorted({(key[0], key[2]) for key in keys if len(key) == 4 and key[1] == "lesion"})
    rows = []
    for direction, modality in found:
        where = f"test/{direction}/lesion/{modality}"
        cells = [_format(results.get(f"{where}/{name}"), ".2f") for name in CONTRASTS]
        cells += [_format(results.get(f"{where}/{name}"), ".0f") for name in COUNTS]
        rows.append([f"{direction[0].upper()} {ARROW} {direction[-1].upper()}: {modality_label(modality)}", *cells])
    return rows


def lesion_table(results: Mapping[str, float], *, phantom: bool = False) -> RichTable:
    """Terminal table; counts above 0 are red.

    Args:
        results: see `lesion_rows`.
        phantom: whether the data are synthetic, which the caption then states.
    """
    table = start_table(*LESION_HEADINGS, caption=LESION_CAPTION, phantom=phantom)
    for row in lesion_rows(results):
        counts = [cell if cell in ("0", NONE) else f"[bold red]{cell}[/]" for cell in row[-len(COUNTS) :]]
        table.add_row(*row[: -len(COUNTS)], *counts)
    return table


def lesion_blocks(results: Mapping[str, float], *, phantom: bool = False) -> list[ReportTable]:
    """Report table, see `lesion_table`; empty if no lesion was checked."""
    rows = lesion_rows(results)
    caption = LESION_CAPTION + (" PHANTOM data, not patients." if phantom else "")
    return [ReportTable(columns=LESION_HEADINGS, rows=rows, caption=caption)] if rows else []


def _format(value: float | None, spec: str) -> str:
    return NONE if value is None else format(value, spec)
