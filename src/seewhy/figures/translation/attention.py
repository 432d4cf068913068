"""Figure of the attention of a translation network: spatial gates and self-attention, alone and on the slice."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from matplotlib.figure import Figure
from numpy.typing import NDArray

from seewhy.figures.colours import ColourScale, percentile_scale
from seewhy.figures.translation.case import (
    ARROW,
    AttentionView,
    TranslationCase,
    common_half,
    format_small_print,
    grey_window,
    modality_index,
    modality_label,
)
from seewhy.figures.translation.grid import Grid
from seewhy.figures.translation.ieee import PAGE

__all__ = ["attention_overlay"]

Array = NDArray[Any]
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
