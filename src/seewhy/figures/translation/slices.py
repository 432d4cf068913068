"""Figures of translated slices for papers: comparison, all modalities, cycle consistency, attention.

Every function takes arrays and returns a matplotlib figure. Call it and save the figure within
`seewhy.figures.translation.ieee.ieee_style`, or save it with `write_ieee`. Slices must be in display orientation
(`seewhy.figures.style.turn_upright`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from matplotlib.figure import Figure
from numpy.typing import NDArray

from seewhy.figures.colours import ColourScale, percentile_scale, signed_scale
from seewhy.figures.translation.case import (
    ARROW,
    MINUS,
    AttentionView,
    TranslationCase,
    common_half,
    format_small_print,
    grey_window,
    modality_index,
    modality_label,
    score_text,
)
from seewhy.figures.translation.ieee import COLUMN, PAGE, Grid

__all__ = ["attention_overlay", "comparison", "cycle_consistency", "multimodality"]

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


VEIL = 0.55
"""Opacity of a map on its slice."""


def attention_overlay(
    views: Sequence[AttentionView], *, modality: str, modalities: Sequence[str], what: str, phantom: bool = False
) -> Figure:
    """Draw attention maps, page wide, with a row per case: input, each map alone, and the map on the input.

    Maps keep their own pixels: they are enlarged without smoothing, and headings state their grids. Colours span the
    percentiles .5 and 99.5 within the tissue. Self-attention is drawn in multiples of an even share, so that 1 means no
    preference.

    Args:
        views: cases with a gate, self-attention, or both.
        modality: modality of the input below the maps; the maps belong to all modalities together.
        modalities: see `comparison`.
        what: see `comparison`.
        phantom: see `comparison`.
    """
    index = modality_index(modality, modalities)
    cases, maps = [view.case for view in views], _maps(views)
    grey = grey_window(cases, index, inputs_only=True)
    modules = "; ".join(f"{kind.title}: {kind.module}" for kind in maps)
    grid = Grid(
        width=PAGE, rows=len(views), columns=1 + 2 * len(maps), half=common_half(cases), label_lines=2, head_lines=2,
        bars=(grey, *(kind.scale for kind in maps)),
        foot=[
            f"{modules}; the same for all modalities",
            format_small_print(f"{modality_label(modality)}: {what}", phantom),
        ],
    )  # fmt: skip
    grid.heading(0, "Input")
    for number, kind in enumerate(maps):
        grid.heading(1 + 2 * number, kind.title, kind.grids)
        grid.heading(2 + 2 * number, "on the input")
    for row, case in enumerate(cases):
        grid.label(row, [f"{case.source} {ARROW} {case.target}", f"{case.subject}, slice {case.number}"])
        here: dict[str, Any] = {"frame": case.frame, "size": case.size}
        ground = (case.input[index], grey, 1.0)
        grid.show(row, 0, [ground], **here)
        for number, kind in enumerate(maps):
            array = kind.arrays[row]
            if array is None:
                grid.empty(row, 1 + 2 * number, "none")
                grid.empty(row, 2 + 2 * number, "none")
                continue
            grid.show(row, 1 + 2 * number, [(array, kind.scale, 1.0)], **here)
            grid.show(row, 2 + 2 * number, [ground, (array, kind.scale, VEIL)], **here)
    return grid.figure


class _AttentionMap(NamedTuple):
    """Maps of one kind for all rows."""

    title: str
    module: str
    arrays: list[Array | None]
    scale: ColourScale

    @property
    def grids(self) -> str:
        """Sizes of the maps, e.g. `60 x 60`."""
        sizes = dict.fromkeys(array.shape for array in self.arrays if array is not None)
        return " or ".join(f"{rows} \N{MULTIPLICATION SIGN} {columns}" for rows, columns in sizes)


def _maps(views: Sequence[AttentionView]) -> list[_AttentionMap]:
    """Kinds of maps in the views."""
    cases = [view.case for view in views]
    gates = [view.gate for view in views]
    shares = [None if view.attention is None else view.attention * view.attention.size for view in views]
    names = [view.gate_name for view in views], [view.attention_name for view in views]
    kinds = (
        ("Spatial gate", names[0], gates, "viridis", "spatial gate"),
        ("Self-attention", names[1], shares, "inferno", "self-attention / even share"),
    )
    return [
        _AttentionMap(title, next(filter(None, modules), ""), arrays, _scale(arrays, cases, colormap, name))
        for title, modules, arrays, colormap, name in kinds
        if any(array is not None for array in arrays)
    ]


def _scale(maps: Sequence[Array | None], cases: Sequence[TranslationCase], colormap: str, name: str) -> ColourScale:
    """Scale for a kind of map from its values within the tissue, because image borders have extreme values."""
    inside = [case.tissue_of(map_) for map_, case in zip(maps, cases, strict=True) if map_ is not None]
    return percentile_scale(inside, colormap=colormap, name=name, percentiles=(0.5, 99.5))
