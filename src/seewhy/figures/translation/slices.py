"""Translated slices for a paper: comparison, all modalities, the closed cycle.

Every function takes arrays and gives a matplotlib figure; call it, and save what it gives, within
`seewhy.figures.ieee.ieee_style`, or save by `write_ieee`. Slices must be upright (`seewhy.figures.style`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from matplotlib.figure import Figure
from numpy.typing import NDArray

from seewhy.figures.colours import ColourScale, signed_scale
from seewhy.figures.ieee import COLUMN, PAGE
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

__all__ = ["comparison", "cycle_consistency", "multimodality"]

Array = NDArray[Any]
Column = tuple[str, str, Callable[[TranslationCase], "Array | str"], ColourScale]
"""Heading, what is below it, what a case shows (or why it shows nothing), scale."""


def comparison(
    cases: Sequence[TranslationCase], *, modality: str, modalities: Sequence[str], what: str, phantom: bool = False
) -> Figure:
    """One row per case, page wide: input, translation, the true counterpart where known, difference, reconstruction.

    The difference is to the true counterpart where one is known, else to the input, as the heading says. Grey window
    and colours are the same in all rows.

    Args:
        cases: of one direction.
        modality: which is drawn.
        modalities: names of all, in the order of the arrays.
        what: the choice of cases in words, for the small print.
        phantom: whether the slices are synthetic; the small print says so.
    """
    place, first = modality_index(modality, modalities), cases[0]
    known = [case for case in cases if case.truth is not None]
    closed = [case for case in cases if case.reconstructed is not None]
    grey = grey_window(cases, place)
    differences = [
        case.difference(case.translated, case.truth if case.truth is not None else case.input, place) for case in cases
    ]
    there = f"{first.source} {ARROW} {first.target}"
    against = f"true {first.target}" if known else f"input {first.source}"
    signed = signed_scale(differences, name=f"{there} {MINUS} {against}")

    def apart(case: TranslationCase) -> Array | str:
        if known and case.truth is None:
            return "no true\ncounterpart"
        return case.difference(case.translated, case.input if case.truth is None else case.truth, place)

    columns: list[Column] = [
        (f"Input {first.source}", "", lambda case: case.input[place], grey),
        (there, "translated", lambda case: case.translated[place], grey),
    ]
    if known:
        truth = _plane("truth", place, "not known")
        columns.append((f"True {first.target}", "same head, other scanner", truth, grey))
    columns.append((f"{there} {MINUS} {against}", "signed difference", apart, signed))
    if closed:
        back = _plane("reconstructed", place, "no way back")
        columns.append((f"{there} {ARROW} {first.source}", "reconstructed", back, grey))
    rows = [(case, [f"{case.subject}, slice {case.number}", case.said(place)]) for case in cases]
    foot = [format_small_print(f"{modality_label(modality)}: {what}", phantom)]
    return _rows(rows, columns, width=PAGE, bars=(grey, signed), foot=foot)


def multimodality(case: TranslationCase, *, modalities: Sequence[str], what: str, phantom: bool = False) -> Figure:
    """All modalities of one case, a column wide: a modality per column, below each other what became of it.

    Each modality has a grey window of its own for all its cells; the colours of differences are shared by all.

    Args:
        case: the slice.
        modalities: names, in the order of the arrays.
        what: the choice of the case in words.
        phantom: see `comparison`.
    """
    there = f"{case.source} {ARROW} {case.target}"
    other, against = (case.input, f"input {case.source}") if case.truth is None else (case.truth, f"true {case.target}")
    count = range(len(modalities))
    apart = [case.difference(case.translated, other, place) for place in count]
    signed = signed_scale(apart, name=f"{there} {MINUS} {against}")
    stages: list[tuple[str, Sequence[Array] | Array]] = [(f"Input {case.source}", case.input), (there, case.translated)]
    stages += [] if case.truth is None else [(f"True {case.target}", case.truth)]
    stages += [("Difference", apart)]
    stages += [] if case.reconstructed is None else [(f"{there} {ARROW} {case.source}", case.reconstructed)]
    windows = [grey_window([case], place) for place in count]
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
        for place in count:
            is_difference = arrays is apart
            scale = signed if is_difference else windows[place]
            axes = grid.show(
                row, place, [(arrays[place], scale, 1.0)],
                frame=case.frame, size=case.size, ground="white" if is_difference else "black",
            )  # fmt: skip
            if row == 1 and name:
                grid.note(axes, score_text(values[place]))
    return grid.figure


def cycle_consistency(
    cases: Sequence[TranslationCase], *, modality: str, modalities: Sequence[str], what: str, phantom: bool = False
) -> Figure:
    """There and back, page wide, a row per direction: input, translation, reconstruction, their signed difference.

    Args:
        cases: with `reconstructed`, of any directions.
        modality: see `comparison`.
        modalities: see `comparison`.
        what: see `comparison`.
        phantom: see `comparison`.
    """
    place = modality_index(modality, modalities)
    grey = grey_window(cases, place)
    apart = [case.difference(_closed(case), case.input, place) for case in cases]
    signed = signed_scale(apart, name=f"reconstruction {MINUS} input")
    columns: list[Column] = [
        ("Input", "", lambda case: case.input[place], grey),
        ("Translation", "to the other scanner", lambda case: case.translated[place], grey),
        ("Reconstruction", "and back", lambda case: _closed(case)[place], grey),
        (f"Reconstruction {MINUS} input", "signed difference", lambda case: case.difference(
            _closed(case), case.input, place
        ), signed),
    ]  # fmt: skip
    rows = []
    for case in cases:
        way = f"{case.source} {ARROW} {case.target} {ARROW} {case.source}"
        rows.append((case, [way, f"{case.subject}, slice {case.number}", case.said(place)]))
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
    """A row per case, a column per thing to show."""
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


def _plane(which: str, place: int, otherwise: str) -> Callable[[TranslationCase], Array | str]:
    def shown(case: TranslationCase) -> Array | str:
        array: Array | None = getattr(case, which)
        return otherwise if array is None else array[place]

    return shown


def _closed(case: TranslationCase) -> Array:
    if case.reconstructed is None:
        raise ValueError(f"{case.subject}, slice {case.number} has no reconstruction")
    return case.reconstructed
