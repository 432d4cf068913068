"""A picture of a translation for a report: what went in, what came out, the truth where it is known, the way back."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure

from seewhy.figures.overlay import grey
from seewhy.figures.style import INK, blank_figure, captioned
from seewhy.figures.translation.case import ARROW, TranslationCase, modality_label, score_text

__all__ = ["translation_panel"]

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
    return captioned(figure, head=head, foot=foot)


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
