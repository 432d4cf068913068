"""Where a translating network looks: its gates and its self-attention beside the slice, and on it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.figure import Figure
from numpy.typing import NDArray

from seewhy.figures.ieee import PAGE
from seewhy.figures.translation_case import (
    ARROW,
    AttentionView,
    common_half,
    grey_window,
    modality_label,
    place_of,
    small_print,
)
from seewhy.figures.translation_grid import Grid
from seewhy.figures.translation_scale import Scale, percentile_scale

__all__ = ["attention_overlay"]

Array = NDArray[Any]
VEIL = 0.55
"""Opacity of a map on its slice."""


def attention_overlay(
    views: Sequence[AttentionView], *, modality: str, modalities: Sequence[str], what: str, phantom: bool = False
) -> Figure:
    """Where a network looks, page wide, a row per case: input, each map by itself, and the map on the input.

    Maps have the pixels that they really have: they are enlarged without smoothing, and headings give their grids.
    Self-attention is drawn in multiples of an even share, so that 1 is attention to nowhere in particular.

    Args:
        views: with a gate, with self-attention, or both.
        modality: of the input below the maps; the maps belong to all modalities together.
        modalities: see `comparison`.
        what: see `comparison`.
        phantom: see `comparison`.
    """
    place, first = place_of(modality, modalities), views[0]
    grey = grey_window([view.case for view in views], place, inputs_only=True)
    maps: list[tuple[str, str, list[Array | None], Scale]] = []
    gates = [view.gate for view in views]
    if any(gate is not None for gate in gates):
        scale = percentile_scale([gate for gate in gates if gate is not None], colormap="viridis", name="spatial gate")
        maps.append(("Spatial gate", first.gate_name, gates, scale))
    even = [None if view.attention is None else view.attention * view.attention.size for view in views]
    if any(one is not None for one in even):
        shown = [one for one in even if one is not None]
        name = "self-attention / even share"
        maps.append(
            ("Self-attention", first.attention_name, even, percentile_scale(shown, colormap="inferno", name=name))
        )
    half = common_half([view.case for view in views])
    foot = [small_print(f"{modality_label(modality)}: {what}", phantom)]
    foot.insert(
        0, "; ".join(f"{title}: {name}" for title, name, _, _ in maps) + "; maps are the same for all modalities"
    )
    grid = Grid(
        width=PAGE, rows=len(views), columns=1 + 2 * len(maps), half=half, label_lines=2, head_lines=2,
        bars=(grey, *(scale for _, _, _, scale in maps)), foot=foot,
    )  # fmt: skip
    grid.heading(0, "Input")
    for number, (title, _, arrays, _) in enumerate(maps):
        grids = dict.fromkeys(array.shape for array in arrays if array is not None)
        words = " or ".join(f"{rows} \N{MULTIPLICATION SIGN} {columns}" for rows, columns in grids)
        grid.heading(1 + 2 * number, title, words)
        grid.heading(2 + 2 * number, "on the input")
    for row, view in enumerate(views):
        case = view.case
        way = f"{case.source} {ARROW} {case.target}"
        grid.label(row, [way, f"{case.subject}, slice {case.number}"])
        here: dict[str, Any] = {"frame": case.frame, "size": case.size}
        ground = (case.input[place], grey, 1.0)
        grid.show(row, 0, [ground], **here)
        for number, (_, _, arrays, scale) in enumerate(maps):
            array = arrays[row]
            if array is None:
                grid.empty(row, 1 + 2 * number, "none")
                grid.empty(row, 2 + 2 * number, "none")
                continue
            grid.show(row, 1 + 2 * number, [(array, scale, 1.0)], **here)
            grid.show(row, 2 + 2 * number, [ground, (array, scale, VEIL)], **here)
    return grid.figure
