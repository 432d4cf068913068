"""Figures of translated slices for papers: comparison, all modalities, cycle consistency.

Every function takes arrays and returns a matplotlib figure. Call it and save the figure within
`seewhy.figures.translation.ieee.ieee_style`, or save it with `write_ieee`. Slices must be in display orientation
(`seewhy.figures.style.turn_upright`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from matplotlib.figure import Figure
from numpy.typing import NDArray

from seewhy.figures.colours import ColourScale, signed_scale
from seewhy.figures.translation.case import (
    ARROW,
    MINUS,
    TranslationCase,
    common_half,
    format_small_print,
    grey_window,
    modality_index,
    modality_label,
    score_text,
)
from seewhy.figures.translation.grid import Grid
from seewhy.figures.translation.ieee import COLUMN, PAGE

__all__ = ["comparison", "cycle_consistency", "multimodality"]

Array = NDArray[Any]
Column = tuple[str, str, Callable[[TranslationCase], "Array | str"], ColourScale]
"""Heading, subheading, picture of a case (or the reason why there is none), scale."""


def comparison(
    cases: Sequence[TranslationCase], *, modality: str, modalities: Sequence[str], what: str, phantom: bool = False
) -> Figure:
    """Draw one row per case, page wide: input, translation, true counterpart if known, difference, reconstruction.

    The difference is to the true counterpart if one is known, else to the input, as stated in the heading. All rows
    share grey window and colours.

    Args:
        cases: cases of one direction.
        modality: modality to draw.
        modalities: all modalities, in the order of the arrays.
        what: description of the selected cases, for the small print.
        phantom: whether the slices are synthetic, which the small print then states.
    """
    index, first = modality_index(modality, modalities), cases[0]
    known = [case for case in cases if case.truth is not None]
    closed = [case for case in cases if case.reconstructed is not None]
    grey = grey_window(cases, index)
    differences = [
        case.difference(case.translated, case.truth if case.truth is not None else case.input, index) for case in cases
    ]
    there = f"{first.source} {ARROW} {first.target}"
    against = f"true {first.target}" if known else f"input {first.source}"
    signed = signed_scale(differences, name=f"{there} {MINUS} {against}")

    def signed_difference(case: TranslationCase) -> Array | str:
        if known and case.truth is None:
            return "no true\ncounterpart"
        return case.difference(case.translated, case.input if case.truth is None else case.truth, index)

    columns: list[Column] = [
        (f"Input {first.source}", "", lambda case: case.input[index], grey),
        (there, "translated", lambda case: case.translated[index], grey),
    ]
    if known:
        truth = _plane("truth", index, "not known")
        columns.append((f"True {first.target}", "same head, other scanner", truth, grey))
    columns.append((f"{there} {MINUS} {against}", "signed difference", signed_difference, signed))
    if closed:
        back = _plane("reconstructed", index, "no way back")
        columns.append((f"{there} {ARROW} {first.source}", "reconstructed", back, grey))
    rows = [(case, [f"{case.subject}, slice {case.number}", case.format_scores(index)]) for case in cases]
    foot = [format_small_print(f"{modality_label(modality)}: {what}", phantom)]
    return _rows(rows, columns, width=PAGE, bars=(grey, signed), foot=foot)


def multimodality(case: TranslationCase, *, modalities: Sequence[str], what: str, phantom: bool = False) -> Figure:
    """Draw all modalities of one case, one column wide: a column per modality, with input and translations below it.

    All cells of a modality share a grey window; the colours of differences are the same for all.

    Args:
        case: slice to draw.
        modalities: names, in the order of the arrays.
        what: description of the selected case.
        phantom: see `comparison`.
    """
    there = f"{case.source} {ARROW} {case.target}"
    other, against = (case.input, f"input {case.source}") if case.truth is None else (case.truth, f"true {case.target}")
    count = range(len(modalities))
    differences = [case.difference(case.translated, other, index) for index in count]
    signed = signed_scale(differences, name=f"{there} {MINUS} {against}")
    stages: list[tuple[str, Sequence[Array] | Array]] = [(f"Input {case.source}", case.input), (there, case.translated)]
    stages += [] if case.truth is None else [(f"True {case.target}", case.truth)]
    stages += [("Difference", differences)]
    stages += [] if case.reconstructed is None else [(f"{there} {ARROW} {case.source}", case.reconstructed)]
    windows = [grey_window([case], index) for index in count]
    name, values = next(iter(case.scores.items()), ("", ()))
    foot = [
        format_small_print(what, phantom),
        f"{case.subject}, slice {case.number}; grey: one window for each modality",
    ]
    foot += [f"numbers in {there}: {name}"] if name else []
    grid = Grid(
        width=COLUMN, rows=len(stages), columns=len(modalities), half=case.frame.half, label_lines=1,
        head_lines=1, bars=(signed,), foot=foot,
    )  # fmt: skip
    for column, modality in enumerate(modalities):
        grid.heading(column, modality_label(modality))
    for row, (name, arrays) in enumerate(stages):
        grid.label(row, [name])
        for index in count:
            is_difference = arrays is differences
            scale = signed if is_difference else windows[index]
            axes = grid.show(
                row, index, [(arrays[index], scale, 1.0)],
                frame=case.frame, size=case.size, ground="white" if is_difference else "black",
            )  # fmt: skip
            if row == 1 and name:
                grid.note(axes, score_text(values[index]))
    return grid.figure


def cycle_consistency(
    cases: Sequence[TranslationCase], *, modality: str, modalities: Sequence[str], what: str, phantom: bool = False
) -> Figure:
    """Draw the cycle, page wide, a row per direction: input, translation, reconstruction, signed difference.

    Args:
        cases: cases with `reconstructed`, of any direction.
        modality: see `comparison`.
        modalities: see `comparison`.
        what: see `comparison`.
        phantom: see `comparison`.
    """
    index = modality_index(modality, modalities)
    grey = grey_window(cases, index)
    differences = [case.difference(_closed(case), case.input, index) for case in cases]
    signed = signed_scale(differences, name=f"reconstruction {MINUS} input")
    columns: list[Column] = [
        ("Input", "", lambda case: case.input[index], grey),
        ("Translation", "to the other scanner", lambda case: case.translated[index], grey),
        ("Reconstruction", "and back", lambda case: _closed(case)[index], grey),
        (f"Reconstruction {MINUS} input", "signed difference", lambda case: case.difference(
            _closed(case), case.input, index
        ), signed),
    ]  # fmt: skip
    rows = []
    for case in cases:
        way = f"{case.source} {ARROW} {case.target} {ARROW} {case.source}"
        rows.append((case, [way, f"{case.subject}, slice {case.number}", case.format_scores(index)]))
    foot = [format_small_print(f"{modality_label(modality)}: {what}", phantom)]
    return _rows(rows, columns, width=PAGE, bars=(grey, signed), foot=foot)


def _rows(
    rows: Sequence[tuple[TranslationCase, list[str]]],
    columns: Sequence[Column],
    *,
    width: float,
    bars: Sequence[ColourScale],
    foot: Sequence[str],
) -> Figure:
    """Figure with a row per case."""
    half = common_half([case for case, _ in rows])
    two = any(small for _, small, _, _ in columns)
    grid = Grid(
        width=width, rows=len(rows), columns=len(columns), half=half, label_lines=len(rows[0][1]),
        head_lines=2 if two else 1, bars=bars, foot=foot,
    )  # fmt: skip
    for column, (name, small, _, _) in enumerate(columns):
        grid.heading(column, name, small)
    for row, (case, words) in enumerate(rows):
        grid.label(row, words)
        for column, (_, _, shown, scale) in enumerate(columns):
            array = shown(case)
            if isinstance(array, str):
                grid.empty(row, column, array)
                continue
            ground = "black" if scale.colormap == "gray" else "white"
            grid.show(row, column, [(array, scale, 1.0)], frame=case.frame, size=case.size, ground=ground)
    return grid.figure


def _plane(which: str, index: int, otherwise: str) -> Callable[[TranslationCase], Array | str]:
    def select(case: TranslationCase) -> Array | str:
        array = case.images[which]
        return otherwise if array is None else array[index]

    return select


def _closed(case: TranslationCase) -> Array:
    if case.reconstructed is None:
        raise ValueError(f"{case.subject}, slice {case.number} has no reconstruction; expected `reconstructed`")
    return case.reconstructed
